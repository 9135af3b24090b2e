"""Numbers that go bad: noticed in their update, which is not made; nothing before it is lost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from environments_for_tests import Counter
from flax import struct

import pgjax
from pgjax.environments import interface
from pgjax.environments.interface import EnvParams, EnvState


@struct.dataclass
class FaultyParams(EnvParams):
    """`rate`: the share of the episodes that go bad."""

    rate: float = 0.0
    lifetime: int = 4
    max_steps_in_episode: int = 9


@struct.dataclass
class FaultyState(EnvState):
    luck: jax.Array


class Faulty(Counter):
    """A Counter of which some episodes pay, or show, a bad number."""

    def __init__(self, where: str, bad: float) -> None:
        self.where, self.bad = where, bad

    @property
    def default_params(self):
        return FaultyParams()

    def reset_env(self, key, params):
        return jnp.zeros(1), FaultyState(time=0, luck=jax.random.uniform(key))

    def step_env(self, key, state, action, params):
        state = FaultyState(time=state.time + 1, luck=state.luck)
        obs = jnp.asarray([state.time], float)
        wrong = jnp.where(state.luck < params.rate, self.bad, 0.0)
        reward = obs[0] * action + (wrong if self.where == "reward" else 0.0)
        seen = obs + (wrong if self.where == "obs" else 0.0)
        return seen, state, reward, state.time >= params.lifetime, {}


def made(where="reward", bad=np.nan, rate=0.0, algorithm=pgjax.reinforce, **changes):
    sizes = {"sampler.num_envs": 4, "sampler.length": 8}
    if algorithm is pgjax.reinforce:
        sizes = {"sampler.num_trajectories": 4}
    sizes |= {"network.hidden_sizes": (8,), "num_updates": 12}
    config = algorithm(Faulty(where, bad), **sizes, **changes)
    return config.replace(**{"env_params.rate": rate})


def learned(state):
    return state.params, state.variables, state.opt_state, state.critic


@pytest.mark.parametrize(
    ("algorithm", "where", "bad", "changes"),
    [
        (pgjax.reinforce, "reward", np.nan, {}),
        (pgjax.reinforce, "reward", -np.inf, {"estimator": pgjax.TotalReturn(baseline="mean")}),
        (pgjax.reinforce, "obs", np.nan, {}),
        (pgjax.reinforce, "obs", np.inf, {"normalize_observations": True}),
        (pgjax.ppo, "reward", np.inf, {}),
        (pgjax.ppo, "obs", np.nan, {}),
        (pgjax.natural_policy_gradient, "reward", np.nan, {}),
    ],
)
def test_a_bad_update_is_not_made(algorithm, where, bad, changes):
    good = made(where, bad, 0.0, algorithm, **changes)
    state, metrics = pgjax.update(pgjax.init(jax.random.key(0), good), good)
    assert bool(metrics.finite)
    after, metrics = pgjax.update(state, good.replace(**{"env_params.rate": 1.0}))
    if algorithm is not pgjax.reinforce:  # an episode that began well goes on
        after, metrics = pgjax.update(after, good.replace(**{"env_params.rate": 1.0}))
    assert not bool(metrics.finite)
    later, metrics = pgjax.update(after, good.replace(**{"env_params.rate": 1.0}))
    assert not bool(metrics.finite)
    jax.tree.map(np.testing.assert_array_equal, learned(later), learned(after))
    assert int(later.num_updates) == int(after.num_updates) + 1
    assert not np.array_equal(jax.random.key_data(later.key), jax.random.key_data(after.key))
    assert np.all([np.all(np.isfinite(x)) for x in jax.tree.leaves(learned(later))])


def test_a_step_too_large_is_not_made_either():
    config = made().replace(**{"optimizer": pgjax.SGD(3e38), "estimator.baseline": "none"})
    state = pgjax.init(jax.random.key(0), config)
    after, metrics = pgjax.update(state, config)
    assert bool(jnp.isfinite(metrics.gradient_norm))
    assert not bool(metrics.finite)
    jax.tree.map(np.testing.assert_array_equal, learned(after), learned(state))


def test_training_goes_on_after_bad_updates_and_says_which_they_were():
    state, metrics = pgjax.train(jax.random.key(0), made(rate=0.1))
    assert 0 < np.sum(~np.asarray(metrics.finite)) < 12
    assert np.all([np.all(np.isfinite(x)) for x in jax.tree.leaves(state.params)])


def test_a_run_stops_skips_or_raises(tmp_path):
    config = made(rate=0.1)
    finite = np.asarray(pgjax.train(jax.random.key(0), config).metrics.finite)
    first = int(np.flatnonzero(~finite)[0]) + 1
    stopped = pgjax.run(config, 0, tmp_path / "stop")
    assert (stopped.bad_update, len(stopped.metrics.finite)) == (first, first)
    assert not stopped.interrupted
    skipped = pgjax.run(config, 0, nan="skip")
    np.testing.assert_array_equal(skipped.metrics.finite, finite)
    assert skipped.bad_update == first
    with pytest.raises(FloatingPointError, match=rf"update {first}: .* not finite; .* is kept"):
        pgjax.run(config, 0, tmp_path / "raise", nan="raise")
    state, _ = pgjax.load(tmp_path / "raise", config)
    jax.tree.map(np.testing.assert_array_equal, learned(state), learned(stopped.state))
    resumed = pgjax.resume(tmp_path / "stop", config=config, nan="skip")
    np.testing.assert_array_equal(resumed.metrics.finite, finite[first:])
    with pytest.raises(ValueError, match=r"unknown nan 'ignore'; .*known: stop, skip, raise"):
        pgjax.run(config, 0, nan="ignore")


def test_a_seed_that_goes_bad_does_not_stop_the_others_of_a_sweep():
    found = pgjax.sweep(jax.random.key(0), made(), {"env_params.rate": [0.0, 0.2]}, 4)
    assert np.all(found.metrics.finite[0])
    assert not np.all(found.metrics.finite[1])
    assert np.all([np.all(np.isfinite(x)) for x in jax.tree.leaves(found.state.params)])


def test_an_infinite_return_solves_nothing():
    config = made(bad=np.inf, rate=0.1)
    found = pgjax.run(config, 0, nan="skip")
    assert np.isposinf(found.metrics.episode_return[:-1]).any()
    assert (found.solved, len(found.metrics.finite)) == (False, 12)
    swept = pgjax.sweep(jax.random.key(0), config, {"optimizer.learning_rate": [0.01]}, 2)
    assert np.all(swept.state.num_updates == 12)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (np.nan, ValueError, "must be a return to reach, got nan"),
        ("500", TypeError, "must be a number, got '500'"),
        (None, TypeError, "must be a number, got None"),
        ([1.0], TypeError, "must be a number"),
    ],
)
def test_a_target_that_nothing_reaches_is_refused(target, error, message):
    with pytest.raises(error, match=f"stop_at_return {message}"):
        pgjax.run(made(), 0, stop_at_return=target)
    grid = {"optimizer.learning_rate": [0.01]}
    with pytest.raises(error, match=f"stop_at_return {message}"):
        pgjax.sweep(jax.random.key(0), made(), grid, 2, stop_at_return=target)


def test_a_gradient_whose_square_is_infinite_freezes_no_parameter():
    config = made(bad=1e30, optimizer=pgjax.Adam(1e-2))
    state, _ = pgjax.update(pgjax.init(jax.random.key(0), config), config)
    after, metrics = pgjax.update(state, config.replace(**{"env_params.rate": 1.0}))
    assert bool(jnp.isfinite(metrics.gradient_norm))
    assert float(metrics.gradient_norm) > 1e20
    assert not bool(metrics.finite)
    jax.tree.map(np.testing.assert_array_equal, learned(after), learned(state))
    later, _ = pgjax.update(after, config)
    assert np.all(kernel_of(later) != kernel_of(after))


def test_a_gradient_whose_square_is_infinite_is_clipped_as_any_other():
    optimizer = pgjax.Adam(1e-2, max_gradient_norm=0.5)
    config = made(bad=1e30, rate=1.0, optimizer=optimizer)
    state = pgjax.init(jax.random.key(0), config)
    after, metrics = pgjax.update(state, config)
    assert bool(metrics.finite)
    assert np.all(kernel_of(after) != kernel_of(state))


def kernel_of(state):
    return np.asarray(state.params["network"]["Dense_0"]["kernel"])


def test_an_infinity_that_an_optimizer_begins_with_is_no_fault():
    def factory(learning_rate):
        def update(gradient, best, params=None):
            return jax.tree.map(lambda x: -learning_rate * x, gradient), best

        return optax.GradientTransformation(lambda params: jnp.float32(jnp.inf), update)

    config = made(optimizer=factory)
    state = pgjax.init(jax.random.key(0), config)
    assert pgjax.update(state, config)[1].finite


@struct.dataclass
class ScaledParams(EnvParams):
    """The magnitudes of rewards and observations."""

    reward: float = 1.0
    obs: float = 1.0
    max_steps_in_episode: int = 5


class Scaled(Counter):
    """Random rewards and observations, of episodes that end at random."""

    def __init__(self) -> None:
        pass

    @property
    def default_params(self):
        return ScaledParams()

    def reset_env(self, key, params):
        return jnp.ones(1) * params.obs, EnvState(time=0)

    def step_env(self, key, state, action, params):
        luck = jax.random.normal(key)
        state = EnvState(time=state.time + 1)
        reward = (luck + jnp.sum(action)) * params.reward
        return luck[None] * params.obs, state, reward, luck > 1.0, {}


class ScaledBox(Scaled):
    """The same with continuous actions."""

    def action_space(self, params=None):
        return interface.spaces.Box(-1.0, 1.0, (1,))


STREAMS = {"sampler.num_envs": 4, "sampler.length": 8, "network": pgjax.MLP(())}
EPISODES = {"sampler.num_trajectories": 4, "network": pgjax.MLP(())}
MAGNITUDES = (1e-38, 1e-30, 1e-19, 1e9, 1e18, 1e20, 1e25, 1e30, 3e38, np.nan, np.inf, -np.inf)
FUZZED = {
    "reinforce": (pgjax.reinforce, Scaled, EPISODES),
    "standardized": (
        pgjax.reinforce,
        ScaledBox,
        EPISODES | {"estimator.standardize": True, "normalize_observations": True},
    ),
    "actor_critic": (pgjax.actor_critic, Scaled, STREAMS),
    "action_value": (pgjax.actor_critic, ScaledBox, STREAMS | {"estimator": pgjax.ActionValue()}),
    "ppo": (pgjax.ppo, ScaledBox, STREAMS | {"normalize_observations": True}),
    "natural": (pgjax.natural_policy_gradient, Scaled, STREAMS),
}


def carried(state):
    """All that goes on to the next update, but for the environments' own states."""
    streams = state.streams
    if streams:
        streams = (streams.carry.obs, streams.carry.memory, *streams[1:])
    return learned(state), state.objective, streams


