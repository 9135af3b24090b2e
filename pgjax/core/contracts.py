"""What methods of the user's own give, against what their contract says; while tracing."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.types import Metrics, PyTree


def require(right: bool, part: str, owner: Any, method: str, contract: str, found: Any) -> None:
    """Raises ValueError, a sentence that names class and method, unless what it gave is right."""
    if not right:
        raise ValueError(f"{_called(part, owner, method)} must give {contract}, got {said(found)}")


def require_values(part: str, owner: Any, method: str, names: tuple[str, ...], found: Any) -> None:
    """Raises ValueError unless a method gave so many values."""
    right = isinstance(found, (tuple, list)) and len(found) == len(names)
    require(right, part, owner, method, f"{len(names)} values ({', '.join(names)})", found)


def require_arrays(part: str, owner: Any, method: str, found: PyTree) -> None:
    """Raises ValueError unless a method gave a pytree of arrays or numbers."""
    strange = [leaf for leaf in jax.tree.leaves(found) if not is_array(leaf)]
    for leaf in strange[:1]:
        require(False, part, owner, method, "a pytree of arrays", leaf)


def require_alike(
    part: str, owner: Any, method: str, found: PyTree, start: PyTree, whence: str
) -> None:
    """Raises ValueError unless a tree has the structure, shapes and dtypes of one before it.

    Args:
      whence: where that one came from, as "start()", for the message.
    """
    require_arrays(part, owner, method, found)
    for path, old, new in changes(start, found):
        raise ValueError(
            f"{_called(part, owner, method)} must keep the structure, shapes and dtypes of "
            f"{whence}: {path}{old} became {new}"
        )


def require_free_names(part: str, owner: Any, method: str, names: Iterable[str]) -> None:
    """Raises ValueError if a name is that of one of the metrics of every update."""
    fields = {field.name for field in dataclasses.fields(Metrics)}
    for name in sorted(fields.intersection(names)):
        raise ValueError(
            f"{_called(part, owner, method)} has the name {name!r}, which is that of another "
            "metric: give it another name"
        )


def _called(part: str, owner: Any, method: str) -> str:
    return f"{part} {type(owner).__name__}.{method}"


def said(found: Any) -> str:
    """Shape, and dtype unless floats, of an array; the kind of anything else, and its size."""
    if is_array(found) and hasattr(found, "shape"):
        kind = "" if jnp.issubdtype(found.dtype, jnp.floating) else f" of {found.dtype}"
        return f"{tuple(found.shape)}{kind}"
    if isinstance(found, (tuple, list)):
        kinds = ", ".join("array" if hasattr(x, "dtype") else type(x).__name__ for x in found)
        return f"{type(found).__name__} of {kinds}" if kinds else repr(found)
    plain = found is None or isinstance(found, (bool, int, float, complex, str))
    return repr(found) if plain else type(found).__name__


def is_array(found: Any) -> bool:
    """Whether it is an array of JAX or NumPy, traced or not, or a number."""
    if isinstance(found, (bool, int, float, complex)):
        return True
    if isinstance(found, (np.ndarray, np.generic)):
        return found.dtype.kind not in "OSU"  # objects and texts
    return hasattr(found, "shape") and hasattr(found, "dtype")


def is_real(found: Any) -> bool:
    """Whether it is an array, or a number, of floats, integers or flags."""
    return is_array(found) and any(
        jnp.issubdtype(_dtype(found), real) for real in (jnp.floating, jnp.integer, jnp.bool_)
    )


def is_real_of(found: Any, shape: tuple[int, ...]) -> bool:
    """Whether it is an array of floats, integers or flags, of this shape; () for a number, too."""
    return is_real(found) and jnp.shape(found) == shape


def is_float_of(found: Any, shape: tuple[int, ...]) -> bool:
    """Whether it is an array of floats, of this shape: of what is differentiated."""
    return is_real_of(found, shape) and bool(jnp.issubdtype(_dtype(found), jnp.floating))


def _dtype(found: Any) -> Any:
    return found.dtype if hasattr(found, "dtype") else jnp.result_type(found)


def alike(tree: PyTree, other: PyTree) -> bool:
    """Whether two trees of arrays have the same structure, shapes and dtypes."""
    return not any(True for _ in changes(tree, other))


def changes(before: PyTree, after: PyTree) -> Iterator[tuple[str, str, str]]:
    """Where structure, shapes or dtypes differ; by their own names, as objects may not compare."""
    structures = jax.tree.structure(before), jax.tree.structure(after)
    if structures[0] != structures[1]:
        yield "", str(structures[0]), str(structures[1])
        return
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    for (path, old), new in pairs:
        kind, changed = (f"{jnp.result_type(x)}{list(np.shape(x))}" for x in (old, new))
        if kind != changed:
            yield f"{jax.tree_util.keystr(path)} ", kind, changed
