import jax
import numpy as np
import pytest
from environments_for_tests import Counter
from gymnax.wrappers import purerl
from PIL import Image
from test_contracts import Corridor

import pgjax
from pgjax.environments import interface
from pgjax.pictures import drawing


def frames(path):
    with Image.open(path) as image:
        found, durations = [], []
        for number in range(image.n_frames):
            image.seek(number)
            found.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"])
        assert durations[-1] >= 1000  # a pause before it begins again
        return found, durations[0]


@pytest.mark.parametrize("env", drawing.names())
def test_every_known_environment_is_drawn_and_moves(env, tmp_path):
    config = pgjax.Config(env=env)
    state = pgjax.init(jax.random.key(0), config)
    path = tmp_path / "a.gif"
    returns = pgjax.render(jax.random.key(1), state, config, path, max_steps=40)
    assert returns.shape == (1,)
    found, _ = frames(path)
    assert len(found) >= 4
    assert any(np.any(frame != found[0]) for frame in found[1:])
    below_the_text = found[0][30:]
    assert len(np.unique(below_the_text.reshape(-1, 3), axis=0)) > 1


def test_a_grid_of_episodes_has_their_returns(tmp_path):
    config = pgjax.Config(env="CartPole-v1")
    state = pgjax.init(jax.random.key(0), config)
    path = tmp_path / "a.gif"
    returns = pgjax.render(jax.random.key(1), state, config, path, num_episodes=3)
    assert len(set(returns)) > 1
    found, milliseconds = frames(path)
    assert found[0].shape[1] == 3 * 8 + 2 * drawing.SIZE
    # In real time: 0.02 s a step, of the longest episode.
    assert len(found) * milliseconds / 20 == pytest.approx(max(returns), abs=4)
    again = pgjax.render(jax.random.key(1), state, config, path, num_episodes=3)
    np.testing.assert_array_equal(again, returns)
    mode = pgjax.render(jax.random.key(1), state, config, path, 3, deterministic=True)
    assert not np.array_equal(mode, returns)


def test_policies_with_memory_and_time_are_shown(tmp_path):
    config = pgjax.Config(env="Catch-bsuite", network=pgjax.Recurrent(), time_aware=True)
    state = pgjax.init(jax.random.key(0), config)
    assert pgjax.render(jax.random.key(1), state, config, tmp_path / "a.gif").shape == (1,)


class Drawn(Counter):
    """Says itself what it looks like."""

    def frame(self, state, params):
        picture = np.zeros((20, 30, 3), np.uint8)
        picture[:, : int(state.time)] = 255
        return picture


def test_an_environment_may_draw_itself(tmp_path):
    config = pgjax.Config(env=Drawn(lifetime=9, limit=9))
    state = pgjax.init(jax.random.key(0), config)
    assert pgjax.render(jax.random.key(1), state, config, tmp_path / "a.gif") == [45.0]
    assert len(frames(tmp_path / "a.gif")[0]) == 9


class Pole(Corridor):
    """Another problem than gymnax's of that name."""

    name = "CartPole-v1"


class Lit(Corridor):
    def frame(self, state, params):
        assert params is None
        return np.full((8, 8, 3), 40 * int(state[0]), np.uint8)


def test_an_environment_of_ones_own_is_drawn_by_its_frame_alone(tmp_path):
    config = pgjax.Config(env=Lit(), network=pgjax.MLP((4,)))
    state = pgjax.init(jax.random.key(0), config)
    returns = pgjax.render(jax.random.key(1), state, config, tmp_path / "a.gif", max_steps=3)
    np.testing.assert_array_equal(returns, [0.0])
    for env in (Pole(), "gymnasium/CartPole-v1"):
        name = env if isinstance(env, str) else "CartPole-v1"
        with pytest.raises(ValueError, match=f"nobody has said how to draw {name}: `pgjax plot`"):
            pgjax.render(jax.random.key(1), state, config.replace(env=env), tmp_path / "a.gif")


def test_what_cannot_be_drawn_is_said(tmp_path):
    config = pgjax.Config(env="UmbrellaChain-bsuite")
    state = pgjax.init(jax.random.key(0), config)
    with pytest.raises(ValueError, match=r"how to draw Umbrella.*pgjax plot.*frame\("):
        pgjax.render(jax.random.key(1), state, config, tmp_path / "a.gif")
    catch = pgjax.Config(env="Catch-bsuite")
    state = pgjax.init(jax.random.key(0), catch)
    with pytest.raises(ValueError, match=r"must end in .gif, got 'a.mp4'"):
        pgjax.render(jax.random.key(1), state, catch, tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("env", ["CartPole-v1", "Breakout-MinAtar"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: purerl.LogWrapper(purerl.FlattenObservationWrapper(env)),
        lambda env: purerl.StickyActionWrapper(env, 0.5),
    ],
)
def test_a_wrapped_environment_is_drawn_like_the_one_inside(env, wrap, tmp_path):
    config = pgjax.Config(env=wrap(interface.make(env)), time_aware=True)
    state = pgjax.init(jax.random.key(0), config)
    pgjax.render(jax.random.key(1), state, config, tmp_path / "a.gif", max_steps=5)
    found, _ = frames(tmp_path / "a.gif")
    assert any(np.any(frame[30:] != found[0][30:]) for frame in found[1:])


def test_catchs_ball_and_paddle_have_two_colours():
    env = interface.make("Catch-bsuite")
    obs, state = jax.device_get(env.reset(jax.random.key(0), env.default_params))
    picture = np.asarray(drawing.drawing_of(env)(env, state, obs, env.default_params))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 3
