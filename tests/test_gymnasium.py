"""What was learned in gymnax holds in Gymnasium's own code for the same problem."""

from types import SimpleNamespace

import gymnasium
import jax
import numpy as np
import pytest
from environments_for_tests import Counter, Spaces

import pgjax
from pgjax.environments import spaces
from pgjax.study import gymnasium_bridge
from pgjax.study.gymnasium_bridge import evaluate_in_gymnasium


def both(config, num_episodes, **options):
    """Evaluations here and in Gymnasium, of a policy that has only begun to learn."""
    state, _ = pgjax.train(jax.random.key(0), config)
    here = pgjax.evaluate(jax.random.key(1), state, config, num_episodes, **options)
    return here, evaluate_in_gymnasium(jax.random.key(2), state, config, None, num_episodes)


def apart(one, other):
    """The distance of two means, in standard errors."""
    squared = [np.var(e.returns) / len(e.returns) for e in (one, other)]
    return abs(float(one.mean - other.mean)) / np.sqrt(sum(squared))


def test_cartpole_scores_the_same():
    config = pgjax.reinforce("CartPole-v1", num_updates=4)
    here, there = both(config, 200)
    assert 30 < float(here.mean) < 400
    assert apart(here, there) < 4
    np.testing.assert_array_equal(there.returns, there.lengths)
    assert there.interval[0] < there.mean < there.interval[1]


def test_pendulum_scores_the_same():
    config = pgjax.ppo("Pendulum-v1", num_updates=10)
    here, there = both(config, 100)
    assert apart(here, there) < 4
    np.testing.assert_array_equal(there.lengths, [200] * 100)


def test_a_policy_with_a_memory_that_knows_the_time_scores_the_same():
    config = pgjax.reinforce("CartPole-v1", num_updates=4, time_aware=True)
    config = config.replace(network=pgjax.Recurrent(pgjax.MLP((16,)), 16))
    here, there = both(config, 200)
    assert 30 < float(here.mean) < 400
    assert apart(here, there) < 4


def test_a_horizon_cuts_episodes_and_the_mode_is_taken():
    config = pgjax.Config("Pendulum-v1", sampler=pgjax.Episodes(4, horizon=7))
    state = pgjax.init(jax.random.key(0), config)
    runs = [
        evaluate_in_gymnasium(jax.random.key(3), state, config, "Pendulum-v1", 3, flag)
        for flag in (True, True, False)
    ]
    np.testing.assert_array_equal(runs[0].lengths, [7] * 3)
    np.testing.assert_array_equal(runs[0].returns, runs[1].returns)
    assert not np.array_equal(runs[0].returns, runs[2].returns)


@pytest.mark.parametrize(
    ("env", "env_id", "message"),
    [
        ("CartPole-v1", "CartPole-v7", "Gymnasium environment 'CartPole-v7'; did you mean 'CartP"),
        ("Catch-bsuite", None, "unknown Gymnasium environment 'Catch-bsuite'"),
        ("CartPole-v1", "Acrobot-v1", r"observation_space of Acrobot-v1 must be .*\(4,\).*\(6,\)"),
        ("MountainCar-v0", "MountainCarContinuous-v0", "action_space of MountainCarContinuous-v0"),
        (Counter(), None, "env_id must be given: config.env is no id"),
    ],
)
def test_another_environment_is_refused(env, env_id, message):
    config = pgjax.Config(env)
    state = pgjax.init(jax.random.key(0), config)
    with pytest.raises(ValueError, match=message):
        evaluate_in_gymnasium(jax.random.key(1), state, config, env_id, 2)


def test_the_number_of_episodes_is_checked():
    config = pgjax.Config("CartPole-v1")
    state = pgjax.init(jax.random.key(0), config)
    with pytest.raises(ValueError, match="num_episodes must be at least 1, got 0"):
        evaluate_in_gymnasium(jax.random.key(1), state, config, num_episodes=0)


@pytest.mark.parametrize("name", ["observation_space", "action_space"])
def test_a_space_that_starts_elsewhere_is_refused(name):
    theirs = {part: gymnasium.spaces.Discrete(4) for part in ("observation_space", "action_space")}
    shifted = SimpleNamespace(spec=SimpleNamespace(id="Shifted-v0"), **theirs)
    config = pgjax.Config(Spaces(spaces.Discrete(4), spaces.Discrete(4)))
    assert gymnasium_bridge._check_spaces(shifted, config) is None
    setattr(shifted, name, gymnasium.spaces.Discrete(4, start=1))
    with pytest.raises(ValueError, match=rf"{name} of Shifted-v0.*got Discrete\(4, start=1\)"):
        gymnasium_bridge._check_spaces(shifted, config)


class Hybrid(gymnasium.Env):
    """One step that pays what its hybrid action says."""

    observation_space = gymnasium.spaces.Box(0.0, 100.0, (1,))
    action_space = gymnasium.spaces.Tuple(
        (gymnasium.spaces.MultiDiscrete([2, 3]), gymnasium.spaces.Box(-1.0, 1.0, (1,)))
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        (first, second), x = action
        assert self.action_space[1].contains(x)
        return np.zeros(1, np.float32), 100.0 * first + 10.0 * second + x[0], True, False, {}


def test_actions_with_parts_are_played():
    gymnasium.register("pgjax-test/Hybrid-v0", Hybrid)
    config = pgjax.Config(Spaces(actions=Hybrid.action_space), network=pgjax.MLP((2,)))
    state = pgjax.init(jax.random.key(0), config)
    found = evaluate_in_gymnasium(jax.random.key(1), state, config, "pgjax-test/Hybrid-v0", 32)
    whole = set(np.round(np.asarray(found.returns), -1).astype(int).tolist())
    assert {0, 10, 20, 100, 110, 120} >= whole
    assert len(whole) > 3


def test_a_wrapper_that_gymnasium_lacks_is_refused_by_name():
    small = {"network": pgjax.MLP((2,)), "sampler": pgjax.Episodes(2, horizon=3)}
    config = pgjax.Config(pgjax.StickyActions("CartPole-v1", 0.5), **small)
    state, key = pgjax.init(jax.random.key(0), config), jax.random.key(1)
    with pytest.raises(ValueError, match=r"plays without wrappers.*StickyActions"):
        evaluate_in_gymnasium(key, state, config, "CartPole-v1", 2)
    config = config.replace(env=pgjax.SignReward("CartPole-v1"))
    assert evaluate_in_gymnasium(key, state, config, "CartPole-v1", 2).mean == 3.0
