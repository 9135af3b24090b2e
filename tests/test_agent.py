"""`Agent.act`: the policy's own action, one or a batch; what it refuses."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import Counter, Spaces

import pgjax
from pgjax.environments.interface import spaces
from pgjax.training.config import bind

MASKED = spaces.Dict(
    {
        "action_mask": spaces.Dict({"gear": spaces.Box(0, 1, (3,), bool)}),
        "place": spaces.Box(-9.0, 9.0, (2,)),
        "level": spaces.Discrete(4),
    }
)
HYBRID = spaces.Dict({"gear": spaces.Discrete(3), "force": spaces.Box(-1.0, 2.0, (2,))})
OBS = {
    "action_mask": {"gear": np.array([False, True, False])},
    "place": np.array([5.0, -3.0], np.float32),
    "level": np.int32(2),
}


class Observes(Spaces):
    """Observes a constant, a random element of its space."""

    def reset_env(self, key, params):
        return self.observation_space().sample(jax.random.key(3)), super().reset_env(key, params)[1]

    def step_env(self, key, state, action, params):
        _, *after = super().step_env(key, state, 0, params)
        return self.observation_space().sample(jax.random.key(3)), *after


@pytest.fixture(scope="module")
def hybrid():
    """Every service at once: a mask, a joint action, a memory, the time, and a normaliser."""
    config = pgjax.Config(
        Observes(MASKED, HYBRID),
        network=pgjax.Recurrent(pgjax.MLP((4,)), 3),
        distribution="normal",
        normalize_observations=True,
        time_aware=True,
    )
    state, policy = pgjax.init(jax.random.key(0), config), bind(config, 0).policy
    rows = jax.tree.map(lambda x: x[None, None], {**OBS, "time": jnp.float32(0.2)})
    variables = {"params": jax.tree.map(lambda x: x + 0.1, state.params), **state.variables}
    variables = policy.update_statistics(variables, rows, jnp.ones((1, 1), bool))
    state = state.replace(params=variables.pop("params"), variables=variables)
    return pgjax.Agent(state, config), state, config


def batch(*observations):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *observations)


def test_the_mode_and_a_sample_are_the_policys(hybrid):
    agent, state, config = hybrid
    policy, key = bind(config, 0).policy, jax.random.key(5)
    memory, given = policy.initial_memory(), None
    for time in range(3):
        timed = {**OBS, "time": jnp.float32(time / 5)}
        distribution, memory = policy.apply(state.policy_variables, timed, memory)
        sample = distribution.sample(policy.noise(key, ()))
        sampled, _ = agent.act(OBS, given, key)
        action, given = agent.act(OBS, given)
        for actual, stored in ((action, distribution.mode()), (sampled, sample)):
            expected = distribution.environment_action(stored)
            assert actual["gear"] == expected["gear"] == 1
            np.testing.assert_allclose(actual["force"], expected["force"], rtol=1e-5, atol=1e-6)
        assert (np.abs(sampled["force"] - 0.5) <= 1.5).all()
        np.testing.assert_allclose(given.policy, memory, rtol=1e-5, atol=1e-6)
        assert given.time == time + 1
    # A key with deterministic=True counts for nothing.
    again, _ = agent.act(OBS, deterministic=True, key=key)
    np.testing.assert_array_equal(again["force"], agent.act(OBS)[0]["force"])


def test_a_batch_is_its_rows(hybrid):
    agent, *_ = hybrid
    free = {**OBS, "action_mask": {"gear": np.array([True, True, True])}, "level": np.int32(0)}
    actions, memory = agent.act(batch(OBS, free))
    actions, memory = agent.act(batch(OBS, free), memory)
    assert memory.time.tolist() == [2, 2]
    for row, obs in enumerate((OBS, free)):
        action, own = agent.act(obs, agent.act(obs)[1])
        assert actions["gear"][row] == action["gear"]
        np.testing.assert_allclose(actions["force"][row], action["force"], rtol=1e-5)
        np.testing.assert_allclose(memory.policy[row], own.policy, rtol=1e-5)
    start = agent.initial_memory(2)
    assert start.policy.shape == (2, 3)
    assert start.time.shape == (2,)
    key = jax.random.key(1)
    given = agent.act(batch(OBS, OBS), start, key, deterministic=False)[0]["force"]
    np.testing.assert_array_equal(given, agent.act(batch(OBS, OBS), key=key)[0]["force"])
    assert not np.array_equal(given[0], given[1])


REFUSED = {
    "missing": ({"place": OBS["place"]}, r"obs: expected all entries.* got no entry 'action_mask'"),
    "too many": ({**OBS, "time": 0.0}, "got an entry 'time' too many"),
    "shape": ({**OBS, "place": np.zeros(3)}, r"obs\['place'\]: expected the shape \(2,\)"),
    "row": (
        {**batch(OBS, OBS), "place": np.zeros((3, 2))},
        r"obs\['place'\]: expected the shape \(2,\).*float32\[3,2\], in a batch of 2",
    ),
    "dtype": ({**OBS, "level": 0.5}, r"obs\['level'\]: expected an integer, of Discrete"),
    "complex": ({**OBS, "place": np.zeros(2, complex)}, r"obs\['place'\]: expected real numbers"),
    "text": ({**OBS, "place": "left"}, r"obs\['place'\]: expected an array of numbers, got 'left'"),
    "none": (None, "obs: expected all entries of observation_space"),
}


@pytest.mark.parametrize(("obs", "message"), REFUSED.values(), ids=REFUSED)
def test_another_observation_is_refused(hybrid, obs, message):
    with pytest.raises((ValueError, TypeError), match=message) as error:
        hybrid[0].act(obs)
    assert "\n" not in str(error.value)


def test_another_memory_or_key_is_refused(hybrid):
    agent, *_ = hybrid
    message = r"memory: expected agent.initial_memory\(batch\) or .*float32\[3\].*got \(\)"
    with pytest.raises(ValueError, match=message):
        agent.act(OBS, ())
    with pytest.raises(ValueError, match=r"with a first axis of 2, as .*got .*float32\[3,3\]"):
        agent.act(batch(OBS, OBS), agent.initial_memory(3))
    with pytest.raises(TypeError, match=r"memory: expected an array of numbers, got 'old'"):
        agent.act(OBS, "old")
    with pytest.raises(
        TypeError, match=r"deterministic=False samples, which needs key=jax\.random"
    ):
        agent.act(OBS, deterministic=False)
    with pytest.raises(TypeError, match=r"key must be one typed key, .* got uint32 \(2,\)"):
        agent.act(OBS, key=jax.random.PRNGKey(0))
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        agent.initial_memory(0)


def test_numpy_gives_numpy_and_jax_gives_jax():
    config = pgjax.Config(Counter(), network=pgjax.MLP((4,)))
    agent = pgjax.Agent(pgjax.init(jax.random.key(0), config), config)
    action, memory = agent.act(np.ones(1))
    assert isinstance(action, np.int32)
    assert memory == ()
    assert agent.act([1.0])[0] == action
    assert agent.act(np.ones((2, 1), np.int64), memory)[0].tolist() == [action] * 2
    of_jax, _ = jax.jit(agent.act)(jnp.ones(1))
    assert isinstance(of_jax, jax.Array)
    assert of_jax == action
    with pytest.raises(ValueError, match="a batch of at least one, got none"):
        agent.act(np.ones((0, 1)))
    with pytest.raises(ValueError, match=r"memory: expected .*\(\), got float32\[1\]"):
        agent.act(np.ones(1), np.ones(1))
    pixels = spaces.Box(0, 255, (1,), np.uint8)
    config = pgjax.Config(Observes(pixels), network=pgjax.MLP((4,)))
    agent = pgjax.Agent(pgjax.init(jax.random.key(0), config), config)
    with pytest.raises(TypeError, match="obs: expected uint8, as the environment gives it, got fl"):
        agent.act(np.ones(1))


def test_agents_of_one_config_share_a_program():
    config = pgjax.Config(Counter(), network=pgjax.MLP((4,)))
    states = [pgjax.init(jax.random.key(seed), config) for seed in (0, 1)]
    programs = [pgjax.Agent(state, config)._program for state in states]
    assert programs[0] is programs[1]
    with pytest.raises(ValueError, match="state and config do not belong together"):
        pgjax.Agent(states[0], config.replace(network=pgjax.MLP((5,))))


def test_a_loaded_agent_plays_the_wrapped_environment_and_gymnasiums(tmp_path):
    config = pgjax.Config(pgjax.FrameStack("CartPole-v1", 2), network=pgjax.MLP((4,)))
    state = pgjax.init(jax.random.key(0), config)
    pgjax.save(tmp_path / "wrapped", state, config)
    agent = pgjax.Agent.load(tmp_path / "wrapped")
    obs, env_state = agent.environment.reset(jax.random.key(1))
    assert obs.shape == (8,)
    action, _ = agent.act(obs)
    assert agent.environment.step(jax.random.key(2), env_state, action).reward == 1.0
    with pytest.raises(ValueError, match=r"expected the shape \(8,\) .*got float32\[4\]"):
        agent.act(obs[:4])
    config = config.replace(env="CartPole-v1")
    agent = pgjax.Agent(pgjax.init(jax.random.key(0), config), config)
    env = gymnasium.make("CartPole-v1")
    obs, _ = env.reset(seed=0)
    for _ in range(5):
        action, _ = agent.act(obs)
        assert env.action_space.contains(action)
        obs, *_ = env.step(action)
