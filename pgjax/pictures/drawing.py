"""Pictures of environment states, from which `pgjax render` makes its GIFs.

A drawing is a function of an environment object, one state of it and its observation, both with
NumPy leaves, and the parameters. An environment object of the user's own may instead have a method
`frame(state, params) -> uint8[height, width, 3]`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageDraw

from pgjax.core.types import PyTree
from pgjax.environments.interface import Environment

SIZE = 240  # pixels of a drawing's width
_SMOOTHING = 3  # a drawing is made so many times larger, then shrunk
_INK, _BLUE, _ORANGE, _GREEN, _GREY = "#333333", "#1f77b4", "#d95f02", "#1b9e77", "#bbbbbb"
_CHANNELS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#e6ab02", "#a6761d")
_TILES = ("#f3f3f3", "#dfeaf4", "#5b7388", "#1b9e77")  # start, ice, hole, goal

Drawing = Callable[[Any, Any, PyTree, Any], Image.Image]


class Canvas:
    """A white picture with coordinates of its own; y points up."""

    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self._scale = SIZE * _SMOOTHING / (right - left)
        self._left, self._high = left, high
        size = (SIZE * _SMOOTHING, round((high - low) * self._scale))
        self._image = Image.new("RGB", size, "white")
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: Any, width: float, color: str = _INK) -> None:
        """Draws a line through all points, with round ends."""
        pixels = [self._pixel(point) for point in points]
        self._draw.line(pixels, color, round(width * self._scale), joint="curve")
        for point in (points[0], points[-1]):
            self.disc(point, width / 2, color)

    def disc(self, centre: Any, radius: float, color: str = _INK) -> None:
        """Draws a filled disc."""
        x, y = self._pixel(centre)
        r = radius * self._scale
        self._draw.ellipse((x - r, y - r, x + r, y + r), color)

    def box(self, centre: Any, width: float, height: float, color: str = _INK) -> None:
        """Draws a filled rectangle."""
        x, y = centre
        low = self._pixel((x - width / 2, y + height / 2))
        self._draw.rectangle((low, self._pixel((x + width / 2, y - height / 2))), color)

    def image(self) -> Image.Image:
        """The drawing in its final size."""
        width, height = self._image.size
        size = (width // _SMOOTHING, height // _SMOOTHING)
        return self._image.resize(size, Image.Resampling.LANCZOS)

    def _pixel(self, point: Any) -> tuple[float, float]:
        x, y = point
        return (float(x) - self._left) * self._scale, (self._high - float(y)) * self._scale


def drawing_of(env: Any) -> Drawing | None:
    """The drawing of an environment object's states, or of the environment that it wraps; None:
    unknown."""
    if hasattr(type(env), "frame"):
        return lambda env, state, obs, params: Image.fromarray(np.asarray(env.frame(state, params)))
    if isinstance(env, Environment):  # whose states are its own, whatever its name
        return None
    inner = getattr(env, "__dict__", {}).get("_env")
    if inner is None:
        return _DRAWINGS.get(getattr(env, "name", type(env).__name__))
    draw = drawing_of(inner)
    return None if draw is None else _drawing_inside(inner, draw)


def _drawing_inside(inner: Any, draw: Drawing) -> Drawing:
    """The drawing of a wrapped environment, given the wrapper's state and observation."""
    like, inner_state = jax.eval_shape(inner.reset, jax.random.key(0), inner.default_params)
    cls = type(inner_state)

    def draw_inner(env, state, obs, params) -> Image.Image:
        nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, cls))
        states = [node for node in nodes if isinstance(node, cls)]
        if not states:
            raise ValueError(f"the state of {type(env).__name__} holds no {cls.__name__} to draw")
        return draw(inner, states[0], _reshaped(obs, like), params)

    return draw_inner


def _reshaped(obs: PyTree, like: PyTree) -> PyTree:
    """An observation in the shape of `like`, if a wrapper has flattened it; others unchanged."""
    size = getattr(like, "size", None)
    return np.reshape(obs, like.shape) if size == getattr(obs, "size", -1) else obs


def names() -> tuple[str, ...]:
    """The gymnax environments that can be drawn."""
    return tuple(_DRAWINGS)


def _cart_pole(env, state, obs, params) -> Image.Image:
    canvas, x, angle = Canvas(-2.6, 2.6, -0.7, 1.9), state.x, state.theta
    canvas.line([(-2.6, 0.0), (2.6, 0.0)], 0.02, _GREY)
    canvas.box((x, 0.0), 0.7, 0.3, _INK)
    canvas.line([(x, 0.1), (x + 1.3 * np.sin(angle), 0.1 + 1.3 * np.cos(angle))], 0.12, _ORANGE)
    canvas.disc((x, 0.1), 0.06, _BLUE)
    return canvas.image()


def _pendulum(env, state, obs, params) -> Image.Image:
    canvas, angle = Canvas(-1.3, 1.3, -1.3, 1.3), state.theta
    canvas.line([(0.0, 0.0), (-np.sin(angle), np.cos(angle))], 0.16, _ORANGE)
    canvas.disc((0.0, 0.0), 0.05)
    return canvas.image()


