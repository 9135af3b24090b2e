"""Whether values are elements of their spaces; what is wrong with one, in words."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.components import parts
from pgjax.core.types import PyTree
from pgjax.environments import spaces

TOLERANCE = 1e-3  # relative and absolute; compiled programs round differently


class Fault(NamedTuple):
    """The part that is at fault, what it is, and what was expected."""

    part: str
    actual: str
    expected: str


def misfits(part: str, obs: PyTree, space: Any) -> Iterator[Fault]:
    """Shapes and kinds that are not the space's. A Box may hold any real numbers: the policy sees
    them as floats."""
    children = spaces.children(space)
    if children is not None:
        yield from _misfitting_children(part, obs, children)
    elif jax.tree.structure(obs) != jax.tree.structure(0):
        yield Fault(part, f"{jax.tree.map(shape, obs)}", f"one array, of {space!r}")
    elif tuple(obs.shape) != tuple(space.shape):
        yield Fault(part, shape(obs), f"the shape {tuple(space.shape)} of observation_space")
    elif spaces.is_indices(space) and not jnp.issubdtype(obs.dtype, jnp.integer):
        yield Fault(part, shape(obs), f"an integer, of {space!r}")
    elif not is_real(obs):
        yield Fault(part, shape(obs), f"real numbers, of {space!r}")


def _misfitting_children(part: str, obs: PyTree, children: dict) -> Iterator[Fault]:
    for name, child in children.items():
        try:
            entry = spaces.entry(obs, name)
        except (KeyError, IndexError, TypeError, AttributeError):
            yield Fault(part, f"no entry {name!r}", "all entries of observation_space")
        else:
            yield from misfits(f"{part}[{name!r}]", entry, child)
    for name in _entries(obs, by_index=0 in children):
        if name not in children:
            yield Fault(part, f"an entry {name!r} too many", "those of observation_space alone")


def _entries(obs: PyTree, by_index: bool) -> list:
    """Names or indices of what an observation is made of."""
    if by_index and isinstance(obs, (tuple, list)):
        return list(range(len(obs)))
    return list(parts(obs))


def outside(part: str, obs: PyTree, space: Any) -> Iterator[Fault]:
    """The faults of many observations, [K, …] or [K, N, …]: what their space does not contain."""
    children = spaces.children(space)
    if children is not None:
        for name, child in children.items():
            yield from outside(f"{part}[{name!r}]", spaces.entry(obs, name), child)
        return
    obs = np.asarray(obs, np.float64)
    limits = (np.asarray(x, np.float64) for x in spaces.limits(space))
    low, high = (np.broadcast_to(x, space.shape) for x in limits)
    slack = TOLERANCE * 0.1
    inside = (obs >= low - slack * np.abs(low) - slack) & (
        obs <= high + slack * np.abs(high) + slack
    )
    for index in np.argwhere(~(inside & np.isfinite(obs)))[:1]:
        place = tuple(index[obs.ndim - low.ndim :])
        number = f"{obs[tuple(index)]:g}" + (f" at {[int(i) for i in place]}" if place else "")
        yield Fault(part, number, f"between {low[place]:g} and {high[place]:g}, as {space!r}")


def shape(leaf: Any) -> str:
    """The dtype and shape of an array, such as `float32[3,2]`."""
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def is_real(leaf: Any) -> bool:
    """Whether an array holds real numbers or flags."""
    return leaf.dtype == bool or any(
        jnp.issubdtype(leaf.dtype, kind) for kind in (jnp.integer, jnp.floating)
    )
