"""Estimators: trajectories, and what a critic makes of them -> the weight w_t of each score.

    ∇U ≈ (1/m) Σ_i Σ_t ∇log π(a_t, s_t) · w_t

An estimator is a component with one method, `weights(trajectories) -> float[T, m]`; or, if its
`critic` says which values it needs, "states" or "actions", `weights(trajectories, values)`. One
with a critic has a `discount`, γ, and says by `bootstraps` whether values go on after a time limit.
Any may have `needs_whole_episodes`, whether episodes must not be cut, and `min_trajectories`, the
least m.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.baselines import BASELINES, MIN_TRAJECTORIES
from pgjax.components import Component, component, option
from pgjax.returns import advantages, reward_to_go, total_return
from pgjax.trees import exponent
from pgjax.types import Array, Trajectories


class Values(NamedTuple):
    """What a critic makes of trajectories, reward units.

    Attributes:
      state: float[T + 1, m]; V(s_t), of the row after the last one too. For a critic of actions,
        Σ_a π(a | s_t) Q(s_t, a) if they are discrete, Q at the mode of π(· | s_t) if not.
      action: of a critic of actions: float[T, m, A]; Q(s_t, a) of all discrete actions a, or
        float[T, m]; Q(s_t, a_t).
      probability: float[T, m, A]; π(a | s_t) of discrete actions, where `action` has them.
    """

    state: Array
    action: Array | None = None
    probability: Array | None = None


class MonteCarlo(Component):
    """Base of the estimators that wait for an episode's end: U = E[R(τ)] up to the time limit."""

    needs_whole_episodes = True
    bootstraps = False
    baseline: str

    @property
    def min_trajectories(self) -> int:
        """The least m that the baseline can do with."""
        return MIN_TRAJECTORIES[self.baseline]

    @property
    def critic(self) -> str | None:
        """The values that the baseline needs."""
        return "states" if self.baseline == "value" else None


_BASELINE_NAMES = (*BASELINES, "value")


@component
class TotalReturn(MonteCarlo):
    """R(τ) outside the sum: every action of a trajectory gets the return of all of it.

        ∇U ≈ (1/m) Σ_i (R(τ_i) − b_i) Σ_t ∇log π(a_t, s_t),    R(τ) = Σ_t γᵗ r_t

    Unbiased for the gradient of U = E[R(τ)], discounted or not, with baselines "none" and
    "leave_one_out" (b_i over the other trajectories' returns); "mean" shrinks its expectation by
    exactly (m − 1)/m.

    Attributes:
      discount: γ in [0, 1].
      baseline: "none", "mean" (biased), "leave_one_out", or "value": b_i = V(s_0) of a critic that
        has seen only earlier updates' trajectories, and so unbiased.
      standardize: weights of mean 0 and standard deviation 1; biased, see `standardized`.

    Source: Williams (1992), REINFORCE.
    """

    discount: float = option(1.0, low=0.0, high=1.0)
    baseline: str = option("none", choices=_BASELINE_NAMES)
    standardize: bool = False

    def weights(self, trajectories: Trajectories, values: Values | None = None) -> Array:
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
      baseline: "none", "mean" (biased), "leave_one_out", or "value": b_t = V(s_t) of a critic that
        has seen only earlier updates' trajectories, and so unbiased.
      standardize: weights of mean 0 and standard deviation 1; biased, see `standardized`.

    Source: Sutton & Barto (2018), section 13.3; Peters & Schaal (2008), section 3.2.1.
    """

    discount: float = option(1.0, low=0.0, high=1.0)
    baseline: str = option("leave_one_out", choices=_BASELINE_NAMES)
    standardize: bool = False

    def weights(self, trajectories: Trajectories, values: Values | None = None) -> Array:
        """float[T, m], reward units; 0 where not valid."""
        rewards, valid = trajectories.reward, trajectories.valid
        discounts = jnp.full_like(rewards, self.discount)
        # Rewards after the end are 0, so what follows the last step adds nothing.
        nothing = jnp.zeros_like(rewards[0])
        returns = jax.vmap(reward_to_go, in_axes=(1, 1, 0), out_axes=1)(rewards, discounts, nothing)
        found = BASELINES[self.baseline](returns, valid) if values is None else values.state[:-1]
        weights = jnp.where(valid, returns - found, 0.0)
        return standardized(weights, valid, returns) if self.standardize else weights


@component
class GAE(Component):
    """Advantages by a critic V, between one step's and the whole return's: less noise, some bias.

        δ_t = r_t + γ V(s_{t+1}) − V(s_t),    w_t = Σ_k (γλ)ᵏ δ_{t+k}

    V(s_{t+1}) counts as 0 where the environment ended the episode, and as it is where a time limit
    did, or a segment ends: those cut the sum only. Unbiased where λ = 1 and nothing is truncated,
    or V is exact; else biased by the error of V times 1 − λ. As with `RewardToGo`, the γᵗ in front
    of the score is dropped.

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

    needs_whole_episodes = False
    bootstraps = True
    critic = "states"

    def weights(self, trajectories: Trajectories, values: Values) -> Array:
        """float[T, m], reward units; 0 where not valid."""
        found = advantages(
            trajectories.reward,
            values.state,
            trajectories.terminated,
            trajectories.truncated,
            self.discount,
            self.gae_lambda,
        )
        weights = jnp.where(trajectories.valid, found, 0.0)
        if not self.standardize:
            return weights
        return standardized(weights, trajectories.valid, values.state)


