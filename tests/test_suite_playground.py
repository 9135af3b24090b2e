"""MuJoCo Playground: its own loop and ours, the ends of episodes, privileged entries, learning."""

import subprocess
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from test_suites import gain

import pgjax
from pgjax.environments import interface
from pgjax.environments.suites import playground
from pgjax.training.config import checked

# Playground imports Brax, which says that JAXopt is no longer developed.
pytestmark = pytest.mark.filterwarnings("ignore:Brax System", "ignore:JAXopt")
ENV_ID = "playground/CartpoleBalance?limit=5"


# MJX broadcasts between ranks.
@pytest.fixture(autouse=True)
def _rank_promotion_inside_mjx():
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def registry():
    return pytest.importorskip("mujoco_playground").registry


@pytest.fixture(scope="module")
def cartpole(registry):
    """Jitted once: reset and step of CartpoleBalance with a limit of 5 steps."""
    with jax.numpy_rank_promotion("allow"):
        environment = interface.bind(ENV_ID)
    return jax.jit(environment.reset), jax.jit(environment.step)


ACTIONS = np.linspace(-1.0, 1.0, 5)[:, None]


def test_its_own_loop_and_ours(registry, cartpole):
    from brax.envs.wrappers.training import EpisodeWrapper

    env = registry.load("CartpoleBalance", config_overrides={"impl": "jax"})
    wrapped = EpisodeWrapper(env, episode_length=5, action_repeat=1)
    reset, step = cartpole
    obs, state = reset(jax.random.key(3))
    theirs, their_step = jax.jit(wrapped.reset)(jax.random.key(3)), jax.jit(wrapped.step)
    np.testing.assert_allclose(obs, theirs.obs, rtol=1e-5)
    for time, action in enumerate(ACTIONS):
        ours = step(jax.random.key(time), state, action)
        theirs, state = their_step(theirs, action), ours.env_state
        # The last one, too: the observation before the reset.
        np.testing.assert_allclose(ours.obs, theirs.obs, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(ours.reward, theirs.reward, rtol=1e-5)
        assert not ours.terminated
        assert ours.truncated == (theirs.info["truncation"] > 0) == (time == 4)


def test_a_simulation_that_diverges_terminates_with_finite_numbers(cartpole):
    reset, step = cartpole
    _, state = reset(jax.random.key(3))
    end = step(jax.random.key(0), state, jnp.full(1, jnp.nan))
    assert end.terminated
    assert not end.truncated
    assert end.reward == 0.0
    # The place and the two speeds; the pole's direction is that of the step before.
    np.testing.assert_array_equal(end.obs[jnp.array([0, 3, 4])], 0.0)
    assert np.isfinite(end.obs).all()


def test_another_key_is_another_start(cartpole):
    reset, _ = cartpole
    assert not np.allclose(reset(jax.random.key(0))[0], reset(jax.random.key(1))[0])


def test_spaces_and_the_limit_of_its_config(registry):
    environment = interface.bind("playground/CartpoleBalance")
    assert environment.limit == registry.get_default_config("CartpoleBalance").episode_length
    low, high = environment.bounds
    np.testing.assert_array_equal((low, high), ([-1.0], [1.0]))
    assert environment.observation_space.shape == (5,)


def test_it_keeps_to_the_interface(registry):
    pgjax.check_environment(ENV_ID, num_steps=16)


def test_a_pole_is_balanced(registry):
    config = pgjax.reinforce("playground/CartpoleBalance?limit=150", num_updates=8)
    config = config.replace(network=pgjax.MLP((32,)))
    config = config.replace(**{"sampler.num_trajectories": 16, "optimizer.learning_rate": 0.02})
    assert gain(config, updates=3) > 15.0


def test_robots_without_a_network_are_refused_in_one_sentence(registry, monkeypatch, tmp_path):
    from mujoco_playground._src import mjx_env

    def offline(*arguments):
        raise subprocess.CalledProcessError(128, ["git", "clone"])

    monkeypatch.setattr(mjx_env, "EXTERNAL_DEPS_PATH", tmp_path)
    monkeypatch.setattr(mjx_env, "MENAGERIE_PATH", tmp_path / "menagerie")
    monkeypatch.setattr(mjx_env, "_clone_with_progress", offline)
    with pytest.raises(ValueError, match=r"playground/Go1Getup cannot be made here: .*MuJoCo Mena"):
        interface.make("playground/Go1Getup")


def test_robots_without_git_are_refused_in_one_sentence(registry, monkeypatch, tmp_path):
    from mujoco_playground._src import mjx_env

    monkeypatch.setattr(mjx_env, "EXTERNAL_DEPS_PATH", tmp_path)
    monkeypatch.setattr(mjx_env, "MENAGERIE_PATH", tmp_path / "menagerie")
    monkeypatch.setenv("PATH", str(tmp_path))
    sentence = r"robots' models, from github.com/\S+ by git: FileNotFoundError: .*'git'\)$"
    with pytest.raises(ValueError, match=sentence):
        interface.make("playground/Go1Getup?limit=7")


def test_a_wrong_name_or_option_is_named_with_the_nearest_right_one(registry):
    with pytest.raises(ValueError, match="'CartpoleBalanc'; did you mean 'CartpoleBalance'"):
        interface.make("playground/CartpoleBalanc")
    with pytest.raises(ValueError, match=r"unknown 'wrap' .* did you mean 'warp'"):
        interface.make("playground/CartpoleBalance?impl=wrap")


@struct.dataclass
class Robot:
    """What of a robot of Playground, and of its state, the suite needs; done at the third step."""

    obs: Any = None
    reward: Any = 0.0
    done: Any = 0.0
    time: Any = 0
    action_size = 2

    def reset(self, key):
        return Robot(obs={"state": jnp.zeros(3), "privileged_state": jnp.zeros(7)}, time=0)

    def step(self, state, action):
        time = state.time + 1
        return state.replace(time=time, reward=jnp.float32(1.0), done=jnp.float32(time == 3))


@pytest.fixture
def robot(monkeypatch):
    """One that fails at the third step, far before its limit."""
    registry = SimpleNamespace(
        load=lambda name, config_overrides: Robot(),
        get_default_config=lambda name: SimpleNamespace(episode_length=40),
    )
    module = SimpleNamespace(registry=registry)
    monkeypatch.setattr(playground, "imported", lambda name, extra: module)
    return playground.Playground().make("Robot")


def test_an_episode_that_only_fails(robot):
    environment = interface.bind(robot)
    _, state = environment.reset(jax.random.key(0))
    ends = []
    for _ in range(3):
        step = environment.step(jax.random.key(0), state, jnp.zeros(2))
        ends.append((bool(step.terminated), bool(step.truncated), float(step.reward)))
        state = step.env_state
    assert ends == [(False, False, 1.0), (False, False, 1.0), (True, False, 1.0)]


def test_a_critic_may_see_what_the_policy_does_not(robot):
    parts = robot.observation_space().spaces
    assert {name: part.shape for name, part in parts.items()} == {
        "state": (3,),
        "privileged_state": (7,),
    }
    config = pgjax.actor_critic(robot, network=pgjax.Select("state", pgjax.MLP((8,))))
    config = config.replace(**{"critic.network": pgjax.Select("privileged_state")})
    assert checked(config).env is robot
    state = pgjax.init(jax.random.key(0), config)
    for network, entries in ((state.params["network"], 3), (state.critic.params["network"], 7)):
        assert network["network"]["Dense_0"]["kernel"].shape[0] == entries
