"""What a component must offer: classes of the user's own that do, and that do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax.environments.interface import Step, spaces


@pgjax.component
class Returns(pgjax.Estimator):
    """As `RewardToGo(baseline="none")`, where every reward comes at the end."""

    def weights(self, trajectories):
        return jnp.where(trajectories.valid, trajectories.reward.sum(0), 0.0)


@pgjax.component
class Likelihood(pgjax.Objective):
    def contribution(self, step):
        return step.log_prob * step.weight


@pgjax.component
class Twice(pgjax.Ascent):
    """Two gradient steps along the same gradient."""

    def climb(self, key, surrogate, optimizer, start):
        batch = surrogate.batch()
        for _ in range(2):
            found = surrogate.gradient(start.params, batch)
            loss = surrogate.loss(found, start.params, batch)
            start = type(start)(
                *optimizer.ascend(found.direction, start.opt_state, start.params, loss)
            )
        return start, found


@pgjax.component
class Zeros(pgjax.Oracle):
    def evaluate(self, critic_state, trajectories):
        rows, m = trajectories.valid.shape
        return pgjax.Values(jnp.zeros((rows + 1, m)))


# Two steps, the second of which is paid.
PAID_LAST = pgjax.FiniteMDP(
    [[[0, 1, 0]] * 2, [[0, 0, 1]] * 2, [[0, 0, 1]] * 2],
    [[0.0, 0.0], [1.0, 3.0], [0.0, 0.0]],
    [1.0, 0.0, 0.0],
    horizon=3,
    terminal=[False, False, True],
)
SMALL = {
    "network": pgjax.MLP((4,)),
    "sampler": pgjax.Episodes(8),
    "optimizer": pgjax.SGD(0.1),
}
PLAIN = {"estimator": pgjax.RewardToGo(baseline="none")}


def first_params(**parts):
    config = pgjax.Config(PAID_LAST, **SMALL, **parts)
    state, _ = pgjax.update(pgjax.init(jax.random.key(0), config), config)
    return state.params


def assert_same(x, y):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), x, y)


def test_an_estimator_and_an_objective_of_ones_own():
    ours = first_params(estimator=Returns(), objective=Likelihood())
    assert_same(ours, first_params(**PLAIN))


def test_a_critic_of_ones_own():
    ours = first_params(estimator=pgjax.GAE(discount=1.0, gae_lambda=1.0), critic=Zeros())
    assert_same(ours, first_params(**PLAIN))


def test_an_ascent_of_ones_own():
    once, twice = first_params(**PLAIN), first_params(ascent=Twice(), **PLAIN)
    passes = pgjax.Passes(epochs=2, minibatches=1)
    assert_same(twice, first_params(ascent=passes, **PLAIN))
    assert any(
        not np.allclose(*pair) for pair in zip(*map(jax.tree.leaves, (once, twice)), strict=True)
    )


INCOMPLETE = [
    (
        pgjax.Estimator,
        r"Mine is no Estimator yet: it needs weights\(self, trajectories.*Each step's weight",
    ),
    (pgjax.Objective, r"Mine is no Objective yet: it needs contribution\(self, step: Step\)"),
    (pgjax.Ascent, r"Mine is no Ascent yet: it needs climb\(self, key"),
    (pgjax.Oracle, r"Mine is no BoundCritic yet: it needs evaluate\(self, critic_state"),
    (pgjax.BaseCritic, r"Mine is no BaseCritic yet: it needs bound\(self, setting"),
    (pgjax.Sampler, r"Mine is no Sampler yet: it needs counts\(self, trajectories"),
]


@pytest.mark.parametrize(("base", "message"), INCOMPLETE, ids=lambda x: getattr(x, "__name__", ""))
def test_a_missing_method_is_named_when_the_class_is_made(base, message):
    with pytest.raises(TypeError, match=message):
        pgjax.component(type("Mine", (base,), {"__annotations__": {}}))


def wrong(base, **methods):
    return pgjax.component(type("Mine", (base,), {"__annotations__": {}, **methods}))()


SHAPES = [
    (
        {"estimator": wrong(pgjax.Estimator, weights=lambda self, tau: tau.reward.sum(0))},
        r"estimator Mine.weights must give \[T, m\] with T, m = \(\d+, 64\), got \(64,\)",
    ),
    (
        {"objective": wrong(pgjax.Objective, contribution=lambda self, s: s.log_prob.sum())},
        r"objective Mine.contribution must give one float for each of the steps .*, got \(\)",
    ),
    (
        {
            "estimator": pgjax.GAE(),
            "critic": wrong(
                pgjax.Oracle, evaluate=lambda self, state, tau: pgjax.Values(tau.reward)
            ),
        },
        r"critic Mine.evaluate must give .* \[T \+ 1, m\] = \(\d+, 64\), got \(\d+, 64\)",
    ),
]


def objective_of(**methods):
    return wrong(
        pgjax.Objective, **{"contribution": lambda self, s: s.log_prob * s.weight} | methods
    )


def ascent_of(result):
    """A gradient step that returns what `result` makes of the place and the gradient."""

    def climb(self, *arguments):
        return result(*pgjax.GradientStep().climb(*arguments))

    return wrong(pgjax.Ascent, climb=climb)


def shorter(place):
    return place._replace(params=jax.tree.map(lambda x: x[:1], place.params))


GIVEN = [
    (objective_of(report=lambda self, s: {"a": s.entropy.mean()}), r"Mine.report, 'a' must .*\(\)"),
    (objective_of(report=lambda self, s: None), "Mine.report must give a dict.*, got None"),
    (objective_of(report=lambda self, s: {"a": jnp.ones(3)}), r"Mine.report, 'a' .* got \(3,\)"),
    (objective_of(weights=lambda self, w, v: w.sum()), r"Mine.weights must .* got \(\)"),
    (objective_of(weights=lambda self, w, v: w * 1j), "Mine.weights must .* of complex64"),
    (objective_of(contribution=lambda self, s: s.log_prob * 1j), "contribution .* of complex64"),
    (
        objective_of(next_state=lambda self, s, r: jnp.int32(1)),
        r"Mine.next_state must keep .* start\(\): .* became PyTreeDef",
    ),
    (
        ascent_of(lambda place, found: place),
        "Mine.climb must give a Place and a Gradient, got Place",
    ),
    (ascent_of(lambda place, found: (place, found.direction)), "climb .* got tuple of Place, dict"),
    (
        ascent_of(lambda place, found: (shorter(place), found)),
        "climb must keep .* those at the start, in its Place",
    ),
]


@pytest.mark.parametrize(("part", "message"), GIVEN)
def test_a_wrong_result_is_named(part, message):
    field = "objective" if isinstance(part, pgjax.Objective) else "ascent"
    config = pgjax.Config(PAID_LAST, **SMALL, **{field: part})
    state = jax.eval_shape(lambda key: pgjax.init(key, config), jax.random.key(0))
    with pytest.raises(ValueError, match=f"^{field} Mine.*{message.removeprefix('Mine')}"):
        jax.eval_shape(lambda state: pgjax.update(state, config), state)


@pytest.mark.parametrize(("parts", "message"), SHAPES)
def test_a_wrong_shape_is_named(parts, message):
    config = pgjax.Config("Catch-bsuite", **parts)
    with pytest.raises(ValueError, match=message):
        pgjax.train(jax.random.key(0), config)


def values_of(evaluate):
    return wrong(pgjax.Oracle, evaluate=lambda self, state, tau: evaluate(tau))


def padded(tau):
    return jnp.pad(tau.reward, [(0, 1), (0, 0)])


VALUES = [
    (
        {"estimator": pgjax.GAE(), "critic": values_of(padded)},
        "Mine.evaluate must give Values, got",
    ),
    (
        {
            "estimator": pgjax.ActionValue(),
            "critic": values_of(lambda tau: pgjax.Values(padded(tau))),
        },
        "Mine.evaluate must give Values with the values of actions",
    ),
    (
        {"objective": objective_of(report=lambda self, s: {"entropy": s.entropy})},
        "objective Mine.report has the name 'entropy', which is that of another metric",
    ),
    (
        {
            "estimator": pgjax.GAE(),
            "objective": objective_of(report=lambda self, s: {"value_loss": s.entropy}),
        },
        "critic Critic and objective Mine or GradientStep both report 'value_loss'",
    ),
    (
        {"estimator": wrong(pgjax.Estimator, critic="state", weights=lambda self, tau, values: 0)},
        "estimator Mine: unknown critic 'state'; did you mean 'states'",
    ),
]


@pytest.mark.parametrize(("parts", "message"), VALUES)
def test_wrong_values_and_names_are_named(parts, message):
    with pytest.raises(ValueError, match=message):
        pgjax.train(jax.random.key(0), pgjax.Config("Catch-bsuite", **parts))


def test_weights_take_what_their_critic_gives():
    estimator = wrong(pgjax.Estimator, critic="states", weights=lambda self, tau: tau.reward)
    message = r"Mine has critic='states', .* gets \(trajectories, values\), but it takes \(tau\)$"
    with pytest.raises(TypeError, match=message):
        pgjax.init(jax.random.key(0), pgjax.Config("Catch-bsuite", estimator=estimator))


@pytest.mark.slow
def test_an_objectives_report_reaches_it_whatever_the_ascent():
    objective = objective_of(
        report=lambda self, s: {"mine": jnp.full_like(s.entropy, 7.0)},
        start=lambda self: jnp.float32(0.0),
        next_state=lambda self, state, report: report["mine"],
    )
    for ascent in (pgjax.GradientStep(), pgjax.Passes(1, 2), pgjax.TrustRegion()):
        parts = {"objective": objective, "ascent": ascent}
        config = pgjax.Config(PAID_LAST, **SMALL, **parts, num_updates=1)
        state, metrics = pgjax.train(jax.random.key(0), config)
        assert float(state.objective) == metrics.extra["mine"][0] == 7.0


@pgjax.component
class Ordered(pgjax.Objective):
    """Of two numbers in order, as its own check says."""

    low: float = 0.0
    high: float = 1.0

    def check(self, path):
        super().check(path)
        if not isinstance(self.low, jax.core.Tracer) and self.low > self.high:
            raise ValueError(f"{path}.low must be at most {path}.high")

    def contribution(self, step):
        return jnp.clip(step.log_prob * step.weight, self.low, self.high)


def test_a_check_of_ones_own_may_compare_numbers_also_inside_of_a_trace():
    config = pgjax.Config("Catch-bsuite", objective=Ordered())
    assert pgjax.memory_estimate(config).total > 0
    with pytest.raises(ValueError, match=r"objective.low must be at most objective.high"):
        pgjax.memory_estimate(config.replace(**{"objective.low": 2.0}))


class Corridor(pgjax.Environment):
    """Six places in a row; 1 for the last one, within 20 steps."""

    name, limit, bounds = "Corridor", 20, None
    observation_space, action_space = spaces.Box(0.0, 1.0, (1,)), spaces.Discrete(2)

    def reset(self, key):
        return jnp.zeros(1), (jnp.int32(0), jnp.int32(0))

    def step(self, key, env_state, action):
        place, time = jnp.clip(env_state[0] + 2 * action - 1, 0, 5), env_state[1] + 1
        there = place == 5
        state = (place, time)
        return Step(place[None] / 5, state, there.astype(float), there, time >= self.limit)


class FourValues(Corridor):
    def step(self, key, env_state, action):
        return tuple(super().step(key, env_state, action))[:4]


class Unhashable(Corridor):
    __hash__ = None


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [pgjax.Episodes(16), pgjax.Segments(8, 16)], ids=repr)
def test_an_environment_of_ones_own_is_trained_and_evaluated(sampler):
    fields = {"estimator": pgjax.GAE(), "network": pgjax.MLP((8,)), "sampler": sampler}
    config = pgjax.Config(Corridor(), num_updates=30, time_aware=True, **fields)
    state, metrics = pgjax.train(jax.random.key(0), config)
    assert metrics.finite.all()
    assert pgjax.evaluate(jax.random.key(1), state, config, 64).mean > 0.9
    assert pgjax.sample_trajectories(jax.random.key(2), state, config).truncated.shape[0] >= 16


class Numbered(Corridor):
    """Episodes of two steps; shows how many there were before. Only `restart` knows that."""

    observation_space = spaces.Box(0.0, 100.0, (1,))

    def reset(self, key):
        return jnp.zeros(1), (jnp.int32(0), jnp.int32(0))

    def step(self, key, env_state, action):
        number, time = env_state[0], env_state[1] + 1
        return Step(number[None] + 0.0, (number, time), jnp.float32(0), time >= 2, jnp.bool_(False))

    def restart(self, key, obs, env_state, running):
        number = env_state[0] + jnp.where(running, 0, 1)
        return number[None] + 0.0, (number, jnp.where(running, env_state[1], 0))


@pytest.mark.parametrize("time_aware", [False, True])
def test_what_follows_an_episode_is_the_environments_own_to_say(time_aware):
    config = pgjax.Config(
        Numbered(), time_aware=time_aware, estimator=pgjax.GAE(), sampler=pgjax.Segments(2, 7)
    )
    state = pgjax.init(jax.random.key(0), config)
    obs = pgjax.sample_trajectories(jax.random.key(1), state, config).obs
    number = obs["obs"] if time_aware else obs
    np.testing.assert_array_equal(number[:, :, 0].T, [[0, 0, 0, 1, 1, 1, 2]] * 2)
    if time_aware:
        steps = np.array([0, 1, 2, 0, 1, 2, 0], np.float32)
        np.testing.assert_array_equal(obs["time"].T, [steps / 20] * 2)


@pytest.mark.slow
def test_an_environment_of_ones_own_is_checked_run_and_swept(tmp_path):
    pgjax.check_environment(Corridor())
    config = pgjax.Config(Corridor(), num_updates=1, network=pgjax.MLP((4,)))
    result = pgjax.run(config, directory=tmp_path / "run")
    saved, same = pgjax.load(tmp_path / "run", config)[0], result.state
    jax.tree.map(np.testing.assert_array_equal, saved.params, same.params)
    swept = pgjax.sweep(jax.random.key(0), config, {"optimizer.learning_rate": [0.1, 0.2]}, 2)
    assert swept.num_programs == 1
    assert swept.metrics.finite.all()


@pytest.mark.parametrize(
    ("env", "params", "message"),
    [
        (
            Corridor(),
            3.0,
            "env_params must be None, as Corridor is a pgjax.Environment, .* got 3.0",
        ),
        (FourValues(), None, "FourValues.step must return pgjax's environment Step.*got 4 values"),
        (Unhashable(), None, "env is part of the program, so it must be hashable"),
    ],
    ids=["params", "values", "hash"],
)
def test_what_an_environment_of_ones_own_may_not_be(env, params, message):
    with pytest.raises(TypeError, match=message):
        pgjax.init(jax.random.key(0), pgjax.Config(env, env_params=params))


STRANGERS = [
    ("estimator", "pgjax.Estimator"),
    ("objective", "pgjax.Objective"),
    ("ascent", "pgjax.Ascent"),
    ("critic", "pgjax.BaseCritic"),
    ("sampler", "pgjax.Sampler"),
]


@pytest.mark.parametrize(("field", "contract"), STRANGERS)
def test_a_class_without_the_contract_says_what_to_derive_from(field, contract):
    @pgjax.component
    class Stranger(pgjax.Component):
        pass

    config = pgjax.Config("Catch-bsuite", **{field: Stranger()})
    with pytest.raises(TypeError, match=f"{field} must be .* derived from {contract}"):
        pgjax.init(jax.random.key(0), config)