def _acrobot(env, state, obs, params) -> Image.Image:
    canvas, upper = Canvas(-2.3, 2.3, -2.3, 2.3), state.joint_angle1
    lower = upper + state.joint_angle2
    elbow = np.array([np.sin(upper), -np.cos(upper)])
    tip = elbow + np.array([np.sin(lower), -np.cos(lower)])
    canvas.line([(-2.3, 1.0), (2.3, 1.0)], 0.03, _GREEN)
    canvas.line([(0.0, 0.0), elbow], 0.16, _BLUE)
    canvas.line([elbow, tip], 0.16, _ORANGE)
    for joint in ((0.0, 0.0), elbow):
        canvas.disc(joint, 0.07)
    return canvas.image()


def _mountain_car(env, state, obs, params) -> Image.Image:
    canvas, hill = Canvas(-1.25, 0.65, -0.1, 1.2), lambda x: 0.45 * np.sin(3 * x) + 0.55
    xs = np.linspace(-1.25, 0.65, 100)
    canvas.line(list(zip(xs, hill(xs), strict=True)), 0.012, _GREY)
    goal, x = params.goal_position, state.position
    canvas.line([(goal, hill(goal)), (goal, hill(goal) + 0.18)], 0.012, _INK)
    canvas.box((goal + 0.035, hill(goal) + 0.15), 0.07, 0.06, _GREEN)
    canvas.disc((x, hill(x) + 0.055), 0.055, _ORANGE)
    return canvas.image()


def _point_robot(env, state, obs, params) -> Image.Image:
    canvas, angles = Canvas(-1.4, 1.4, -0.6, 1.4), np.linspace(0, math.pi, 50)
    r = float(params.circle_radius)
    canvas.line([(r * np.cos(a), r * np.sin(a)) for a in angles], 0.015, _GREY)
    canvas.disc(state.goal, float(params.goal_radius), "#a8d8c8")
    canvas.disc(state.pos, 0.06, _ORANGE)
    return canvas.image()


def _reacher(env, state, obs, params) -> Image.Image:
    reach = len(state.angles) + 0.2
    canvas, points = Canvas(-reach, reach, -reach, reach), [np.zeros(2)]
    for angle in np.cumsum(state.angles):
        points.append(points[-1] + np.array([np.cos(angle), np.sin(angle)]))
    canvas.line(points, 0.12, _BLUE)
    canvas.disc(state.goal_xy, 0.15, _GREEN)
    canvas.disc(points[-1], 0.12, _ORANGE)
    return canvas.image()


def _channels(env, state, obs, params) -> Image.Image:
    """A grid [height, width, channels] or [height, width]; a later channel covers an earlier one.

    MinAtar has the player in the first, which comes last here.
    """
    grid = np.asarray(obs, float)
    grid = grid[..., None] if grid.ndim == 2 else grid
    colors = np.array([_rgb(_CHANNELS[c % len(_CHANNELS)]) for c in range(grid.shape[-1])])
    cells = np.full((*grid.shape[:2], 3), 20, np.uint8)
    for channel in reversed(range(grid.shape[-1])):
        cells[grid[..., channel] > 0] = colors[channel]
    return _enlarged(cells)


def _catch(env, state, obs, params) -> Image.Image:
    ball, paddle = (
        (int(state.ball_y), int(state.ball_x)),
        (int(state.paddle_y), int(state.paddle_x)),
    )
    # The ball covers the paddle that has caught it.
    return _marked(np.full((*np.shape(obs), 3), 20), {paddle: _BLUE, ball: _ORANGE})


def _four_rooms(env, state, obs, params) -> Image.Image:
    cells = np.where(np.asarray(env.occupied_map, bool)[..., None], 60, 245) * np.ones(3)
    return _marked(cells, {tuple(state.goal): _GREEN, tuple(state.pos): _ORANGE})


def _frozen_lake(env, state, obs, params) -> Image.Image:
    tiles = np.array([_rgb(color) for color in _TILES])
    cells = tiles[np.asarray(env.desc)]
    return _marked(cells, {divmod(int(state.position), cells.shape[1]): _ORANGE})


def _marked(cells: np.ndarray, marks: dict[tuple, str]) -> Image.Image:
    cells = cells.astype(np.uint8)
    for position, color in marks.items():
        cells[tuple(map(int, position))] = _rgb(color)
    return _enlarged(cells)


def _enlarged(cells: np.ndarray) -> Image.Image:
    height = round(SIZE * cells.shape[0] / cells.shape[1])
    return Image.fromarray(cells).resize((SIZE, min(height, 2 * SIZE)), Image.Resampling.NEAREST)


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))


_DRAWINGS: dict[str, Drawing] = {
    "CartPole-v1": _cart_pole,
    "Pendulum-v1": _pendulum,
    "Acrobot-v1": _acrobot,
    "MountainCar-v0": _mountain_car,
    "MountainCarContinuous-v0": _mountain_car,
    **dict.fromkeys(
        (
            "Asterix-MinAtar",
            "Breakout-MinAtar",
            "Freeway-MinAtar",
            "Seaquest-MinAtar",
            "SpaceInvaders-MinAtar",
            "Pong-misc",
            "DeepSea-bsuite",
        ),
        _channels,
    ),
    "Catch-bsuite": _catch,
    "FourRooms-misc": _four_rooms,
    "FrozenLake-misc": _frozen_lake,
    "PointRobot-misc": _point_robot,
    "Reacher-misc": _reacher,
}
