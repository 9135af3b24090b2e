"""What methods of the user's own give, against what their contract says; while tracing."""

from typing import Any

import jax
import jax.numpy as jnp

from pgjax.core.types import PyTree


def require(right: bool, part: str, owner: Any, method: str, contract: str, found: Any) -> None:
    """Raises ValueError, a sentence that names class and method, unless what it gave is right."""
    if not right:
        name = f"{part} {type(owner).__name__}.{method}"
        raise ValueError(f"{name} must give {contract}, got {described(found)}")


def described(found: Any) -> str:
    """Shape, and dtype if that is unusual, of an array; the kind of anything else, and its size."""
    if hasattr(found, "shape") and hasattr(found, "dtype"):
        kind = "" if is_real(found) else f" of {found.dtype}"
        return f"{tuple(found.shape)}{kind}"
    if isinstance(found, (tuple, list)):
        return f"{type(found).__name__} of {', '.join(type(x).__name__ for x in found)}"
    return repr(found) if jnp.isscalar(found) or found is None else type(found).__name__


def is_real(found: Any) -> bool:
    """Whether it is an array, or a number, of floats, integers or flags."""
    kind = getattr(found, "dtype", None) or jnp.result_type(found)
    return any(jnp.issubdtype(kind, real) for real in (jnp.floating, jnp.integer, jnp.bool_))


def alike(tree: PyTree, other: PyTree) -> bool:
    """Whether two trees have the same structure, shapes and dtypes."""
    if jax.tree.structure(tree) != jax.tree.structure(other):
        return False
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    return all(
        jnp.shape(a) == jnp.shape(b) and jnp.result_type(a) == jnp.result_type(b) for a, b in pairs
    )
