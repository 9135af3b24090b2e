"""Colour images as grey ones."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from pgjax.core.components import component
from pgjax.core.types import Array
from pgjax.environments import spaces
from pgjax.environments.wrappers.observations import ObservationWrapper, image, numpy_for

_LUMA = (0.299, 0.587, 0.114)  # of red, green, blue


@component
class Grayscale(ObservationWrapper):
    """Colour images [height, width, 3] as grey ones [height, width, 1], by their luma.

        y = 0.299 red + 0.587 green + 0.114 blue

    Whole numbers are rounded, and keep their dtype. Dict and Tuple: leaf by leaf, and all but an
    "action_mask" must be such images.

    Source: ITU-R BT.601, section 2.5.1.
    """

    def changed_space(self, part: str, space: Any) -> spaces.Box:
        """The same with one channel."""
        space = image(part, space)
        if space.shape[-1] != len(_LUMA):
            raise ValueError(
                f"{part} must have three channels, red, green and blue, got {space.shape[-1]}"
            )
        numpy = numpy_for(space.low, space.high)
        sides = (numpy.broadcast_to(side, space.shape) for side in (space.low, space.high))
        low, high = (numpy.sum(side * np.array(_LUMA), -1, keepdims=True) for side in sides)
        return spaces.Box(low, high, low.shape, space.dtype)

    def changed(self, space: Any, leaf: Array) -> Array:
        """The luma of [height, width, channels], with one channel, of the same dtype."""
        luma = jnp.asarray(leaf, float) @ jnp.asarray(_LUMA)
        return as_dtype(luma[..., None], leaf.dtype)


def as_dtype(x: Array, dtype: Any) -> Array:
    """Floats in a dtype, rounded where it holds whole numbers."""
    return (x if jnp.issubdtype(dtype, jnp.floating) else jnp.rint(x)).astype(dtype)
