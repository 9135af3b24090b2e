"""The objective of natural gradients and trust regions."""

import jax.numpy as jnp

from pgjax.core.components import component, option
from pgjax.core.types import Array
from pgjax.objectives.objective import Objective, Step


@component
class ImportanceRatio(Objective):
    """ρ_t w_t + c H[π(· | s_t)], ρ_t = π_θ(a_t | s_t) / π_old(a_t | s_t).

    Its gradient at θ_old is that of `ScoreFunction`. Away from θ_old, it estimates what the same
    steps would be worth under π_θ, over the states that π_old visits.

    Attributes:
      entropy_coefficient: c ≥ 0, as for `ScoreFunction`.

    Source: Kakade & Langford (2002), Approximately optimal approximate reinforcement learning;
      Schulman et al. (2015), Trust Region Policy Optimization, eq. 14.
    """

    entropy_coefficient: float = option(0.0, low=0.0)

    takes_ratio = False

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        ratio = jnp.exp(step.log_prob - step.old_log_prob)
        return ratio * step.weight + self.entropy_coefficient * step.entropy
