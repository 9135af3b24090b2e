"""Sums and maps over the steps of trajectories, in pieces that stay in the caches.

A step is a row of one trajectory: data are pytrees of [T, m, …], and steps count where `valid`,
bool[T, m], is true. If L consecutive steps belong together, data are windows [T / L, m, L, …],
and `valid` is bool[T / L, m, L].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from pgjax.core.loops import max_in_batch, sequential_on_cpu
from pgjax.core.parallel import on_shares
from pgjax.core.types import Array, PyTree

# Steps in one backward pass. On a CPU the activations of a few hundred stay in its caches, and XLA
# does not yet split their matrix products over threads, which costs more than it gains. An
# accelerator wants as many as its memory holds easily: to start a kernel costs as much time as
# thousands of steps.
_CHUNK_SIZE = 256
_ACCELERATOR_CHUNK_SIZE = 2**16
# A window's rows are computed one after another, so that only windows side by side fill a product.
_MIN_WINDOWS = 32


class Chunk(NamedTuple):
    """Data of steps side by side, [size, …], or of windows, [size, L, …]; and whether each step
    counts."""

    data: PyTree
    valid: Array


def summed(
    function: Callable[[PyTree, Chunk], PyTree],
    context: PyTree,
    data: PyTree,
    valid: Array,
    ragged: bool,
    mesh: Mesh | None = None,
) -> PyTree:
    """Σ over chunks of `function(context, chunk)`, which sums over the chunk's valid steps.

    Args:
      function: closes over no arrays.
      context: arrays that it needs besides the chunk, the same for all chunks.
      ragged: whether trajectories end early: rows after a trajectory's last valid one then cost
        nothing.
      mesh: every device sums its own trajectories.
    """

    def share(context, data, valid):
        chunk_of, num_chunks = (_ragged_chunks if ragged else _even_chunks)(data, valid)
        if num_chunks is None:
            return ravel_pytree(function(context, chunk_of(jnp.int32(0))))[0][None]
        first = jnp.zeros((), jnp.int32)
        shapes = jax.eval_shape(lambda: function(context, chunk_of(first)))

        def accumulate(carry):
            index, sums = carry
            return index + 1, jax.tree.map(jnp.add, sums, function(context, chunk_of(index)))

        start = (first, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
        _, sums = jax.lax.while_loop(lambda carry: carry[0] < num_chunks, accumulate, start)
        # One array: between processes every array takes its own round of messages.
        return ravel_pytree(sums)[0][None]

    shares = on_shares(sequential_on_cpu(share), mesh, (None, 1, 1), 0)(context, data, valid)
    data, valid = jax.tree.map(lambda x: x[0, :1], (data, valid))
    shapes = jax.eval_shape(function, context, Chunk(data, valid))
    _, unravel = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
    return unravel(jnp.sum(shares, axis=0))


def _even_chunks(data: PyTree, valid: Array) -> tuple[Callable[[Array], Chunk], int | None]:
    """A function from an index to a chunk, and the number of chunks; None: there is only one."""
    flat, size = _flat(data, valid)
    steps = flat.valid.shape[0]
    number = -(-steps // size)
    if number == 1:
        return lambda index: flat, None
    missing = number * size - steps
    flat = jax.tree.map(lambda x: jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)), flat)

    def chunk_of(index):
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, index * size, size), flat)

    return chunk_of, number


def _ragged_chunks(data: PyTree, valid: Array) -> tuple[Callable[[Array], Chunk], Array]:
    """`_even_chunks`, without the rows after each trajectory's last valid one.

    Positions number the steps that are computed, row by row, and in each row the longest
    trajectories come first. Lengths 2, 4, 1:

        row  running  trajectory at each position
        0    3        1 0 2        positions 0 1 2     `longest_first` = 1 0 2
        1    2        1 0          positions 3 4       `ends` = 3 5 6 7
        2    1        1            position  5
        3    1        1            position  6

    so that 7 positions are computed, where rows × trajectories are 12.
    """
    rows, n, *window = valid.shape
    flat, size = _flat(data, valid)
    numbers = jnp.arange(1, rows + 1, dtype=jnp.int32)
    some = jnp.any(valid, axis=2) if window else valid
    lengths = jnp.max(jnp.where(some, numbers[:, None], 0), axis=0)
    longest_first = jnp.argsort(-lengths)
    running = jnp.sum(lengths[None] >= numbers[:, None], axis=1, dtype=jnp.int32)
    ends = jnp.cumsum(running)
    # Trajectories of equal length are in this order already, and need no gathering.
    in_order = ends[-1] == n * jnp.sum(running > 0)

    def sliced(position, row):
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, position[0], size), flat)

    def gathered(position, row):
        trajectory = longest_first[position - (ends - running)[row]]
        return jax.tree.map(lambda x: x[row * n + trajectory], flat)

    def chunk_of(index):
        position = index * size + jnp.arange(size, dtype=jnp.int32)
        row = jnp.minimum(jnp.searchsorted(ends, position, side="right"), rows - 1)
        is_slice = in_order & (position[-1] < rows * n)
        data, valid = jax.lax.cond(is_slice, sliced, gathered, position, row)
        exists = (position < ends[-1]).reshape(-1, *[1] * len(window))
        return Chunk(data, valid & exists)

    return chunk_of, max_in_batch((ends[-1] + size - 1) // size)


def _flat(data: PyTree, valid: Array) -> tuple[Chunk, int]:
    """One chunk with all rows and trajectories in its first axis; and the size to cut it into."""
    rows, n, *window = valid.shape
    flat = jax.tree.map(lambda x: x.reshape(rows * n, *x.shape[2:]), Chunk(data, valid))
    size = max(_chunk_size() // window[0], _MIN_WINDOWS) if window else _chunk_size()
    return flat, min(size, rows * n)


def _chunk_size() -> int:
    return _CHUNK_SIZE if jax.default_backend() == "cpu" else _ACCELERATOR_CHUNK_SIZE


def first(data: PyTree, valid: Array) -> Chunk:
    """The first chunk of the data."""
    flat, size = _flat(data, valid)
    return jax.tree.map(lambda x: x[:size], flat)


def row_numbers(valid: Array) -> Array:
    """The row of each step, int32[T, m], counted from 0.

    To be made data while the rows are in order: in a minibatch or a chunk they no longer are.
    """
    return jax.lax.broadcasted_iota(jnp.int32, valid.shape, 0)


def per_step(function: Callable, valid: Array) -> Callable:
    """Maps a function of one step over all axes of `valid`: a chunk's steps, in windows or not."""
    for _ in valid.shape:
        function = jax.vmap(function)
    return function


