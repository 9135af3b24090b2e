"""Returns of one trajectory: arrays in, arrays out; batch with `vmap`."""

import jax
import jax.numpy as jnp

from pgjax.types import Array


def total_return(rewards: Array, discount: Array) -> Array:
    """Return of one whole trajectory.

        R(τ) = Σ_t γᵗ r_t

    Args:
      rewards: float[T], reward units; r_t follows a_t; 0 after the episode's end.
      discount: γ, float[] in [0, 1].

    Returns:
      float[], reward units.

    Raises:
      ValueError: rewards not [T], or discount not a scalar (while tracing, so also under jit).

    >>> import jax.numpy as jnp
    >>> print(total_return(jnp.array([1.0, 2.0, 4.0]), jnp.array(0.5)))
    3.0

    Source: Sutton & Barto (2018), eq. 3.8.
    """
    _require(rewards.ndim == 1 and jnp.ndim(discount) == 0, "[T] and []", rewards, discount)
    return reward_to_go(rewards, jnp.full_like(rewards, discount), jnp.zeros_like(rewards[0]))[0]


def reward_to_go(rewards: Array, discounts: Array, bootstrap_value: Array) -> Array:
    """Discounted return from each step to the end of one trajectory.

        G_t = r_t + d_t · G_{t+1},    G_T = bootstrap_value

    An unbiased sample of Q(s_t, a_t) where the episode ended by the last step.

    Args:
      rewards: float[T], reward units; r_t follows a_t.
      discounts: float[T] in [0, 1]; γ, or 0 where the episode ended at t.
      bootstrap_value: float[], reward units; ignored where some later discount is 0.

    Returns:
      float[T], reward units.

    Raises:
      ValueError: shapes differ (while tracing, so also under jit).

    >>> import jax.numpy as jnp
    >>> rewards, discounts = jnp.array([1.0, 2.0, 4.0]), jnp.array([0.5, 0.5, 0.0])
    >>> print(reward_to_go(rewards, discounts, jnp.array(9.0)))
    [3. 4. 4.]

    Source: Sutton & Barto (2018), eq. 3.9.
    """
    same = rewards.ndim == 1 and rewards.shape == discounts.shape and bootstrap_value.ndim == 0
    _require(same, "[T], [T] and []", rewards, discounts, bootstrap_value)

    def step(later, now):
        reward, discount = now
        here = reward + discount * later
        return here, here

    # Unrolled because eight steps of a few additions cost a CPU little more than one.
    _, returns = jax.lax.scan(step, bootstrap_value, (rewards, discounts), reverse=True, unroll=8)
    return returns


def _require(condition: bool, expected: str, *arrays: Array) -> None:
    if not condition:
        shapes = ", ".join(str(list(jnp.shape(array))) for array in arrays)
        raise ValueError(f"expected shapes {expected}, got {shapes}")
