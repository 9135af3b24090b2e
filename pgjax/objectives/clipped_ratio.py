"""Proximal policy optimization's objective."""

import jax.numpy as jnp

from pgjax.core.components import component, option
from pgjax.core.types import Array
from pgjax.objectives.objective import Objective, Step


@component
class ClippedRatio(Objective):
    """min(ρ_t w_t, clip(ρ_t, 1 − ε, 1 + ε) w_t) + c H, ρ_t = π_θ(a_t | s_t) / π_old(a_t | s_t).

    PPO's objective, with `Passes` over the same trajectories: once θ has moved a step's ratio
    beyond 1 ± ε in the direction of its weight, the step has no gradient. At θ_old, where every
    ratio is 1, the gradient is that of `ScoreFunction`.

    Reports `clip_fraction`, the share of steps beyond 1 ± ε.

    Attributes:
      epsilon: ε > 0; ratios farther from 1 are clipped.
      entropy_coefficient: c ≥ 0, as for `ScoreFunction`.

    Source: Schulman et al. (2017), Proximal Policy Optimization, eq. 7.
    """

    epsilon: float = option(0.2, low=0.0)
    entropy_coefficient: float = option(0.0, low=0.0)

    takes_all_actions = False
    takes_ratio = False

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        ratio = jnp.exp(step.log_prob - step.old_log_prob)
        clipped = jnp.clip(ratio, 1.0 - self.epsilon, 1.0 + self.epsilon)
        gain = jnp.minimum(ratio * step.weight, clipped * step.weight)
        return gain + self.entropy_coefficient * step.entropy

    def report(self, step: Step) -> dict[str, Array]:
        """Elementwise; see the class."""
        ratio = jnp.exp(step.log_prob - step.old_log_prob)
        beyond = jnp.abs(ratio - 1.0) > self.epsilon
        return {"clip_fraction": beyond.astype(ratio.dtype)}
