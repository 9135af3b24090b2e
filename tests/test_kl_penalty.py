"""PPO by a penalty that adapts, against what it must equal."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from environments_for_tests import Counter
from test_contracts import Zeros

import pgjax
from pgjax import KLPenalty

OLD, NEW = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
WEIGHT = np.array([1.0, -2.0, 3.0])


def steps(log_prob):
    """One step for each action."""
    return pgjax.Step(log_prob, jnp.log(OLD), jnp.ones(3), jnp.asarray(WEIGHT), jnp.arange(3))


def test_the_expectation_over_actions_is_what_they_are_worth_less_the_divergence():
    objective = KLPenalty(coefficient=0.7, entropy_coefficient=0.5)

    def expected(logits):
        return OLD @ objective.contribution(steps(jax.nn.log_softmax(logits)))

    def exact(logits):
        log_prob = jax.nn.log_softmax(logits)
        divergence = OLD @ (jnp.log(OLD) - log_prob)
        return jnp.exp(log_prob) @ WEIGHT - 0.7 * divergence + 0.5

    logits = jnp.log(NEW)
    np.testing.assert_allclose(expected(logits), exact(logits), rtol=1e-5)
    np.testing.assert_allclose(
        jax.grad(expected)(logits), jax.grad(exact)(logits), rtol=1e-5, atol=1e-6
    )
    report = objective.report(steps(logits))
    assert OLD @ report["kl_penalty"] == pytest.approx(OLD @ np.log(OLD / NEW), rel=1e-5)
    np.testing.assert_allclose(report["kl_coefficient"], [0.7] * 3, rtol=1e-6)


ENV = Counter(3, 5)


def config_of(**fields):
    fields = {"objective": KLPenalty(), "ascent": pgjax.Passes(epochs=3, minibatches=2)} | fields
    return pgjax.Config(
        ENV,
        network=pgjax.MLP((4,)),
        sampler=pgjax.Segments(8, 8),
        estimator=pgjax.GAE(standardize=True),
        critic=Zeros(),
        **{"optimizer": pgjax.SGD(0.3)} | fields,
    )


def updated(config, key, number):
    """The state after some updates, all by one program, and each update's own report."""
    state, reports = pgjax.init(jax.random.key(key), config), []
    for _ in range(number):
        state, metrics = pgjax.update(state, config)
        reports.append(metrics.extra)
    return state, {name: np.array([row[name] for row in reports]) for name in reports[0]}


def equal(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.mark.slow
@pytest.mark.parametrize("ascent", [pgjax.GradientStep(), pgjax.Passes(1, 1)], ids=repr)
def test_a_step_at_the_old_parameters_is_that_of_the_score_function(ascent):
    config = config_of(objective=KLPenalty(coefficient=50.0), ascent=ascent)
    state = pgjax.init(jax.random.key(0), config)
    found, metrics = pgjax.update(state, config)
    plain = config.replace(objective=pgjax.ScoreFunction(), ascent=pgjax.GradientStep())
    state = state.replace(objective=())
    equal(found.params, pgjax.update(state, plain)[0].params, rtol=1e-4, atol=1e-6)
    assert float(metrics.extra["kl_penalty"]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("kl", "factor"),
    [(0.0, 0.5), (0.0666, 0.5), (0.0667, 1.0), (0.1, 1.0), (0.1499, 1.0), (0.151, 2.0), (9.0, 2.0)],
)
def test_the_penalty_is_doubled_beyond_and_halved_below_the_target(kl, factor):
    objective = KLPenalty(coefficient=3.0, target=0.1)
    state = jax.jit(objective.next_state)(objective.start(), {"kl": jnp.asarray(kl)})
    assert float(state) == factor
    assert float(objective.with_state(state).coefficient) == 3.0 * factor


def test_the_penalty_stays_within_reach():
    objective = KLPenalty(target=0.1)
    for kl, limit in ((0.0, 2.0**-20), (9.0, 2.0**20)):
        state = objective.start()
        for _ in range(30):
            state = objective.next_state(state, {"kl": jnp.asarray(kl)})
        assert float(state) == limit


def test_updates_follow_the_rule():
    objective = KLPenalty(coefficient=0.5, target=0.02)
    config = config_of(objective=objective, optimizer=pgjax.SGD(1.0))
    state, reports = updated(config, 1, 25)
    beta, kl = reports["kl_coefficient"], reports["kl"]
    factor = np.where(kl > 0.03, 2.0, np.where(kl < 0.02 / 1.5, 0.5, 1.0))
    assert set(factor) == {0.5, 1.0, 2.0}
    expected = 0.5 * np.cumprod(np.concatenate([[1.0], factor]))
    np.testing.assert_allclose(beta, expected[:-1], rtol=1e-5)
    np.testing.assert_allclose(0.5 * state.objective, expected[-1], rtol=1e-6)


@pytest.mark.slow
def test_without_a_target_the_penalty_is_fixed_and_the_larger_the_nearer():
    def trained(coefficient):
        objective = KLPenalty(coefficient=coefficient, target=None)
        state, reports = updated(config_of(objective=objective), 0, 3)
        assert state.objective == ()
        np.testing.assert_allclose(reports["kl_coefficient"], coefficient, rtol=1e-6)
        return float(reports["kl"][0])

    assert trained(0.0) > 1.2 * trained(2.0) > 0.0


@pytest.mark.slow
def test_the_factor_multiplies_a_schedule():
    numbers = {"init_value": 2.0, "end_value": 0.0, "transition_steps": 4}
    schedule = pgjax.Schedule(optax.linear_schedule, **numbers)
    config = config_of(objective=KLPenalty(coefficient=schedule, target=1e3))
    _, reports = updated(config, 0, 3)
    expected = np.array([2.0, 1.5, 1.0]) * [1.0, 0.5, 0.25]
    np.testing.assert_allclose(reports["kl_coefficient"], expected, rtol=1e-5)


@pytest.mark.slow
def test_an_update_that_is_not_made_leaves_the_factor():
    config = config_of(objective=KLPenalty(target=1.0))
    state = pgjax.init(jax.random.key(0), config).replace(objective=jnp.asarray(4.0))
    params = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), state.params)
    after, metrics = pgjax.update(state.replace(params=params), config)
    assert not metrics.finite
    assert float(after.objective) == 4.0
    after, _ = pgjax.update(state, config)
    assert float(after.objective) == 2.0


@pytest.mark.slow
def test_a_checkpoint_holds_the_factor(tmp_path):
    config = config_of()
    state, _ = updated(config, 0, 3)
    assert float(state.objective) != 1.0
    pgjax.save(tmp_path / "saved", state, config)
    loaded, found = pgjax.load(tmp_path / "saved", config)
    assert found is config
    assert float(loaded.objective) == float(state.objective)
    with pytest.raises(ValueError, match="do not belong together: objective is missing"):
        pgjax.update(state.replace(objective=()), config)


def test_all_actions_are_refused():
    estimator = pgjax.ActionValue(all_actions=True)
    with pytest.raises(ValueError, match="KLPenalty takes one of the action that was taken"):
        pgjax.init(jax.random.key(0), config_of().replace(estimator=estimator))


@pytest.mark.parametrize("name", ["coefficient", "target", "entropy_coefficient"])
def test_what_options_may_be(name):
    KLPenalty(**{name: 0.0}).check("objective")
    with pytest.raises(ValueError, match=f"objective.{name} must be a finite number"):
        KLPenalty(**{name: -0.1}).check("objective")


def test_defaults():
    assert KLPenalty() == KLPenalty(coefficient=1.0, target=0.01, entropy_coefficient=0.0)
