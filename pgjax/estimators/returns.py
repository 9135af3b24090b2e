"""Returns of one trajectory: arrays in, arrays out; batch with `vmap`."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from pgjax.core.loops import short_step_unroll
from pgjax.core.types import Array, Scalar


def total_return(rewards: Float[Array, " T"], discount: Scalar) -> Float[Array, ""]:
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


def reward_to_go(
    rewards: Float[Array, " T"],
    discounts: Float[Array, " T"],
    bootstrap_value: Float[Array, ""],
) -> Float[Array, " T"]:
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
    shapes_fit = (
        rewards.ndim == 1 and rewards.shape == discounts.shape and bootstrap_value.ndim == 0
    )
    _require(shapes_fit, "[T], [T] and []", rewards, discounts, bootstrap_value)

    def step(next_return, inputs):
        reward, discount = inputs
        current_return = reward + discount * next_return
        return current_return, current_return

    inputs, unroll = (rewards, discounts), short_step_unroll()
    return jax.lax.scan(step, bootstrap_value, inputs, reverse=True, unroll=unroll)[1]


def advantages(
    rewards: Float[Array, "T m"],
    values: Float[Array, "T+1 m"],
    terminated: Bool[Array, "T m"],
    truncated: Bool[Array, "T m"],
    discount: Scalar,
    gae_lambda: Scalar,
) -> Float[Array, "T m"]:
    """Advantages of m trajectories: discounted sums of the one-step errors δ of V.

        δ_t = r_t + γ (1 − terminated_t) V_{t+1} − V_t
        A_t = δ_t + γλ (1 − terminated_t)(1 − truncated_t) A_{t+1},    A_T = 0

    A_t + V_t is the λ-return of step t.

    Args:
      rewards: float[T, m], reward units.
      values: float[T + 1, m], reward units; V of each row and of the final observation.
      terminated, truncated: bool[T, m]; if both are true, terminated counts.
      discount, gae_lambda: γ and λ, float[] in [0, 1].

    Returns:
      float[T, m], reward units.

    >>> import jax.numpy as jnp
    >>> no, ended = jnp.zeros((2, 1), bool), jnp.array([[False], [True]])
    >>> rewards, values = jnp.ones((2, 1)), jnp.full((3, 1), 10.0)
    >>> print(advantages(rewards, values, ended, no, 1.0, 1.0).ravel())  # the end counts as 0
    [-8. -9.]
    >>> print(advantages(rewards, values, no, ended, 1.0, 1.0).ravel())  # a time limit does not
    [2. 1.]

    Source: Schulman et al. (2016), eqs. 10 and 16.
    """
    next_values = jnp.where(terminated, 0.0, values[1:])
    errors = rewards + discount * next_values - values[:-1]
    decays = jnp.where(terminated | truncated, 0.0, discount * gae_lambda).astype(errors.dtype)
    bootstrap = jnp.zeros_like(errors[0])
    return jax.vmap(reward_to_go, in_axes=(1, 1, 0), out_axes=1)(errors, decays, bootstrap)


def _require(condition: bool, expected: str, *arrays: ArrayLike) -> None:
    if not condition:
        shapes = ", ".join(str(list(jnp.shape(array))) for array in arrays)
        raise ValueError(f"expected shapes {expected}, got {shapes}")
