"""Any number of devices gives the same numbers."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import Contactless, Counter
from jax.sharding import Mesh

import pgjax
from pgjax.core import parallel
from pgjax.training import training
from pgjax.training.config import checked

ESTIMATORS = [
    kind(baseline=baseline, standardize=standardize)
    for kind in (pgjax.TotalReturn, pgjax.RewardToGo)
    for baseline, standardize in (
        ("none", False),
        ("mean", False),
        ("leave_one_out", False),
        ("leave_one_out", True),
    )
]


def random_mdp():
    random = np.random.default_rng(0)
    return pgjax.FiniteMDP(
        transition=random.dirichlet(np.ones(4), size=(4, 3)),
        reward=random.normal(size=(4, 3)),
        initial=[0.3, 0.3, 0.4, 0.0],
        horizon=7,
        terminal=[False, False, False, True],
    )


MDP = random_mdp()


def close(actual, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), actual, expected)


def data(state):
    return state.replace(key=jax.random.key_data(state.key))


@pytest.mark.devices(8)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_the_gradient_is_the_same_on_any_number_of_devices(estimator):
    config = pgjax.Config(MDP, network=pgjax.MLP(()), estimator=estimator)
    config = config.replace(**{"sampler.num_trajectories": 16})
    state, key = pgjax.init(jax.random.key(0), config), jax.random.key(1)
    gradient, metrics = pgjax.policy_gradient(key, state, config)
    assert metrics.gradient_norm > 0.05
    plain = estimator == pgjax.RewardToGo()
    for number in (1, 2, 4, 8) if plain else (8,):
        found = pgjax.policy_gradient(key, state, config, pgjax.make_mesh(number))
        close(found, (gradient, metrics), rtol=2e-5, atol=2e-6)


@pytest.mark.devices(2)
def test_states_may_have_arrays_without_elements():
    """XLA of JAX 0.11 ends the process over those that are divided."""
    config = pgjax.actor_critic(Contactless(), num_updates=2, network=pgjax.MLP((4,)))
    config = config.replace(**{"sampler.num_envs": 32, "sampler.length": 4})
    alone = pgjax.run(config, 0).state
    divided = pgjax.run(config, 0, mesh=pgjax.make_mesh(2)).state
    close(divided.params, alone.params, rtol=2e-5, atol=2e-6)
    assert any(leaf.shape == (32, 0, 3) for leaf in jax.tree.leaves(divided.streams))
    rate = {"optimizer.learning_rate": [1e-3]}
    sweep = pgjax.sweep(jax.random.key(0), config, rate, 2, pgjax.make_mesh(2))
    assert np.isfinite(sweep.metrics.episode_return).all()


@pytest.mark.devices(2)
def test_training_is_the_same_on_two_devices():
    # Short episodes: a pendulum multiplies the difference of a last bit within some hundred steps.
    config = pgjax.Config("Pendulum-v1", num_updates=3, sampler=pgjax.Episodes(6, horizon=50))
    state, metrics = pgjax.train(jax.random.key(0), config)
    mesh = pgjax.make_mesh(2)
    on_two, metrics_of_two = pgjax.train(jax.random.key(0), config, mesh)
    close(metrics_of_two, metrics, rtol=1e-3, atol=1e-3)
    close(data(on_two), data(state), rtol=1e-2, atol=1e-4)
    assert len(jax.tree.leaves(on_two.params)[0].sharding.device_set) == 2
    once, _ = pgjax.update(pgjax.init(jax.random.key(0), config), config, mesh)
    assert int(once.num_updates) == 1


SMALL = {"sampler.num_envs": 8, "sampler.length": 12, "num_updates": 3}
ALGORITHMS = {
    "actor_critic": pgjax.actor_critic("CartPole-v1", **SMALL),
    "ppo": pgjax.ppo("CartPole-v1", **SMALL, normalize_observations=True),
    "natural": pgjax.natural_policy_gradient("CartPole-v1", **SMALL),
    "q": pgjax.actor_critic("CartPole-v1", estimator=pgjax.ActionValue(all_actions=True), **SMALL),
    "value": pgjax.Config(
        "CartPole-v1",
        sampler=pgjax.Episodes(8, horizon=30),
        estimator=pgjax.RewardToGo(baseline="value"),
        num_updates=3,
    ),
}


@pytest.mark.devices(8)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_is_the_same_on_any_number_of_devices(name):
    config = ALGORITHMS[name]
    state, metrics = pgjax.train(jax.random.key(0), config)
    mesh = pgjax.make_mesh(8 if name == "ppo" else 4)
    divided, found = pgjax.train(jax.random.key(0), config, mesh)
    close(found, metrics, rtol=1e-3, atol=1e-3)
    close(data(divided), data(state), rtol=1e-2, atol=1e-3)


@pytest.mark.devices(2)
def test_a_run_goes_on_from_streams_that_are_divided():
    config = ALGORITHMS["ppo"].replace(num_updates=70)  # two blocks at least
    alone = pgjax.run(config)
    divided = pgjax.run(config, mesh=pgjax.make_mesh(2))
    np.testing.assert_array_equal(divided.metrics.env_steps[:3], alone.metrics.env_steps[:3])
    assert int(divided.state.num_updates) == 70
    assert divided.state.streams.returns.shape == (8,)


_EVERY_BIT = """
import jax, numpy as np, pgjax
jax.config.update("jax_num_cpu_devices", 4)
config = pgjax.Config("Acrobot-v1", sampler=pgjax.Episodes(8, horizon=45))
state, key = pgjax.init(jax.random.key(0), config), jax.random.key(1)
alone = pgjax.sample_trajectories(key, state, config)
divided = pgjax.sample_trajectories(key, state, config, pgjax.make_mesh(4))
np.testing.assert_allclose(divided.reward, alone.reward, rtol=0)
for name in ("action", "obs", "final_obs"):
    np.testing.assert_array_equal(getattr(divided, name), getattr(alone, name))
