"""Proximal policy optimization by a penalty on the divergence."""

import jax.numpy as jnp

from pgjax.core.components import component, option
from pgjax.core.types import Array, PyTree
from pgjax.objectives.objective import Objective, Step

# The penalty changes after a divergence above this many times the target, or below the target
# divided by it.
_TOLERANCE = 1.5
# The largest factor on `coefficient`, so that it returns to 1 within tens of updates.
_MAX_FACTOR = 2.0**20


@component
class KLPenalty(Objective):
    """ρ_t w_t − β (ρ_t − 1 − log ρ_t) + c H, ρ_t = π_θ(a_t | s_t) / π_old(a_t | s_t).

    PPO's other variant, with `Passes` over the same trajectories: the bracket, whose mean over
    actions of π_old is KL(π_old ‖ π_θ), pulls θ back. At θ_old, where every ratio is 1, the
    gradient is that of `ScoreFunction`; so with `GradientStep` it is the same as `ScoreFunction`.

    With a target d, β is `coefficient` times a factor that starts at 1 and is kept between updates:
    doubled after an update whose divergence is above 1.5 d, halved after one below d / 1.5; between
    2⁻²⁰ and 2²⁰. The divergence is the ascent's `kl`, or `kl_penalty` if the ascent reports none.

    Reports `kl_penalty`, the mean of ρ − 1 − log ρ, in nats, measured before each step and averaged
    over the steps made: with `Passes`, the same as its `kl`; and `kl_coefficient`, the update's β.

    Attributes:
      coefficient: β ≥ 0, weights' units per nat; with a target, only the first update's.
      target: d ≥ 0, nats; None: β is `coefficient` in every update.
      entropy_coefficient: c ≥ 0, as for `ScoreFunction`.

    Source: Schulman et al. (2017), Proximal Policy Optimization, section 4; the estimate of the
      divergence: Schulman (2020), Approximating KL divergence.
    """

    coefficient: float = option(1.0, low=0.0)
    target: float | None = option(0.01, low=0.0)
    entropy_coefficient: float = option(0.0, low=0.0)

    takes_all_actions = False
    takes_ratio = False

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        ratio = jnp.exp(step.log_prob - step.old_log_prob)
        gain = ratio * step.weight - self.coefficient * _divergence(step)
        return gain + self.entropy_coefficient * step.entropy

    def report(self, step: Step) -> dict[str, Array]:
        """Elementwise; see the class."""
        beta = jnp.broadcast_to(self.coefficient, step.log_prob.shape)
        return {"kl_penalty": _divergence(step), "kl_coefficient": beta}

    def start(self) -> PyTree:
        """The factor, float[]."""
        return () if self.target is None else jnp.ones(())

    def with_state(self, state: PyTree) -> Objective:
        """This objective with the update's β."""
        if self.target is None:
            return self
        return self.replace(coefficient=self.coefficient * state)

    def next_state(self, state: PyTree, report: dict[str, Array]) -> PyTree:
        """The factor of the next update, float[], given the divergence in nats."""
        if self.target is None:
            return state
        divergence = report["kl" if "kl" in report else "kl_penalty"]
        far = divergence > _TOLERANCE * self.target
        near = divergence < self.target / _TOLERANCE
        factor = jnp.where(far, 2.0 * state, jnp.where(near, 0.5 * state, state))
        return jnp.clip(factor, 1.0 / _MAX_FACTOR, _MAX_FACTOR)


def _divergence(step: Step) -> Array:
    log_ratio = step.log_prob - step.old_log_prob
    return jnp.exp(log_ratio) - 1.0 - log_ratio
