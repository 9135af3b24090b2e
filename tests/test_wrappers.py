"""Wrappers, step by step against the environment inside; what is told apart; what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from environments_for_tests import Counter

import pgjax
from pgjax.core.keys import derived
from pgjax.environments import interface, spaces
from pgjax.environments.interface import Step
from pgjax.environments.wrappers import wrapper
from pgjax.runs import config_json
from pgjax.training.config import bind, checked

KEY = jax.random.key(0)
SMALL = {
    "network": pgjax.MLP(()),
    "optimizer": pgjax.SGD(0.1),
    "sampler.num_trajectories": 4,
    "num_updates": 2,
}
EVERY = [
    lambda env: pgjax.FrameStack(env, 2),
    pgjax.ClippedReward,
    pgjax.SignReward,
    pgjax.StickyActions,
    lambda env: pgjax.Randomized(env, {"lifetime": pgjax.Choice((2, 3))}),
]


class Showing(Counter):
    """Shows at time t what `show(t)` makes; pays the action; ends after 3 steps."""

    def __init__(self, space, show=None, actions=None):
        super().__init__()
        self.space, self.actions = space, spaces.Discrete(10) if actions is None else actions
        self.show = show or (lambda time: jnp.float32(time)[None])

    def reset_env(self, key, params):
        _, state = super().reset_env(key, params)
        return self.show(jnp.int32(0)), state

    def step_env(self, key, state, action, params):
        _, state, _, done, info = super().step_env(key, state, action, params)
        paid = jnp.sum(jnp.stack([jnp.sum(leaf) for leaf in jax.tree.leaves(action)]))
        return self.show(state.time), state, jnp.float32(paid), done, info

    def observation_space(self, params=None):
        return self.space

    def action_space(self, params=None):
        return self.actions


def echo(actions=None):
    """Pays the action that it gets."""
    return Showing(spaces.Box(0.0, 9.0, (1,)), actions=actions)


def showing(space, show):
    return Showing(space, show)


def play(env, actions, key=KEY):
    """Observations from reset on, and the steps, with a key for each."""
    bound = interface.bind(env)
    keys = jax.random.split(key, len(actions) + 1)
    obs, state = bound.reset(keys[0])
    seen, steps = [obs], []
    for step_key, action in zip(keys[1:], actions, strict=True):
        step = bound.step(step_key, state, jnp.asarray(action))
        state = step.env_state
        seen.append(step.obs)
        steps.append(step)
    return seen, steps


# Values by hand.


def test_frames_by_hand_with_the_true_last_observation():
    seen, steps = play(pgjax.FrameStack(Counter(), 3), [0, 0, 0])
    expected = [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]
    np.testing.assert_array_equal(seen, expected)
    assert [bool(step.terminated) for step in steps] == [False, False, True]
    assert not any(bool(step.truncated) for step in steps)


def test_frames_at_a_time_limit():
    seen, steps = play(pgjax.FrameStack(Counter(lifetime=9, limit=2), 3), [0, 0])
    np.testing.assert_array_equal(seen[-1], [0, 1, 2])
    assert (bool(steps[-1].terminated), bool(steps[-1].truncated)) == (False, True)


def test_frames_of_streams_start_anew_with_each_episode():
    config = pgjax.actor_critic(
        pgjax.FrameStack(Counter(), 2), **{"sampler.num_envs": 1, "sampler.length": 7}
    )
    state = pgjax.init(KEY, config)
    trajectories = pgjax.sample_trajectories(KEY, state, config)
    # An episode's last observation has a row of its own, which is not valid.
    episode = [[0, 0], [0, 1], [1, 2], [2, 3]]
    np.testing.assert_array_equal(trajectories.obs[:, 0], [*episode, *episode][:7])
    np.testing.assert_array_equal(trajectories.final_obs[0], episode[-1])
    assert np.flatnonzero(~trajectories.valid[:, 0]).tolist() == [3]


def test_frames_follow_each_other_in_channels():
    pixels = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
    env = showing(spaces.Box(0, 255, (2, 2, 3), jnp.uint8), lambda t: jnp.asarray(pixels)[t])
    stacked = pgjax.FrameStack(env, 2)
    seen, _ = play(stacked, [0, 0, 0])
    assert seen[0].dtype == jnp.uint8
    np.testing.assert_array_equal(seen[0], np.concatenate([pixels[0], pixels[0]], axis=-1))
    np.testing.assert_array_equal(seen[3], np.concatenate([pixels[2], pixels[3]], axis=-1))
    space = stacked.observation_space
    assert (space.shape, space.dtype, space.low, space.high) == ((2, 2, 6), np.uint8, 0, 255)


@pytest.mark.parametrize(
    ("space", "show", "last"),
    [
        (spaces.Box(0.0, 9.0, ()), jnp.float32, [2, 3]),
        (
            spaces.Box(0.0, 9.0, (1, 2)),
            lambda t: jnp.stack([jnp.float32(t), t + 1.0])[None],
            [[[2, 3], [3, 4]]],
        ),
        (spaces.Discrete(5), jnp.int32, [2, 3]),
        (
            spaces.MultiDiscrete([5, 6]),
            lambda t: jnp.stack([t, t + 1]),
            [2, 3, 3, 4],
        ),
        (spaces.MultiBinary(1), lambda t: jnp.int8(t % 2)[None], [0, 1]),
    ],
)
def test_frames_of_every_space(space, show, last):
    env = pgjax.FrameStack(showing(space, show), 2)
    seen, _ = play(env, [0, 0, 0])
    np.testing.assert_array_equal(seen[-1], last)
    interface.check(interface.bind(env))  # the observation is one of the space


def test_bounds_are_those_of_each_frame():
    env = showing(spaces.Box(np.array([0.0, -1]), np.array([5.0, 1]), (2,)), lambda t: jnp.ones(2))
    space = pgjax.FrameStack(env, 3).observation_space
    np.testing.assert_array_equal(space.low, [0, -1, 0, -1, 0, -1])
    np.testing.assert_array_equal(space.high, [5, 1, 5, 1, 5, 1])


def test_entries_are_stacked_one_by_one_and_a_mask_stays_the_latest():
    space = spaces.Dict(
        {
            "place": spaces.Box(0.0, 9.0, (1,)),
            "both": spaces.Tuple((spaces.Discrete(5), spaces.Box(0.0, 9.0, (2,)))),
            "action_mask": spaces.MultiBinary(10),
        }
    )

    def show(time):
        mask = (jnp.arange(10) == time).astype(jnp.int8)
        both = (time, jnp.stack([jnp.float32(time)] * 2))
        return {"place": jnp.float32(time)[None], "both": both, "action_mask": mask}

    env = pgjax.FrameStack(showing(space, show), 2)
    last = play(env, [0, 0, 0])[0][-1]
    np.testing.assert_array_equal(last["place"], [2, 3])
    np.testing.assert_array_equal(last["both"][0], [2, 3])
    np.testing.assert_array_equal(last["both"][1], [2, 2, 3, 3])
    np.testing.assert_array_equal(last["action_mask"], np.arange(10) == 3)
    interface.check(interface.bind(env))
    assert env.observation_space.spaces["action_mask"].shape == (10,)


def test_rewards_by_hand():
    _, steps = play(pgjax.ClippedReward(Counter(), -1.0, 2.0), [0, 0, 0])
    assert [float(step.reward) for step in steps] == [1.0, 2.0, 2.0]
    _, steps = play(pgjax.SignReward(echo(spaces.Box(-5.0, 5.0, ()))), [-3.0, 0.0, 4.0])
    assert [float(step.reward) for step in steps] == [-1.0, 0.0, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize("time_aware", [False, True])
def test_training_reports_clipped_rewards_and_evaluations_true_ones(time_aware):
    env = pgjax.FrameStack(pgjax.ClippedReward(Counter(), high=1.5), 2)
    config = pgjax.Config(env, time_aware=time_aware).replace(**SMALL)
    state, metrics = pgjax.train(KEY, config)
    np.testing.assert_array_equal(metrics.episode_return, [4.0, 4.0])  # 1 + 1.5 + 1.5
    assert pgjax.evaluate(KEY, state, config, 4).mean == 6.0  # 1 + 2 + 3


def test_actions_stick_always_or_never():
    actions = [4, 7, 1]
    paid = {}
    for probability in (0.0, 1.0):
        _, steps = play(pgjax.StickyActions(echo(), probability), actions)
        paid[probability] = [float(step.reward) for step in steps]
    assert paid == {0.0: [4.0, 7.0, 1.0], 1.0: [4.0, 4.0, 4.0]}


def test_actions_stick_as_often_as_they_should():
    env = interface.bind(pgjax.StickyActions(echo(), 0.25))
    keys = jax.random.split(KEY, 8000)

    def paid(key):
        reset_key, first_key, second_key, third_key = jax.random.split(key, 4)
        first = env.step(first_key, env.reset(reset_key)[1], jnp.int32(1))
        second = env.step(second_key, first.env_state, jnp.int32(2))
        third = env.step(third_key, second.env_state, jnp.int32(3))
        return jnp.stack([first.reward, second.reward, third.reward])

    first, second, third = np.asarray(jax.jit(jax.vmap(paid))(keys)).T
    assert np.all(first == 1)
    assert np.mean(second == 1) == pytest.approx(0.25, abs=0.015)
    # What is repeated is what the environment got: the first action survives twice.
    assert np.mean(third == 1) == pytest.approx(0.0625, abs=0.01)
    assert np.mean(third == 2) == pytest.approx(0.1875, abs=0.015)
    assert np.mean(third == 3) == pytest.approx(0.75, abs=0.015)


def test_actions_of_any_space_stick():
    space = spaces.Dict({"a": spaces.Discrete(5), "b": spaces.Box(-1.0, 1.0, (2,))})
    env = interface.bind(pgjax.StickyActions(echo(space), 1.0))
    _, state = env.reset(KEY)
    one = {"a": jnp.int32(3), "b": jnp.array([0.5, 0.25])}
    other = {"a": jnp.int32(1), "b": jnp.array([-1.0, -1.0])}
    step = env.step(KEY, state, one)
    assert float(step.reward) == 3.75
    assert float(env.step(KEY, step.env_state, other).reward) == 3.75


def images(pixels, dtype=jnp.uint8, high=255):
    array = jnp.asarray(pixels, dtype)
    return showing(spaces.Box(0, high, array.shape, dtype), lambda t: array)


def test_images_by_hand():
    colours = [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]]
    grey = play(pgjax.Grayscale(images(colours)), [])[0][0]
    assert grey.dtype == jnp.uint8
    np.testing.assert_array_equal(grey[..., 0], [[76, 150], [29, 255]])

    wide = play(pgjax.Resize(images([[[0], [100]]]), 1, 4), [])[0][0]
    assert wide.dtype == jnp.uint8
    np.testing.assert_array_equal(wide[..., 0], [[0, 25, 75, 100]])
    narrow = play(pgjax.Resize(images([[[0.0], [1.0]]], jnp.float32, 1.0), 1, 1), [])[0][0]
    np.testing.assert_allclose(narrow, [[[0.5]]])

    scaled = play(pgjax.ImageScaling(images(colours)), [])[0][0]
    assert scaled.dtype == jnp.float32
    np.testing.assert_allclose(scaled, np.array(colours) / 255)
    fifth = play(pgjax.ImageScaling(images([[[1]]], jnp.int32, 5)), [])[0][0]
    np.testing.assert_allclose(fifth, [[[0.2]]])


@pytest.mark.parametrize("make", [pgjax.Grayscale, pgjax.Resize, pgjax.ImageScaling])
def test_images_are_of_their_space(make):
    env = pgjax.FrameStack(make(images(np.full((4, 4, 3), 255))), 2)
    interface.check(interface.bind(env))
    obs = np.asarray(interface.bind(env).reset(KEY)[0])
    space = env.observation_space
    assert np.all(obs <= np.broadcast_to(space.high, space.shape))


# One around another.


def test_the_first_wrapper_is_innermost():
    env = pgjax.ClippedReward(pgjax.FrameStack(pgjax.StickyActions("CartPole-v1", 0.1), 3), high=2)
    assert str(env) == (
        "ClippedReward(FrameStack(StickyActions(CartPole-v1, probability=0.1), frames=3), "
        "low=-1.0, high=2)"
    )
    assert env.name == "ClippedReward(FrameStack(StickyActions(CartPole-v1)))"
    assert [type(layer).__name__ for layer in wrapper.layers(env)] == [
        "ClippedReward",
        "FrameStack",
        "StickyActions",
    ]
    assert wrapper.core(env) == "CartPole-v1"


def test_the_order_counts_where_it_should():
    inside = pgjax.SignReward(pgjax.ClippedReward(Counter(), 2.0, 2.0))
    outside = pgjax.ClippedReward(pgjax.SignReward(Counter()), 2.0, 2.0)
    assert float(play(inside, [0])[1][0].reward) == 1.0
    assert float(play(outside, [0])[1][0].reward) == 2.0


def test_the_order_of_independent_wrappers_does_not():
    actions = [1, 2, 3]
    one, other = (
        play(env, actions)
        for env in (
            pgjax.FrameStack(pgjax.StickyActions(echo(), 0.5), 2),
            pgjax.StickyActions(pgjax.FrameStack(echo(), 2), 0.5),
        )
    )
    np.testing.assert_array_equal(one[0], other[0])
    assert [float(s.reward) for s in one[1]] == [float(s.reward) for s in other[1]]


@pytest.mark.slow
def test_the_environment_inside_draws_the_numbers_that_it_draws_alone():
    env = "Breakout-MinAtar"
    wrapped = pgjax.StickyActions(pgjax.ClippedReward(pgjax.FrameStack(env, 1)), 0.0)
    configs = [
        pgjax.Config(each).replace(**SMALL, **{"sampler.horizon": 30}) for each in (env, wrapped)
    ]
    plain, other = (pgjax.train(KEY, config)[1] for config in configs)
    np.testing.assert_array_equal(plain.episode_return, other.episode_return)
    np.testing.assert_array_equal(plain.gradient_norm, other.gradient_norm)


def test_a_key_for_a_purpose_is_none_of_a_split():
    keys = [derived(KEY, "a"), derived(KEY, "b"), *jax.random.split(KEY, 64)]
    keys += [jax.random.fold_in(KEY, time) for time in range(64)]
    data = np.array([jax.random.key_data(key) for key in keys[:66]])
    assert len(np.unique(data, axis=0)) == 66
    assert np.all(jax.random.key_data(derived(KEY, "a")) == jax.random.key_data(keys[0]))


@pytest.mark.parametrize("make", EVERY)
def test_the_environment_check_passes(make):
    pgjax.check_environment(make(Counter()), num_steps=16)


@pytest.mark.parametrize("make", EVERY)
def test_ends_are_told_as_inside(make):
    for lifetime, limit in ((2, 2), (2, 9), (9, 2)):
        params = Counter(lifetime, limit).default_params
        env = make(Counter(lifetime, limit))
        if isinstance(env, pgjax.Randomized):
            env = pgjax.Randomized(
                Counter(lifetime, limit), {"lifetime": pgjax.Choice((lifetime,))}
            )
        _, (first, last) = play(env, [0, 0])
        assert not first.terminated
        assert not first.truncated
        assert bool(last.terminated) == (params.lifetime == 2)
        assert bool(last.truncated) == (params.max_steps_in_episode == 2)
        assert env.limit == limit


@pytest.mark.parametrize("make", EVERY)
def test_parameters_reach_the_environment_inside(make):
    env = make(Counter())
    params = Counter().default_params.replace(lifetime=9, max_steps_in_episode=2)
    assert env.default_params == Counter().default_params
    assert interface.bind(env, params).limit == 2
    config = pgjax.Config(env, params).replace(**{"env_params.max_steps_in_episode": 4})
    assert bind(config, 0).environment.limit == 4


def test_an_environment_of_ones_own_class_is_wrapped():
    class Own(pgjax.Environment):
        name, limit, bounds = "Own", 3, None
        observation_space, action_space = spaces.Box(0.0, 9.0, (1,)), spaces.Discrete(2)

        def reset(self, key):
            return jnp.zeros(1), jnp.int32(0)

        def step(self, key, env_state, action):
            time = env_state + 1
            return Step(jnp.float32(time)[None], time, time, False, time >= 3)

    env = pgjax.FrameStack(Own(), 2)
    np.testing.assert_array_equal(play(env, [0, 0, 0])[0][-1], [2, 3])
    pgjax.check_environment(env, num_steps=16)
    with pytest.raises(TypeError, match="env_params must be None"):
        pgjax.init(KEY, pgjax.Config(env, env_params={"a": 1.0}))


# A wrapper of one's own.


@pgjax.component
class Bonus(pgjax.Wrapper):
    """Pays something more in each step.

    Attributes:
      amount: reward units.
    """

    amount: float = pgjax.option(1.0, low=0.0)

    def step(self, key, env_state, action):
        step = super().step(key, env_state, action)
        return step._replace(reward=step.reward + self.amount)


def test_a_wrapper_of_ones_own():
    config = pgjax.Config(pgjax.FrameStack(Bonus(Counter(), 2.0), 2)).replace(**SMALL)
    assert pgjax.train(KEY, config)[1].episode_return.tolist() == [12.0, 12.0]
    more = config.replace(**{"env.env.amount": 3.0})
    assert jax.tree.structure(config) == jax.tree.structure(more)
    data = config_json.to_dict(config)["env"]
    assert data["type"] == "FrameStack"
    assert "Bonus" in data["env"]["custom"]
    with pytest.raises(ValueError, match=r"env\.env \(.*Bonus"):
        config_json.from_dict(config_json.to_dict(config))
    with pytest.raises(ValueError, match=r"^env\.env\.amount must be a finite number at least"):
        pgjax.init(KEY, config.replace(**{"env.env.amount": -1.0}))


# Programs.


def test_programs_are_told_apart_by_type_and_static_fields():
    def structure(env):
        return jax.tree.structure(checked(pgjax.Config(env)))

    plain = structure(pgjax.StickyActions("CartPole-v1", 0.1))
    assert plain == structure(pgjax.StickyActions("CartPole-v1", 0.9))
    others = [
        "CartPole-v1",
        pgjax.SignReward("CartPole-v1"),
        pgjax.StickyActions("Acrobot-v1"),
        pgjax.FrameStack("CartPole-v1", 2),
        pgjax.FrameStack("CartPole-v1", 3),
        pgjax.StickyActions(pgjax.SignReward("CartPole-v1")),
    ]
    structures = [plain, *map(structure, others)]
    assert len(set(structures)) == len(structures)


@pytest.mark.slow
def test_a_number_of_a_wrapper_is_swept_in_one_program():
    config = pgjax.Config(pgjax.StickyActions(echo(), 0.0)).replace(**SMALL)
    swept = pgjax.sweep(KEY, config, {"env.probability": [0.0, 1.0]}, 2)
    assert swept.num_programs == 1
    assert swept.at(1, 0).config.env.probability == 1.0
    alone = pgjax.train(jax.random.split(KEY, 2)[0], config.replace(**{"env.probability": 1.0}))
    np.testing.assert_allclose(swept.at(1, 0).metrics.episode_return, alone[1].episode_return)
    returns = swept.metrics.episode_return
    assert np.any(returns[0] != returns[1])


def test_a_schedule_in_a_wrapper():
    rising = pgjax.Schedule(
        optax.linear_schedule, init_value=0.0, end_value=1.0, transition_steps=2
    )
    config = pgjax.Config(pgjax.StickyActions(echo(), rising), num_updates=3)
    values = [float(bind(config, update).environment.probability) for update in range(3)]
    assert values == [0.0, 0.5, 1.0]
    too_far = pgjax.Schedule(
        optax.linear_schedule, init_value=0.0, end_value=2.0, transition_steps=2
    )
    with pytest.raises(ValueError, match=r"env\.probability .* at update 2 of its schedule"):
        pgjax.init(KEY, config.replace(**{"env.probability": too_far}))


@pytest.mark.slow
def test_an_environment_object_in_a_wrapper_counts_as_it_is():
    env = Counter()
    config = pgjax.Config(pgjax.FrameStack(env, 2)).replace(**SMALL)
    before = jax.tree.structure(config)
    assert pgjax.train(KEY, config)[1].episode_return[0] == 6.0
    plain = env.step_env
    env.step_env = lambda *inputs: (*plain(*inputs)[:2], jnp.float32(5.0), *plain(*inputs)[3:])
    assert jax.tree.structure(config) != before
    assert pgjax.train(KEY, config)[1].episode_return[0] == 15.0


# As JSON.


@pytest.mark.parametrize(
    "env",
    [
        pgjax.FrameStack("CartPole-v1", 2),
        pgjax.StickyActions(pgjax.ClippedReward("gymnax/CartPole-v1", -2, 2), 0.5),
        pgjax.SignReward(pgjax.Resize(pgjax.Grayscale(pgjax.ImageScaling("Pong-misc")), 10, 12)),
        pgjax.Randomized(
            "CartPole-v1",
            {
                "gravity": pgjax.Uniform(
                    5.0,
                    pgjax.Schedule(
                        optax.linear_schedule,
                        init_value=5.0,
                        end_value=15.0,
                        transition_steps=pgjax.Share(0.5),
                    ),
                ),
                "length": pgjax.LogUniform(0.1, 2.0),
                "masscart": pgjax.Choice((1.0, 2.0)),
                "tau": pgjax.Normal(0.02, 0.001),
            },
        ),
    ],
)
def test_a_config_is_the_same_again(env):
    config = pgjax.Config(env)
    data = json.loads(json.dumps(config_json.to_dict(config)))
    again = config_json.from_dict(data)
    assert jax.tree.structure(again) == jax.tree.structure(config)
    assert jax.tree.leaves(again) == jax.tree.leaves(config)
    assert json.loads(json.dumps(config_json.to_dict(again))) == data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "FrameStak"}, "did you mean 'FrameStack'"),
        ({"framse": 2}, "wrapper FrameStack is not one of this version's.*'framse'"),
    ],
)
def test_a_config_of_another_version(change, message):
    data = config_json.to_dict(pgjax.Config(pgjax.FrameStack("CartPole-v1")))
    with pytest.raises(ValueError, match=message):
        config_json.from_dict({**data, "env": {**data["env"], **change}})


# What is refused.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pgjax.FrameStack("CartPole-v1", 0), r"^env\.frames must be at least 1, got 0"),
        (lambda: pgjax.FrameStack("CartPole-v1", 2.0), "^env.frames must be an integer.*write 2"),
        (
            lambda: pgjax.FrameStack("CartPole-v1", frame=2),
            "no field 'frame'; did you mean 'frames'",
        ),
        (lambda: pgjax.FrameStack("CartPole"), "did you mean 'CartPole-v1'"),
        (lambda: pgjax.FrameStack(3), "env must be an id or an environment object, got 3"),
        (lambda: pgjax.StickyActions("CartPole-v1", 1.5), r"^env\.probability must .* got 1\.5"),
        (lambda: pgjax.StickyActions("CartPole-v1", "a"), r"^env\.probability must be a number"),
        (
            lambda: pgjax.SignReward(pgjax.StickyActions("CartPole-v1", -1)),
            r"^env\.env\.probability",
        ),
        (
            lambda: pgjax.ClippedReward("CartPole-v1", 2.0, 1.0),
            "low must be at most env.high = 1.0",
        ),
        (lambda: pgjax.Resize("CartPole-v1"), r"must be an image, a Box .* got Box\(4\) float32"),
        (lambda: pgjax.Resize("Pong-misc", 0), "^env.height must be at least 1"),
        (lambda: pgjax.Grayscale("Breakout-MinAtar"), "must have three channels, .* got 4"),
        (lambda: pgjax.ImageScaling("Breakout-MinAtar"), "an image of whole numbers with bounds"),
    ],
)
def test_bad_input_is_refused_in_one_line(make, message):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        pgjax.init(KEY, pgjax.Config(make()))
    assert "\n" not in str(caught.value)


def test_a_path_into_no_wrapper():
    config = pgjax.Config(pgjax.FrameStack("CartPole-v1"))
    with pytest.raises(ValueError, match=r"unknown field 'env\.frame'.*'env\.frames'"):
        config.replace(**{"env.frame": 2})
    with pytest.raises(ValueError, match=r"env\.env\.frames cannot be set"):
        config.replace(**{"env.env.frames": 2})


def test_what_a_wrapper_of_ones_own_forgot():
    with pytest.raises(TypeError, match=r"Restless overrides reset.*: override begin"):

        class Restless(pgjax.Wrapper):
            def reset(self, key):
                return super().reset(key)

    class Plain(pgjax.Wrapper):
        pass

    with pytest.raises(TypeError, match=r"class Plain lacks the decorator @pgjax\.component"):
        pgjax.init(KEY, pgjax.Config(Plain("CartPole-v1")))