"""


def test_trajectories_are_equal_in_every_bit_whatever_runs_beside_them():
    # Compiled as users have it: the emitters that tests do without round the last of a batch apart.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", _EVERY_BIT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.devices(2)
def test_a_user_environment_with_pytree_observations_is_divided_too():
    config = pgjax.Config(Counter(), sampler=pgjax.Episodes(4))
    state = pgjax.init(jax.random.key(0), config)
    alone = pgjax.sample_trajectories(jax.random.key(1), state, config)
    divided = pgjax.sample_trajectories(jax.random.key(1), state, config, pgjax.make_mesh(2))
    jax.tree.map(np.testing.assert_array_equal, divided, alone)


def test_every_trajectory_has_its_own_noise():
    config = pgjax.Config("Pendulum-v1", sampler=pgjax.Episodes(64, horizon=40))
    state = pgjax.init(jax.random.key(0), config)
    tau = pgjax.sample_trajectories(jax.random.key(1), state, config)
    assert np.unique(tau.action).size == tau.action.size
    assert np.unique(np.asarray(tau.obs[0]), axis=0).shape[0] == 64


def test_the_target_ends_training_and_the_state_is_that_of_the_update_that_reached_it():
    config = checked(pgjax.Config("Catch-bsuite", num_updates=40))
    state = training.init(jax.random.key(0), config)
    until = training.StopRule(jnp.int32(40), jnp.float32(0.0), jnp.bool_(False))
    found, metrics = training.advance(state, config, until, 40)
    made = int(found.num_updates)
    assert 1 < made < 40
    assert metrics.episode_return[made - 1] >= 0 > metrics.episode_return[made - 2]
    np.testing.assert_array_equal(metrics.env_steps[made - 1 :], metrics.env_steps[made - 1])
    expected, _ = pgjax.train(jax.random.key(0), config.replace(num_updates=made))
    close(data(found), data(expected), rtol=1e-3, atol=1e-5)


@pytest.mark.devices(8)
def test_how_many_devices_fit():
    assert [parallel.fitting(m) for m in (1, 31, 32, 33, 48, 64, 100, 128, 1024)] == [
        1, 1, 2, 1, 3, 4, 5, 8, 8,
    ]  # fmt: skip


def test_more_devices_than_exist():
    here = rf"{jax.device_count()} \({jax.default_backend()}\) here"
    hint = "; .*'jax_num_cpu" if jax.default_backend() == "cpu" else "$"
    with pytest.raises(ValueError, match=f"999 devices asked for, {here}{hint}"):
        pgjax.make_mesh(999)
    with pytest.raises(ValueError, match="at least 1"):
        pgjax.make_mesh(0)


@pytest.mark.devices(4)
def test_trajectories_that_do_not_divide():
    config = pgjax.Config("Catch-bsuite", sampler=pgjax.Episodes(10))
    match = "multiple of the 4 devices, got 10; 8 or 12 would do"
    with pytest.raises(ValueError, match=match):
        pgjax.train(jax.random.key(0), config, pgjax.make_mesh(4))
    few = config.replace(**{"sampler.num_trajectories": 2})
    with pytest.raises(ValueError, match="got 2; 4 would do"):
        pgjax.run(few, mesh=pgjax.make_mesh(4))


def test_a_mesh_of_another_kind():
    config = pgjax.Config("Catch-bsuite")
    other = Mesh(np.asarray(jax.devices()[:2]), ("batch",))
    with pytest.raises(TypeError, match="make_mesh"):
        pgjax.train(jax.random.key(0), config, other)
