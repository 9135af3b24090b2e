"""A state as arrays by their paths, as checkpoints hold it."""

from typing import Any

import jax

from pgjax.core.keys import unwrap_keys, wrap_keys
from pgjax.core.types import TrainState


def to_arrays(state: TrainState) -> dict[str, jax.Array]:
    """The leaves of a state by their paths; keys as plain integers.

    Arrays without elements are left out: they say nothing but their shape, and Orbax refuses them.
    A physics without contacts has some.
    """
    leaves = jax.tree_util.tree_leaves_with_path(unwrap_keys(state))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if leaf.size}


def from_arrays(arrays: dict[str, Any], like: TrainState) -> TrainState:
    """The inverse of `to_arrays`, for a state of the structure of `like`."""
    paths, structure = jax.tree_util.tree_flatten_with_path(jax.eval_shape(unwrap_keys, like))
    leaves = [
        jax.numpy.asarray(arrays[jax.tree_util.keystr(path)])
        if leaf.size
        else jax.numpy.zeros(leaf.shape, leaf.dtype)
        for path, leaf in paths
    ]
    return wrap_keys(jax.tree.unflatten(structure, leaves), like)
