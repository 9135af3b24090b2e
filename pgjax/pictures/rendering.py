"""Episodes of a policy as an animated GIF."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pgjax.core.components import check_int
from pgjax.core.keys import is_key
from pgjax.core.types import Array, TrainState
from pgjax.environments import interface
from pgjax.environments.host import failure
from pgjax.environments.host.environment import HostEnvironment
from pgjax.environments.interface import Environment
from pgjax.environments.wrappers import wrapper
from pgjax.pictures import drawing, filming
from pgjax.pictures.recording import Camera, Recorded, Scene, scene
from pgjax.training.bound import Bound
from pgjax.training.config import Config, bind, check_key, checked
from pgjax.training.training import ACTING, check_state

_LEAST_MILLISECONDS = 20  # shorter frames are shown at 100 ms by most viewers
_PAUSE_MILLISECONDS = 1500  # on the last frame, before the first is shown again
_MOST_FRAMES = 300
_HEADER = 16
MAX_EPISODES = 256
_GAP = 8
_COLORS = 64
_SECONDS_PER_STEP = {
    "CartPole-v1": 0.02,
    "Pendulum-v1": 0.05,
    "Acrobot-v1": 0.05,
    "MountainCar-v0": 0.03,
    "MountainCarContinuous-v0": 0.03,
}
_OTHER_SECONDS_PER_STEP = 0.1


class Episodes(NamedTuple):
    """n episodes side by side: the states before each of T steps.

    Attributes:
      scene: the environment's states, observations and parameters, [T, n, …].
      running: bool[T, n]; whether the step is taken.
      returns: float[T, n]; sum of the rewards after the step.
    """

    scene: Scene
    running: Array
    returns: Array


def render(
    key: Array,
    state: TrainState,
    config: Config,
    path: str | os.PathLike,
    num_episodes: int = 1,
    deterministic: bool = False,
    max_steps: int = 1000,
) -> np.ndarray:
    """Writes a GIF of a policy's episodes, side by side in a grid.

    Environments on the host show Gymnasium's own pictures, `render_mode="rgb_array"`.

    Args:
      key: one `jax.random.key`.
      state: the policy's, from `init`, `update` or `train`.
      config: environment, network and horizon.
      path: ends in .gif.
      num_episodes: n, from 1 to 256.
      deterministic: take each distribution's mode instead of a sample.
      max_steps: steps of an episode that are shown, ≥ 1.

    Returns:
      float[n]; the return of each episode over the steps shown.

    Raises:
      ValueError: no drawing is known for the environment, or one on the host gives no pictures;
        another format.
      MissingExtra: an environment on the host needs a package for its pictures.
      EnvironmentFailure: an environment on the host raised an exception.

    >>> import jax, pgjax, tempfile
    >>> config = pgjax.Config(env="Catch-bsuite")
    >>> state = pgjax.init(jax.random.key(0), config)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pgjax.render(jax.random.key(1), state, config, folder + "/catch.gif").shape
    (1,)
    """
    check_key(key)
    check_int("num_episodes", num_episodes, 1, MAX_EPISODES)
    check_int("max_steps", max_steps, 1)
    camera = _camera(config)
    if Path(path).suffix.lower() != ".gif":
        raise ValueError(f"the picture's name must end in .gif, got {Path(path).name!r}")
    if not Path(path).parent.is_dir():
        raise ValueError(
            f"the folder {Path(path).parent} of the picture {Path(path).name} does not exist"
        )
    config = checked(config)
    check_state(state, config, ACTING)
    bound = bind(config, state.num_updates)
    how = num_episodes, min(max_steps, bound.horizon()), camera.core, jnp.bool_(deterministic)
    try:
        episodes = failure.call(_play, key, state, bound, *how)
        episodes = jax.tree.map(lambda x: x if is_key(x) else np.asarray(x), episodes)
        _write(path, _frames(episodes, camera), episodes, camera.seconds_per_step)
    finally:
        camera.close()
    return episodes.returns[-1]


def _camera(config: Config) -> Camera:
    """What makes pictures of a config's environment.

    Raises:
      ValueError: no drawing is known, or an environment on the host gives no pictures.
      MissingExtra: an environment on the host needs a package for them.
    """
    env = wrapper.core(config.env)
    env = interface.make(env) if isinstance(env, str) else env
    if isinstance(env, HostEnvironment):
        return filming.camera(env)
    draw = drawing.drawing_of(env)
    name = str(getattr(env, "name", ""))
    if draw is None:
        shown = config.env if isinstance(config.env, str) else name or env
        raise ValueError(
            f"nobody has said how to draw {shown}: `pgjax plot` draws its learning curve; an "
            "environment of your own can have a method frame(state, params); known: "
            f"{', '.join(drawing.names())}"
        )

    def picture(scene: Scene, step: int, index: int) -> Image.Image:
        return draw(env, scene.env_state, scene.obs, scene.params)

    seconds = _SECONDS_PER_STEP.get(name, _OTHER_SECONDS_PER_STEP)
    return Camera(Recorded, picture, seconds, lambda: None)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _play(
    key: Array,
    state: TrainState,
    bound: Bound,
    num_episodes: int,
    horizon: int,
    core: Callable[[Environment], Environment],
    deterministic: Array,
) -> Episodes:
    environment = bound.environment.with_true_rewards().with_core(core)
    actor = bound.actor(state.policy_variables, deterministic)
    actor = dataclasses.replace(actor, environment=environment)
    keys, start = actor.begin(jax.random.split(key, num_episodes), jnp.ones(num_episodes, bool))

    def step(carry, time):
        before, returns = carry
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, time)
        noise_keys, step_keys = jax.vmap(jax.random.split, out_axes=1)(step_keys)
        noise = jax.vmap(lambda key: actor.policy.noise(key, ()))(noise_keys)
        after, steps = actor.step(before, step_keys, noise)
        returns = returns + steps.reward
        return (after, returns), Episodes(scene(before.env_state), before.running, returns)

    times = jnp.arange(horizon, dtype=jnp.int32)
    return jax.lax.scan(step, (start, jnp.zeros(num_episodes)), times)[1]


def _frames(episodes: Episodes, camera: Camera) -> list[Image.Image]:
    """The frames of the GIF: each shows the episodes at one time, those over at their last step."""
    length = int(episodes.running.any(axis=1).sum())
    shortest = round(_LEAST_MILLISECONDS / 1000 / camera.seconds_per_step)
    stride = max(1, -(-length // _MOST_FRAMES), shortest)
    last_steps = episodes.running.sum(axis=0) - 1

    def panel(time: int, index: int) -> Image.Image:
        step = min(time, int(last_steps[index]))
        before = jax.tree.map(lambda x: x[step, index], episodes.scene)
        total = float(episodes.returns[step, index])
        return _panel(camera.picture(before, step, index), step, total, over=step < time)

    times = [*range(0, length - 1, stride), length - 1]
    grids = [_grid([panel(time, index) for index in range(len(last_steps))]) for time in times]
    return [grid.quantize(_COLORS) for grid in grids]


def _panel(image: Image.Image, step: int, total: float, over: bool) -> Image.Image:
    """A drawing under a line of text, pale once the episode is over."""
    if over:
        image = Image.blend(image, Image.new("RGB", image.size, "white"), 0.5)
    panel = Image.new("RGB", (image.width, image.height + _HEADER), "white")
    panel.paste(image, (0, _HEADER))
    text = f"step {step + 1}   return {total:.5g}" + ("   over" if over else "")
    font = ImageFont.load_default(size=11)
    ImageDraw.Draw(panel).text((3, 1), text, "#333333", font)
    return panel


def _grid(panels: list[Image.Image]) -> Image.Image:
    """The panels in a picture, as near to a square as possible."""
    columns = math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    width, height = panels[0].width + _GAP, panels[0].height + _GAP
    grid = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        grid.paste(panel, (_GAP + column * width, _GAP + row * height))
    return grid


def _write(path: Any, frames: list[Image.Image], episodes: Episodes, seconds: float) -> None:
    length = int(episodes.running.any(axis=1).sum())
    each = 1000 * seconds * length / len(frames)
    milliseconds = max(_LEAST_MILLISECONDS, round(each / 10) * 10)
    durations = [milliseconds] * (len(frames) - 1) + [_PAUSE_MILLISECONDS]
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False
    )
