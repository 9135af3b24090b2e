"""Baselines b for the weights w − b of a score function: arrays in, arrays out.

A baseline b of trajectory i at step t adds no bias if b does not depend on a_t or what follows it:
then E[∇log π(a_t | s_t) · b] = 0, since E_a[∇log π(a | s)] = ∇ Σ_a π(a | s) = 0.

Each function takes the values of m trajectories, float[…, m], and the mask of those that count,
bool[…, m], and returns a baseline for each, float[…, m].
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

    The mean includes the trajectory's own value, which shrinks the expected gradient by (n − 1)/n:
    for n = m at every step, by exactly (m − 1)/m.
    """
    number = jnp.sum(valid, axis=-1, keepdims=True)
    total = jnp.sum(jnp.where(valid, values, 0.0), axis=-1, keepdims=True)
    return jnp.broadcast_to(total / jnp.maximum(number, 1), values.shape)


def leave_one_out(
    values: Float[Array, "*steps m"], valid: Bool[Array, "*steps m"]
) -> Float[Array, "*steps m"]:
    """b_i = mean of values_j over the other valid trajectories j ≠ i; 0 without such.

    Unbiased: it depends only on the other trajectories, which are independent of τ_i.

    Source: Kool, van Hoof & Welling (2019), Buy 4 REINFORCE samples, get a baseline for free.
    """
    values = jnp.where(valid, values, 0.0)
    sum_of_others = jnp.sum(values, axis=-1, keepdims=True) - values
    num_others = jnp.sum(valid, axis=-1, keepdims=True) - valid
    return sum_of_others / jnp.maximum(num_others, 1)


BASELINES: dict[str, Callable[[Array, Array], Array]] = {
    "none": none,
    "mean": mean,
    "leave_one_out": leave_one_out,
}

# With one trajectory the mean baseline cancels the return, and leave-one-out has no others to
# average.
MIN_TRAJECTORIES = {"none": 1, "mean": 2, "leave_one_out": 2, "value": 1}
