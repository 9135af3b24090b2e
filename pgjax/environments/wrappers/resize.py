"""Images of another size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.components import component, option
from pgjax.core.names import shown
from pgjax.core.types import Array
from pgjax.environments import spaces
from pgjax.environments.wrappers.grayscale import as_dtype
from pgjax.environments.wrappers.observations import ObservationWrapper, image


@component
class Resize(ObservationWrapper):
    """Images [height, width, channels] of another size, by linear interpolation of their pixels.

    A smaller image is smoothed first, so that no line is lost between two pixels. Whole numbers are
    rounded, and keep their dtype. Dict and Tuple: leaf by leaf, and all but an "action_mask" must
    be images, whose bounds are the same for all pixels.

    Attributes:
      height, width: pixels, ≥ 1.
    """

    height: int = option(84, low=1)
    width: int = option(84, low=1)

    def changed_space(self, part: str, space: Any) -> spaces.Box:
        """The same with another height and width."""
        space = image(part, space)
        if np.ndim(space.low) or np.ndim(space.high):
            raise ValueError(f"{part} must have the same bounds for all pixels, got {shown(space)}")
        return spaces.Box(space.low, space.high, self._shape(space), space.dtype)

    def changed(self, space: Any, leaf: Array) -> Array:
        """[height, width, channels], of the new size and the same dtype."""
        x = jax.image.resize(jnp.asarray(leaf, float), self._shape(space), "linear")
        return as_dtype(x, leaf.dtype)

    def _shape(self, space: Any) -> tuple[int, int, int]:
        return (self.height, self.width, space.shape[-1])
