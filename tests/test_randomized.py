"""Parameters drawn for each episode: from what, how often, and what else stays as it is."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from environments_for_tests import Counter, Sized, SizedParams, TupleParams, WithParams
from flax import struct

import pgjax
from pgjax.environments import interface, spaces
from pgjax.environments.interface import EnvParams
from pgjax.policies.networks import MLP
from pgjax.training.config import bind

KEY = jax.random.key(0)
SMALL = {
    "network": MLP(()),
    "optimizer": pgjax.SGD(0.1),
    "sampler.num_trajectories": 8,
    "num_updates": 2,
}


@struct.dataclass
class TargetParams(EnvParams):
    """Where the best action is."""

    target: float = 1.0
    flag: bool = False
    sides: Any = struct.field(default_factory=lambda: jnp.zeros(2))
    max_steps_in_episode: int = 1


class Target(Counter):
    """One step; pays −(a − target)², and shows nothing of the target."""

    @property
    def default_params(self):
        return TargetParams()

    def step_env(self, key, state, action, params):
        state = state.replace(time=state.time + 1)
        return jnp.zeros(1), state, -jnp.square(action[0] - params.target), True, {}

    def action_space(self, params=None):
        return spaces.Box(-10.0, 10.0, (1,))


class Inner(NamedTuple):
    """Parameters inside of others."""

    lifetime: int = 3


@struct.dataclass
class NestedParams(EnvParams):
    """Parameters with others inside."""

    inner: Inner = Inner()
    max_steps_in_episode: int = 5


class Nested(Counter):
    """As `Counter`, its lifetime one level deeper."""

    @property
    def default_params(self):
        return NestedParams()

    def step_env(self, key, state, action, params):
        return super().step_env(key, state, action, params.inner)


def drawn(env, number=4000):
    """What so many episodes have drawn, by name."""
    bound = interface.bind(env)
    states = jax.jit(jax.vmap(lambda key: bound.reset(key)[1]))(jax.random.split(KEY, number))
    return {name: np.asarray(values) for name, values in states.own.items()}


# What is drawn.


def test_draws_follow_their_distributions():
    env = pgjax.Randomized(
        "CartPole-v1",
        {
            "gravity": pgjax.Uniform(5.0, 15.0),
            "length": pgjax.LogUniform(0.1, 10.0),
            "masscart": pgjax.Choice((1.0, 2.0, 4.0)),
            "tau": pgjax.Normal(0.02, 0.005),
        },
    )
    values = drawn(env)
    gravity, length = values["gravity"], values["length"]
    assert 5.0 <= gravity.min() < 5.1
    assert 14.9 < gravity.max() <= 15.0
    assert gravity.mean() == pytest.approx(10.0, abs=0.15)
    assert gravity.std() == pytest.approx(10.0 / 12**0.5, rel=0.03)
    # As many below 1 as above, and in each factor of ten.
    assert length.min() >= 0.1
    assert length.max() <= 10.0
    assert np.mean(length < 1.0) == pytest.approx(0.5, abs=0.025)
    assert np.mean(length < 10**-0.5) == pytest.approx(0.25, abs=0.025)
    masses, counts = np.unique(values["masscart"], return_counts=True)
    np.testing.assert_array_equal(masses, [1.0, 2.0, 4.0])
    np.testing.assert_allclose(counts / 4000, 1 / 3, atol=0.03)
    assert values["tau"].mean() == pytest.approx(0.02, abs=3e-4)
    assert values["tau"].std() == pytest.approx(0.005, rel=0.04)
    # Each parameter by itself.
    assert abs(np.corrcoef(gravity, np.log(length))[0, 1]) < 0.05


def test_parameters_differ_between_episodes_and_stay_within_one():
    env = interface.bind(pgjax.Randomized("CartPole-v1", {"gravity": pgjax.Uniform(5.0, 15.0)}))
    _, state = env.reset(KEY)
    step, gravities = jax.jit(env.step), [float(state.own["gravity"])]
    for time in range(3):
        state = step(jax.random.key(time), state, jnp.int32(1)).env_state
        gravities.append(float(state.own["gravity"]))
    assert len(set(gravities)) == 1
    assert float(env.reset(jax.random.key(1))[1].own["gravity"]) != gravities[0]


def test_an_episode_is_one_of_the_environment_with_those_parameters():
    env = interface.bind(pgjax.Randomized("Pendulum-v1", {"g": pgjax.Uniform(5.0, 15.0)}))
    obs, state = env.reset(KEY)
    params = interface.default_params("Pendulum-v1").replace(g=state.own["g"])
    plain = interface.bind("Pendulum-v1", params)
    plain_obs, plain_state = plain.reset(KEY)
    np.testing.assert_array_equal(obs, plain_obs)
    usual = interface.bind("Pendulum-v1")
    for time in range(5):
        key, action = jax.random.key(time), jnp.array([0.5])
        step, expected = env.step(key, state, action), plain.step(key, plain_state, action)
        other = usual.step(key, plain_state, action)
        np.testing.assert_allclose(step.obs, expected.obs, rtol=1e-6)
        assert np.any(step.obs != other.obs)
        state, plain_state = step.env_state, expected.env_state


def test_whole_numbers_and_flags_are_chosen():
    env = pgjax.Randomized(Counter(), {"lifetime": pgjax.Choice((2, 4))})
    assert drawn(env)["lifetime"].dtype == np.int32
    config = pgjax.Config(env).replace(**SMALL)
    lengths = np.asarray(pgjax.evaluate(KEY, pgjax.init(KEY, config), config, 64).lengths)
    assert set(lengths.tolist()) == {2, 4}
    flags = drawn(pgjax.Randomized(Target(), {"flag": pgjax.Choice((False, True))}))["flag"]
    assert flags.dtype == bool
    assert 0.4 < flags.mean() < 0.6


def test_each_entry_of_an_array_is_drawn():
    sides = drawn(pgjax.Randomized(Target(), {"sides": pgjax.Uniform(0.0, 1.0)}))["sides"]
    assert sides.shape == (4000, 2)
    assert abs(np.corrcoef(sides.T)[0, 1]) < 0.05


def test_nested_parameters_and_those_of_other_kinds():
    for env, name in (
        (Nested(), "inner.lifetime"),
        (WithParams(TupleParams()), "lifetime"),
    ):
        config = pgjax.Config(pgjax.Randomized(env, {name: pgjax.Choice((1,))})).replace(**SMALL)
        state = pgjax.init(KEY, config)
        assert set(pgjax.evaluate(KEY, state, config, 8).lengths.tolist()) == {1}


def test_two_layers_draw_what_each_says():
    inside = pgjax.Randomized("CartPole-v1", {"gravity": pgjax.Uniform(5.0, 6.0)})
    env = pgjax.Randomized(pgjax.FrameStack(inside, 2), {"length": pgjax.Uniform(1.0, 2.0)})
    _, state = interface.bind(env).reset(KEY)
    assert 1.0 <= float(state.own["length"]) <= 2.0
    assert 5.0 <= float(state.inner.inner.own["gravity"]) <= 6.0


# What stays.


@pytest.mark.parametrize(
    "distribution",
    [
        pgjax.Uniform(9.8, 9.8),
        pgjax.LogUniform(9.8, 9.8),
        pgjax.Choice((9.8,)),
        pgjax.Normal(9.8, 0.0),
    ],
)
def test_one_value_is_the_plain_environment(distribution):
    env = interface.bind(pgjax.Randomized("CartPole-v1", {"gravity": distribution}))
    assert float(env.reset(KEY)[1].own["gravity"]) == np.float32(9.8)


@pytest.mark.slow
def test_training_with_one_value_is_plain_training():
    plain = pgjax.Config(Target()).replace(**SMALL)
    env = pgjax.Randomized(Target(), {"target": pgjax.Uniform(1.0, 1.0)})
    state, metrics = pgjax.train(KEY, plain)
    other_state, other_metrics = pgjax.train(KEY, plain.replace(env=env))
    jax.tree.map(np.testing.assert_array_equal, state.params, other_state.params)
    np.testing.assert_array_equal(metrics.episode_return, other_metrics.episode_return)


def test_other_parameters_are_those_of_the_config():
    env = pgjax.Randomized(Counter(lifetime=9), {"lifetime": pgjax.Choice((8, 9))})
    config = pgjax.Config(env).replace(**{"env_params.max_steps_in_episode": 2}, **SMALL)
    assert pgjax.train(KEY, config)[1].episode_length.tolist() == [2.0, 2.0]


def test_the_environment_check_passes():
    env = pgjax.Randomized("Pendulum-v1", {"g": pgjax.Uniform(5.0, 15.0)})
    pgjax.check_environment(env, num_steps=16)


def test_the_environment_check_takes_no_schedule():
    rising = pgjax.Schedule(
        optax.linear_schedule, init_value=0.0, end_value=0.2, transition_steps=pgjax.Share(1.0)
    )
    curriculum = pgjax.Randomized("Pendulum-v1", {"g": pgjax.Uniform(0.0, rising)})
    sticky = pgjax.StickyActions("CartPole-v1", rising)
    for env, path in [(curriculum, "env.distributions.g.high"), (sticky, "env.probability")]:
        with pytest.raises(ValueError, match=f"^{path} is a Schedule, and check_environment knows"):
            pgjax.check_environment(env)
    params = interface.default_params("Pendulum-v1").replace(g=rising)
    with pytest.raises(ValueError, match=r"^env_params.g is a Schedule, .*: give a number"):
        pgjax.check_environment("Pendulum-v1", params)


# What is learned.


def test_a_policy_learns_for_all_of_them_and_is_judged_at_one():
    env = pgjax.Randomized(Target(), {"target": pgjax.Choice((1.0, 5.0))})
    config = pgjax.Config(
        env,
        distribution="normal",
        network=MLP(()),
        optimizer=pgjax.Adam(0.1),
        num_updates=120,
    ).replace(**{"sampler.num_trajectories": 64})
    state, _ = pgjax.train(KEY, config)
    # The mean of the targets is best for both, 2 away from each; the mode is that action.
    judged = pgjax.evaluate(KEY, state, config, 256, deterministic=True)
    assert judged.mean == pytest.approx(-4.0, abs=0.3)
    fixed = config.replace(env=Target(), env_params=TargetParams(target=3.0))
    assert pgjax.evaluate(KEY, state, fixed, 8, deterministic=True).mean > -0.3
    fixed = fixed.replace(**{"env_params.target": 5.0})
    assert pgjax.evaluate(KEY, state, fixed, 8, deterministic=True).mean < -2.0


def test_a_range_is_a_curriculum():
    widening = pgjax.Schedule(
        optax.linear_schedule, init_value=1.0, end_value=5.0, transition_steps=pgjax.Share(0.5)
    )
    env = pgjax.Randomized(Target(), {"target": pgjax.Uniform(1.0, widening)})
    config = pgjax.Config(env, num_updates=8).replace(**{"sampler.num_trajectories": 64})
    keys = jax.random.split(KEY, 500)
    for update, high in ((0, 1.0), (2, 3.0), (4, 5.0), (7, 5.0)):
        bound = bind(config, update).environment
        targets = jax.vmap(lambda key, bound=bound: bound.reset(key)[1].own["target"])(keys)
        assert targets.min() >= 1.0
        assert targets.max() == pytest.approx(high, abs=0.05)
    falling = pgjax.Schedule(
        optax.linear_schedule, init_value=2.0, end_value=0.0, transition_steps=8
    )
    with pytest.raises(ValueError, match=r"low must be at most .* at update 7 of its schedule"):
        pgjax.init(KEY, config.replace(**{"env.distributions.target.high": falling}))


def test_bounds_of_a_range_are_batched():
    env = pgjax.Randomized(Target(), {"target": pgjax.Uniform(0.0, 0.0)})
    config = pgjax.Config(env, num_updates=1).replace(**{"sampler.num_trajectories": 64})
    path = "env.distributions.target"
    both = config.replace(
        **{f"{path}.low": jnp.array([0.0, 9.0]), f"{path}.high": jnp.array([0.0, 9.0])}
    )
    axes = jax.tree.map(lambda _: None, config).replace(**{f"{path}.low": 0, f"{path}.high": 0})
    _, metrics = jax.vmap(pgjax.train, in_axes=(None, axes))(KEY, both)
    near, far = metrics.episode_return[:, 0]
    assert far < near - 50


# What is refused.


@pytest.mark.parametrize(
    ("env", "distributions", "message"),
    [
        (
            "CartPole-v1",
            {"gravty": pgjax.Uniform()},
            "unknown parameter 'gravty' of CartPole-v1; did you mean 'gravity'",
        ),
        ("CartPole-v1", {"max_steps_in_episode": pgjax.Choice((9,))}, "sizes arrays"),
        ("CartPole-v1", {}, r"must be a dict from a parameter's name .* got {}"),
        ("CartPole-v1", pgjax.Uniform(), "must be a dict from a parameter's name"),
        (
            "CartPole-v1",
            {"gravity": 9.8},
            r"^env\.distributions\.gravity must be one of pgjax's, .* got 9\.8",
        ),
        ("CartPole-v1", {"gravity": pgjax.Uniform(2.0, 1.0)}, r"gravity\.low must be at most"),
        ("CartPole-v1", {"gravity": pgjax.LogUniform(0.0, 1.0)}, r"gravity\.low must be a finite"),
        ("CartPole-v1", {"gravity": pgjax.Normal(1.0, -1.0)}, r"standard_deviation must be a"),
        ("CartPole-v1", {"gravity": pgjax.Choice(())}, "a tuple of at least one number"),
        ("CartPole-v1", {"gravity": pgjax.Choice((1.0, "a"))}, "must be finite numbers, got 'a'"),
        (Counter(), {"lifetime": pgjax.Uniform(1.0, 3.0)}, "is an int: draw it from a Choice"),
        (Counter(), {"lifetime": pgjax.Choice((1.5,))}, "Choice of whole numbers"),
        (
            Sized(SizedParams()),
            {"arms": pgjax.Choice((4,))},
            "arms of .* is used as a Python number",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(env, distributions, message):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        pgjax.init(KEY, pgjax.Config(pgjax.Randomized(env, distributions)))
    assert "\n" not in str(caught.value)
