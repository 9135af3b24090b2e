"""Streams of episodes in segments: what is in them, and where values end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import Counter, CounterParams

import pgjax
from pgjax.environments import interface
from pgjax.sampling import rollout
from pgjax.training import updates
from pgjax.training.config import bind, checked


def segments_of(env, number, num_envs=2, length=4):
    """The rows of consecutive segments, [number · length, num_envs]."""
    config = checked(
        pgjax.Config(env, sampler=pgjax.Segments(num_envs, length), estimator=pgjax.GAE())
    )
    state, found = pgjax.init(jax.random.key(0), config), []
    sample, bound = jax.jit(updates.sample), bind(config, 0)
    for seed in range(number):
        tau, streams = sample(jax.random.key(seed), state, bound)
        state = state.replace(streams=streams)
        found.append(tau.replace(final_obs=None))
        last = tau.final_obs
    rows = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
    return rows.replace(final_obs=np.asarray(last))


def test_a_stream_is_one_episode_after_another():
    tau = segments_of(Counter(lifetime=3, limit=5), number=3)
    # s_0 s_1 s_2 s_3 | s_0 …: the last observation has a row, in which nothing is done.
    np.testing.assert_array_equal(tau.obs[:, 0, 0], [0, 1, 2, 3] * 3)
    np.testing.assert_array_equal(tau.valid[:, 0], [True, True, True, False] * 3)
    np.testing.assert_array_equal(tau.reward[:, 0], [1, 2, 3, 0] * 3)
    np.testing.assert_array_equal(tau.terminated[:, 0], [False, False, True, False] * 3)
    assert not tau.truncated.any()
    np.testing.assert_array_equal(tau.final_obs, [[0], [0]])


@pytest.mark.parametrize("length", [23, 131])
def test_a_length_that_no_block_divides_has_neither_more_rows_nor_fewer(length):
    assert length % rollout.even_block(length)
    tau = segments_of(Counter(lifetime=3, limit=5), number=2, length=length)
    rows = np.arange(2 * length)
    np.testing.assert_array_equal(tau.obs[:, 0, 0], rows % 4)
    np.testing.assert_array_equal(tau.reward[:, 0], (rows % 4 + 1) % 4)
    np.testing.assert_array_equal(tau.valid[:, 0], rows % 4 < 3)
    np.testing.assert_array_equal(tau.final_obs[0], 2 * length % 4)


@pytest.mark.parametrize(("length", "block"), [(1, 1), (17, 17), (32, 16), (120, 20), (128, 16)])
def test_lengths_that_blocks_divide_are_sampled_as_before(length, block):
    assert rollout.even_block(length) == block


@pytest.mark.parametrize(
    ("lifetime", "limit", "terminated", "truncated"),
    [(3, 9, True, False), (9, 3, False, True), (3, 3, True, True)],
)
def test_what_ended_an_episode(lifetime, limit, terminated, truncated):
    tau = segments_of(Counter(lifetime, limit), number=2)
    np.testing.assert_array_equal(tau.terminated[2::4], terminated)
    np.testing.assert_array_equal(tau.truncated[2::4], truncated)


class One(Counter):
    """A reward of 1 at every step."""

    def step_env(self, key, state, action, params):
        obs, state, _, done, info = super().step_env(key, state, action, params)
        return obs, state, jnp.ones(()), done, info

    def observation_space(self, params=None):
        return interface.spaces.Box(0.0, 100.0, (1,))

    def get_obs(self, state, params=None, key=None):
        return jnp.zeros(1)


class Blind(One):
    """And nothing to see."""

    def step_env(self, key, state, action, params):
        obs, state, reward, done, info = super().step_env(key, state, action, params)
        return jnp.zeros_like(obs), state, reward, done, info


BLIND = Blind()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lifetime", "limit", "value"),
    [(10**6, 7, 10.0), (1, 7, 1.0), (1, 1, 1.0)],
    ids=["only truncates", "only terminates", "both at once: terminates"],
)
def test_a_value_counts_on_after_a_time_limit_and_ends_at_an_end(lifetime, limit, value):
    config = pgjax.Config(
        BLIND,
        env_params=CounterParams(lifetime=lifetime, max_steps_in_episode=limit),
        network=pgjax.MLP(()),
        sampler=pgjax.Segments(16, 10),
        estimator=pgjax.GAE(discount=0.9),
        critic=pgjax.Critic(learning_rate=0.03),
        num_updates=60,
    )
    state, metrics = pgjax.train(jax.random.key(0), config)
    tau = pgjax.sample_trajectories(jax.random.key(1), state, config)
    critic = bind(checked(config), 0).critic_at(state.policy_variables)
    found = critic.evaluate(state.critic, tau)
    np.testing.assert_allclose(found.state, value, rtol=0.02)
    np.testing.assert_allclose(metrics.episode_return[-1], min(lifetime, limit))


def test_metrics_count_episodes_that_began_in_an_earlier_segment():
    env = Counter(lifetime=10, limit=50)
    config = pgjax.Config(env, sampler=pgjax.Segments(3, 4), estimator=pgjax.GAE(), num_updates=6)
    _, metrics = pgjax.train(jax.random.key(0), config)
    ended = np.array([0, 0, 3, 0, 0, 3])  # rows 9 and 20
    np.testing.assert_array_equal(metrics.num_episodes, ended)
    np.testing.assert_array_equal(metrics.episode_return, np.where(ended, 55.0, np.nan))
    np.testing.assert_array_equal(metrics.episode_length, np.where(ended, 10.0, np.nan))
    np.testing.assert_array_equal(metrics.env_steps, [12, 24, 33, 45, 57, 66])


def test_what_was_sampled_is_scored_as_it_was():
    for env in ("CartPole-v1", "Pendulum-v1"):
        config = checked(pgjax.Config(env, sampler=pgjax.Segments(4, 30), estimator=pgjax.GAE()))
        state = pgjax.init(jax.random.key(0), config)
        tau = pgjax.sample_trajectories(jax.random.key(1), state, config)
        policy = bind(config, 0).policy

        def score(obs, action, policy=policy, state=state):
            return policy.apply(state.policy_variables, obs, ())[0].log_prob(action)

        expected = jax.vmap(jax.vmap(score))(tau.obs, tau.action)
        np.testing.assert_allclose(tau.log_prob, expected, rtol=1e-5, atol=1e-6)


def test_env_params_reach_the_streams():
    params = CounterParams(lifetime=2, max_steps_in_episode=5)
    config = pgjax.Config(
        Counter(), env_params=params, sampler=pgjax.Segments(1, 6), estimator=pgjax.GAE()
    )
    state = pgjax.init(jax.random.key(0), config)
    tau = pgjax.sample_trajectories(jax.random.key(1), state, config)
    np.testing.assert_array_equal(tau.valid[:, 0], [True, True, False] * 2)


def objective_of(length, **changes):
    """Metrics of one batch of 2048 rows from segments of a length."""
    random = np.random.default_rng(3)
    transition = random.dirichlet(np.ones(3), (3, 2))
    mdp = pgjax.FiniteMDP(transition, random.normal(size=(3, 2)), [0.5, 0.3, 0.2], horizon=300)
    config = pgjax.Config(
        mdp,
        network=pgjax.MLP(()),
        sampler=pgjax.Segments(2048 // length, length),
        estimator=pgjax.GAE(gae_lambda=0.5, standardize=True),
    ).replace(**changes)
    state = pgjax.init(jax.random.key(0), config)
    return pgjax.policy_gradient(jax.random.key(1), state, config)[1]


@pytest.mark.slow
def test_the_norm_of_a_gradient_does_not_grow_with_the_segments_length():
    norms = [float(objective_of(length).gradient_norm) for length in (16, 64, 256)]
    assert max(norms) < 1.5 * min(norms)


@pytest.mark.slow
def test_the_objective_is_the_mean_over_valid_steps():
    # Standardised weights have mean 0, so that the entropy is left.
    objective = pgjax.ClippedRatio(entropy_coefficient=1.0)
    for length in (16, 128):
        metrics = objective_of(length, objective=objective)
        assert float(metrics.objective) == pytest.approx(float(metrics.entropy), abs=1e-5)


def test_a_minibatch_has_the_scale_of_the_whole():
    valid = jnp.ones((4, 3), bool).at[0, 0].set(False)
    assert int(pgjax.Segments(3, 16).divisor(valid, 0.25)) == 11
    assert pgjax.Episodes(3).divisor(valid, 0.25) == 0.75