def windows(data: PyTree, valid: Array, length: int) -> tuple[PyTree, Array]:
    """Cuts data and valid, [T, m, …], into windows of L = `length` rows, [T / L, m, L, …].

    A length of 0 means one window of all rows. Rows that pad the last window are not valid.
    """
    rows = valid.shape[0]
    length = min(length, rows) or rows
    num_windows = -(-rows // length)

    def cut(x: Array) -> Array:
        x = jnp.pad(x, [(0, num_windows * length - rows)] + [(0, 0)] * (x.ndim - 1))
        return jnp.moveaxis(x.reshape(num_windows, length, *x.shape[1:]), 1, 2)

    return jax.tree.map(cut, data), cut(valid)


def per_row(function: Callable[[PyTree], PyTree], data: PyTree, valid: Array) -> PyTree:
    """Results [T, m, …] of a function, [n, …] -> [n, …], of all steps; 0 after the last valid row.

    The function is called with groups of rows, one group after another.
    """
    rows, m = valid.shape
    group_rows = max(1, min(_chunk_size() // m, rows))
    num_groups = -(-rows // group_rows)

    def grouped(x):
        x = jnp.pad(x, [(0, num_groups * group_rows - rows)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(num_groups, group_rows * m, *x.shape[2:])

    data = jax.tree.map(grouped, data)

    def group(index):
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, 0, False), data)

    def store(carry):
        index, results = carry
        return index + 1, jax.tree.map(
            lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, index, 0),
            results,
            function(group(index)),
        )

    shapes = jax.eval_shape(lambda: function(group(0)))
    results = jax.tree.map(lambda x: jnp.zeros((num_groups, *x.shape), x.dtype), shapes)
    used_rows = jnp.max(jnp.where(jnp.any(valid, axis=1), jnp.arange(1, rows + 1), 0))
    used_groups = max_in_batch((-(-used_rows // group_rows)).astype(jnp.int32))
    start = (jnp.int32(0), results)
    _, results = jax.lax.while_loop(lambda carry: carry[0] < used_groups, store, start)
    return jax.tree.map(lambda x: x.reshape(-1, m, *x.shape[2:])[:rows], results)


def minibatches(
    key: Array, data: PyTree, valid: Array, number: int, mesh: Mesh | None = None
) -> tuple[PyTree, Array]:
    """Deals all steps, [T, m, …], out to minibatches: data [number, T / number, m, …] and valid.

    `number` consecutive rows of a trajectory go to different minibatches, in turn, and a random
    minibatch begins: every step is in exactly one, in each with the same probability, and every
    minibatch has steps of all trajectories at all times. Rows that pad the end are not valid.
    Every device of the mesh deals its own trajectories.
    """
    rows, m = valid.shape[:2]
    num_groups = -(-rows // number)

    def deal(row: Array, x: Array) -> Array:
        padding = [(0, num_groups * number - rows)] + [(0, 0)] * (x.ndim - 1)
        grouped = jnp.pad(x, padding).reshape(num_groups, number, *x.shape[1:])
        index = row.reshape(row.shape + (1,) * (x.ndim - 2))
        return jnp.moveaxis(jnp.take_along_axis(grouped, index, axis=1), 1, 0)

    def share(offset: Array, data: PyTree, valid: Array) -> tuple[PyTree, Array]:
        row = (offset + jnp.arange(number)[None, :, None]) % number
        return jax.tree.map(lambda x: deal(row, x), (data, valid))

    offset = jax.random.randint(key, (num_groups, 1, m), 0, number)
    return on_shares(share, mesh, (2, 1, 1), 2)(offset, data, valid)


def check_minibatches(path: str, number: int, default: int, steps: int) -> None:
    """Raises ValueError if there are more minibatches than steps."""
    # The default is never refused: a few minibatches without steps cost a tiny problem nothing.
    high = max(steps, default)
    if number > high:
        raise ValueError(
            f"{path}.minibatches must be at most {high}, the steps that one update "
            f"learns from, got {number}"
        )


def mean_over(values: Array, valid: Array) -> Any:
    """The mean over valid steps."""
    return jnp.sum(jnp.where(valid, values, 0.0)) / jnp.maximum(jnp.sum(valid), 1)
