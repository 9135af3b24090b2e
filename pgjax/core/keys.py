"""Typed keys among other arrays: NumPy, files and device transfers know only their numbers."""

from typing import Any

import jax
import jax.numpy as jnp

from pgjax.core.types import PyTree


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed keys, of any implementation, also while tracing."""
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def implementation(key: Any) -> Any:
    """What `jax.random.wrap_key_data` takes as `impl`; also of a shape without numbers."""
    names = []
    jax.eval_shape(lambda key: names.append(jax.random.key_impl(key)), key)
    return names[0]


def numbers(tree: PyTree) -> PyTree:
    """The same tree with the data of keys, uint32[…, n], in their place."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)


def keys_again(data: PyTree, like: PyTree) -> PyTree:
    """The inverse of `numbers`: keys where `like` has some, of the same implementation."""

    def wrapped(numbers, leaf):
        if not is_key(leaf):
            return numbers
        return jax.random.wrap_key_data(numbers, impl=implementation(leaf))

    return jax.tree.map(wrapped, data, like)
