import sys
import threading
import typing

import jax
import numpy as np
import pytest
from environments_for_tests import Counter
from gymnax.wrappers import purerl
from host_environments import Dice, Filmable
from PIL import Image
from test_contracts import Corridor

import pgjax
from pgjax.cli.main import main
from pgjax.core import distribution
from pgjax.environments import interface
from pgjax.pictures import drawing, filming


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
    with pytest.raises(ValueError, match="nobody has said how to draw CartPole-v1: `pgjax plot`"):
        pgjax.render(jax.random.key(1), state, config.replace(env=Pole()), tmp_path / "a.gif")


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


def filmed(path, env, num_episodes=1, **fields):
    """What `render` returns for a new policy in an environment on the host."""
    config = pgjax.Config(env, network=pgjax.MLP((4,)), **fields)
    state = pgjax.init(jax.random.key(0), config)
    return pgjax.render(jax.random.key(1), state, config, path, num_episodes)


def test_an_environment_on_the_host_gives_its_own_pictures(tmp_path):
    env = pgjax.from_gymnasium(Filmable, limit=6)
    returns = filmed(tmp_path / "a.gif", pgjax.StickyActions(env), 2)
    found, milliseconds = frames(tmp_path / "a.gif")
    assert milliseconds == 250
    # Each shows the state before its step, half as wide as it is given.
    for episode in range(2):
        greys = [frame[34, 20 + episode * (drawing.SIZE + 8), 0] for frame in found]
        np.testing.assert_allclose(greys, 20 * np.arange(6), atol=2)
    assert found[0].shape[1] == 3 * 8 + 2 * drawing.SIZE
    assert returns.shape == (2,)
    assert not env._pools._pools  # those of training are others


class OneThread(Filmable):
    """Notes the thread of each call, as what draws with OpenGL cannot be called from another."""

    threads: typing.ClassVar = set()

    def __init__(self):
        super().__init__()
        self.threads.add(threading.get_ident())

    def step(self, action):
        self.threads.add(threading.get_ident())
        return super().step(action)

    def render(self):
        self.threads.add(threading.get_ident())
        return super().render()

    def close(self):
        self.threads.add(threading.get_ident())


def test_what_is_filmed_is_called_by_one_thread():
    env = pgjax.from_gymnasium(OneThread, limit=6)
    OneThread.threads.clear()
    camera = filming.camera(env)
    recorded = camera.core(None).inner
    _, tokens = recorded._pools.reset(np.arange(2))

    def step():
        recorded._pools.step(tokens, np.zeros((2, 2), int))

    # JAX calls back from any thread.
    caller = threading.Thread(target=step)
    caller.start()
    caller.join()
    pictures = [camera.picture(None, step, index) for step in range(2) for index in range(2)]
    assert [picture.getpixel((9, 9))[0] for picture in pictures] == [0, 0, 20, 20]
    camera.close()
    assert len(OneThread.threads) == 1
    assert threading.get_ident() not in OneThread.threads


NO_PICTURES = {
    "mode": (
        lambda: Filmable(None),
        r"^Filmable gives no pictures: the function .* render_mode='rgb_array', got None$",
    ),
    "modes": (
        lambda: Dice(),
        r"^Dice gives no pictures: its render_modes are \(\), without 'rgb_array'; `pgjax plot`",
    ),
    "display": (
        lambda: Filmable(frame=OSError("no OpenGL\nhere")),
        "^Filmable gives no pictures here: OSError: no OpenGL here; without a display, MUJOCO_GL=",
    ),
}


@pytest.mark.parametrize(("make", "message"), NO_PICTURES.values(), ids=NO_PICTURES)
def test_an_environment_on_the_host_without_pictures_is_refused(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        filmed(tmp_path / "a.gif", pgjax.from_gymnasium(make, limit=6))
    assert not list(tmp_path.iterdir())


def test_a_frame_that_is_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"uint8\[height, width, 3\], got float64\[2, 3\]"):
        filming._png(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"got object\[\]"):
        filming._png(None)


def test_a_missing_package_is_named_before_anything_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(distribution.MissingExtra, match=r"^pictures of CartPole-v1 need another"):
        filmed(tmp_path / "a.gif", "gymnasium/CartPole-v1")


@pytest.mark.slow  # trains
def test_a_command_names_the_missing_package(tmp_path, capsys, monkeypatch):
    sampler = pgjax.Episodes(2)
    config = pgjax.Config("gymnasium/CartPole-v1?limit=9", sampler=sampler, num_updates=1)
    pgjax.run(config.replace(network=pgjax.MLP((4,))), directory=tmp_path / "run")
    for variable in ("SDL_AUDIODRIVER", "PYGAME_HIDE_SUPPORT_PROMPT"):
        monkeypatch.setenv(variable, "1")  # which the command sets
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pygame", None)
        assert main(["render", str(tmp_path / "run")]) == 2
    sentence = "pgjax: pictures of CartPole-v1 need another package: pygame is not installed"
    errors = capsys.readouterr().err
    assert errors.startswith(sentence)
    assert errors.count("\n") == 1
    assert not (tmp_path / "run" / "episodes.gif").exists()


# pygame says that pkg_resources, which it imports, is deprecated.
@pytest.mark.filterwarnings("ignore")
def test_cart_pole_of_gymnasium_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    pytest.importorskip("pygame", reason="Gymnasium draws with it")
    returns = filmed(tmp_path / "a.gif", "gymnasium/CartPole-v1?limit=30", 3)
    found, milliseconds = frames(tmp_path / "a.gif")
    assert len(found) == max(returns)
    assert milliseconds == 20
    assert any(np.any(frame[30:] != found[0][30:]) for frame in found[1:])
