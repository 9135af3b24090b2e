"""Advantage-weighted regression on the sampled actions."""

import jax.numpy as jnp

from pgjax.core.components import component, option
from pgjax.core.types import Array
from pgjax.objectives.objective import Objective, Step


@component
class AdvantageWeighted(Objective):
    """log π(a_t | s_t) · exp(w_t / β) / Z + c H[π(· | s_t)], Z the mean of exp(w / β).

    Maximum likelihood of the sampled actions, in which better actions count for more. Its maximum
    is the π that is closest, in KL, to π_old(a | s) exp(w / β) / Z(s), the best policy within some
    divergence of π_old. Every weight is positive, so that no action is pushed down directly, and
    several passes over the same trajectories converge.

    The mean is over all valid steps of the update, so that weights have mean 1 for any scale of w.
    Biased for U: as β → ∞, β times its gradient goes to that of `ScoreFunction` at
    w − mean(w), plus that of plain likelihood, Σ_t ∇log π(a_t | s_t), whose expectation at θ_old
    is 0; as β → 0 only the best step counts.

    Attributes:
      temperature: β ≥ 0, in units of w: standard deviations, for an estimator with `standardize`.
        0: the best steps share all of the weight.
      max_weight: the largest weight, ≥ 0; larger ones are clipped, and the mean falls below 1.
        None: no clipping.
      entropy_coefficient: c ≥ 0, as for `ScoreFunction`.

    Source: Peng et al. (2019), Advantage-weighted regression, eq. 8; Abdolmaleki et al. (2018),
      Maximum a posteriori policy optimisation; Peters et al. (2010), Relative entropy policy
      search.
    """

    temperature: float = option(1.0, low=0.0)
    max_weight: float | None = option(None, low=0.0)
    entropy_coefficient: float = option(0.0, low=0.0)

    takes_all_actions = False
    takes_ratio = False

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        return step.log_prob * step.weight + self.entropy_coefficient * step.entropy

    def weights(self, weights: Array, valid: Array) -> Array:
        """exp(w / β) / Z, [T, m]; 0 where not valid."""
        largest = jnp.max(weights, where=valid, initial=-jnp.inf)
        # Relative to the largest, (w − largest) / β is at most 0 and its exponential at most 1. The
        # largest itself gets 1, also for β = 0.
        below = valid & ~(weights >= largest)  # includes NaN, so that it is reported
        exponent = jnp.where(below, weights - largest, -1.0) / self.temperature
        powers = jnp.where(below, jnp.exp(exponent), valid.astype(weights.dtype))
        mean = jnp.sum(powers) / jnp.maximum(jnp.sum(valid), 1)
        scaled = powers / jnp.where(mean > 0.0, mean, 1.0)
        return scaled if self.max_weight is None else jnp.minimum(scaled, self.max_weight)
