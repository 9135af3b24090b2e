import jax
import numpy as np
from environments_for_tests import Counter

import pgjax
from pgjax.study.evaluation import bootstrap_interval


def test_returns_and_lengths_are_those_of_whole_episodes():
    config = pgjax.Config(env=Counter(lifetime=4, limit=9))
    state = pgjax.init(jax.random.key(0), config)
    result = pgjax.evaluate(jax.random.key(1), state, config, num_episodes=5)
    np.testing.assert_array_equal(result.returns, [10.0] * 5)
    np.testing.assert_array_equal(result.lengths, [4] * 5)
    assert float(result.mean) == 10.0
    np.testing.assert_array_equal(result.interval, [10.0, 10.0])


def test_the_mean_is_the_exact_utility_within_its_standard_error():
    rng = np.random.default_rng(0)
    mdp = pgjax.FiniteMDP(
        rng.dirichlet(np.ones(3), (3, 2)), rng.normal(size=(3, 2)), [0.2, 0.3, 0.5], horizon=5
    )
    config = pgjax.Config(env=mdp)
    state = pgjax.init(jax.random.key(0), config)
    result = pgjax.evaluate(jax.random.key(1), state, config, 20_000)
    probabilities = pgjax.tabular.action_probabilities(state, config)
    exact = pgjax.tabular.expected_return(probabilities, mdp)
    error = np.std(result.returns) / np.sqrt(20_000)
    assert abs(float(result.mean) - float(exact)) < 4 * error


def test_a_deterministic_evaluation_takes_the_mode():
    mdp = pgjax.FiniteMDP(np.ones((1, 2, 1)), [[0.0, 1.0]], [1.0], horizon=10)
    config = pgjax.Config(env=mdp, network=pgjax.MLP(()), num_updates=1)
    state, _ = pgjax.train(jax.random.key(0), config)
    mixed = pgjax.evaluate(jax.random.key(1), state, config, 64)
    best = pgjax.evaluate(jax.random.key(1), state, config, 64, deterministic=True)
    assert 2 < float(mixed.mean) < 9
    np.testing.assert_array_equal(best.returns, [10.0] * 64)


def test_evaluation_leaves_the_state_alone_and_follows_its_own_key():
    config = pgjax.Config(env="CartPole-v1")
    state = pgjax.init(jax.random.key(0), config)
    before = jax.random.key_data(state.key).copy()
    first = pgjax.evaluate(jax.random.key(1), state, config, 32)
    again = pgjax.evaluate(jax.random.key(1), state, config, 32)
    other = pgjax.evaluate(jax.random.key(2), state, config, 32)
    np.testing.assert_array_equal(jax.random.key_data(state.key), before)
    np.testing.assert_array_equal(first.returns, again.returns)
    assert not np.array_equal(first.returns, other.returns)


def test_bootstrap_interval_is_that_of_the_normal_approximation_for_many_values():
    values = np.random.default_rng(0).normal(3.0, 2.0, 4000).astype(np.float32)
    low, high = bootstrap_interval(jax.random.key(0), jax.numpy.asarray(values))
    half = 1.96 * values.std() / np.sqrt(4000)
    np.testing.assert_allclose([low, high], [values.mean() - half, values.mean() + half], atol=0.01)
