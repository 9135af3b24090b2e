"""Generalized advantage estimation."""

import jax.numpy as jnp
from jaxtyping import Float

from pgjax.core.components import component, option
from pgjax.core.types import Array, Trajectories
from pgjax.estimators.estimator import Estimator, Values, standardized
from pgjax.estimators.returns import advantages


@component
class GAE(Estimator):
    """Advantages from a critic V, between one-step errors and full returns: less noise, more bias.

        δ_t = r_t + γ V(s_{t+1}) − V(s_t),    w_t = Σ_k (γλ)ᵏ δ_{t+k}

    V(s_{t+1}) is replaced by 0 where the environment ended the episode. Where a time limit ended
    it, or at a segment's end, V(s_{t+1}) is kept and the sum ends. Unbiased if λ = 1 and nothing is
    truncated, or if V is exact; else biased by the error of V times 1 − λ. As with `RewardToGo`,
    the γᵗ in front of the score is dropped.

    Attributes:
      discount: γ in [0, 1].
      gae_lambda: λ in [0, 1].
      standardize: weights of mean 0 and standard deviation 1; biased, see `standardized`.

    Source: Schulman et al. (2016), High-dimensional continuous control using generalized advantage
      estimation, eq. 16; time limits: Pardo et al. (2018), Time limits in reinforcement learning.
    """

    discount: float = option(0.99, low=0.0, high=1.0)
    gae_lambda: float = option(0.95, low=0.0, high=1.0)
    standardize: bool = False

    bootstraps = True
    critic = "states"

    def weights(self, trajectories: Trajectories, values: Values) -> Float[Array, "T m"]:
        """float[T, m], reward units; 0 where not valid."""
        weights = advantages(
            trajectories.reward,
            values.state,
            trajectories.terminated,
            trajectories.truncated,
            self.discount,
            self.gae_lambda,
        )
        weights = jnp.where(trajectories.valid, weights, 0.0)
        if not self.standardize:
            return weights
        return standardized(weights, trajectories.valid, values.state)
