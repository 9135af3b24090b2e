"""Numbers of a whole tree: their norm, whether all are finite; trees, and their first level."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pgjax.core.types import Array, PyTree


def exponent(tree: PyTree) -> Array:
    """The power of two next above the largest magnitude of a tree's numbers: int32[].

    Numbers scaled by it, which rounds nothing, may be squared: the squares of numbers beyond 1e19
    or below 1e-19 are out of float32's range. 0 where all are 0, or one is not finite.
    """
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x), initial=0.0) for x in jax.tree.leaves(tree)]))
    return jnp.frexp(jnp.where(jnp.isfinite(largest), largest, 0.0))[1]


def norm(tree: PyTree) -> Array:
    """The 2-norm of all numbers of a tree, float[], whatever their magnitude."""
    power = exponent(tree)
    scaled = jax.tree.map(lambda x: jnp.ldexp(x, -power), tree)
    return jnp.ldexp(optax.tree.norm(scaled), power)


def dot(tree: PyTree, other: PyTree) -> Array:
    """The sum of all products of two trees' numbers: float[]."""
    return jnp.asarray(optax.tree.vdot(tree, other))


def unit(tree: PyTree) -> PyTree:
    """A tree of numbers divided by their 2-norm; zeros stay zeros."""
    size = norm(tree)
    return jax.tree.map(lambda x: x / jnp.where(size > 0, size, 1.0).astype(x.dtype), tree)


def still_finite(tree: PyTree, before: PyTree) -> Array:
    """Whether all floats of a tree are finite, or the infinities that they were before: bool[].

    Some optimizers begin with an infinity, as the best loss so far.
    """
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(before), strict=True)
    floats = [pair for pair in pairs if jnp.issubdtype(pair[0].dtype, jnp.inexact)]
    good = [jnp.all(jnp.isfinite(new) | (new == old)) for new, old in floats]
    return jnp.all(jnp.stack([jnp.bool_(True), *good]))


def either(flag: Array, tree: PyTree, other: PyTree) -> PyTree:
    """`tree` where the flag, bool[], is set, else `other`.

    Keys are chosen by their data: JAX's check of key reuse then allows those that have been split.
    """

    def one(x, y):
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jnp.where(flag, x, y)
        data = jnp.where(flag, *map(jax.random.key_data, (x, y)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))

    return jax.tree.map(one, tree, other)


def each(function: Callable, node: Any, *others: PyTree) -> Any:
    """A function's results for the children of a tuple or a dict, whatever they are, and for the
    same children of others: a tuple or a dict again."""
    return jax.tree.map(function, node, *others, is_leaf=lambda child: child is not node)
