"""Objectives: what `jax.grad` differentiates, to be maximised; arrays in, arrays out.

An objective is a component with one method, the `contribution` of one step,

    objective(θ) = (1/m) Σ_i Σ_t contribution(log π_θ(a_t | s_t), H[π_θ(· | s_t)], w_t, t),

where the weights w do not depend on θ. `ScoreFunction` is the one to train with. The four below it
are the ladder of the lecture that leads there, from the first idea to the same gradient.
"""

import jax
import jax.numpy as jnp

from pgjax.components import Component, component, option
from pgjax.types import Array


@component
class ScoreFunction(Component):
    """log π(a_t | s_t) · w_t + c H[π(· | s_t)]; its gradient is the policy gradient at w.

    Attributes:
      entropy_coefficient: c ≥ 0, objective units per nat. Not zero, it adds c Σ_t H[π(· | s_t)] for
        the states that were visited: biased for U.

    Source: Williams (1992), REINFORCE; entropy: Mnih et al. (2016), A3C.
    """

    entropy_coefficient: float = option(0.0, low=0.0)

    def contribution(self, log_prob: Array, entropy: Array, weight: Array, time: Array) -> Array:
        """Elementwise; float arrays of one shape, `time` integers from 0."""
        return log_prob * weight + self.entropy_coefficient * entropy


@component
class Probability(Component):
    """π(a_0 | s_0): ascent on ∇π. For study.

    Wrong: it makes likelier whatever was sampled first, good or bad; the return does not occur.
    """

    def contribution(self, log_prob: Array, entropy: Array, weight: Array, time: Array) -> Array:
        """Elementwise; see `ScoreFunction`."""
        return jnp.where(time == 0, jnp.exp(log_prob), 0.0)


@component
class ProbabilityTimesReturn(Component):
    """π(a_0 | s_0) · R(τ): ascent on ∇π · R(τ). For study.

    Wrong: good actions are pushed up, but in proportion to how often they are sampled, so a
    frequent mediocre action beats a rare good one; and only the first action learns.
    """

    def contribution(self, log_prob: Array, entropy: Array, weight: Array, time: Array) -> Array:
        """Elementwise; see `ScoreFunction`."""
        return jnp.where(time == 0, jnp.exp(log_prob) * weight, 0.0)


@component
class SummedProbabilityTimesReturn(Component):
    """Σ_t π(a_t | s_t) · R(τ): every action of the trajectory. For study.

    Wrong: each action is still counted by how often it is sampled.
    """

    def contribution(self, log_prob: Array, entropy: Array, weight: Array, time: Array) -> Array:
        """Elementwise; see `ScoreFunction`."""
        return jnp.exp(log_prob) * weight


@component
class ProbabilityRatio(Component):
    """Σ_t π(a_t | s_t) · R(τ) / π(a_t | s_t), the denominator held constant. For study.

    Right: dividing by π undoes the counting. Since ∇π / π = ∇log π, its gradient is that of
    `ScoreFunction`; the log trick is this division.
    """

    def contribution(self, log_prob: Array, entropy: Array, weight: Array, time: Array) -> Array:
        """Elementwise; see `ScoreFunction`."""
        return jnp.exp(log_prob - jax.lax.stop_gradient(log_prob)) * weight


Objective = (
    ScoreFunction
    | Probability
    | ProbabilityTimesReturn
    | SummedProbabilityTimesReturn
    | ProbabilityRatio
)
