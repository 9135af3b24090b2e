"""Parameters of environments: any pytree of numbers; the time limit in steps among them is static.

The limit sizes arrays, all other parameters are traced.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.components import is_traced
from pgjax.keys import is_key
from pgjax.types import PyTree

_LIMIT = "max_steps_in_episode"
_MOST = 2**31 - 1
WHOLE = f"a whole number of steps from 1 to {_MOST}, or infinite"


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Static:
    """A number in a pytree's structure, where a leaf was."""

    value: int | float


def given_limit(params: PyTree) -> Any:
    """The time limit as it stands in the parameters; None: they have none."""
    return params.get(_LIMIT) if isinstance(params, Mapping) else getattr(params, _LIMIT, None)


def limit_of(params: PyTree) -> int | None:
    """The time limit in steps; None: there is none, or an infinite one.

    Raises:
      TypeError: it is traced.
      ValueError: it is no whole number of steps.
    """
    limit = given_limit(params)
    if is_traced(limit):
        raise TypeError(
            "env_params.max_steps_in_episode sizes the arrays: it must be a number, not traced"
        )
    number = np.asarray(limit)
    if limit is None or (number.dtype.kind == "f" and np.all(np.isposinf(number))):
        return None
    real = number.ndim == 0 and number.dtype.kind in "iuf" and np.isfinite(number)
    if not real or number != np.floor(number) or not 1 <= number <= _MOST:
        raise ValueError(f"env_params.max_steps_in_episode must be {WHOLE}, got {limit!r}")
    return int(number)


def split(params: PyTree) -> PyTree:
    """The parameters with the time limit in their structure.

    Raises:
      TypeError, ValueError: as `limit_of`.
    """
    if given_limit(params) is None:
        return params
    limit_of(params)
    changed = _with_leaf(params, _Static(np.asarray(given_limit(params)).item()))
    return params if changed is None else changed


def joined(params: PyTree) -> PyTree:
    """The inverse of `split`, whatever the other leaves are."""

    def one(leaf):
        return leaf.value if isinstance(leaf, _Static) else leaf

    return jax.tree.map(one, params, is_leaf=lambda node: isinstance(node, _Static))


def check(params: PyTree) -> None:
    """Raises TypeError or ValueError unless all parameters are finite numbers that JAX can hold."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(split(params)):
        if not is_traced(leaf) and not is_key(leaf):
            _check_number(f"env_params{jax.tree_util.keystr(path)}", leaf)


def constants(params: PyTree) -> PyTree:
    """Python's integers as NumPy's of JAX's dtype, so that they can size what is traced."""

    def one(leaf):
        if not isinstance(leaf, (int, np.integer)) or not _fits(leaf):
            return leaf
        return np.asarray(leaf, jax.dtypes.canonicalize_dtype(jnp.result_type(leaf)))[()]

    return jax.tree.map(one, params)


def with_limit(params: PyTree, limit: int) -> PyTree | None:
    """The same parameters with another time limit of its type; None: it is no leaf."""
    kind = type(np.asarray(given_limit(params)).item())
    return _with_leaf(params, None if kind is type(None) else kind(limit))


def _with_leaf(params: PyTree, limit: Any) -> PyTree | None:
    """The parameters with another leaf for the time limit, whatever node holds it."""
    leaves, structure = jax.tree.flatten(params)
    marks = [object() for _ in leaves]
    mark = given_limit(jax.tree.unflatten(structure, marks))
    if not any(other is mark for other in marks):
        return None
    pairs = zip(marks, leaves, strict=True)
    return jax.tree.unflatten(structure, [limit if m is mark else leaf for m, leaf in pairs])


def _fits(number: int) -> bool:
    """Whether JAX's default integers hold it."""
    return abs(int(number)) <= jnp.iinfo(jnp.result_type(int)).max


def _check_number(path: str, leaf: Any) -> None:
    if isinstance(leaf, int) and not _fits(leaf):
        raise ValueError(f"{path} must fit {jnp.result_type(int)}, got {leaf}")
    dtype = getattr(leaf, "dtype", np.asarray(leaf).dtype)
    if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.number, jnp.bool_)):
        raise TypeError(f"{path} must be a number, got {leaf!r}")
    if not np.all(np.isfinite(leaf)):
        raise ValueError(f"{path} must be finite, got {leaf}")
    held = jax.dtypes.canonicalize_dtype(jnp.result_type(leaf))
    if held.kind != "b" and np.any(np.abs(leaf) > _largest(held)):
        raise ValueError(f"{path} must fit {held}, got {leaf}")


def _largest(dtype: np.dtype) -> int | float:
    """The largest number of a dtype."""
    return (jnp.iinfo if jnp.issubdtype(dtype, jnp.integer) else jnp.finfo)(dtype).max
