"""What `vmap` does to loops: reductions that see through it, and an order of its own on a CPU.

A `while_loop` whose condition differs between the members of a `vmap`ped batch must select, in
every iteration and for every member, between the old and the new value of all that it carries:
whole trajectory buffers here. If the condition is the same for all members nothing is selected,
and slices move together. The reductions make it the same: a batch runs until its last is done.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap, sequential_vmap

from pgjax.core.types import Array


@custom_vmap
def any_in_batch(flags: Array) -> Array:
    """Whether any flag is true, in any member of every enclosing `vmap`: bool[]."""
    return jnp.any(flags)


@any_in_batch.def_vmap
def _(axis_size, in_batched, flags):
    return any_in_batch(jnp.any(flags, axis=0)), False


@custom_vmap
def max_in_batch(value: Array) -> Array:
    """The largest value among the members of every enclosing `vmap`: the value's dtype, []."""
    return value


@max_in_batch.def_vmap
def _(axis_size, in_batched, value):
    return max_in_batch(jnp.max(value, axis=0)), False


def sequential_on_cpu(function: Callable) -> Callable:
    """`function`, for whose `vmap` a CPU takes one member after another.

    There, large products with different matrices are no faster side by side, and what one member
    works on stays in the caches.
    """
    return sequential_vmap(function) if jax.default_backend() == "cpu" else function
