"""Estimators: trajectories, and what a critic makes of them -> the weight w_t of each score.

∇U ≈ (1/m) Σ_i Σ_t ∇log π(a_t, s_t) · w_t
"""

import abc
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool, Float

from pgjax.core.components import Component
from pgjax.core.trees import exponent
from pgjax.core.types import Array, Trajectories


class Values(NamedTuple):
    """What a critic makes of trajectories, reward units.

    Attributes:
      state: float[T + 1, m]; V(s_t), of the row after the last one too. For a critic of actions,
        Σ_a π(a | s_t) Q(s_t, a) if they are discrete, Q at the mode of π(· | s_t) if not.
      action: of a critic of actions: float[T, m, A]; Q(s_t, a) of all discrete actions a, or
        float[T, m]; Q(s_t, a_t).
      probability: float[T, m, A]; π(a | s_t) of discrete actions, where `action` has them.
      log_prob: float[T, m], nats; log π_θ(a_t | s_t) at the parameters that are being improved, for
        an estimator that `follows_policy`.
    """

    state: Float[Array, "..."]
    action: Float[Array, "..."] | None = None
    probability: Float[Array, "..."] | None = None
    log_prob: Float[Array, "..."] | None = None


class Estimator(Component, abc.ABC):
    """Base of every estimator, the user's own among them.

    Attributes:
      critic: the values that `weights` needs: "states", V(s); "actions", Q(s, a); None: none.
      needs_whole_episodes: whether episodes must not be cut.
      min_trajectories: the least m.
      bootstraps: whether the values that a critic learns go on after a time limit.
      all_actions: whether the weights are of all discrete actions, [T, m, A], in place of the one
        that was taken.
      follows_policy: whether the weights depend on the parameters that are being improved, so that
        several passes over the same trajectories make them anew.
      has_ratio: whether the ratio π_θ / π_old of the action that was taken is a factor of them, so
        that an objective must not have it again.
      discount: γ, that of a critic's values too.
    """

    critic: Any = None  # Any, here and below: a subclass may make it a property
    needs_whole_episodes: ClassVar[bool] = False
    min_trajectories: Any = 1
    bootstraps: ClassVar[bool] = False
    all_actions: Any = False
    follows_policy: ClassVar[bool] = False
    has_ratio: ClassVar[bool] = False
    discount: Any = 1.0

    # Any arguments after the first, so that an estimator without a critic may leave `values` out.
    @abc.abstractmethod
    def weights(self, trajectories: Trajectories, *values: Any, **_: Any) -> Float[Array, "T m *A"]:
        """Each step's weight, float[T, m], 0 where not valid; `values` only with a critic."""


def standardized(
    weights: Float[Array, "*steps"], valid: Bool[Array, "*steps"], returns: Float[Array, "..."]
) -> Float[Array, "*steps"]:
    """Weights with mean 0 and standard deviation 1 over all valid steps. Biased.

        w ← (w − mean(w)) / std(w),    or 0 where std(w) ≤ 8 ε max |returns|

    Each weight is divided by a number that its own return is part of, and every step counts alike
    whatever its trajectory's length; the step size no longer depends on the scale of rewards.
    Differences within rounding (ε is the machine epsilon) of the returns are none, not signal. The
    weight of a single valid step, which is its own mean, stays as it is.
    """
    number, weights = jnp.sum(valid), jnp.where(valid, weights, 0.0)
    power = exponent(weights)
    scaled = jnp.ldexp(weights, -power)
    centre = jnp.sum(scaled) / jnp.maximum(number, 1)
    centred = jnp.where(valid, scaled - centre, 0.0)
    deviation = jnp.sqrt(jnp.sum(jnp.square(centred)) / jnp.maximum(number, 1))
    rounding = 8 * jnp.finfo(weights.dtype).eps * jnp.max(jnp.abs(returns))
    # Divided by 1 rather than by 0, whose quotient would be selected away but stop a NaN check.
    signal = ~(jnp.ldexp(deviation, power) <= rounding)
    found = jnp.where(signal, centred / jnp.where(signal, deviation, 1.0), 0.0)
    return jnp.where(number > 1, found, weights)
