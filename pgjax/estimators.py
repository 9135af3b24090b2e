"""Estimators: the weight that each score ∇log π(a_t | s_t) is multiplied with.

An estimator is a component with one method, `weights(trajectories) -> float[T, m]`.
"""

import jax
import jax.numpy as jnp

from pgjax.baselines import BASELINES, MIN_TRAJECTORIES
from pgjax.components import Component, component, option
from pgjax.returns import reward_to_go, total_return
from pgjax.types import Array, Trajectories


@component
class TotalReturn(Component):
    """R(τ) outside the sum: every action of a trajectory gets the return of all of it.

        ∇U ≈ (1/m) Σ_i (R(τ_i) − b_i) Σ_t ∇log π(a_t, s_t),    R(τ) = Σ_t γᵗ r_t

    Unbiased for the gradient of U = E[R(τ)], discounted or not, with baselines "none" and
    "leave_one_out" (b_i over the other trajectories' returns); "mean" shrinks its expectation by
    exactly (m − 1)/m.

    Attributes:
      discount: γ in [0, 1].
      baseline: "none", "mean" (biased) or "leave_one_out".
      standardize: biased; see `standardized`.

    Source: Williams (1992), REINFORCE.
    """

    discount: float = option(1.0, low=0.0, high=1.0)
    baseline: str = option("none", choices=tuple(BASELINES))
    standardize: bool = False

    @property
    def min_trajectories(self) -> int:
        """The least m that the baseline can do with."""
        return MIN_TRAJECTORIES[self.baseline]

    def weights(self, trajectories: Trajectories) -> Array:
        """float[T, m], reward units; 0 where not valid."""
        rewards, valid = trajectories.reward, trajectories.valid
        returns = jax.vmap(total_return, in_axes=(1, None))(rewards, self.discount)
        baseline = BASELINES[self.baseline](returns, jnp.ones_like(returns, bool))
        weights = jnp.where(valid, (returns - baseline)[None, :], 0.0)
        return standardized(weights, valid, returns) if self.standardize else weights


@component
class RewardToGo(Component):
    """Q(s_t, a_t) inside the sum, by one Monte Carlo sample: what the action can still change.

        ∇U ≈ (1/m) Σ_i Σ_t ∇log π(a_t, s_t) · (G_t − b_t),    G_t = Σ_{k ≥ t} γ^{k−t} r_k

    With γ = 1, unbiased for the gradient of U = E[Σ_t r_t] with baselines "none" and
    "leave_one_out". With γ < 1 the usual choice is made: the γᵗ that the discounted utility would
    put in front of each score is dropped, so the expectation is
    E[Σ_t ∇log π(a_t, s_t) Q_γ(s_t, a_t)] over undiscounted states: biased for either utility.

    A baseline is taken at each step t over the trajectories that are still running then: over the
    others for "leave_one_out", own one included for "mean", which is biased and shrinks the term of
    step t by (n − 1)/n, n the number still running.

    Attributes:
      discount: γ in [0, 1].
      baseline: "none", "mean" (biased) or "leave_one_out".
      standardize: biased; see `standardized`.

    Source: Sutton & Barto (2018), section 13.3; Peters & Schaal (2008), section 3.2.1.
    """

    discount: float = option(1.0, low=0.0, high=1.0)
    baseline: str = option("leave_one_out", choices=tuple(BASELINES))
    standardize: bool = False

    @property
    def min_trajectories(self) -> int:
        """The least m that the baseline can do with."""
        return MIN_TRAJECTORIES[self.baseline]

    def weights(self, trajectories: Trajectories) -> Array:
        """float[T, m], reward units; 0 where not valid."""
        rewards, valid = trajectories.reward, trajectories.valid
        discounts = jnp.full_like(rewards, self.discount)
        # Rewards after the end are 0, so what follows the last step adds nothing.
        nothing = jnp.zeros_like(rewards[0])
        returns = jax.vmap(reward_to_go, in_axes=(1, 1, 0), out_axes=1)(rewards, discounts, nothing)
        weights = jnp.where(valid, returns - BASELINES[self.baseline](returns, valid), 0.0)
        return standardized(weights, valid, returns) if self.standardize else weights


def standardized(weights: Array, valid: Array, returns: Array) -> Array:
    """Weights with mean 0 and standard deviation 1 over all valid steps. Biased.

        w ← (w − mean(w)) / std(w),    or 0 where std(w) ≤ 100 ε max |returns|

    Each weight is divided by a number that its own return is part of, and every step counts alike
    whatever its trajectory's length; the step size no longer depends on the scale of rewards.
    Differences within rounding (ε is the machine epsilon) of the returns are none, not signal.
    """
    number = jnp.maximum(jnp.sum(valid), 1)
    centre = jnp.sum(jnp.where(valid, weights, 0.0)) / number
    centred = jnp.where(valid, weights - centre, 0.0)
    deviation = jnp.sqrt(jnp.sum(jnp.square(centred)) / number)
    rounding = 100 * jnp.finfo(weights.dtype).eps * jnp.max(jnp.abs(returns))
    # Divided by 1 rather than by 0, whose quotient would be selected away but stop a NaN check.
    signal = deviation > rounding
    return jnp.where(signal, centred / jnp.where(signal, deviation, 1.0), 0.0)


Estimator = TotalReturn | RewardToGo
