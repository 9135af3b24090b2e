"""Jumanji: ends of both kinds, actions and masks, Jumanji's own loop, learning."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax.environments import interface, spaces
from pgjax.policies import heads

jumanji = pytest.importorskip("jumanji", reason="needs the extra pgjax-rl[jumanji]")
suite = pytest.importorskip("pgjax.environments.suites.jumanji")


# Jumanji broadcasts between ranks.
@pytest.fixture(autouse=True)
def _rank_promotion_inside_jumanji():
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


@pytest.mark.parametrize("env_id", ["Snake-v1?size=4&limit=12", "Cleaner-v0?limit=12"])
def test_it_keeps_to_the_interface(env_id):
    pgjax.check_environment(f"jumanji/{env_id}", num_steps=40)


PAIRS = {  # the id, and what Jumanji makes
    "Snake-v1?size=5&limit=15": lambda: jumanji.make("Snake-v1", num_rows=5, num_cols=5),
    "Tetris-v0?size=5&limit=15": lambda: jumanji.make("Tetris-v0", num_rows=5, num_cols=5),
    "Connector-v3?limit=15": lambda: jumanji.make("Connector-v3"),
    "SearchAndRescue-v0?limit=15": lambda: jumanji.make("SearchAndRescue-v0", time_limit=15),
}


@pytest.mark.parametrize(("env_id", "make"), PAIRS.items(), ids=PAIRS)
def test_a_trajectory_is_that_of_jumanjis_own_loop(env_id, make):
    own, env = make(), interface.make(f"jumanji/{env_id}")
    own.time_limit = 15
    head = heads.of(interface.bind(env))
    actions = jax.vmap(head.random_action)(jax.random.split(jax.random.key(2), 15))
    steps, first = rollout(env, actions)
    state, timestep = own.reset(jax.random.key(0))
    assert_same(first, timestep.observation)
    step = jax.jit(own.step)
    for index, action in enumerate(actions):
        if isinstance(env.action_space(), spaces.Discrete) and own.action_spec.shape:
            action = jnp.array(np.unravel_index(action, own.action_spec.num_values))
        state, timestep = step(state, action)
        assert_same(jax.tree.map(lambda x, i=index: x[i], steps.obs), timestep.observation)
        np.testing.assert_allclose(steps.reward[index], np.sum(timestep.reward), rtol=1e-6)
        ended = steps.terminated[index] | steps.truncated[index]
        assert ended == timestep.last()
        if ended:
            return
    raise AssertionError("no end within the limit")


def assert_same(obs, own):
    """Equal entries; a mask is flat and, where it excludes all, allows all."""
    for name, value in obs.items():
        expected = getattr(own, name)
        if name == "action_mask":
            expected = np.reshape(expected, value.shape)
        np.testing.assert_array_equal(value, expected, err_msg=name)


def test_a_time_limit_only_truncates():
    # Jumanji itself gives discount 0 here.
    own = jumanji.make("RubiksCube-v0", time_limit=2)
    state, _ = own.reset(jax.random.key(0))
    for _ in range(2):
        state, timestep = jax.jit(own.step)(state, jnp.array([0, 0, 0]))
    assert timestep.last()
    assert timestep.discount == 0.0
    steps, _ = rollout("jumanji/RubiksCube-v0?limit=2", jnp.zeros((2, 3), jnp.int32))
    np.testing.assert_array_equal(steps.truncated, [False, True])
    np.testing.assert_array_equal(steps.terminated, [False, False])
    np.testing.assert_array_equal(steps.obs["step_count"], [1, 2])


def test_a_failure_only_terminates():
    steps, first = rollout("jumanji/Snake-v1?size=3", jnp.zeros(3, jnp.int32))
    row = int(np.argwhere(first["grid"][..., 1])[0, 0])  # of the head; action 0 goes up
    expected = np.arange(3) == row
    np.testing.assert_array_equal(steps.terminated[: row + 1], expected[: row + 1])
    assert not steps.truncated.any()


def test_a_success_at_the_limit_terminates():
    from jumanji.environments.logic.rubiks_cube.generator import ScramblingGenerator

    generator = ScramblingGenerator(cube_size=3, num_scrambles_on_reset=1)
    cube = jumanji.environments.RubiksCube(generator=generator, time_limit=1)
    env = pgjax.from_jumanji(cube)
    turns = jnp.stack(jnp.unravel_index(jnp.arange(18), (6, 1, 3)), axis=1)
    steps = jax.vmap(lambda turn: rollout(env, turn[None])[0])(turns)
    # One turn takes the scramble back; all reach the limit.
    assert steps.terminated.sum() == steps.reward.sum() == 1.0
    assert steps.truncated.all()
    assert cube.time_limit == 1


ACTIONS = {
    "Game2048-v1": ("Discrete(4)", 4, 4000),
    "Tetris-v0": ("Discrete(40)", 40, 400),
    "FlatPack-v0": ("Discrete(8100)", 8100, 25),
    "Cleaner-v0": ("MultiDiscrete([4, 4, 4])", 12, 100),
    "MultiCVRP-v0": ("MultiDiscrete([21, 21])", 42, 41),
    "TSP-v1": ("Discrete(20)", 20, 20),
    "RubiksCube-v0": ("MultiDiscrete([6, 1, 3])", None, 200),
    "SearchAndRescue-v0": ("Box(2,2) float32", None, 400),
}


@pytest.mark.parametrize(("name", "expected"), ACTIONS.items(), ids=ACTIONS)
def test_actions_have_a_head_that_fits_the_mask(name, expected):
    environment = interface.bind(f"jumanji/{name}")
    text, mask, limit = expected
    assert spaces.text(environment.action_space) == text
    space = heads.mask_space(environment.observation_space)
    assert (None if space is None else space.shape[0]) == mask
    assert environment.limit == limit
    heads.check_mask(heads.of(environment), name, environment.observation_space)


def test_a_step_of_bin_pack_warns_of_nothing():
    environment = interface.bind("jumanji/BinPack-v2")
    action = heads.of(environment).random_action(jax.random.key(0))
    _, state = jax.eval_shape(environment.reset, jax.random.key(0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jax.eval_shape(environment.step, jax.random.key(0), state, action)
        # Only Jumanji's own casts are silent.
        jnp.zeros(2, jnp.int32).at[0].set(0.5)
    assert [str(warning.message)[:14] for warning in caught] == ["scatter inputs"]


def test_levels_without_a_network_are_refused_by_their_source(monkeypatch):
    from jumanji.environments.routing.sokoban import generator

    def offline(*arguments, **options):
        raise ValueError("no file\nin the local cache")  # as huggingface_hub's errors are

    monkeypatch.setattr(generator, "hf_hub_download", offline)
    sentence = (
        r"^jumanji/Sokoban-v0 cannot be made here: it loads data when it is made \(the levels, "
        r"InstaDeepAI/boxoban-levels, from huggingface.co: ValueError: no file in the local cache"
    )
    with pytest.raises(ValueError, match=sentence):
        interface.make("jumanji/Sokoban-v0")


def test_a_mask_without_a_choice_allows_all():
    mask = suite._mask(jnp.array([[True, False], [False, False]]), (2, 2))
    np.testing.assert_array_equal(mask, [True, False, True, True])
    np.testing.assert_array_equal(suite._mask(jnp.zeros((2, 2), bool), (1, 4)), [True] * 4)


def test_a_step_count_is_a_number_and_a_position_is_not():
    snake = interface.make("jumanji/Snake-v1").observation_space()
    assert spaces.text(snake.spaces["step_count"]) == "Box() int32"
    tour = interface.make("jumanji/TSP-v1").observation_space()
    assert spaces.text(tour.spaces["position"]) == "Discrete(20)"


def test_a_wrong_option_is_refused():
    with pytest.raises(ValueError, match="Maze-v0 has no option size; Game2048, Snake, Tetris"):
        interface.make("jumanji/Maze-v0?size=5")
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        pgjax.from_jumanji(jumanji.make("Maze-v0"), limit=0)
    assert interface.bind(pgjax.from_jumanji(jumanji.make("Maze-v0"), limit=7)).limit == 7


def gain(config):
    """How much more the last five updates' episodes return than the first update's."""
    _, metrics = pgjax.train(jax.random.key(0), config)
    assert metrics.finite.all()
    return np.mean(metrics.episode_return[-5:]) - metrics.episode_return[0]


def test_a_snake_learns_to_eat():
    network = pgjax.Select("grid", pgjax.MLP((64,)))
    config = pgjax.reinforce("jumanji/Snake-v1?size=4&limit=40", num_updates=30)
    assert gain(config.replace(network=network)) > 3.0


def test_a_team_with_masks_learns_to_clean():
    network = pgjax.Select(("grid", "agents_locations"), pgjax.MLP((64,)))
    config = pgjax.reinforce("jumanji/Cleaner-v0?limit=30", num_updates=30)
    config = config.replace(**{"network": network, "sampler.num_trajectories": 32})
    assert gain(config) > 3.0
