"""The lecture's four objectives, from ∇π to the gradient of `ScoreFunction`. For study."""

import jax
import jax.numpy as jnp

from pgjax.core.components import component
from pgjax.core.types import Array
from pgjax.objectives.objective import Objective, Step


@component
class Probability(Objective):
    """π(a_0 | s_0): ascent on ∇π. For study.

    Wrong: it makes the first sampled action likelier, good or bad; the return has no influence.

    Source: a lecture's first step towards Williams (1992), REINFORCE.
    """

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        return jnp.where(step.time == 0, jnp.exp(step.log_prob), 0.0)


@component
class ProbabilityTimesReturn(Objective):
    """π(a_0 | s_0) · R(τ): ascent on ∇π · R(τ). For study.

    Wrong: good actions are pushed up, but in proportion to how often they are sampled, so a
    frequent mediocre action beats a rare good one; and only the first action learns.

    Source: a lecture's second step towards Williams (1992), REINFORCE.
    """

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        return jnp.where(step.time == 0, jnp.exp(step.log_prob) * step.weight, 0.0)


@component
class SummedProbabilityTimesReturn(Objective):
    """Σ_t π(a_t | s_t) · R(τ): every action of the trajectory. For study.

    Wrong: each action is still counted by how often it is sampled.

    Source: a lecture's third step towards Williams (1992), REINFORCE.
    """

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        return jnp.exp(step.log_prob) * step.weight


@component
class ProbabilityRatio(Objective):
    """Σ_t π(a_t | s_t) · R(τ) / π(a_t | s_t), the denominator held constant. For study.

    Right: dividing by π undoes the counting. Since ∇π / π = ∇log π, its gradient is that of
    `ScoreFunction`; the log trick is this division.

    Source: Williams (1992), REINFORCE; likelihood ratios: Glynn (1990), Likelihood ratio gradient
      estimation for stochastic systems.
    """

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        return jnp.exp(step.log_prob - jax.lax.stop_gradient(step.log_prob)) * step.weight
