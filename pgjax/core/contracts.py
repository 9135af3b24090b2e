"""Checks of the results of a user's methods against their contract, while tracing."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.types import Metrics, PyTree


def require(right: bool, part: str, owner: Any, method: str, contract: str, result: Any) -> None:
    """Raises ValueError, which names class and method, unless a method's result is right."""
    if not right:
        called = _called(part, owner, method)
        raise ValueError(f"{called} must give {contract}, got {describe(result)}")


def require_values(part: str, owner: Any, method: str, names: tuple[str, ...], result: Any) -> None:
    """Raises ValueError unless a method's result is a tuple of as many values as `names`."""
    right = isinstance(result, (tuple, list)) and len(result) == len(names)
    require(right, part, owner, method, f"{len(names)} values ({', '.join(names)})", result)


def require_arrays(part: str, owner: Any, method: str, result: PyTree) -> None:
    """Raises ValueError unless a method's result is a pytree of arrays or numbers."""
    strange = [leaf for leaf in jax.tree.leaves(result) if not is_array(leaf)]
    for leaf in strange[:1]:
        require(False, part, owner, method, "a pytree of arrays", leaf)


def require_alike(
    part: str, owner: Any, method: str, result: PyTree, start: PyTree, whence: str
) -> None:
    """Raises ValueError unless a result has the structure, shapes and dtypes of `start`.

    Args:
      whence: the source of `start`, such as "start()", for the message.
    """
    require_arrays(part, owner, method, result)
    for path, old, new in changes(start, result):
        raise ValueError(
            f"{_called(part, owner, method)} must keep the structure, shapes and dtypes of "
            f"{whence}: {path}{old} became {new}"
        )


def require_free_names(part: str, owner: Any, method: str, names: Iterable[str]) -> None:
    """Raises ValueError if a name is a field of `Metrics`."""
    fields = {field.name for field in dataclasses.fields(Metrics)}
    for name in sorted(fields.intersection(names)):
        raise ValueError(
            f"{_called(part, owner, method)} has the name {name!r}, which is that of another "
            "metric: give it another name"
        )


def _called(part: str, owner: Any, method: str) -> str:
    return f"{part} {type(owner).__name__}.{method}"


def describe(value: Any) -> str:
    """An array's shape, and its dtype unless it is float; another value, or its type, in short."""
    if is_array(value) and hasattr(value, "shape"):
        kind = "" if jnp.issubdtype(value.dtype, jnp.floating) else f" of {value.dtype}"
        return f"{tuple(value.shape)}{kind}"
    if isinstance(value, (tuple, list)):
        kinds = ", ".join("array" if hasattr(x, "dtype") else type(x).__name__ for x in value)
        return f"{type(value).__name__} of {kinds}" if kinds else repr(value)
    plain = value is None or isinstance(value, (bool, int, float, complex, str))
    return repr(value) if plain else type(value).__name__


def is_array(value: Any) -> bool:
    """Whether a value is an array of JAX or NumPy, traced or not, or a number."""
    if isinstance(value, (bool, int, float, complex)):
        return True
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.kind not in "OSU"  # objects and texts
    return hasattr(value, "shape") and hasattr(value, "dtype")


def is_real(value: Any) -> bool:
    """Whether a value is an array, or a number, of floats, integers or flags."""
    return is_array(value) and any(
        jnp.issubdtype(_dtype(value), real) for real in (jnp.floating, jnp.integer, jnp.bool_)
    )


def is_real_of(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether a value is an array of floats, integers or flags with this shape; () is a number."""
    return is_real(value) and jnp.shape(value) == shape


def is_float_of(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether a value is an array of floats with this shape, so that it can be differentiated."""
    return is_real_of(value, shape) and bool(jnp.issubdtype(_dtype(value), jnp.floating))


def _dtype(value: Any) -> Any:
    return value.dtype if hasattr(value, "dtype") else jnp.result_type(value)


def matches(tree: PyTree, other: PyTree) -> bool:
    """Whether two trees of arrays have the same structure, shapes and dtypes."""
    return not any(True for _ in changes(tree, other))


def changes(before: PyTree, after: PyTree) -> Iterator[tuple[str, str, str]]:
    """Differences of structure, shape or dtype, as texts: (path, old, new)."""
    structures = jax.tree.structure(before), jax.tree.structure(after)
    if structures[0] != structures[1]:
        yield "", str(structures[0]), str(structures[1])
        return
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    for (path, old), new in pairs:
        kind, changed = (f"{jnp.result_type(x)}{list(np.shape(x))}" for x in (old, new))
        if kind != changed:
            yield f"{jax.tree_util.keystr(path)} ", kind, changed
