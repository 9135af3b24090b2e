"""The limits of the devices: the speed of a large matrix product, and of a large copy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pgjax.core.parallel import replicated
from pgjax.runs import blocks

_REPEATS = 5
# Large enough to fill the device, and a second or less of work.
_CPU_SIZES = 2048, 2**25
_ACCELERATOR_SIZES = 8192, 2**27


class Limits(NamedTuple):
    """What the devices of a mesh reach together, measured.

    Attributes:
      operations: floating-point operations per second of a product of two square float32 matrices,
        a multiplication and an addition each.
      copied_bytes: bytes per second, read and written, of `x + 1` on an array beyond the caches.
    """

    operations: float
    copied_bytes: float


def limits_of(mesh: Mesh | None, sizes: tuple[int, int] | None = None) -> Limits:
    """Measures the limits of a mesh; None: of one device.

    Args:
      sizes: rows of the square matrices, and numbers in the array, each a multiple of the devices;
        None: what fills these devices.
    """
    on_cpu = jax.default_backend() == "cpu"
    rows, length = sizes or (_CPU_SIZES if on_cpu else _ACCELERATOR_SIZES)
    left, long = (_divided(jnp.ones(shape), mesh) for shape in ((rows, rows), (length,)))
    right = replicated(jnp.ones((rows, rows)), mesh)
    product = seconds_of(jax.jit(jnp.matmul), left, right)
    copy = seconds_of(jax.jit(lambda x: x + 1.0), long)
    return Limits(2 * rows**3 / product, 2 * long.nbytes / copy)


def seconds_of(function: jax.stages.Wrapped, *arguments: object) -> float:
    """The median seconds of five calls of a jitted function, compiled and called once before."""
    program = function.lower(*arguments).compile()
    times = [blocks.timed(program, *arguments)[1] for _ in range(1 + _REPEATS)]
    return sorted(times[1:])[_REPEATS // 2]


def _divided(x: jax.Array, mesh: Mesh | None) -> jax.Array:
    """The array, its rows divided over the devices."""
    if mesh is None:
        return x
    return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*mesh.axis_names)))
