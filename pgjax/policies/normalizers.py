"""Running statistics of observations, relative to which the network sees them."""

import jax
import jax.numpy as jnp
from flax import struct

from pgjax.core.types import Array, PyTree

# Observations are clipped to this many standard deviations around the mean.
_RANGE = 10.0
_MIN_VARIANCE = 1e-8


@struct.dataclass
class Statistics:
    """Mean and variance of all observations so far, each with the leaves of an encoded one.

    Attributes:
      mean: the mean of each number of the observation, in its units.
      variance: the variance of each number of the observation, in its units squared.
      number: float[]; the number of observations.
    """

    mean: PyTree
    variance: PyTree
    number: Array


def init(encoded: PyTree) -> Statistics:
    """Statistics of no observations: mean 0 and variance 1, which change nothing."""
    zeros = jax.tree.map(jnp.zeros_like, encoded)
    return Statistics(zeros, jax.tree.map(jnp.ones_like, encoded), jnp.zeros(()))


def normalized(statistics: Statistics, encoded: PyTree) -> PyTree:
    """(x − mean) / std, clipped to ±10."""

    def normalize(x, mean, variance):
        return jnp.clip((x - mean) * jax.lax.rsqrt(variance + _MIN_VARIANCE), -_RANGE, _RANGE)

    return jax.tree.map(normalize, encoded, statistics.mean, statistics.variance)


def add(statistics: Statistics, encoded: PyTree, valid: Array) -> Statistics:
    """The statistics with the valid ones among [T, m, …] observations added.

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
        has_data = statistics.number + new > 0
        return mean + shift * new / number, jnp.where(has_data, total / number, variance)

    moments = jax.tree.map(merged, encoded, statistics.mean, statistics.variance)
    structure = jax.tree.structure(encoded)
    mean, variance = jax.tree.transpose(structure, jax.tree.structure((0, 0)), moments)
    return Statistics(mean, variance, statistics.number + new)