def all_finite(tree):
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


@pytest.mark.parametrize("name", FUZZED)
def test_whatever_the_magnitude_nothing_bad_is_carried_on_and_training_recovers(name):
    algorithm, env, changes = FUZZED[name]
    config = algorithm(env(), **changes)
    before, after = (functools.partial(np.full, shape=n, fill_value=1.0) for n in (1, 3))
    kinds = [(m, 1.0) for m in MAGNITUDES] + [(1.0, m) for m in MAGNITUDES]
    kinds += [(m, m) for m in MAGNITUDES]
    scales = [[[*before(), *[m] * 3, *after()] for m in kind] for kind in kinds]

    def update(state, scales):
        params = ScaledParams(reward=scales[0], obs=scales[1])
        state, metrics = pgjax.update(state, config.replace(env_params=params))
        return state, (metrics, all_finite(carried(state)))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def trained(key, scales):
        return jax.lax.scan(update, pgjax.init(key, config), scales.T)[1]

    metrics, good = trained(jax.random.key(0), jnp.asarray(scales, float))
    finite = np.asarray(metrics.finite)
    assert np.all(good)
    assert np.all(finite[:, [0, -1]])
    extra = dict(metrics.extra)
    extra.pop("value_loss", None)  # in reward units squared, which may truly be out of range
    for found in (metrics.objective, metrics.gradient_norm, metrics.entropy, *extra.values()):
        assert np.all(np.isfinite(np.asarray(found)[finite]))
    assert np.all(~np.isinf(np.asarray(metrics.episode_return)[finite]))
    assert not np.any(finite[np.isnan(np.sum(scales, axis=(1, 2)))][:, 1:4])


@pytest.mark.parametrize("algorithm", [pgjax.ppo, pgjax.actor_critic])
def test_where_no_episode_ends_is_no_mistake_for_jax_debug_nans(algorithm):
    config = algorithm(Counter(9, 9), num_updates=2, **STREAMS | {"sampler.length": 6})
    if algorithm is pgjax.actor_critic:
        _, metrics = pgjax.train(jax.random.key(0), config)
        np.testing.assert_array_equal(metrics.episode_return, [np.nan, 45.0])
    with jax.debug_nans(True):
        _, metrics = pgjax.train(jax.random.key(0), config)
    np.testing.assert_array_equal(metrics.episode_return, [-np.inf, 45.0])


def test_ppo_learns_from_one_row_of_one_environment():
    changes = STREAMS | {"sampler.num_envs": 1, "sampler.length": 1}
    config = pgjax.ppo(Counter(), num_updates=6, **changes)
    _, metrics = pgjax.train(jax.random.key(0), config)
    assert np.all(metrics.gradient_norm[:3] > 0)
    assert np.all(metrics.finite)
