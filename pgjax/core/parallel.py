"""Work divided over devices: a mesh with one axis, and functions of each device's share.

All other code is written for undivided arrays; XLA adds the collective operations.
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
from pgjax.core.names import shown
from pgjax.core.types import Array, PyTree

_AXIS = "devices"
_MIN_SHARE = 16


def make_mesh(num_devices: int | None = None) -> Mesh:
    """A mesh of the first `num_devices` devices of all processes; None: of all devices.

    On a CPU, `jax.config.update("jax_num_cpu_devices", n)` before anything else uses JAX makes n
    devices of its cores.

    Raises:
      ValueError: `num_devices` is more than exist.

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
    """Makes `number` JAX devices of the CPU's cores; None: one of each core.

    Has no effect once JAX has started, or if XLA_FLAGS sets the number; without a `number`, nor if
    JAX_NUM_CPU_DEVICES does.
    """
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    if number is None and jax_option("jax_num_cpu_devices") > 0:
        return
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", number or available or 1)


def check_mesh(mesh: Mesh | None, path: str, number: int) -> None:
    """Raises unless `mesh` is None or from `make_mesh` and divides the setting at `path` evenly."""
    if mesh is None:
        return
    if not isinstance(mesh, Mesh) or mesh.axis_names != (_AXIS,):
        raise TypeError(f"mesh must be from pgjax.make_mesh, got {shown(mesh)}")
    below = number // mesh.size * mesh.size
    if below != number:
        fitting = f"{below} or {below + mesh.size}" if below else str(mesh.size)
        raise ValueError(
            f"{path} must be a multiple of the {mesh.size} devices, got {number}; "
            f"{fitting} would do"
        )


def on_shares(function: Callable, mesh: Mesh | None, in_axes: tuple, out_axes: Any) -> Callable:
    """Runs a function on all devices in parallel, each with its share of the arguments.

    Args:
      function: arrays to arrays; it sees one device's share, and no other device.
      mesh: None: one device, whose share is everything.
      in_axes, out_axes: like those of `jax.vmap`: the axis that is divided; None: the same array
        on every device.
    """
    if mesh is None:
        return function
    specs = {"in_specs": _specs(in_axes), "out_specs": _specs(out_axes)}

    def on_all(*args: Any) -> Any:
        empty: list[Any] = []  # where the result has arrays without elements

        def on_one(*filled):
            result = function(*_emptied(filled, _empty_axes(args)))
            empty.append(_empty_axes(result))
            return _filled(result)

        # `check_vma` does not know `custom_vmap`.
        mapped = jax.shard_map(on_one, mesh=mesh, **specs, check_vma=False)
        return _emptied(mapped(*_filled(args)), empty[-1])

    return on_all


def replicated(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Copies arrays to every device of the mesh, in every process."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())

    def replicate(leaf):
        if is_key(leaf):
            return _through_key_data(replicate, leaf)
        # In JAX's precision first: `device_put` compares the numbers of all processes.
        return jax.device_put(np.asarray(jnp.asarray(leaf)), sharding)

    return jax.tree.map(replicate, tree)


def divided(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Divides arrays [n, …] evenly over the devices of the mesh; also while tracing.

    Arrays without elements are whole on each device: XLA ends the process over divided ones.
    """
    if mesh is None:
        return tree

    def divide(leaf):
        sharding = NamedSharding(mesh, PartitionSpec(_AXIS) if leaf.size else PartitionSpec())
        if is_traced(leaf):
            return jax.lax.with_sharding_constraint(leaf, sharding)
        if is_key(leaf):
            return _through_key_data(divide, leaf)
        return jax.device_put(np.asarray(leaf), sharding)

    return jax.tree.map(divide, tree)


def local(tree: PyTree) -> PyTree:
    """Copies replicated or divided arrays to this process's default device, undivided.

    All processes must call it.
    """

    def gather(leaf):
        if is_key(leaf):
            return _through_key_data(gather, leaf)
        if not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
        return jnp.asarray(np.asarray(leaf))

    return jax.tree.map(gather, tree)


def fitting(num_trajectories: int) -> int:
    """The number of devices to divide trajectories over: evenly, and at least 16 on each device,
    since a CPU device with fewer is mostly overhead."""
    high = min(jax.device_count(), max(1, num_trajectories // _MIN_SHARE))
    return next(n for n in range(high, 0, -1) if num_trajectories % n == 0)


def _through_key_data(move: Callable[[Array], Array], key: Array) -> Array:
    """Moves a key by its data: `device_put` moves no keys to other processes' devices."""
    wrap = jax.jit(jax.random.wrap_key_data, static_argnames="impl")
    return wrap(move(jax.random.key_data(key)), impl=jax.random.key_impl(key))


# XLA ends the process over arrays without elements that are divided: those that pass between the
# devices have one element along each empty axis.


def _empty_axes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: tuple(n == 0 for n in np.shape(leaf)), tree)


def _filled(tree: PyTree) -> PyTree:
    def fill(leaf):
        shape = np.shape(leaf)
        return leaf if all(shape) else jnp.zeros([max(n, 1) for n in shape], leaf.dtype)

    return jax.tree.map(fill, tree)


def _emptied(tree: PyTree, empty_axes: PyTree) -> PyTree:
    def empty(leaf, axes):
        if not any(axes):
            return leaf
        shape = [0 if is_empty else n for n, is_empty in zip(leaf.shape, axes, strict=True)]
        return jnp.zeros(shape, leaf.dtype)

    return jax.tree.map(empty, tree, empty_axes)


def _specs(axes: Any) -> Any:
    def spec(axis):
        return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, _AXIS)

    return jax.tree.map(spec, axes, is_leaf=lambda axis: axis is None)
