"""Parameters of environments: any pytree of numbers; the time limit in steps among them is static.

The limit sizes arrays, all other parameters are traced.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.components import integer_meant, is_traced, number_meant
from pgjax.core.keys import is_key
from pgjax.core.names import shown
from pgjax.core.types import PyTree

_LIMIT = "max_steps_in_episode"
_MOST = 2**31 - 1
# The kinds of a parameter by JAX's, and which a default takes besides its own.
_KINDS = {
    "bool": jnp.bool_,
    "int": jnp.integer,
    "float": jnp.floating,
    "complex number": jnp.complexfloating,
    "typed key": jax.dtypes.prng_key,
}
_TAKES = {"float": ("int", "float"), "complex number": ("int", "float", "complex number")}
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
        raise ValueError(f"env_params.max_steps_in_episode must be {WHOLE}, got {shown(limit)}")
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

    def unwrapped(leaf):
        return leaf.value if isinstance(leaf, _Static) else leaf

    return jax.tree.map(unwrapped, params, is_leaf=lambda node: isinstance(node, _Static))


def check(params: PyTree, defaults: PyTree) -> None:
    """Raises unless all parameters, if there are any, are numbers like the environment's own.

    Raises:
      TypeError: one of another kind or shape, or none at all.
      ValueError: one that is not finite, where the default one is, or that JAX cannot hold.
    """
    if params is None:
        return
    given, usual = map(_by_name, (params, defaults))
    for name in usual.keys() - given.keys():
        inside = sum(path.startswith((f"{name}.", f"{name}[")) for path in given)
        actual = f"a tree of {inside} numbers" if inside else "None"
        raise TypeError(f"{name} must be {kind(usual[name])}, got {actual}")
    for name, leaf in given.items():
        if isinstance(leaf, int) and not _fits(leaf):
            raise ValueError(f"{name} must fit {jnp.result_type(int)}, got {leaf}")
        default = usual.get(name, leaf)
        _check_kind(name, leaf, default)
        if not is_traced(leaf) and not is_key(leaf):
            _check_size(name, leaf, default if name in usual else 0)


def _by_name(params: PyTree) -> dict[str, Any]:
    """The leaves, but for the time limit."""
    leaves = jax.tree_util.tree_leaves_with_path(split(params))
    return {f"env_params{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}


def kind(default: Any) -> str:
    """What a parameter with this default must be, as "a float" or "floats of the shape (2,)"."""
    noun, shape = kind_of(default), np.shape(default)
    return f"{noun}s of the shape {shape}" if shape else f"{'an' if noun == 'int' else 'a'} {noun}"


def constants(params: PyTree) -> PyTree:
    """Python's integers as NumPy's of JAX's dtype, so that they can size what is traced."""

    def constant(leaf):
        if not isinstance(leaf, (int, np.integer)) or not _fits(leaf):
            return leaf
        return np.asarray(leaf, jax.dtypes.canonicalize_dtype(jnp.result_type(leaf)))[()]

    return jax.tree.map(constant, params)


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


def _fits(number: int | np.integer) -> bool:
    """Whether JAX's default integers hold it."""
    return abs(int(number)) <= jnp.iinfo(jnp.result_type(int)).max


def kind_of(leaf: Any) -> str:
    """The kind of a parameter: one of `_KINDS`, or "number"."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return next((name for name, kind in _KINDS.items() if jnp.issubdtype(dtype, kind)), "number")


def _check_kind(name: str, leaf: Any, default: Any) -> None:
    """Raises unless a parameter, traced or not, is of its default's kind and shape."""
    actual, usual, alike = kind_of(leaf), kind_of(default), np.shape(leaf) == np.shape(default)
    if actual == "number" or actual not in _TAKES.get(usual, (usual,)) or not alike:
        meant = integer_meant(leaf) if usual == "int" else number_meant(leaf)
        given = (
            f"{actual}s of the shape {np.shape(leaf)}" if np.ndim(leaf) else f"{shown(leaf)}{meant}"
        )
        raise TypeError(f"{name} must be {kind(default)}, got {given}")


def _check_size(name: str, leaf: Any, default: Any) -> None:
    finite = np.isfinite(leaf)
    _check_all(finite | ~np.isfinite(default), f"{name} must be finite", leaf)
    held = jax.dtypes.canonicalize_dtype(jnp.result_type(leaf))
    if held.kind != "b":
        _check_all(~finite | (np.abs(leaf) <= _largest(held)), f"{name} must fit {held}", leaf)


def _check_all(right: Any, text: str, leaf: Any) -> None:
    """Raises, with the first number that is not right."""
    if not np.all(right):
        raise ValueError(f"{text}, got {np.asarray(leaf)[~np.asarray(right)].flat[0]}")


def _largest(dtype: np.dtype) -> int | float | np.floating:
    """The largest number of a dtype."""
    return (jnp.iinfo if jnp.issubdtype(dtype, jnp.integer) else jnp.finfo)(dtype).max
