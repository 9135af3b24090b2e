"""V-trace: advantages under the current policy, from steps of an older one."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from pgjax.core.components import component, is_traced, option
from pgjax.core.types import Array, Trajectories
from pgjax.estimators.estimator import Estimator, Values, standardized
from pgjax.estimators.returns import reward_to_go


@component
class VTrace(Estimator):
    """Advantages under π_θ, from a critic V and trajectories of an older policy π_old.

        ρ_t = min(ρ̄, π_θ/π_old(a_t | s_t)),    c_t = min(c̄, π_θ/π_old(a_t | s_t)),
        δ_t = r_t + γ V(s_{t+1}) − V(s_t),
        v_t = V(s_t) + ρ_t δ_t + γλ c_t (v_{t+1} − V(s_{t+1})),
        w_t = ρ_t (r_t + γ [(1 − λ) V(s_{t+1}) + λ v_{t+1}] − V(s_t))

    At θ_old, where every ratio is 1, this is `GAE` with the same λ, and at λ = 1 the n-step return
    minus V: unbiased if that is. With `Passes`, each pass computes its weights from the policy at
    its beginning, so that later passes climb the gradient of the current policy, over the states
    that π_old visits. Where ρ̄ clips ratios, the values belong to a policy between π_old and π_θ:
    biased. c̄ only shortens the sums. Time limits, episodes' ends and segments' ends are treated as
    in `GAE`.

    The ratio is a factor of the weights: with `ScoreFunction` the gradient is V-trace's,
    ρ_t ∇log π(a_t, s_t) · (…). Objectives with a ratio of their own are refused.

    Attributes:
      discount: γ in [0, 1].
      gae_lambda: λ in [0, 1].
      rho: ρ̄ ≥ 1, the largest ratio in front of an error.
      c: c̄ in [0, ρ̄], the largest ratio in front of later errors.
      standardize: advantages, before the factor ρ_t, of mean 0 and standard deviation 1; biased,
        see `standardized`.

    Source: Espeholt et al. (2018), IMPALA, section 4.1, remark 1, and 4.2; λ: their remark 2.
    """

    discount: float = option(0.99, low=0.0, high=1.0)
    gae_lambda: float = option(1.0, low=0.0, high=1.0)
    rho: float = option(1.0, low=1.0)
    c: float = option(1.0, low=0.0)
    standardize: bool = False

    bootstraps = True
    critic = "states"
    follows_policy = True
    has_ratio = True

    def check(self, path: str) -> None:
        """Raises if a field's value is not allowed."""
        super().check(path)
        if not (is_traced(self.rho) or is_traced(self.c)) and self.c > self.rho:
            raise ValueError(f"{path}.c must be at most {path}.rho, {self.rho}, got {self.c}")

    def weights(self, trajectories: Trajectories, values: Values) -> Float[Array, "T m"]:
        """float[T, m], reward units; 0 where not valid.

        Raises:
          ValueError: log-probabilities of π_old or of π_θ are missing.
        """
        tau = trajectories
        log_prob = _checked_log_prob(trajectories, values)
        # 1 in rows without an action, where the exponential might overflow.
        ratio = jnp.exp(jnp.where(tau.valid, log_prob - tau.log_prob, 0.0))
        rho, c = jnp.minimum(self.rho, ratio), jnp.minimum(self.c, ratio)
        next_values = jnp.where(tau.terminated, 0.0, values.state[1:])
        errors = tau.reward + self.discount * next_values - values.state[:-1]
        decay = self.discount * self.gae_lambda
        decays = jnp.where(tau.terminated | tau.truncated, 0.0, decay).astype(errors.dtype)
        end = jnp.zeros_like(errors[0])
        # v_t − V(s_t) of each row; 0 for the final observation.
        sums = jax.vmap(reward_to_go, in_axes=(1, 1, 0), out_axes=1)(rho * errors, decays * c, end)
        next_sums = jnp.concatenate([sums[1:], end[None]])
        advantages = jnp.where(tau.valid, errors + decays * next_sums, 0.0)
        if self.standardize:
            advantages = standardized(advantages, tau.valid, values.state)
        return rho * advantages


def _checked_log_prob(trajectories: Trajectories, values: Values) -> Array:
    """log π_θ of the actions, float[T, m]; raises ValueError if π_θ's or π_old's are missing."""
    shape = trajectories.valid.shape
    _require_log_prob("trajectories.log_prob, the behaviour's", trajectories.log_prob, shape)
    return _require_log_prob("values.log_prob, the improved policy's", values.log_prob, shape)


def _require_log_prob(name: str, log_prob: Array | None, shape: tuple[int, ...]) -> Array:
    actual = "none" if log_prob is None else jnp.shape(log_prob)
    if log_prob is None or actual != shape:
        raise ValueError(
            f"estimator VTrace needs {name}, float[T, m] = {shape}, got {actual}: "
            "use estimator=GAE(), which needs none"
        )
    return log_prob
