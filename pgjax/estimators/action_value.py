"""The policy-gradient theorem with a learned Q."""

import jax.numpy as jnp
from jaxtyping import Float

from pgjax.core.components import component, option
from pgjax.core.types import Array, Trajectories
from pgjax.estimators.estimator import Estimator, Values, standardized


@component
class ActionValue(Estimator):
    """Q(s_t, a_t) inside the sum, from a critic: the policy-gradient theorem, if Q were exact.

        w_t = Q(s_t, a_t) − b(s_t)

    b(s) = Σ_a π(a | s) Q(s, a) for discrete actions, Q(s, mode of π(· | s)) for others: like any
    baseline, it adds no bias. Q is learned on the policy's own trajectories; its errors are the
    bias.

    Attributes:
      discount: γ in [0, 1].
      all_actions: for discrete actions, the sum over all of them in place of the sampled one,
        Σ_t Σ_a ∇π(a | s_t) Q(s_t, a): the same expectation with less variance.
      standardize: weights of mean 0 and standard deviation 1; biased, see `standardized`.

    Source: Sutton et al. (2000), policy gradient theorem; all actions: Asadi et al. (2017), Mean
      actor critic.
    """

    discount: float = option(0.99, low=0.0, high=1.0)
    all_actions: bool = False
    standardize: bool = False

    bootstraps = True
    critic = "actions"

    def weights(self, trajectories: Trajectories, values: Values) -> Float[Array, "T m *A"]:
        """float[T, m], or [T, m, A] with `all_actions`; reward units; 0 where not valid."""
        baseline, action = values.state[:-1], values.action
        assert action is not None, "a critic of actions gives their values"
        if values.probability is not None and not self.all_actions:
            index = trajectories.action[..., None]
            action = jnp.take_along_axis(action, index, axis=-1)[..., 0]
        if not self.all_actions:
            weights = jnp.where(trajectories.valid, action - baseline, 0.0)
            valid = trajectories.valid
        else:
            valid = trajectories.valid[..., None]
            assert values.probability is not None, "only with discrete actions; see `all_actions`"
            # Σ_a ∇π w = Σ_a π ∇log π w: the probability is part of the weight.
            weights = jnp.where(valid, values.probability * (action - baseline[..., None]), 0.0)
            valid = jnp.broadcast_to(valid, weights.shape)
        return standardized(weights, valid, values.state) if self.standardize else weights
