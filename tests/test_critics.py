"""What a critic makes of the scale and the offset of rewards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax.critics import units
from pgjax.sampling.rollout import first_rows
from pgjax.training.config import bind, checked

# Rewards of the worse arm, and by how much the other one is better.
_OFFSETS = np.array([0.0, 0.0, 0.0, 0.0, 0.0, -10.0, 10.0])
_SCALES = np.array([1e-9, 1e-6, 1.0, 1e6, 1e9, 1.0, 1.0])


def bandit(horizon=10):
    return pgjax.FiniteMDP([[[1.0], [1.0]]], [[0.0, 1.0]], [1.0], horizon=horizon)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [pgjax.ppo, pgjax.actor_critic])
def test_a_bandit_is_learned_at_every_scale_and_offset_of_rewards(algorithm):
    config = algorithm(bandit(), network=pgjax.MLP((16,)), num_updates=60).replace(
        **{"sampler.num_envs": 32, "sampler.length": 32}
    )
    params = config.env.default_params
    rewards = jnp.asarray(np.stack([_OFFSETS, _OFFSETS + _SCALES], -1)[:, None])
    keys = jax.random.split(jax.random.key(0), 3)

    def trained(reward, key):
        return pgjax.train(key, config.replace(env_params=params.replace(reward=reward))).state

    states = jax.jit(jax.vmap(jax.vmap(trained, (None, 0)), (0, None)))(rewards, keys)
    policy = bind(checked(config), 0).policy

    def probability(variables):
        return policy.apply(variables, jnp.ones(1), ())[0].probabilities()[1]

    good = jax.vmap(jax.vmap(probability))(states.policy_variables)
    assert np.all(good >= 0.95), np.round(good, 3)


def prepared(estimator, rewards, terminated, td_lambda=0.95):
    """The critic, and what it says of trajectories, [T, m], before it has learned anything."""
    sampler = pgjax.Episodes(rewards.shape[1]) if estimator.needs_whole_episodes else None
    config = pgjax.Config(bandit(), estimator=estimator, sampler=sampler or pgjax.Segments(3, 4))
    config = checked(config.replace(**{"critic.td_lambda": td_lambda}))
    state = pgjax.init(jax.random.key(0), config)
    trajectories = pgjax.sample_trajectories(jax.random.key(1), state, config)
    trajectories = first_rows(trajectories, len(rewards)).replace(
        reward=rewards,
        terminated=terminated,
        truncated=jnp.zeros_like(terminated),
        valid=jnp.ones_like(terminated),
    )
    critic = bind(config, 0).critic_at(state.policy_variables)
    informed = critic.prepared(state.critic, trajectories)
    return informed, critic.evaluate(informed, trajectories).state


def test_the_first_units_are_those_of_sums_of_rewards():
    no_end = jnp.zeros((4, 3), bool)
    critic, value = prepared(pgjax.GAE(discount=0.5), jnp.full((4, 3), 8.0), no_end, td_lambda=1.0)
    targets = np.array([15.0, 14.0, 12.0, 8.0])
    assert float(critic.centre) == pytest.approx(targets.mean())
    assert float(critic.unit) == pytest.approx(targets.std())
    np.testing.assert_allclose(value, targets.mean(), atol=0.1 * targets.std())


def test_targets_that_are_all_alike_have_a_unit():
    ends = jnp.ones((4, 3), bool)
    critic, _ = prepared(pgjax.GAE(), jnp.full((4, 3), -5.0), ends)
    assert float(critic.scale) == 0.0
    assert float(critic.unit) == pytest.approx(0.05)


def test_a_monte_carlo_baseline_knows_nothing_of_the_first_trajectories():
    estimator = pgjax.RewardToGo(baseline="value")
    critic, value = prepared(estimator, jnp.full((4, 3), 5.0), jnp.zeros((4, 3), bool))
    assert float(critic.scale) == float(critic.centre) == 0.0
    np.testing.assert_array_equal(value, 0.0)


@pytest.mark.parametrize(("number", "window"), [(256, 100), (2560, 10), (8192, 10)])
def test_units_are_those_of_ten_updates_or_of_as_many_steps_as_tell_something(number, window):
    zero, fits = jnp.zeros(()), jnp.int32(1000)
    critic = units.CriticState({}, (), zero, jnp.ones(()), fits)
    after = units.rescaled(critic, jnp.ones(()), jnp.ones(()), jnp.int32(number))
    assert float(after.centre) == pytest.approx(1 / window)


def test_an_orthogonal_network_of_many_seeds():
    network = pgjax.MLP((8, 32), initializer="orthogonal")
    config = pgjax.ppo(bandit(), network=network)
    states = jax.vmap(pgjax.init, (0, None))(jax.random.split(jax.random.key(0), 4), config)
    for params in (states.params, states.critic.params):
        kernels = [x for x in jax.tree.leaves(params) if x.shape == (4, 8, 32)]
        assert kernels
        for kernel in kernels:
            product = kernel @ jnp.swapaxes(kernel, 1, 2)
            np.testing.assert_allclose(product, np.stack([2 * np.eye(8)] * 4), atol=1e-5)
