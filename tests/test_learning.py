"""Slow, few, seeded: does it learn."""

import jax

import pgjax


def final_returns(config, num_seeds):
    keys = jax.random.split(jax.random.key(0), num_seeds)
    state, _ = jax.vmap(pgjax.train, in_axes=(0, None))(keys, config)
    evaluate = jax.vmap(lambda key, state: pgjax.evaluate(key, state, config).mean)
    return evaluate(jax.random.split(jax.random.key(1), num_seeds), state)


def test_ten_of_ten_seeds_solve_cartpole_with_the_defaults():
    returns = final_returns(pgjax.Config(env="CartPole-v1"), num_seeds=10)
    assert (returns >= 475).all(), returns


def test_ten_of_ten_seeds_catch_the_ball():
    config = pgjax.Config(env="Catch-bsuite", num_updates=200)
    returns = final_returns(config.replace(**{"optimizer.learning_rate": 3e-3}), num_seeds=10)
    assert (returns >= 0.9).all(), returns
