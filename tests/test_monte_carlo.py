"""Gradient estimates as they are sampled: within standard errors of the exact gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax

NUM_SAMPLES = 20_000


@pytest.fixture(scope="module")
def problem():
    """A 5-state, 3-action MDP whose episodes end at different times, and a random policy."""
    rng = np.random.default_rng(0)
    transition = rng.dirichlet(np.ones(5), (5, 3))
    reward = 1.0 + rng.normal(size=(5, 3))
    terminal = [False, False, False, False, True]
    mdp = pgjax.FiniteMDP(transition, reward, [0.4, 0.3, 0.2, 0.1, 0.0], 6, terminal)
    config = pgjax.Config(env=mdp, network=pgjax.MLP(()), sampler=pgjax.Episodes(8))
    state = pgjax.init(jax.random.key(0), config)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), state.params)
    return config, state.replace(params=params)


@pytest.fixture(scope="module")
def statistics(problem):
    config, state = problem
    exact = pgjax.tabular.policy_gradient(state, config)

    def of(estimator):
        changed = config.replace(estimator=estimator)
        return pgjax.gradient_statistics(jax.random.key(1), state, changed, NUM_SAMPLES, exact)

    return {
        (estimator, baseline): of(estimator(baseline=baseline))
        for estimator in (pgjax.TotalReturn, pgjax.RewardToGo)
        for baseline in ("none", "leave_one_out")
    }


def largest_z_score(statistics, exact):
    def z(mean, variance, true):
        return jnp.max(jnp.abs(mean - true) / jnp.sqrt(variance / NUM_SAMPLES))

    scores = jax.tree.map(z, statistics.mean, statistics.variance, exact)
    return max(map(float, jax.tree.leaves(scores)))


def test_means_are_within_four_standard_errors_of_the_exact_gradient(problem, statistics):
    config, state = problem
    exact = pgjax.tabular.policy_gradient(state, config)
    for estimate in statistics.values():
        assert 0 < largest_z_score(estimate, exact) < 4


def test_the_mean_baseline_is_seen_to_be_biased(problem):
    config, state = problem
    config = config.replace(estimator=pgjax.TotalReturn(baseline="mean"))
    exact = pgjax.tabular.policy_gradient(state, config)
    found = pgjax.gradient_statistics(jax.random.key(1), state, config, NUM_SAMPLES, exact)
    assert largest_z_score(found, exact) > 4
    shrunk = jax.tree.map(lambda x: x * 7 / 8, exact)
    assert largest_z_score(found, shrunk) < 4


def test_reward_to_go_varies_less_than_total_return(statistics):
    for baseline in ("none", "leave_one_out"):
        total = statistics[pgjax.TotalReturn, baseline].total_variance
        to_go = statistics[pgjax.RewardToGo, baseline].total_variance
        assert to_go < 0.8 * total


def test_leave_one_out_varies_less_than_no_baseline(statistics):
    for estimator in (pgjax.TotalReturn, pgjax.RewardToGo):
        none = statistics[estimator, "none"].total_variance
        left_out = statistics[estimator, "leave_one_out"].total_variance
        assert left_out < 0.8 * none


def test_less_variance_shows_as_signal_and_as_direction(statistics):
    worst = statistics[pgjax.TotalReturn, "none"]
    best = statistics[pgjax.RewardToGo, "leave_one_out"]
    assert best.signal_to_noise > worst.signal_to_noise
    assert best.cosine > worst.cosine


def test_statistics_equal_those_of_the_estimates_themselves(problem):
    config, state = problem
    number = 70  # one full batch and a part of another
    found = pgjax.gradient_statistics(jax.random.key(2), state, config, number)
    assert int(found.num_samples) == number
    # 128 keys are split for two batches of 64; the last 58 are not counted.
    keys = jax.random.split(jax.random.key(2), 128)[:number]
    gradients = [pgjax.policy_gradient(key, state, config)[0] for key in keys]
    flat = np.stack([np.concatenate([np.ravel(x) for x in jax.tree.leaves(g)]) for g in gradients])
    mean = np.concatenate([np.ravel(x) for x in jax.tree.leaves(found.mean)])
    variance = np.concatenate([np.ravel(x) for x in jax.tree.leaves(found.variance)])
    np.testing.assert_allclose(mean, flat.mean(0), atol=2e-5)
    np.testing.assert_allclose(variance, flat.var(0, ddof=1), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.total_variance, variance.sum(), rtol=1e-5)
    cosines = flat @ mean / np.linalg.norm(flat, axis=1) / np.linalg.norm(mean)
    np.testing.assert_allclose(found.cosine, cosines.mean(), atol=1e-4)
