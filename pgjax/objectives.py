"""Objectives: what `jax.grad` differentiates, to be maximised; arrays in, arrays out.

An objective is a component with one method, the `contribution` of one step,

    objective(θ) = (1/m) Σ_i Σ_t contribution(step),

a function of log π_θ(a_t | s_t), H[π_θ(· | s_t)] and a weight w_t that does not depend on θ.
`ScoreFunction` is the one to begin with. The last four are the ladder of the lecture that leads to
it, from the first idea to the same gradient. How parameters follow from an objective's gradient is
in `improvement.py`: by one step, unless the class says otherwise.
"""

import jax
import jax.numpy as jnp

from pgjax.components import Component, component, option, record
from pgjax.types import Array


@record
class Step:
    """One step of a trajectory, or arrays of steps, all of one shape.

    Attributes:
      log_prob: log π_θ(a_t | s_t), nats.
      old_log_prob: the same of the policy that sampled it; does not depend on θ.
      entropy: H[π_θ(· | s_t)], nats.
      weight: w_t, what the estimator made of the trajectory.
      time: the row, an integer from 0; of a whole episode, t.
    """

    log_prob: Array
    old_log_prob: Array
    entropy: Array
    weight: Array
    time: Array


@component
class ScoreFunction(Component):
    """log π(a_t | s_t) · w_t + c H[π(· | s_t)]; its gradient is the policy gradient at w.

    Attributes:
      entropy_coefficient: c ≥ 0, objective units per nat. Not zero, it adds c Σ_t H[π(· | s_t)] for
        the states that were visited: biased for U.

    Source: Williams (1992), REINFORCE; entropy: Mnih et al. (2016), A3C.
    """

    entropy_coefficient: float = option(0.0, low=0.0)

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        return step.log_prob * step.weight + self.entropy_coefficient * step.entropy


@component
class ClippedRatio(Component):
    """min(ρ_t w_t, clip(ρ_t, 1 − ε, 1 + ε) w_t) + c H, ρ_t = π_θ(a_t | s_t) / π_old(a_t | s_t).

    PPO: several passes over the same trajectories, in minibatches; where θ has moved the ratio of a
    step beyond 1 ± ε in the direction that its weight asks for, the step says no more. At θ_old,
    where every ratio is 1, its gradient is that of `ScoreFunction`.

    Reports `kl`, the mean of ρ − 1 − log ρ, an estimate of KL(π_old ‖ π_θ) in nats, and
    `clip_fraction`, the share of steps beyond 1 ± ε: means over the passes made, before each step.

    Attributes:
      epsilon: ε > 0; ratios farther from 1 are clipped.
      entropy_coefficient: c ≥ 0, as for `ScoreFunction`.
      epochs: passes over the trajectories, ≥ 1.
      minibatches: gradient steps in each pass, ≥ 1; every one takes its share of all trajectories.
      max_kl: the first minibatch whose `kl` exceeds it ends the update, before its step; None:
        none does.

    Source: Schulman et al. (2017), Proximal Policy Optimization, eq. 7; the estimate of the
      divergence: Schulman (2020), Approximating KL divergence.
    """

    epsilon: float = option(0.2, low=0.0)
    entropy_coefficient: float = option(0.0, low=0.0)
    epochs: int = option(4, low=1)
    minibatches: int = option(4, low=1)
    max_kl: float | None = option(None, low=0.0)

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        ratio = jnp.exp(step.log_prob - step.old_log_prob)
        clipped = jnp.clip(ratio, 1.0 - self.epsilon, 1.0 + self.epsilon)
        least = jnp.minimum(ratio * step.weight, clipped * step.weight)
        return least + self.entropy_coefficient * step.entropy

    def report(self, step: Step) -> dict[str, Array]:
        """Elementwise; see the class."""
        log_ratio = step.log_prob - step.old_log_prob
        ratio = jnp.exp(log_ratio)
        beyond = jnp.abs(ratio - 1.0) > self.epsilon
        return {"kl": ratio - 1.0 - log_ratio, "clip_fraction": beyond.astype(ratio.dtype)}


@component
class NaturalGradient(Component):
    """ρ_t w_t, climbed along F⁻¹∇U and no further than a trust region: TRPO.

        x = (F + λI)⁻¹ ∇U,    F = E_s[∇² KL(π_old(· | s) ‖ π_θ(· | s))],
        θ ← θ + β s,          s the optimizer's step for sqrt(2δ / xᵀFx) · x,

    β the largest of 1, κ, κ², … with KL(π_old ‖ π_θ) ≤ δ and a better Σ_t ρ_t w_t; 0 if none is.
    x is found by conjugate gradients; F is never made, its products with vectors are derivatives
    along them. Expectations are means over valid steps. With `SGD(1.0)` this is TRPO; with
    `max_kl=None`, s is the optimizer's step for x itself and β = 1: the natural gradient.

    Reports `kl`, that of the step taken, in nats, and `step_size`, β.

    Attributes:
      max_kl: δ > 0, nats; or None.
      damping: λ ≥ 0, added to the diagonal of F.
      iterations: of conjugate gradients, ≥ 1.
      backtracks: most factors κ that are tried, ≥ 1.
      backtrack_factor: κ in [0, 1].

    Source: Kakade (2001), A natural policy gradient; Schulman et al. (2015), Trust Region Policy
      Optimization, appendix C.
    """

    max_kl: float | None = option(0.01, low=0.0)
    damping: float = option(0.01, low=0.0)
    iterations: int = option(10, low=1)
    backtracks: int = option(10, low=1)
    backtrack_factor: float = option(0.7, low=0.0, high=1.0)

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        return jnp.exp(step.log_prob - step.old_log_prob) * step.weight


@component
class Probability(Component):
    """π(a_0 | s_0): ascent on ∇π. For study.

    Wrong: it makes likelier whatever was sampled first, good or bad; the return does not occur.

    Source: a lecture's first step towards Williams (1992), REINFORCE.
    """

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        return jnp.where(step.time == 0, jnp.exp(step.log_prob), 0.0)


@component
class ProbabilityTimesReturn(Component):
    """π(a_0 | s_0) · R(τ): ascent on ∇π · R(τ). For study.

    Wrong: good actions are pushed up, but in proportion to how often they are sampled, so a
    frequent mediocre action beats a rare good one; and only the first action learns.

    Source: a lecture's second step towards Williams (1992), REINFORCE.
    """

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        return jnp.where(step.time == 0, jnp.exp(step.log_prob) * step.weight, 0.0)


@component
class SummedProbabilityTimesReturn(Component):
    """Σ_t π(a_t | s_t) · R(τ): every action of the trajectory. For study.

    Wrong: each action is still counted by how often it is sampled.

    Source: a lecture's third step towards Williams (1992), REINFORCE.
    """

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        return jnp.exp(step.log_prob) * step.weight


@component
class ProbabilityRatio(Component):
    """Σ_t π(a_t | s_t) · R(τ) / π(a_t | s_t), the denominator held constant. For study.

    Right: dividing by π undoes the counting. Since ∇π / π = ∇log π, its gradient is that of
    `ScoreFunction`; the log trick is this division.

    Source: Williams (1992), REINFORCE; likelihood ratios: Glynn (1990), Likelihood ratio gradient
      estimation for stochastic systems.
    """

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        return jnp.exp(step.log_prob - jax.lax.stop_gradient(step.log_prob)) * step.weight


Objective = (
    ScoreFunction
    | ClippedRatio
    | NaturalGradient
    | Probability
    | ProbabilityTimesReturn
    | SummedProbabilityTimesReturn
    | ProbabilityRatio
)
