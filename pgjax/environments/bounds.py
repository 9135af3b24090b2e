"""Low and high of a space of actions as NumPy arrays, infinite where there is no bound."""

from typing import Any

import jax
import numpy as np

from pgjax.core.names import shown
from pgjax.environments import spaces


def of_space(name: str, space: Any) -> Any:
    """`Environment.bounds` of a space of actions.

    Args:
      name: the environment's, for messages.
      space: a gymnax space whose bounds are not traced.

    Raises:
      ValueError: bounds that cannot be.
    """
    parts = spaces.children(space)
    if parts is not None:
        return spaces.joined(space, {n: of_space(name, child) for n, child in parts.items()})
    if not isinstance(space, spaces.Box):
        return None
    bounds = (np.asarray(bound, np.float64) for bound in (space.low, space.high))
    low, high = (np.broadcast_to(bound, space.shape) for bound in bounds)
    if not np.all((low <= high) & (low < np.inf) & (high > -np.inf)):
        raise ValueError(f"{name}: action_space must have low <= high, got {shown(space)}")
    far = no_bound(space)
    return np.where(low <= -far, -np.inf, low), np.where(high >= far, np.inf, high)


def alike(left: Any, right: Any) -> bool:
    """Whether two trees of bounds are infinite at the same places."""
    if jax.tree.structure(left) != jax.tree.structure(right):
        return False
    leaves = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(np.array_equal(np.isfinite(a), np.isfinite(b)) for a, b in leaves)


def no_bound(space: spaces.Box) -> float:
    """What is as far from 0 is no bound: the largest number of a dtype stands for infinity."""
    return 2.0**31 - 1.0 if spaces.is_whole(space) else float(np.finfo(np.float32).max) / 4.0
