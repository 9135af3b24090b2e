"""Slow, few, seeded: does it learn."""

import jax
import optimized
import pytest

import pgjax


def final_returns(config, num_seeds):
    keys = [jax.random.split(jax.random.key(seed), num_seeds) for seed in (0, 1)]
    return optimized.jit(jax.vmap(lambda *keys: final_return(*keys, config)))(*keys)


def final_return(train_key, evaluation_key, config):
    state = pgjax.train(train_key, config).state
    return pgjax.evaluate(evaluation_key, state, config).mean


def test_ten_of_ten_seeds_solve_cartpole_with_the_defaults():
    returns = final_returns(pgjax.Config(env="CartPole-v1"), num_seeds=10)
    assert (returns >= 475).all(), returns


def test_ten_of_ten_seeds_catch_the_ball():
    config = pgjax.Config(env="Catch-bsuite", num_updates=200)
    returns = final_returns(config.replace(**{"optimizer.learning_rate": 3e-3}), num_seeds=10)
    assert (returns >= 0.9).all(), returns


ADDED = {
    "AdvantageWeighted": {"objective": pgjax.AdvantageWeighted(0.5)},
    "KLPenalty": {"objective": pgjax.KLPenalty()},
    "VTrace": {
        "estimator": pgjax.VTrace(gae_lambda=0.95, standardize=True),
        "objective": pgjax.ScoreFunction(),
        # Nothing else holds the policy near the old one.
        "ascent.max_kl": 0.02,
    },
    "TwoHotCritic": {"critic": pgjax.TwoHotCritic()},
}


@pytest.mark.parametrize("name", ADDED)
def test_three_of_three_seeds_catch_the_ball_with_each_part_in_place_of_ppos(name):
    config = pgjax.ppo("Catch-bsuite", num_updates=40, **ADDED[name])
    returns = final_returns(config, num_seeds=3)
    assert (returns >= 0.9).all(), returns
