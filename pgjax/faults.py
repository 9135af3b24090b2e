"""Faults of an environment: what is wrong with a value, in words."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.environments import spaces
from pgjax.keys import numbers
from pgjax.types import PyTree

KINDS = "Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them"
TOLERANCE = 1e-3  # relative and absolute; compiled programs round differently
_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


class Fault(NamedTuple):
    """The part that is at fault, what was found of it, and what was expected."""

    part: str
    found: str
    expected: str


def unusable_space(part: str, space: Any) -> Iterator[Fault]:
    """A space, or one inside it, that a policy cannot take."""
    children = spaces.children(space)
    if children is not None:
        for name, child in children.items():
            yield from unusable_space(f"{part}[{name!r}]", child)
        return
    try:
        space = spaces.read(part, space)
    except (TypeError, ValueError) as error:
        yield refused(part, error, KINDS)
        return
    if not np.all(np.less_equal(*spaces.limits(space))):
        yield Fault(part, f"low above high in {space!r}", "low ≤ high")


def refused(part: str, error: Exception, expected: str) -> Fault:
    """What training would not take, in its own words."""
    return Fault(part, str(error).removeprefix(part).strip(": "), expected)


def raised(part: str, error: Exception, expected: str) -> Fault:
    """What a call raised."""
    message = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    if isinstance(error, _UNTRACEABLE):
        return Fault(part, f"cannot be compiled ({message})", "no Python branch on a traced value")
    if isinstance(error, jax.errors.UnexpectedTracerError):
        return Fault(part, f"uses a value of an earlier call ({message})", "nothing kept")
    return Fault(part, f"raises {message}", expected)


def wrong_length(part: str, result: Any, names: tuple[str, ...]) -> Iterator[Fault]:
    """Not a tuple of so many values."""
    number = len(result) if isinstance(result, tuple) else None
    if number != len(names):
        found = f"a {type(result).__name__}" if number is None else f"{number} values"
        yield Fault(part, found, f"a tuple of {len(names)}: {', '.join(names)}")


def changed(part: str, before: PyTree, after: PyTree) -> Iterator[Fault]:
    """Other structure, shapes or dtypes than from reset."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        found = f"the structure {jax.tree.map(shape, after)}"
        yield Fault(part, found, f"that of reset, {jax.tree.map(shape, before)}")
        return
    pairs = zip(leaves(part, before), jax.tree.leaves(after), strict=True)
    for (path, old), new in pairs:
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            yield Fault(path, shape(new), f"{shape(old)}, as from reset")


def not_a_number(part: str, value: Any) -> Iterator[Fault]:
    """Not one real number."""
    if jax.tree.structure(value) != jax.tree.structure(0) or value.shape != ():
        yield Fault(part, f"{jax.tree.map(shape, value)}", "a scalar")
    elif not _is_real(value):
        yield Fault(part, shape(value), "a real number")


def not_a_flag(part: str, value: Any) -> Iterator[Fault]:
    """Not one bool."""
    if jax.tree.structure(value) != jax.tree.structure(0) or value.shape != ():
        yield Fault(part, f"{jax.tree.map(shape, value)}", "a scalar, bool[]")
    elif value.dtype != bool:
        yield Fault(part, shape(value), "bool[]")


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
    elif not _is_real(obs):
        yield Fault(part, shape(obs), f"real numbers, of {space!r}")


def _misfitting_children(part: str, obs: PyTree, children: dict) -> Iterator[Fault]:
    for name, child in children.items():
        try:
            entry = spaces.entry(obs, name)
        except (KeyError, IndexError, TypeError, AttributeError):
            yield Fault(part, f"no entry {name!r}", "all entries of observation_space")
        else:
            yield from misfits(f"{part}[{name!r}]", entry, child)


def outside(part: str, obs: PyTree, space: Any) -> Iterator[Fault]:
    """Of many observations: [K, …] or [K, N, …]."""
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
        found = f"{obs[tuple(index)]:g}" + (f" at {[int(i) for i in place]}" if place else "")
        yield Fault(part, found, f"between {low[place]:g} and {high[place]:g}, as {space!r}")


def shape(leaf: Any) -> str:
    """As `float32[3,2]`."""
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _is_real(leaf: Any) -> bool:
    return leaf.dtype == bool or any(
        jnp.issubdtype(leaf.dtype, kind) for kind in (jnp.integer, jnp.floating)
    )


def leaves(part: str, tree: PyTree) -> list[tuple[str, Any]]:
    """Each leaf with its path, which begins with the part."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    return [(part + jax.tree_util.keystr(path), leaf) for path, leaf in found]


def _numbers(leaf: Any) -> np.ndarray:
    """A leaf in NumPy; of a key, its data."""
    return np.asarray(numbers(leaf))


def _close(one: Any, other: Any, tolerance: float) -> np.ndarray:
    one, other = _numbers(one), _numbers(other)
    if not np.issubdtype(one.dtype, np.floating):
        return np.asarray(one == other)
    return np.isclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def equal(one: PyTree, other: PyTree, tolerance: float = 0.0) -> bool:
    """Whether all leaves are, to a relative and absolute tolerance."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(_close(*pair, tolerance).all() for pair in pairs)


def first_unequal(one: PyTree, other: PyTree) -> tuple[str, str]:
    """The first two numbers that are not equal, as texts."""
    for ours, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        close = _close(ours, theirs, TOLERANCE)
        for index in np.argwhere(~close)[:1]:
            both = (_numbers(x)[tuple(index)] for x in (ours, theirs))
            return tuple(f"{x}" if x.dtype == bool else f"{x:.6g}" for x in both)
    raise AssertionError("no difference")


def differences(ones: list[dict], others: list[dict]) -> Iterator[tuple[str, int, str, str]]:
    """What differs first, once for each part that both have: its name, the step, both values."""
    told = set()
    for number, (one, other) in enumerate(zip(ones, others, strict=True)):
        for part in one.keys() & other.keys() - told:
            if not equal(one[part], other[part], TOLERANCE):
                told.add(part)
                yield part, number, *first_unequal(one[part], other[part])


def same(one: Any, other: Any) -> bool:
    """Whether an attribute is what it was: arrays and plain values by value, others by identity."""
    if isinstance(one, (np.ndarray, jax.Array)) and isinstance(other, (np.ndarray, jax.Array)):
        return one.shape == other.shape and equal(one, other)
    simple = isinstance(one, (int, float, str, bool, type(None)))
    return one == other if simple else one is other
