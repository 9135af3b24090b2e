"""Statistics of many gradient estimates: an estimator's noise and direction."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Key

from pgjax.core.components import check_int
from pgjax.core.trees import dot, norm, unit
from pgjax.core.types import Array, GradientStatistics, PyTree, TrainState
from pgjax.training import updates
from pgjax.training.bound import Bound
from pgjax.training.config import Config, bind, check_key, checked
from pgjax.training.training import ESTIMATING, check_state

_BATCH_SIZE = 64
_BATCH_BYTES = 2**28


def gradient_statistics(
    key: Key[Array, ""],
    state: TrainState,
    config: Config,
    num_samples: int,
    reference: PyTree | None = None,
) -> GradientStatistics:
    """Mean, variance and direction of n independent `policy_gradient` estimates at one θ.

        ĝ = (1/n) Σ_k g_k,    variance = (1/(n − 1)) Σ_k (g_k − ĝ)²

    The standard error of each coordinate of ĝ is sqrt(variance / n).

    Args:
      key: one `jax.random.key`.
      state: its params are θ; `state.key` is not used.
      config: m, estimator and objective of one estimate.
      num_samples: n ≥ 2.
      reference: a gradient to compare directions with, like `state.params`, for instance
        `tabular.policy_gradient(state, config)`; None: ĝ itself, at the cost of a second pass.

    Returns:
      GradientStatistics.

    Raises:
      ValueError: n < 2, or a reference of another structure than the params.

    Source: Chan, Golub & LeVeque (1983), for merging the moments of batches.
    """
    check_key(key)
    check_int("num_samples", num_samples, 2)
    config = checked(config)
    check_state(state, config, ESTIMATING)
    if reference is not None:
        given, expected = jax.tree.structure(reference), jax.tree.structure(state.params)
        if given != expected:
            raise ValueError(f"reference must be like state.params, {expected}, got {given}")
    return _statistics(key, state, config, int(num_samples), reference)


class _Moments(NamedTuple):
    """Moments of some estimates.

    Attributes:
      number: how many estimates.
      mean: like the params.
      squares: like the params; sum of the squared deviations from `mean`.
      cosines: sum of the cosines with the reference.
    """

    number: Float[Array, ""]
    mean: PyTree
    squares: PyTree
    cosines: Float[Array, ""]


@functools.partial(jax.jit, static_argnums=3)
def _statistics(key, state, config, num_samples, reference) -> GradientStatistics:
    bound = bind(config, state.num_updates)
    if reference is None:
        # The same samples as below: their directions are compared with their own mean.
        same_key = jax.random.clone(key)
        reference = _moments(same_key, state, bound, num_samples, state.params).mean
    moments = _moments(key, state, bound, num_samples, reference)
    variance = jax.tree.map(lambda squares: squares / (num_samples - 1), moments.squares)
    total = jnp.asarray(sum(jnp.sum(leaf) for leaf in jax.tree.leaves(variance)))
    return GradientStatistics(
        mean=moments.mean,
        variance=variance,
        total_variance=total,
        signal_to_noise=norm(moments.mean) / jnp.sqrt(total),
        cosine=moments.cosines / num_samples,
        num_samples=jnp.int32(num_samples),
    )


def _moments(key, state, bound, num_samples, reference) -> _Moments:
    """Moments of n estimates, taken in batches by `vmap`, so that memory does not grow with n."""
    size = min(_batch_size(state, bound), num_samples)
    num_batches = math.ceil(num_samples / size)
    keys = jax.random.split(key, num_batches * size).reshape(num_batches, size)
    counted = (jnp.arange(num_batches * size) < num_samples).reshape(num_batches, size)

    def add(moments, batch):
        keys, counted = batch
        sampled = jax.vmap(lambda k: updates.estimate(k, state, bound)[0])(keys)
        return _merge(moments, _batch_moments(sampled, counted, reference)), None

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    start = _Moments(jnp.zeros(()), zeros, zeros, jnp.zeros(()))
    return jax.lax.scan(add, start, (keys, counted))[0]


def _batch_moments(sampled: PyTree, counted: Bool[Array, " n"], reference: PyTree) -> _Moments:
    number = jnp.sum(counted, dtype=float)

    def total(x):
        return jnp.tensordot(counted.astype(x.dtype), x, axes=1)

    mean = jax.tree.map(lambda x: total(x) / number, sampled)
    squares = jax.tree.map(lambda x, centre: total(jnp.square(x - centre[None])), sampled, mean)
    return _Moments(number, mean, squares, total(jax.vmap(cosine, (0, None))(sampled, reference)))


def _merge(a: _Moments, b: _Moments) -> _Moments:
    number = a.number + b.number

    def merged_mean(x, y):
        return x + (y - x) * (b.number / number)

    def merged_squares(p, q, x, y):
        return p + q + jnp.square(y - x) * (a.number * b.number / number)

    mean = jax.tree.map(merged_mean, a.mean, b.mean)
    squares = jax.tree.map(merged_squares, a.squares, b.squares, a.mean, b.mean)
    return _Moments(number, mean, squares, a.cosines + b.cosines)


def cosine(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """Cosine of the angle between two gradients, float[]; 0 if either is zero."""
    return dot(unit(a), unit(b))


def _batch_size(state: TrainState, bound: Bound) -> int:
    """Estimates side by side: 64, or as few as keep their trajectories within 256 MiB."""
    shapes, _ = jax.eval_shape(lambda key: updates.sample(key, state, bound), jax.random.key(0))
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    return max(1, min(_BATCH_SIZE, _BATCH_BYTES // size))
