"""Trajectories that still run by themselves: the same sample, whatever their number."""

from functools import partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import Counter

import pgjax
from pgjax.sampling import rollout, sampler
from pgjax.sampling.compaction import Compaction
from pgjax.training.config import bind, checked

FLAGS = np.array([False, True, True, False, False, True])


@pytest.mark.parametrize(
    ("width", "members", "chosen"),
    [
        (1, [1], [1]),
        (2, [1, 2], [1, 2]),
        (3, [1, 2, 5], [1, 2, 5]),
        (5, [1, 2, 5, 6, 6], [1, 2, 5]),
    ],
)
def test_the_first_have_a_slot(width, members, chosen):
    few = Compaction.of(jnp.array(FLAGS), width)
    np.testing.assert_array_equal(few.members, members)
    np.testing.assert_array_equal(np.flatnonzero(few.chosen), chosen)
    np.testing.assert_array_equal(few.filled, np.array(members) < 6)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("flags", [FLAGS, ~FLAGS, np.zeros(6, bool), np.ones(6, bool)])
def test_what_is_gathered_goes_back_to_its_place(width, flags):
    few = Compaction.of(jnp.array(flags), width)
    chosen = np.flatnonzero(flags)[:width]
    tree = {"x": jnp.arange(6), "y": -jnp.arange(12.0).reshape(6, 2)}
    changed = jax.tree.map(lambda x: x + 100, few.gather(tree))
    expected = jax.tree.map(lambda x: np.array(x), tree)
    for leaf in expected.values():
        leaf[chosen] += 100
    jax.tree.map(np.testing.assert_array_equal, few.spread(changed, tree), expected)


@pytest.mark.parametrize("width", [1, 3, 5])
@pytest.mark.parametrize("flags", [FLAGS, ~FLAGS, np.zeros(6, bool)])
def test_rows_are_written_at_their_trajectories(width, flags):
    few = Compaction.of(jnp.array(flags), width)
    stored = np.arange(8.0 * 6 * 2).reshape(8, 6, 2)
    rows = -np.arange(1.0, 1 + 3 * width * 2).reshape(3, width, 2)
    expected = stored.copy()
    for slot, member in enumerate(np.flatnonzero(flags)[:width]):
        expected[4:7, member] = rows[:, slot]
    written = few.write({"x": jnp.array(stored)}, jnp.int32(4), {"x": jnp.array(rows)})
    np.testing.assert_array_equal(written["x"], expected)


class Uneven(Counter):
    """Ends at a random time, mostly early."""

    def step_env(self, key, state, action, params):
        obs, after, reward, terminated, info = super().step_env(key, state, action, params)
        ended = jax.random.bernoulli(key, jnp.where(action == 1, 0.2, 0.02))
        return obs, after, reward, terminated | ended, info


CONFIGS = {
    "CartPole": pgjax.Config(env="CartPole-v1"),
    "memory": pgjax.Config(env="CartPole-v1", network=pgjax.Recurrent(pgjax.MLP((8,)), 8)),
    "horizon": pgjax.Config(env="CartPole-v1").replace(**{"sampler.horizon": 23}),
    "random ends": pgjax.Config(env=Uneven(lifetime=70, limit=90)),
    "none ends early": pgjax.Config(env=Counter(lifetime=99, limit=45)),
}


def recorded(config, few, seed=0, active=None):
    bound = bind(checked(config), 0)
    actor = bound.actor(bound.policy.init(jax.random.key(1)))
    horizon = sampler.horizon(config.sampler, actor.environment)
    limits = rollout.episode_limits(horizon)._replace(few=few)
    active = jnp.ones(40, bool) if active is None else active
    keys, start = actor.begin(jax.random.split(jax.random.key(seed), 40), active)
    return rollout.recorded_steps(actor, keys, start, limits)


def assert_same_sample(one, two):
    """All that counts is equal but for rounding: valid steps, and the carry after the last."""
    (steps, carry), (other_steps, other_carry) = jax.tree.map(np.asarray, (one, two))
    for name in ("valid", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(steps, name), getattr(other_steps, name))
    np.testing.assert_array_equal(carry.running, other_carry.running)
    assert_close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    counts = steps.valid
    for name in ("obs", "memory", "action", "log_prob", "reward"):
        pair = getattr(steps, name), getattr(other_steps, name)
        jax.tree.map(lambda x, y: assert_close(x[counts], y[counts]), *pair)
    for name in ("final_obs", "final_memory"):
        jax.tree.map(assert_close, getattr(steps, name), getattr(other_steps, name))
    assert not other_steps.reward[~counts].any()


@pytest.mark.parametrize("name", CONFIGS)
def test_two_loops_take_the_steps_of_one(name):
    one, *others = (jax.jit(partial(recorded, CONFIGS[name], few))() for few in (0, 8, 39))
    for other in others:
        assert_same_sample(one, other)
    lengths = np.asarray(one[0].valid.sum(0))
    assert (lengths.min() < lengths.max()) == (name != "none ends early")


def test_trajectories_that_are_not_needed_stay_empty():
    active = jnp.arange(40) % 3 > 0
    one, two = (jax.jit(partial(recorded, CONFIGS["CartPole"], n, 0, active))() for n in (0, 30))
    assert_same_sample(one, two)
    assert not two[0].valid[:, ~active].any()


def test_a_batch_of_seeds_takes_the_steps_of_each():
    one, two = (
        jax.jit(jax.vmap(partial(recorded, CONFIGS["random ends"], n)))(jnp.arange(3))
        for n in (0, 5)
    )
    for seed in range(3):
        assert_same_sample(*jax.tree.map(itemgetter(seed), (one, two)))


def test_an_eighth_runs_by_itself_on_a_cpu(monkeypatch):
    environment = bind(checked(CONFIGS["CartPole"]), 0).environment
    few_of = partial(rollout.few_of, environment)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert list(map(few_of, (1, 64, 127, 128, 1000))) == [0, 0, 0, 16, 125]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert few_of(4096) == 0


def test_an_environment_on_the_host_steps_all_of_its_copies():
    config = pgjax.reinforce("gymnasium/CartPole-v1", sampler=pgjax.Episodes(128), num_updates=1)
    environment = bind(checked(config), 0).environment
    assert rollout.few_of(environment, 128) == 0
    _, metrics = pgjax.train(jax.random.key(0), config)
    assert metrics.num_episodes[0] == 128


def trained(monkeypatch, few, mesh=None):
    config = pgjax.Config(env="CartPole-v1", sampler=pgjax.Episodes(48), num_updates=3)
    with monkeypatch.context() as patch:
        patch.setattr("pgjax.sampling.episodes.few_of", lambda environment, number: few)
        return jax.jit(lambda: pgjax.train(jax.random.key(0), config, mesh))()


def test_training_is_the_same(monkeypatch):
    one, two = trained(monkeypatch, 0), trained(monkeypatch, 12)
    jax.tree.map(np.testing.assert_array_equal, one.metrics, two.metrics)
    jax.tree.map(np.testing.assert_array_equal, one.state.params, two.state.params)


@pytest.mark.devices(2)
def test_training_on_two_devices_is_the_same(monkeypatch):
    mesh = pgjax.make_mesh(2)
    one, two = trained(monkeypatch, 0, mesh), trained(monkeypatch, 6, mesh)
    jax.tree.map(np.testing.assert_array_equal, one.metrics, two.metrics)
    jax.tree.map(np.testing.assert_array_equal, one.state.params, two.state.params)
