import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import Counter, LegalActionsOnly
from gymnax.environments.classic_control.cartpole import EnvState as CartPoleState
from gymnax.wrappers import FlattenObservationWrapper, LogWrapper, StickyActionWrapper

import pgjax
from pgjax.environments import interface
from pgjax.sampling import rollout
from pgjax.training.config import bind, checked


def sample(env, m=4, seed=0, **changes):
    config = pgjax.Config(env=env, sampler=pgjax.Episodes(m)).replace(**changes)
    state = pgjax.init(jax.random.key(0), config)
    trajectories = pgjax.sample_trajectories(jax.random.key(seed), state, config)
    return jax.tree.map(np.asarray, trajectories)


def test_trajectories_replay_in_the_environment_itself():
    tau = sample("CartPole-v1", m=5)
    env = interface.make("CartPole-v1")
    params = env.default_params
    assert tau.valid.sum(0).min() > 5
    for i in range(5):
        obs = tau.obs[0, i]
        state = CartPoleState(0, *map(float, obs))
        length = tau.valid[:, i].sum()
        for t in range(length):
            np.testing.assert_allclose(tau.obs[t, i], obs, rtol=1e-4, atol=1e-5)
            obs, state, reward, terminated, _ = env.step_env(
                jax.random.key(0), state, int(tau.action[t, i]), params
            )
            assert tau.reward[t, i] == reward
            assert tau.terminated[t, i] == terminated == (t == length - 1)
        np.testing.assert_allclose(tau.final_obs[i], obs, rtol=1e-4, atol=1e-5)


def test_valid_steps_come_first_and_nothing_counts_after_them():
    tau = sample("CartPole-v1", m=16)
    assert tau.valid.shape == (500, 16)
    assert (np.diff(tau.valid.astype(int), axis=0) <= 0).all()
    for after in (tau.reward, tau.terminated, tau.truncated):
        assert not after[~tau.valid].any()


@pytest.mark.parametrize(
    ("lifetime", "limit", "length", "terminated", "truncated"),
    [(3, 5, 3, True, False), (9, 5, 5, False, True), (5, 5, 5, True, True)],
    ids=["only terminates", "only truncates", "both on the same step"],
)
def test_termination_and_time_limit_stay_apart(lifetime, limit, length, terminated, truncated):
    tau = sample(Counter(lifetime, limit))
    assert (tau.valid.sum(0) == length).all()
    assert (tau.terminated.any(0) == terminated).all()
    assert (tau.truncated.any(0) == truncated).all()
    np.testing.assert_array_equal(tau.reward[:length, 0], np.arange(1, length + 1))
    np.testing.assert_array_equal(tau.obs[:length, 0, 0], np.arange(length))
    assert (tau.final_obs == length).all()


def test_a_shorter_horizon_truncates():
    tau = sample(Counter(lifetime=9, limit=30), **{"sampler.horizon": 4})
    assert tau.valid.shape[0] == 4
    assert tau.truncated[3].all()
    assert not tau.terminated.any()
    assert (tau.final_obs == 4).all()


def test_env_params_set_the_limit():
    params = Counter(lifetime=99).default_params.replace(max_steps_in_episode=7)
    tau = sample(Counter(), env_params=params.replace(lifetime=99))
    assert tau.valid.shape[0] == 7
    assert tau.truncated[6].all()


def test_wrapped_environments_give_the_observation_before_the_reset():
    tau = sample(LogWrapper(Counter(lifetime=3)))
    assert (tau.valid.sum(0) == 3).all()
    assert (tau.final_obs == 3).all()
    np.testing.assert_array_equal(tau.reward[:3, 0], [1, 2, 3])


def test_a_wrapper_that_changes_observations_is_honoured():
    tau = sample(FlattenObservationWrapper(interface.make("Catch-bsuite")))
    assert tau.obs.shape[2:] == (50,)
    assert (tau.valid.sum(0) == 9).all()
    # The ball has fallen to the paddle's row, which an observation after a reset never shows.
    assert (tau.final_obs[:, :45] == 0).all()
    assert (tau.final_obs[:, 45:] == 1).any(1).all()


def test_a_wrapper_that_changes_actions_is_honoured():
    sticky = StickyActionWrapper(interface.make("CartPole-v1"), sticky_action_prob=1.0)
    tau = sample(sticky, m=32)
    # Only the first recorded action, 0, is ever executed: the pole falls the same way, soon.
    assert tau.valid.sum(0).max() <= 12
    assert (tau.final_obs[:, 2] > 0).all()


def test_the_environment_receives_legal_actions_whatever_is_sampled():
    for distribution in ("normal", "tanh_normal"):
        tau = sample(LegalActionsOnly(), m=256, distribution=distribution)
        assert (tau.reward[tau.valid] == 1.0).all()
        assert (np.abs(tau.action[tau.valid]).max(0) > 1.0).all()


def test_states_are_visited_as_often_as_the_model_says():
    transition = [[[0.2, 0.8], [0.5, 0.5]], [[0.9, 0.1], [0.3, 0.7]]]
    mdp = pgjax.FiniteMDP(transition, np.zeros((2, 2)), [0.75, 0.25], horizon=3)
    config = pgjax.Config(env=mdp, network=pgjax.MLP(()), sampler=pgjax.Episodes(40_000))
    state = pgjax.init(jax.random.key(0), config)
    tau = pgjax.sample_trajectories(jax.random.key(1), state, config)
    policy = np.asarray(pgjax.tabular.action_probabilities(state, config))
    step = np.einsum("sa,sat->st", policy, np.asarray(transition))
    expected = np.array([0.75, 0.25])
    for t in range(3):
        seen = np.asarray(tau.obs[t]).mean(0)
        np.testing.assert_allclose(seen, expected, atol=4 * 0.5 / 200)
        expected = expected @ step


def blocks_run(env, horizon):
    config = checked(pgjax.Config(env=env, sampler=pgjax.Episodes(4)))
    bound = bind(config, 0)
    actor = bound.actor(bound.policy.init(jax.random.key(0)))
    keys, active = jax.random.split(jax.random.key(0), 4), jnp.ones(4, bool)
    keys, start = actor.begin(keys, active)
    bounds, count = rollout.episode_limits(horizon), lambda n, *_: n + 1
    *_, blocks = rollout.unroll(actor, keys, start, bounds, 0, count)
    return int(blocks)


def test_a_rollout_stops_when_every_trajectory_is_over():
    assert blocks_run("Catch-bsuite", horizon=1000) == 1
    assert blocks_run(Counter(lifetime=10_000, limit=1000), horizon=1000) == 50


def test_a_vmapped_rollout_stops_when_the_last_member_is_over():
    config = pgjax.Config(env=Counter(), sampler=pgjax.Episodes(2))
    state = pgjax.init(jax.random.key(0), config)
    limits = jnp.array([3, 30, 5])

    def lengths(lifetime):
        params = config.env.default_params.replace(lifetime=lifetime, max_steps_in_episode=100)
        changed = config.replace(env_params=params)
        return pgjax.sample_trajectories(jax.random.key(0), state, changed).valid.sum(0)

    np.testing.assert_array_equal(jax.vmap(lengths)(limits), [[3, 3], [30, 30], [5, 5]])


def test_different_trajectories_and_keys_have_different_noise():
    first, second = sample("CartPole-v1", m=8), sample("CartPole-v1", m=8, seed=1)
    assert len(np.unique(first.obs[0], axis=0)) == 8
    assert not np.isin(first.obs[0], second.obs[0]).any()
    early = first.action[:8]
    assert len(np.unique(early, axis=1).T) > 4
