"""Pictures of environments on the host, by Gymnasium's own `render`.

What draws, OpenGL for instance, draws only in the thread that it was made in, and black elsewhere,
while JAX calls back from any: environments that are filmed live in a thread of their own.
"""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium
import numpy as np
from PIL import Image

from pgjax.core import distribution
from pgjax.core.names import told
from pgjax.environments.host.environment import HostEnvironment
from pgjax.environments.interface import Environment
from pgjax.pictures import drawing
from pgjax.pictures.recording import Camera, Recorded, Scene

_MODE = "rgb_array"
_OTHER_FRAMES_PER_SECOND = 10  # where the metadata names none


class Filmed(gymnasium.Wrapper):
    """An environment that keeps a picture of its start and of each step after it.

    Args:
      make: makes one that gives pictures.
      reel: the list of them, as PNG; those of an earlier episode are dropped.
      thread: of one worker, which calls all of the environment.
    """

    def __init__(
        self, make: Callable[[], gymnasium.Env], reel: list[bytes], thread: ThreadPoolExecutor
    ) -> None:
        super().__init__(thread.submit(make).result())
        self._reel, self._thread = reel, thread

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The environment's reset."""

        def reset() -> tuple[Any, dict[str, Any]]:
            result = self.env.reset(seed=seed, options=options)
            self._reel[:] = [_png(self.env.render())]
            return result

        return self._thread.submit(reset).result()

    def step(self, action: Any) -> Any:
        """The environment's step."""

        def step() -> Any:
            result = self.env.step(action)
            self._reel.append(_png(self.env.render()))
            return result

        return self._thread.submit(step).result()

    def close(self) -> None:
        """The environment's close."""
        self._thread.submit(self.env.close).result()


def camera(host: HostEnvironment) -> Camera:
    """Films environments of their own, in this process; those of training go on where they were.

    Raises:
      ValueError: the environment gives no pictures, or cannot here.
      MissingExtra: it needs a package for them; the message names it.
    """
    modes = tuple(host.metadata.get("render_modes") or ())
    if _MODE not in modes:
        raise ValueError(
            f"{host.name} gives no pictures: its render_modes are {modes}, without {_MODE!r}; "
            "`pgjax plot` draws its learning curve"
        )
    reels: list[list[bytes]] = []
    thread = ThreadPoolExecutor(1, "pgjax-film")

    def make() -> gymnasium.Env:
        reels.append([])
        return Filmed(host.make_drawn, reels[-1], thread)

    probe = thread.submit(_probe, host).result()
    filmed = HostEnvironment(host.name, make, probe, 1, make)
    thread.submit(probe.close).result()

    def core(environment: Environment) -> Environment:
        return Recorded(filmed)

    def picture(scene: Scene, step: int, index: int) -> Image.Image:
        return Image.open(io.BytesIO(reels[index][step])).convert("RGB")

    def close() -> None:
        filmed.close()
        thread.shutdown()
        reels.clear()

    seconds = 1 / (host.metadata.get("render_fps") or _OTHER_FRAMES_PER_SECOND)
    return Camera(core, picture, seconds, close)


def _probe(host: HostEnvironment) -> gymnasium.Env:
    """An environment that has given a picture."""
    try:
        env = host.make_drawn()
        if env.render_mode == _MODE:
            env.reset(seed=0)
            _png(env.render())
            return env
    except gymnasium.error.DependencyNotInstalled as error:
        text = " ".join(str(error).split())
        raise distribution.MissingExtra(
            f"pictures of {host.name} need another package: {text}"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the environment's own code may raise any
        text = told(error)
        hint = "; without a display, MUJOCO_GL=egl or osmesa" if "OpenGL" in text else ""
        raise ValueError(f"{host.name} gives no pictures here: {text}{hint}") from error
    raise ValueError(
        f"{host.name} gives no pictures: the function that makes it must give it render_mode="
        f"{_MODE!r}, got {env.render_mode!r}"
    )


def _png(frame: Any) -> bytes:
    """The picture in a file's bytes, for less memory, and at most as wide as a drawing."""
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        shape = ", ".join(map(str, frame.shape))
        raise ValueError(f"render must give uint8[height, width, 3], got {frame.dtype}[{shape}]")
    image, buffer = Image.fromarray(frame), io.BytesIO()
    image.thumbnail((drawing.SIZE, image.height), Image.Resampling.LANCZOS)
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
