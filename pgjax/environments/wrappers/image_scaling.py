"""Images of whole numbers as floats from 0 to 1."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from pgjax.core.components import component, is_traced
from pgjax.core.names import shown
from pgjax.core.types import Array
from pgjax.environments import spaces
from pgjax.environments.wrappers.observations import ObservationWrapper, image


@component
class ImageScaling(ObservationWrapper):
    """Images of whole numbers as floats in [0, 1].

        x = (pixel − low) / (high − low)

    Networks get whole numbers as floats of the same size, up to 255, which is far from what their
    initialisation expects. Trajectories hold what the environment gives: a uint8 image takes four
    times the memory as float32, so this goes outside of `FrameStack`.

    Images are Boxes of the shape [height, width, channels] with finite bounds. Dict and Tuple: leaf
    by leaf, and all but an "action_mask" must be images.
    """

    def changed_space(self, part: str, space: Any) -> spaces.Box:
        """Floats in [0, 1] of the same shape."""
        space = image(part, space)
        if not spaces.is_whole(space) or not _finite(space):
            raise TypeError(
                f"{part} must be an image of whole numbers with bounds, got {shown(space)}"
            )
        return spaces.Box(0.0, 1.0, space.shape, jnp.result_type(float))

    def changed(self, space: Any, leaf: Array) -> Array:
        """float[height, width, channels], in [0, 1]."""
        low, high = (
            jnp.broadcast_to(jnp.asarray(side, float), space.shape)
            for side in (space.low, space.high)
        )
        return (leaf.astype(float) - low) / (high - low)


def _finite(space: spaces.Box) -> bool:
    """Whether bounds are finite, as far as they are known."""
    sides = [side for side in (space.low, space.high) if not is_traced(side)]
    return all(np.all(np.isfinite(side)) for side in sides)
