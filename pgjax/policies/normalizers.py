"""Running statistics of observations: what the network sees is relative to them."""

import jax
import jax.numpy as jnp
from flax import struct

from pgjax.core.types import Array, PyTree

# Observations further than this many standard deviations from the mean are cut there.
_RANGE = 10.0
_LEAST_VARIANCE = 1e-8


@struct.dataclass
class Statistics:
    """Moments of all observations so far, each leaf like an encoded one.

    Attributes:
      mean, variance: of each number of the observation, its units and their square.
      number: float[]; observations seen.
    """

    mean: PyTree
    variance: PyTree
    number: Array


def init(encoded: PyTree) -> Statistics:
    """Statistics before any observation: mean 0 and variance 1, which change nothing."""
    zeros = jax.tree.map(jnp.zeros_like, encoded)
    return Statistics(zeros, jax.tree.map(jnp.ones_like, encoded), jnp.zeros(()))


def normalized(statistics: Statistics, encoded: PyTree) -> PyTree:
    """(x − mean) / std, cut to ±10."""

    def one(x, mean, variance):
        return jnp.clip((x - mean) * jax.lax.rsqrt(variance + _LEAST_VARIANCE), -_RANGE, _RANGE)

    return jax.tree.map(one, encoded, statistics.mean, statistics.variance)


def add(statistics: Statistics, encoded: PyTree, valid: Array) -> Statistics:
    """The statistics after the valid ones among [T, m, …] observations.

    Source: Chan, Golub & LeVeque (1983), merging the moments of two samples.
    """
    new = jnp.sum(valid, dtype=statistics.number.dtype)
    number = jnp.maximum(statistics.number + new, 1.0)

    def merged(x, mean, variance):
        mask = valid.reshape(valid.shape + (1,) * (x.ndim - 2))
        # Around the old mean, so that a small variance is not lost in a large mean's square.
        centred = jnp.where(mask, x - mean[None, None], 0.0)
        shift = jnp.sum(centred, axis=(0, 1)) / jnp.maximum(new, 1.0)
        squares = jnp.sum(
            jnp.square(jnp.where(mask, centred - shift[None, None], 0.0)), axis=(0, 1)
        )
        between = jnp.square(shift) * statistics.number * new / number
        total = variance * statistics.number + squares + between
        seen = statistics.number + new > 0
        return mean + shift * new / number, jnp.where(seen, total / number, variance)

    leaves, structure = jax.tree.flatten(encoded)
    means, variances = (jax.tree.leaves(t) for t in (statistics.mean, statistics.variance))
    found = [merged(*each) for each in zip(leaves, means, variances, strict=True)]
    mean, variance = (jax.tree.unflatten(structure, part) for part in zip(*found, strict=True))
    return Statistics(mean, variance, statistics.number + new)
