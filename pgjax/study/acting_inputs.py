"""Checks, while tracing, of what a policy is given to act: observations, one or a batch, memory."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.contracts import describe, is_array, matches
from pgjax.core.keys import is_key
from pgjax.core.types import PyTree
from pgjax.environments import elements, spaces


def plain(obs: PyTree, space: Any) -> PyTree:
    """A space's element, or a batch, with Python's own dicts and tuples for its containers."""
    children = spaces.children(space)
    if children is None:
        return obs
    parts = {name: plain(spaces.entry(obs, name), child) for name, child in children.items()}
    return spaces.joined(space, parts)


def batch_of(obs: PyTree, space: Any) -> int | None:
    """The number of observations in a batch; None for a single one, and for none of the space."""
    try:
        while children := spaces.children(space):
            name, space = next(iter(children.items()))
            obs = spaces.entry(obs, name)
        shape = np.shape(obs)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return None
    return shape[0] if len(shape) == len(space.shape) + 1 else None


def check_obs(obs: PyTree, space: Any, example: PyTree, batch: int | None) -> None:
    """Raises unless an observation, or a batch, has the shapes and kinds of its space.

    Args:
      obs: traced.
      space: of one observation.
      example: shapes and dtypes of one, as the environment gives it.
      batch: from `batch_of`.

    Raises:
      ValueError: another shape, no observation in a batch, an entry that is missing or too many.
      TypeError: numbers of a kind that cannot stand for the environment's.
    """
    if batch == 0:
        raise ValueError("obs: expected one observation or a batch of at least one, got none")
    rows = "" if batch is None else f", in a batch of {batch}"
    for fault in elements.misfits("obs", without_batch(obs, batch), space):
        raise ValueError(f"{fault.part}: expected {fault.expected}, got {fault.actual}{rows}")
    leaves = jax.tree.leaves(plain(obs, space))
    for leaf, expected in zip(leaves, jax.tree.leaves(plain(example, space)), strict=True):
        if not np.can_cast(leaf.dtype, expected.dtype, "same_kind"):
            raise TypeError(
                f"obs: expected {expected.dtype}, as the environment gives it, got {leaf.dtype}"
            )


def check_memory(memory: PyTree, initial: PyTree, batch: int | None) -> None:
    """Raises ValueError unless a memory is like that at an episode's start, for a batch."""
    if not matches(initial, without_batch(memory, batch)):
        start = jax.tree.map(elements.shape, initial)
        given = jax.tree.map(elements.shape, memory)
        rows = "" if batch is None else f" with a first axis of {batch}, as the observations have"
        raise ValueError(
            "memory: expected agent.initial_memory(batch) or what act gave with the observation "
            f"before, {start}{rows}, got {given}"
        )


def check_arrays(part: str, tree: PyTree) -> None:
    """Raises TypeError unless all leaves of an argument are arrays or numbers."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not is_array(leaf) or is_key(leaf):
            place = part + jax.tree_util.keystr(path)
            raise TypeError(f"{place}: expected an array of numbers, got {describe(leaf)}")


def without_batch(tree: PyTree, batch: int | None) -> PyTree:
    """Shapes and dtypes without the first axis of a batch, of leaves that have it."""

    def row(x: Any) -> jax.ShapeDtypeStruct:
        has_axis = batch is not None and jnp.shape(x)[:1] == (batch,)
        return jax.ShapeDtypeStruct(jnp.shape(x)[has_axis:], jnp.result_type(x))

    return jax.tree.map(row, tree)
