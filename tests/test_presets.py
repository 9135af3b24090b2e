"""Every environment that can be learned has a preset, and it can be trained."""

import jax
import pytest

import pgjax
from pgjax.environments import interface
from pgjax.training import presets

# MNISTBandit downloads its data when it is made.
LEARNABLE = [name for name in interface.ids() if name != "MNISTBandit-bsuite"]


def test_there_is_one_for_every_environment():
    assert sorted(presets.tuned()) == sorted(LEARNABLE)


@pytest.mark.parametrize("name", LEARNABLE)
def test_it_traces(name):
    config = pgjax.preset(name, num_updates=3)
    assert config.num_updates == 3
    state, metrics = jax.eval_shape(pgjax.train, jax.random.key(0), config)
    assert metrics.episode_return.shape == (3,)
    assert state.num_updates.shape == ()
    assert presets.algorithm(name) in presets.ALGORITHMS


def test_unknown_ones():
    with pytest.raises(ValueError, match="did you mean 'CartPole-v1'"):
        pgjax.preset("CartPole-v0")


def test_an_object_is_told_which_functions_take_one():
    env = pgjax.StickyActions("CartPole-v1", probability=0.1)
    with pytest.raises(
        TypeError, match=r"got StickyActions\(.*\): nothing .*; ppo\(env\) takes one$"
    ):
        pgjax.preset(env)


def test_the_algorithms_begin_where_they_say():
    assert isinstance(pgjax.actor_critic("CartPole-v1").objective, pgjax.ScoreFunction)
    assert pgjax.actor_critic("CartPole-v1").ascent == pgjax.GradientStep()
    ppo = pgjax.ppo("CartPole-v1")
    assert (ppo.objective, ppo.ascent) == (pgjax.ClippedRatio(), pgjax.Passes())
    natural = pgjax.natural_policy_gradient("CartPole-v1")
    assert natural.objective == pgjax.ImportanceRatio()
    assert natural.ascent == pgjax.TrustRegion()
    assert pgjax.reinforce("CartPole-v1") == pgjax.Config("CartPole-v1")
    changed = pgjax.ppo("CartPole-v1", **{"objective.epsilon": 0.1})
    assert changed.objective.epsilon == 0.1
