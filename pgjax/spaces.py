"""Spaces of observations and actions as people give them, gymnax's or Gymnasium's, as gymnax's."""

import operator
from typing import Any

import gymnasium.spaces
import jax
import numpy as np
from gymnax.environments.spaces import Box, Dict, Discrete, Tuple

from pgjax.components import is_traced

__all__ = ["DICT", "TUPLE", "Box", "Dict", "Discrete", "Tuple", "read", "text"]

_DISCRETE = (Discrete, gymnasium.spaces.Discrete)
_BOX = (Box, gymnasium.spaces.Box)
DICT = (Dict, gymnasium.spaces.Dict)
TUPLE = (Tuple, gymnasium.spaces.Tuple)


def read(part: str, space: Any) -> Any:
    """The same space as gymnax's: sizes as ints, shapes as tuples, bounds as numbers or arrays.

    Args:
      part: for messages.
      space: Box, Discrete, or a Dict or Tuple of them.

    Raises:
      TypeError: another kind of space, or a size that is no integer known before compilation.
      ValueError: a space that holds nothing, bounds that do not fit a shape, a Discrete that does
        not start at 0.
    """
    if isinstance(space, DICT):
        return Dict({n: read(f"{part}[{n!r}]", child) for n, child in space.spaces.items()})
    if isinstance(space, TUPLE):
        return Tuple(tuple(read(f"{part}[{i}]", s) for i, s in enumerate(space.spaces)))
    if isinstance(space, _DISCRETE):
        return _discrete(part, space)
    if isinstance(space, _BOX):
        return _box(part, space)
    raise TypeError(
        f"{part} must be made of Box, Discrete, Dict, Tuple; got {space!r} "
        f"({type(space).__module__})"
    )


def text(space: Any) -> str:
    """In short, as "Discrete(2)" or "Box(4) float32"."""
    if isinstance(space, Discrete):
        return f"Discrete({space.n})"
    if isinstance(space, Box):
        return f"Box({','.join(map(str, space.shape))}) {np.dtype(space.dtype).name}"
    return type(space).__name__


def _discrete(part: str, space: Any) -> Discrete:
    number, start = _index(f"{part}: n", space.n), getattr(space, "start", 0)
    if number < 1:
        raise ValueError(f"{part} must have at least one value, got {space!r}")
    if start != 0:
        raise ValueError(f"{part} must start at 0, got {space!r}")
    return space if isinstance(space, Discrete) and space.n is number else Discrete(number)


def _box(part: str, space: Any) -> Box:
    sizes = space.shape if np.iterable(space.shape) else (space.shape,)
    shape = tuple(_index(f"{part}: shape", size) for size in sizes)
    if min(shape, default=1) < 1:
        raise ValueError(f"{part} must hold at least one number, got the shape {shape}")
    low, high = (_bound(part, side, getattr(space, side), shape) for side in ("low", "high"))
    return Box(low, high, shape, space.dtype)


def _bound(part: str, side: str, bound: Any, shape: tuple[int, ...]) -> Any:
    traced = any(map(is_traced, jax.tree.leaves(bound)))
    try:
        numbers = bound if traced else np.asarray(bound)
        fits = np.broadcast_shapes(np.shape(numbers), shape) == shape
    except ValueError:  # ragged, or two shapes that do not go together
        fits = False
    if not fits:
        raise ValueError(f"{part}: {side} must fit the shape {shape}, got {bound!r}")
    if not traced and numbers.dtype.kind not in "biuf":
        raise TypeError(f"{part}: {side} must be made of numbers, got {bound!r}")
    return numbers if isinstance(bound, (list, tuple)) else bound


def _index(part: str, value: Any) -> int:
    try:
        return operator.index(value)
    except (TypeError, jax.errors.JAXTypeError) as error:
        raise TypeError(
            f"{part} must be an integer known before compilation, got {value!r}"
        ) from error
