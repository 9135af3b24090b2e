"""Numbers that go bad: noticed in their update, which is not made; nothing before it is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import Counter
from flax import struct

import pgjax
from pgjax.environments import EnvParams, EnvState


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
