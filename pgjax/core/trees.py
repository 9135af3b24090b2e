"""Norms, products, choices and maps of pytrees."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pgjax.core.types import Array, PyTree


def exponent(tree: PyTree) -> Array:
    """The exponent e of the power of two next above the largest magnitude in a tree: int32[].

    0 if all numbers are 0, or one is not finite. Numbers divided by 2ᵉ, which rounds nothing, can
    be squared: squares of numbers beyond 1e19 or below 1e-19 are out of float32's range.
    """
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x), initial=0.0) for x in jax.tree.leaves(tree)]))
    return jnp.frexp(jnp.where(jnp.isfinite(largest), largest, 0.0))[1]


def norm(tree: PyTree) -> Array:
    """The 2-norm of all numbers of a tree: float[]; correct for numbers of any magnitude."""
    power = exponent(tree)
    scaled = jax.tree.map(lambda x: jnp.ldexp(x, -power), tree)
    return jnp.ldexp(optax.tree.norm(scaled), power)


def dot(a: PyTree, b: PyTree) -> Array:
    """The inner product of two trees' numbers: float[]."""
    return jnp.asarray(optax.tree.vdot(a, b))


def unit(tree: PyTree) -> PyTree:
    """A tree of numbers divided by their 2-norm; zeros stay zeros."""
    size = norm(tree)
    return jax.tree.map(lambda x: x / jnp.where(size > 0, size, 1.0).astype(x.dtype), tree)


def still_finite(tree: PyTree, old_tree: PyTree) -> Array:
    """Whether all floats of a tree are finite or equal to those in `old_tree`: bool[].

    Some optimizers begin with an infinity, as the best loss so far.
    """
    good = {}
    # One reduction for all leaves of a shape: parameters and an optimizer's moments have the same.
    for new, old in zip(jax.tree.leaves(tree), jax.tree.leaves(old_tree), strict=True):
        if jnp.issubdtype(new.dtype, jnp.inexact):
            good[new.shape] = good.get(new.shape, True) & (jnp.isfinite(new) | (new == old))
    return jnp.all(jnp.stack([jnp.bool_(True), *map(jnp.all, good.values())]))


def either(flag: Array, tree: PyTree, other: PyTree) -> PyTree:
    """Returns `tree` if the flag, bool[], is true, else `other`.

    Keys are chosen by their data: JAX's check of key reuse then allows those that have been split.
    """

    def choose(x, y):
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jnp.where(flag, x, y)
        data = jnp.where(flag, *map(jax.random.key_data, (x, y)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))

    return jax.tree.map(choose, tree, other)


def map_children(function: Callable, node: Any, *nodes: PyTree) -> Any:
    """Maps a function over the children of a tuple or a dict, and those of others of its structure.

    Unlike `jax.tree.map`, it does not go into the first node's children.
    """
    return jax.tree.map(function, node, *nodes, is_leaf=lambda child: child is not node)
