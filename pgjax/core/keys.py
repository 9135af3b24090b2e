"""Typed keys in pytrees, and their data: NumPy, files and device transfers take only the data."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.types import PyTree


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed keys of any implementation; also while tracing."""
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def implementation(key: Any) -> Any:
    """A key's `impl`, as `jax.random.wrap_key_data` takes it; also for a `jax.ShapeDtypeStruct`."""
    names = []
    jax.eval_shape(lambda key: names.append(jax.random.key_impl(key)), key)
    return names[0]


def unwrap_keys(tree: PyTree) -> PyTree:
    """The tree with each key replaced by its data, uint32[…, n]."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)


def on_host(tree: PyTree) -> PyTree:
    """NumPy's arrays, which may share memory with the given ones; keys as their data, uint32[…, n].

    What is sliced and joined there needs no program for each shape, as JAX's arrays do.
    """
    return jax.tree.map(np.asarray, unwrap_keys(tree))


def wrap_keys(data: PyTree, like: PyTree) -> PyTree:
    """The inverse of `unwrap_keys`: keys where `like` has keys, of the same implementation."""

    def wrapped(leaf, key):
        if not is_key(key):
            return leaf
        return jax.random.wrap_key_data(leaf, impl=implementation(key))

    return jax.tree.map(wrapped, data, like)


def derived(key: Any, purpose: str) -> Any:
    """Another key for a purpose, that leaves the given one to be used as if there were no other.

    So what is put around a function draws numbers of its own, and those of the function stay. The
    number that stands for the purpose has its highest bit set: a split of fewer than 2³¹ keys, or a
    count of steps, has no such number.
    """
    return jax.random.fold_in(key, zlib.crc32(purpose.encode()) | 2**31)
