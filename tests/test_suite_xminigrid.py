"""XLand-MiniGrid: ends of both kinds, its own loop, options, benchmarks, learning."""

import re
import urllib.error

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax.environments import interface, spaces

xminigrid = pytest.importorskip("xminigrid", reason="needs the extra pgjax-rl[xminigrid]")
FORWARD, RIGHT, LEFT = 0, 1, 2
TO_THE_GOAL = jnp.array([FORWARD, FORWARD, RIGHT, FORWARD, FORWARD])  # of Empty-5x5


# XLand-MiniGrid broadcasts between ranks.
@pytest.fixture(autouse=True)
def _rank_promotion_inside_xminigrid():
    with jax.numpy_rank_promotion("allow"):
        yield


def rollout(env, actions, key=0):
    """The steps after the actions, stacked, and the first observation."""
    environment = interface.bind(env)

    def body(state, action):
        step = environment.step(jax.random.key(1), state, action)
        return step.env_state, step._replace(env_state=())

    @jax.jit
    def run(key):
        obs, state = environment.reset(key)
        return jax.lax.scan(body, state, actions)[1], obs

    return run(jax.random.key(key))


@pytest.mark.parametrize(
    "env_id", ["MiniGrid-EmptyRandom-5x5?limit=12", "MiniGrid-MemoryS8?direction=true"]
)
def test_it_keeps_to_the_interface(env_id):
    pgjax.check_environment(f"xminigrid/{env_id}", num_steps=40)


@pytest.mark.parametrize("name", ["MiniGrid-EmptyRandom-5x5", "MiniGrid-MemoryS8"])
def test_a_trajectory_is_that_of_its_own_loop(name):
    own, params = xminigrid.make(name, max_steps=40)
    actions = jax.random.randint(jax.random.key(2), (40,), 0, 3)
    steps, first = rollout(f"xminigrid/{name}?limit=40", actions)
    timestep = own.reset(params, jax.random.split(jax.random.key(0))[1])
    np.testing.assert_array_equal(first, timestep.observation)
    step = jax.jit(own.step)
    for index, action in enumerate(actions):
        timestep = step(params, timestep, action)
        np.testing.assert_array_equal(steps.obs[index], timestep.observation)
        assert steps.reward[index] == timestep.reward
        assert steps.terminated[index] == (timestep.last() & (timestep.discount == 0))
        assert steps.truncated[index] == (index == 39)
        if timestep.last():
            return
    raise AssertionError("no end within the limit")


def test_a_goal_only_terminates():
    steps, _ = rollout("xminigrid/MiniGrid-Empty-5x5", TO_THE_GOAL)
    np.testing.assert_array_equal(steps.terminated, [False] * 4 + [True])
    assert not steps.truncated.any()
    np.testing.assert_allclose(steps.reward, [0.0] * 4 + [1.0 - 0.9 * 5 / 100], rtol=1e-6)


def test_a_time_limit_only_truncates():
    steps, _ = rollout("xminigrid/MiniGrid-Empty-5x5?limit=4", TO_THE_GOAL[:4])
    np.testing.assert_array_equal(steps.truncated, [False] * 3 + [True])
    assert not steps.terminated.any()


def test_a_goal_at_the_limit_terminates():
    steps, _ = rollout("xminigrid/MiniGrid-Empty-5x5?limit=5", TO_THE_GOAL)
    assert steps.terminated[-1]
    np.testing.assert_allclose(steps.reward[-1], 0.1, rtol=1e-6)


def test_options_change_what_is_seen():
    env = pgjax.from_xminigrid("XLand-MiniGrid-R1-9x9", view_size=3, direction=True, rules=True)
    space = env.observation_space()
    assert {name: spaces.text(child) for name, child in space.spaces.items()} == {
        "img": "Box(3,3,2) uint8",
        "direction": "Box(4) float32",
        "goal_encoding": "Box(5) uint8",
        "rule_encoding": "Box(1,7) uint8",
    }
    obs, _ = interface.bind(env).reset(jax.random.key(0))
    assert obs["direction"].sum() == 1.0
    assert interface.bind(env).limit == 3 * 9 * 9


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("MiniGrid-Empty-5x5", {"view_size": 4}, "view_size must be odd and at least 3, got 4"),
        ("MiniGrid-Empty-5x5", {"rules": True}, "rules of its own and shows none"),
        ("MiniGrid-Empty-5x5", {"benchmark": "small-1m"}, "rules of its own and takes no"),
        ("XLand-MiniGrid-R1-9x9", {"benchmark": "small-2m"}, "did you mean 'small-1m'"),
    ],
)
def test_a_wrong_option_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        pgjax.from_xminigrid(name, **options)


def test_a_benchmark_without_a_network_or_damaged_names_the_download(monkeypatch, tmp_path):
    from xminigrid import benchmarks

    def offline(*arguments, **options):
        raise urllib.error.URLError("no route\nto host")

    monkeypatch.setattr(benchmarks, "DATA_PATH", str(tmp_path))
    monkeypatch.setattr(benchmarks.urllib.request, "urlretrieve", offline)
    env_id = "xminigrid/XLand-MiniGrid-R1-9x9?benchmark=medium-1m"
    name = re.escape(f"the benchmark medium-1m, kept in {tmp_path}, from huggingface.co: ")
    with pytest.raises(ValueError, match=f"cannot be made here: .*{name}URLError: .*no route to"):
        interface.make(env_id)
    # What an interrupted download leaves.
    (tmp_path / "medium_1m_v2").write_bytes(b"BZh9")
    monkeypatch.setitem(benchmarks.NAME2HFFILENAME, "medium-1m", "medium_1m_v2")
    with pytest.raises(ValueError, match=f"{name}EOFError: "):
        interface.make(env_id)


def test_every_reset_draws_a_goal_of_the_benchmark(monkeypatch, tmp_path):
    from xminigrid import benchmarks
    from xminigrid.core.goals import AgentNearGoal

    tiles = np.array([[3, 1], [4, 2]], np.uint8)  # a red ball, a green square
    goals = [AgentNearGoal(tile=jnp.asarray(tile)).encode() for tile in tiles]
    rulesets = {
        "goals": np.stack(goals),
        "rules": np.zeros((2, 1, 7), np.uint8),
        "init_tiles": tiles[:, None],
        "num_rules": np.zeros(2, np.uint8),
    }
    benchmarks.save_bz2_pickle(rulesets, str(tmp_path / "trivial_21k"))
    monkeypatch.setattr(benchmarks, "DATA_PATH", str(tmp_path))
    env = pgjax.from_xminigrid("XLand-MiniGrid-R1-9x9", rules=True, benchmark="trivial-21k")
    environment = interface.bind(env)
    obs, _ = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 32))
    drawn = np.unique(obs["goal_encoding"], axis=0)
    np.testing.assert_array_equal(drawn, np.unique(goals, axis=0))
    actions = jax.random.randint(jax.random.key(0), (200,), 0, 3)
    steps, _ = jax.vmap(lambda key: rollout(env, actions, key))(jnp.arange(16))
    assert steps.terminated.any()
    assert steps.reward[steps.terminated].min() > 0.0


def test_an_empty_room_is_learned():
    config = pgjax.reinforce("xminigrid/MiniGrid-Empty-5x5?limit=30", num_updates=30)
    config = config.replace(**{"network": pgjax.MLP((32,)), "sampler.num_trajectories": 32})
    _, metrics = pgjax.train(jax.random.key(0), config)
    returns = np.asarray(metrics.episode_return)
    assert np.mean(returns[-5:]) - returns[0] > 0.4
