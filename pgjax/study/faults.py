"""Faults of an environment: what is wrong with a value, in words."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from pgjax.core.keys import unwrap_keys
from pgjax.core.types import PyTree
from pgjax.environments import spaces
from pgjax.environments.elements import TOLERANCE, Fault, is_real, shape

KINDS = "Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them"
_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


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
        actual = f"a {type(result).__name__}" if number is None else f"{number} values"
        yield Fault(part, actual, f"a tuple of {len(names)}: {', '.join(names)}")


def changed(part: str, before: PyTree, after: PyTree) -> Iterator[Fault]:
    """Other structure, shapes or dtypes than from reset."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        actual = f"the structure {jax.tree.map(shape, after)}"
        yield Fault(part, actual, f"that of reset, {jax.tree.map(shape, before)}")
        return
    pairs = zip(leaves(part, before), jax.tree.leaves(after), strict=True)
    for (path, old), new in pairs:
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            yield Fault(path, shape(new), f"{shape(old)}, as from reset")


def not_a_number(part: str, value: Any) -> Iterator[Fault]:
    """Not one real number."""
    if jax.tree.structure(value) != jax.tree.structure(0) or value.shape != ():
        yield Fault(part, f"{jax.tree.map(shape, value)}", "a scalar")
    elif not is_real(value):
        yield Fault(part, shape(value), "a real number")


def not_a_flag(part: str, value: Any) -> Iterator[Fault]:
    """Not one bool."""
    if jax.tree.structure(value) != jax.tree.structure(0) or value.shape != ():
        yield Fault(part, f"{jax.tree.map(shape, value)}", "a scalar, bool[]")
    elif value.dtype != bool:
        yield Fault(part, shape(value), "bool[]")


def leaves(part: str, tree: PyTree) -> list[tuple[str, Any]]:
    """Each leaf with its path, which begins with the part."""
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    return [(part + jax.tree_util.keystr(path), leaf) for path, leaf in pairs]


def _numbers(leaf: Any) -> np.ndarray:
    """A leaf in NumPy; of a key, its data."""
    return np.asarray(unwrap_keys(leaf))


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
            one_text, other_text = (f"{x}" if x.dtype == bool else f"{x:.6g}" for x in both)
            return one_text, other_text
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
