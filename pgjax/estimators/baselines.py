"""Baselines b for the weights w − b of a score function: arrays in, arrays out.

A baseline of trajectory i at step t leaves E[∇log π(a_t | s_t) · b] = 0, and the gradient estimate
unbiased, if it depends on nothing that follows from a_t: E_a[∇log π(a | s)] = ∇ Σ_a π(a | s) = 0.

All functions take the values of all trajectories along the last axis, float[…, m], and a mask of
the same shape of those that count, and return a baseline for each, float[…, m].
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Bool, Float

from pgjax.core.types import Array


def none(
    values: Float[Array, "*steps m"], valid: Bool[Array, "*steps m"]
) -> Float[Array, "*steps m"]:
    """b = 0; unbiased."""
    return jnp.zeros_like(values)


def mean(
    values: Float[Array, "*steps m"], valid: Bool[Array, "*steps m"]
) -> Float[Array, "*steps m"]:
    """b_i = (1/n) Σ_{j valid} values_j, n the number valid. Biased.

    Its own value is inside, which shrinks the expected gradient by (n − 1)/n: for n = m at every
    step, (m − 1)/m exactly.
    """
    number = jnp.sum(valid, axis=-1, keepdims=True)
    total = jnp.sum(jnp.where(valid, values, 0.0), axis=-1, keepdims=True)
    return jnp.broadcast_to(total / jnp.maximum(number, 1), values.shape)


def leave_one_out(
    values: Float[Array, "*steps m"], valid: Bool[Array, "*steps m"]
) -> Float[Array, "*steps m"]:
    """b_i = mean of values_j over the other valid trajectories j ≠ i, and 0 if there are none.

    Unbiased: both the values and which of the others are valid follow from the other
    trajectories alone, and those are independent of τ_i.

    Source: Kool, van Hoof & Welling (2019), Buy 4 REINFORCE samples, get a baseline for free.
    """
    own = jnp.where(valid, values, 0.0)
    others = jnp.sum(own, axis=-1, keepdims=True) - own
    number = jnp.sum(valid, axis=-1, keepdims=True) - valid
    return others / jnp.maximum(number, 1)


BASELINES: dict[str, Callable[[Array, Array], Array]] = {
    "none": none,
    "mean": mean,
    "leave_one_out": leave_one_out,
}

# Of a single trajectory, the mean is its own return and leaves nothing; the others are none.
MIN_TRAJECTORIES = {"none": 1, "mean": 2, "leave_one_out": 2, "value": 1}
