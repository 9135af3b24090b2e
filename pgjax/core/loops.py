"""Loops: under `vmap`, reductions over all its members, and one member after another on a CPU; the
unrolling of short steps.

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
def _any_of_members(axis_size, in_batched, flags):
    return any_in_batch(jnp.any(flags, axis=0)), False


@custom_vmap
def max_in_batch(value: Array) -> Array:
    """The largest value among the members of every enclosing `vmap`: the value's dtype, []."""
    return value


@max_in_batch.def_vmap
def _max_of_members(axis_size, in_batched, value):
    return max_in_batch(jnp.max(value, axis=0)), False


def sequential_on_cpu(function: Callable) -> Callable:
    """Runs `function` sequentially under `vmap` on a CPU; unchanged on other devices.

    On a CPU, large products with different matrices are no faster side by side, and one member's
    arrays stay in the caches.
    """
    return sequential_vmap(function) if jax.default_backend() == "cpu" else function


def short_step_unroll() -> int:
    """The number of steps in one iteration of a scan whose step is a few additions.

    On a CPU one step is the fastest, and compiles in a quarter of the time of eight, whose sums XLA
    computes anew for each of the eight results. An accelerator starts kernels for every iteration.
    """
    return 1 if jax.default_backend() == "cpu" else 8
