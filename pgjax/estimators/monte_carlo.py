"""Monte Carlo estimators: weights from sampled returns of whole episodes."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from pgjax.core.components import component, option
from pgjax.core.types import Array, Trajectories
from pgjax.estimators.baselines import BASELINES, MIN_TRAJECTORIES
from pgjax.estimators.estimator import Estimator, Values, standardized
from pgjax.estimators.returns import reward_to_go, total_return


class MonteCarlo(Estimator):
    """Base of the estimators that need whole episodes: U = E[R(τ)] up to the time limit."""

    needs_whole_episodes = True
    baseline: str

    @property
    def min_trajectories(self) -> int:
        """The smallest m that the baseline allows."""
        return MIN_TRAJECTORIES[self.baseline]

    @property
    def critic(self) -> str | None:
        """The values that the baseline needs."""
        return "states" if self.baseline == "value" else None


_BASELINE_NAMES = (*BASELINES, "value")


@component
class TotalReturn(MonteCarlo):
    """R(τ) outside the sum: the return of the whole trajectory weighs each of its actions.

        ∇U ≈ (1/m) Σ_i (R(τ_i) − b_i) Σ_t ∇log π(a_t, s_t),    R(τ) = Σ_t γᵗ r_t

    Unbiased for the gradient of U = E[R(τ)], discounted or not, with baselines "none" and
    "leave_one_out" (b_i over the other trajectories' returns); "mean" shrinks its expectation by
    exactly (m − 1)/m.

    Attributes:
      discount: γ in [0, 1].
      baseline: "none", "mean" (biased), "leave_one_out", or "value": b_i = V(s_0) of a critic that
        learned only from earlier updates' trajectories, and so is unbiased.
      standardize: weights of mean 0 and standard deviation 1; biased, see `standardized`.

    Source: Williams (1992), REINFORCE.
    """

    discount: float = option(1.0, low=0.0, high=1.0)
    baseline: str = option("none", choices=_BASELINE_NAMES)
    standardize: bool = False

    def weights(
        self, trajectories: Trajectories, values: Values | None = None
    ) -> Float[Array, "T m"]:
        """float[T, m], reward units; 0 where not valid."""
        rewards, valid = trajectories.reward, trajectories.valid
        returns = jax.vmap(total_return, in_axes=(1, None))(rewards, self.discount)
        if values is None:
            baseline = BASELINES[self.baseline](returns, jnp.ones_like(returns, bool))
        else:
            baseline = values.state[0]
        weights = jnp.where(valid, (returns - baseline)[None, :], 0.0)
        return standardized(weights, valid, returns) if self.standardize else weights


@component
class RewardToGo(MonteCarlo):
    """One sample of Q(s_t, a_t) inside the sum: the rewards that the action can still change.

        ∇U ≈ (1/m) Σ_i Σ_t ∇log π(a_t, s_t) · (G_t − b_t),    G_t = Σ_{k ≥ t} γ^{k−t} r_k

    With γ = 1, unbiased for the gradient of U = E[Σ_t r_t] with baselines "none" and
    "leave_one_out". With γ < 1, as is usual, the γᵗ that the discounted utility has in front of
    each score is dropped, so that the expectation is E[Σ_t ∇log π(a_t, s_t) Q_γ(s_t, a_t)] over
    undiscounted states: biased for either utility.

    The baseline at step t is a mean over the n trajectories that still run then: without the
    trajectory itself for "leave_one_out", with it for "mean", which is biased and shrinks the term
    of step t by (n − 1)/n.

    Attributes:
      discount: γ in [0, 1].
      baseline: "none", "mean" (biased), "leave_one_out", or "value": b_t = V(s_t) of a critic that
        learned only from earlier updates' trajectories, and so is unbiased.
      standardize: weights of mean 0 and standard deviation 1; biased, see `standardized`.

    Source: Sutton & Barto (2018), section 13.3; Peters & Schaal (2008), section 3.2.1.
    """

    discount: float = option(1.0, low=0.0, high=1.0)
    baseline: str = option("leave_one_out", choices=_BASELINE_NAMES)
    standardize: bool = False

    def weights(
        self, trajectories: Trajectories, values: Values | None = None
    ) -> Float[Array, "T m"]:
        """float[T, m], reward units; 0 where not valid."""
        rewards, valid = trajectories.reward, trajectories.valid
        discounts = jnp.full_like(rewards, self.discount)
        # Nothing follows a whole episode's last step, and rewards after it are 0.
        bootstrap = jnp.zeros_like(rewards[0])
        arguments = rewards, discounts, bootstrap
        returns = jax.vmap(reward_to_go, in_axes=(1, 1, 0), out_axes=1)(*arguments)
        baseline = BASELINES[self.baseline](returns, valid) if values is None else values.state[:-1]
        weights = jnp.where(valid, returns - baseline, 0.0)
        return standardized(weights, valid, returns) if self.standardize else weights
