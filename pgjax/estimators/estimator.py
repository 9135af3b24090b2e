"""The contract of estimators: trajectories and a critic's values -> the weight w_t of each score.

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
    """A critic's values of the steps of trajectories, reward units.

    Attributes:
      state: float[T + 1, m]; V(s_t) of each row and of the final observation. From a critic of
        actions, Σ_a π(a | s_t) Q(s_t, a) if actions are discrete, else Q at the mode of π(· | s_t).
      action: only from a critic of actions: float[T, m, A], Q(s_t, a) of all discrete actions a; or
        float[T, m], Q(s_t, a_t).
      probability: float[T, m, A]; π(a | s_t), if `action` has all discrete actions.
      log_prob: float[T, m], nats; log π_θ(a_t | s_t) at the current parameters, for an estimator
        that `follows_policy`.
    """

    state: Float[Array, "..."]
    action: Float[Array, "..."] | None = None
    probability: Float[Array, "..."] | None = None
    log_prob: Float[Array, "..."] | None = None


class Estimator(Component, abc.ABC):
    """Base of every estimator, the user's own included.

    Attributes:
      critic: the values that `weights` needs: "states", V(s); "actions", Q(s, a); None: none.
      needs_whole_episodes: whether episodes must not be cut.
      min_trajectories: the smallest m.
      bootstraps: whether the critic's values include rewards after a time limit.
      all_actions: whether there is a weight for each discrete action, [T, m, A], in place of one
        for the sampled action.
      follows_policy: whether the weights depend on the current parameters, so that each pass over
        the same trajectories computes them again.
      has_ratio: whether the ratio π_θ / π_old of the sampled action is a factor of the weights, so
        that the objective must not have it too.
      discount: γ, also for the critic's values.
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

    Biased, since a weight's own return is part of the mean and the deviation, and since both are
    taken over steps, so that longer trajectories count for more. The step size no longer depends
    on the scale of rewards. Differences within the returns' rounding (ε is the machine epsilon)
    give 0. The weight of a single valid step, which is its own mean, is not changed.
    """
    number, weights = jnp.sum(valid), jnp.where(valid, weights, 0.0)
    power = exponent(weights)
    scaled = jnp.ldexp(weights, -power)
    centre = jnp.sum(scaled) / jnp.maximum(number, 1)
    centred = jnp.where(valid, scaled - centre, 0.0)
    deviation = jnp.sqrt(jnp.sum(jnp.square(centred)) / jnp.maximum(number, 1))
    rounding = 8 * jnp.finfo(weights.dtype).eps * jnp.max(jnp.abs(returns))
    # Divided by 1 rather than by 0: that quotient is not selected, but would fail a check for NaN.
    differs = ~(jnp.ldexp(deviation, power) <= rounding)
    result = jnp.where(differs, centred / jnp.where(differs, deviation, 1.0), 0.0)
    return jnp.where(number > 1, result, weights)
