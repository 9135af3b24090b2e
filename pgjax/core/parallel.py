"""Work divided over devices: a mesh with one axis, and functions of each device's share.

Everything between the shares is written for the whole arrays; XLA puts the collectives there.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pgjax.core.components import check_int, is_traced, jax_option
from pgjax.core.keys import is_key
from pgjax.core.types import Array, PyTree

_AXIS = "devices"
_MIN_SHARE = 16


def make_mesh(num_devices: int | None = None) -> Mesh:
    """A mesh of the first `num_devices` devices of all processes; None: of all there are.

    On a CPU, `jax.config.update("jax_num_cpu_devices", n)` before anything else uses JAX makes n
    devices of its cores.

    Raises:
      ValueError: more devices than there are.

    >>> import pgjax
    >>> pgjax.make_mesh(1).size
    1
    """
    devices = jax.devices()
    if num_devices is not None:
        check_int("num_devices", num_devices, 1)
    if num_devices is not None and num_devices > len(devices):
        hint = ""
        if devices[0].platform == "cpu":
            hint = (
                f"; jax.config.update('jax_num_cpu_devices', {num_devices}) "
                "before anything else uses JAX makes more of the CPU's cores"
            )
        raise ValueError(
            f"{num_devices} devices asked for, {len(devices)} ({devices[0].platform}) here{hint}"
        )
    return Mesh(np.asarray(devices[:num_devices]), (_AXIS,))


def use_cores(number: int | None = None) -> None:
    """Makes JAX devices of the CPU's cores, as many as asked for; None: one of each core.

    Of no effect once JAX has started, or where XLA_FLAGS says how many, or JAX_NUM_CPU_DEVICES
    and nothing is asked for.
    """
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    if number is None and jax_option("jax_num_cpu_devices") > 0:
        return
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", number or available or 1)


def check_mesh(mesh: Mesh | None, what: str, number: int) -> None:
    """Raises unless `mesh` is None or a mesh of one axis that divides `number` evenly."""
    if mesh is None:
        return
    if not isinstance(mesh, Mesh) or mesh.axis_names != (_AXIS,):
        raise TypeError(f"mesh must be from pgjax.make_mesh, got {mesh!r}")
    below = number // mesh.size * mesh.size
    if below != number:
        fitting = f"{below} or {below + mesh.size}" if below else str(mesh.size)
        raise ValueError(
            f"{what} must be a multiple of the {mesh.size} devices, got {number}; "
            f"{fitting} would do"
        )


def on_shares(function: Callable, mesh: Mesh | None, in_axes: tuple, out_axes: Any) -> Callable:
    """`function`, run on every device with its share of the arguments, side by side.

    Args:
      function: arrays to arrays; it sees one device's share, and no other device.
      mesh: None: one share, the whole.
      in_axes, out_axes: as those of `jax.vmap`: which axis is divided; None: the same everywhere.
    """
    if mesh is None:
        return function
    # Its check of what varies over devices does not know `custom_vmap`.
    return jax.shard_map(
        function, mesh=mesh, in_specs=_specs(in_axes), out_specs=_specs(out_axes), check_vma=False
    )


def replicated(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """The same arrays on every device of the mesh, in every process."""
    if mesh is None:
        return tree
    everywhere = NamedSharding(mesh, PartitionSpec())

    def one(leaf):
        if is_key(leaf):
            return _through_numbers(one, leaf)
        # In JAX's own precision first: processes compare what they put there.
        return jax.device_put(np.asarray(jnp.asarray(leaf)), everywhere)

    return jax.tree.map(one, tree)


def divided(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Arrays [n, …] in equal shares, one on each device of the mesh; also while tracing."""
    if mesh is None:
        return tree
    shares = NamedSharding(mesh, PartitionSpec(_AXIS))

    def one(leaf):
        if is_traced(leaf):
            return jax.lax.with_sharding_constraint(leaf, shares)
        if is_key(leaf):
            return _through_numbers(one, leaf)
        return jax.device_put(np.asarray(leaf), shares)

    return jax.tree.map(one, tree)


def local(tree: PyTree) -> PyTree:
    """Arrays, replicated or divided, as this process's own, on no particular device.

    Of several processes, all must call it.
    """

    def one(leaf):
        if is_key(leaf):
            return _through_numbers(one, leaf)
        if not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
        return jnp.asarray(np.asarray(leaf))

    return jax.tree.map(one, tree)


def fitting(num_trajectories: int) -> int:
    """How many devices to divide so many trajectories over: evenly, and no less than 16 on each,
    below which a CPU device is mostly overhead."""
    most = min(jax.device_count(), max(1, num_trajectories // _MIN_SHARE))
    return next(n for n in range(most, 0, -1) if num_trajectories % n == 0)


def _through_numbers(move: Callable[[Array], Array], key: Array) -> Array:
    """A key moved as its data is: `device_put` takes none to other processes' devices."""
    wrap = jax.jit(jax.random.wrap_key_data, static_argnames="impl")
    return wrap(move(jax.random.key_data(key)), impl=jax.random.key_impl(key))


def _specs(axes: Any) -> Any:
    def spec(axis):
        return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, _AXIS)

    return jax.tree.map(spec, axes, is_leaf=lambda axis: axis is None)