@component
class ActionValue(Component):
    """Q(s_t, a_t) inside the sum, by a critic: the theorem as it stands, if Q were exact.

        w_t = Q(s_t, a_t) − b(s_t)

    b(s) = Σ_a π(a | s) Q(s, a) for discrete actions, Q(s, mode of π(· | s)) for others: unbiased
    for that Q, like any baseline. Q is learned on the policy's own trajectories, and biased as far
    as it is wrong.

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

    needs_whole_episodes = False
    bootstraps = True
    critic = "actions"

    def weights(self, trajectories: Trajectories, values: Values) -> Array:
        """float[T, m], reward units; [T, m, A] of all actions; 0 where not valid."""
        baseline, action = values.state[:-1], values.action
        if values.probability is not None and not self.all_actions:
            index = trajectories.action[..., None]
            action = jnp.take_along_axis(action, index, axis=-1)[..., 0]
        if not self.all_actions:
            weights = jnp.where(trajectories.valid, action - baseline, 0.0)
            valid = trajectories.valid
        else:
            valid = trajectories.valid[..., None]
            # Σ_a ∇π w = Σ_a π ∇log π w: the probability is part of the weight.
            weights = jnp.where(valid, values.probability * (action - baseline[..., None]), 0.0)
            valid = jnp.broadcast_to(valid, weights.shape)
        return standardized(weights, valid, values.state) if self.standardize else weights


def standardized(weights: Array, valid: Array, returns: Array) -> Array:
    """Weights with mean 0 and standard deviation 1 over all valid steps. Biased.

        w ← (w − mean(w)) / std(w),    or 0 where std(w) ≤ 8 ε max |returns|

    Each weight is divided by a number that its own return is part of, and every step counts alike
    whatever its trajectory's length; the step size no longer depends on the scale of rewards.
    Differences within rounding (ε is the machine epsilon) of the returns are none, not signal. The
    weight of a single valid step, which is its own mean, stays as it is.
    """
    number, weights = jnp.sum(valid), jnp.where(valid, weights, 0.0)
    power = exponent(weights)
    scaled = jnp.ldexp(weights, -power)
    centre = jnp.sum(scaled) / jnp.maximum(number, 1)
    centred = jnp.where(valid, scaled - centre, 0.0)
    deviation = jnp.sqrt(jnp.sum(jnp.square(centred)) / jnp.maximum(number, 1))
    rounding = 8 * jnp.finfo(weights.dtype).eps * jnp.max(jnp.abs(returns))
    # Divided by 1 rather than by 0, whose quotient would be selected away but stop a NaN check.
    signal = ~(jnp.ldexp(deviation, power) <= rounding)
    found = jnp.where(signal, centred / jnp.where(signal, deviation, 1.0), 0.0)
    return jnp.where(number > 1, found, weights)


Estimator = TotalReturn | RewardToGo | GAE | ActionValue
