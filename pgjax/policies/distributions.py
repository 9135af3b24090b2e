"""Action distributions π(· | s) for one state; batch with `vmap`.

Each distribution turns noise into an action, so that the noise of many steps can be drawn at
once, and scores the action as sampled. `environment_action` makes it legal for the environment.
"""

import abc
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betaln, digamma
from jaxtyping import Float, Int, Key, UInt32

from pgjax.core.components import record, static
from pgjax.core.trees import map_children
from pgjax.core.types import Array, PyTree

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_LOG_TWO = math.log(2.0)
_BETA_MARGIN = 1e-6
_FEW = 32  # actions whose probabilities are summed at once
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_NODE_WEIGHTS = _NODE_WEIGHTS / math.sqrt(2.0 * math.pi)


class Distribution(abc.ABC):
    """π(· | s) in one state: a record of arrays, over actions that are pytrees of arrays."""

    @abc.abstractmethod
    def sample(self, noise: PyTree) -> PyTree:
        """The action for noise from the head's `noise`; in the form that is stored and scored."""

    @abc.abstractmethod
    def mode(self) -> PyTree:
        """The action of a deterministic policy."""

    @abc.abstractmethod
    def log_prob(self, action: PyTree) -> Float[Array, ""]:
        """log π(action | s), nats: float[], a density where actions are continuous."""

    @abc.abstractmethod
    def entropy(self) -> Float[Array, ""]:
        """−E[log π(a | s)], nats: float[]."""

    @abc.abstractmethod
    def divergence(self, other: Any) -> Float[Array, ""]:
        """KL(self ‖ other), nats: float[]; both are of the same class."""

    @abc.abstractmethod
    def environment_action(self, action: PyTree) -> PyTree:
        """The action in the form that the environment's `step` takes."""


def probabilities(distribution: Distribution) -> Float[Array, " n"]:
    """π(a | s) of each of the n actions: float[n].

    Raises:
      TypeError: a distribution over actions that cannot be listed.
    """
    if not isinstance(distribution, Categorical):
        raise TypeError(f"{type(distribution).__name__} has no list of its actions' probabilities")
    return distribution.probabilities()


@record
class Categorical(Distribution):
    """p(a) = exp(logits_a) / Σ_b exp(logits_b) over the actions 0 … n−1.

    Attributes:
      logits: float[n], unnormalised log-probabilities.

    Source: Sutton & Barto (2018), eq. 13.2.
    """

    logits: Float[Array, " n"]

    @staticmethod
    def noise(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "*shape"]:
        """One uniform number in [0, 1) for each action."""
        return jax.random.uniform(key, shape)

    def sample(self, noise: Float[Array, ""]) -> Int[Array, ""]:
        """The inverse of the cumulative distribution function at `noise`: int32[]."""
        return _inverse_cumulative(jax.nn.softmax(self.logits), noise)

    def mode(self) -> Int[Array, ""]:
        """The most probable action."""
        return jnp.argmax(self.logits).astype(jnp.int32)

    def probabilities(self) -> Float[Array, " n"]:
        """p(a) of all actions: float[n]."""
        return jax.nn.softmax(self.logits)

    def log_probs(self) -> Float[Array, " n"]:
        """log p(a) of all actions, nats: float[n]."""
        return jax.nn.log_softmax(self.logits)

    def log_prob(self, action: Int[Array, ""] | int) -> Float[Array, ""]:
        """log p(action), nats."""
        chosen = jax.nn.one_hot(action, self.logits.shape[0], dtype=self.logits.dtype)
        return jnp.sum(jax.nn.log_softmax(self.logits) * chosen)

    def entropy(self) -> Float[Array, ""]:
        """−Σ_a p(a) log p(a), nats."""
        log_probs = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log_probs) * log_probs)

    def divergence(self, other: "Categorical") -> Float[Array, ""]:
        """KL(self ‖ other), nats."""
        log_probs = jax.nn.log_softmax(self.logits)
        return jnp.sum(jnp.exp(log_probs) * (log_probs - jax.nn.log_softmax(other.logits)))

    def environment_action(self, action: Int[Array, ""]) -> Int[Array, ""]:
        """The action itself: int32[]."""
        return action


@record
class Normal(Distribution):
    """Independent normals, a_i ~ N(mean_i, std_i²). Scored unclipped, clipped to act.

    Attributes:
      mean: float[*shape], the action space's shape, action units.
      log_std: float[*shape], log of action units.
      low, high: float[*shape], action units; the legal range; infinite without a bound.

    Source: Sutton & Barto (2018), eq. 13.19.
    """

    mean: Float[Array, "*shape"]
    log_std: Float[Array, "*shape"]
    low: Float[Array, "*shape"]
    high: Float[Array, "*shape"]

    @staticmethod
    def noise(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "*shape"]:
        """Standard normal numbers."""
        return jax.random.normal(key, shape)

    def sample(self, noise: Float[Array, "..."]) -> Float[Array, "*shape"]:
        """mean + std · noise: float[*shape], not clipped; noise is [*shape], or one number []."""
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> Float[Array, "*shape"]:
        """The mean."""
        return self.mean

    def log_prob(self, action: Float[Array, "*shape"]) -> Float[Array, ""]:
        """Σ_i log N(a_i; mean_i, std_i²), nats."""
        return _sum_free(self, _normal_log_density(action, self.mean, self.log_std))

    def entropy(self) -> Float[Array, ""]:
        """Σ_i (½ + ½ log 2π + log std_i), nats; the entropy of the unclipped action."""
        return _sum_free(self, 0.5 + _HALF_LOG_TWO_PI + self.log_std)

    def divergence(self, other: "Normal") -> Float[Array, ""]:
        """KL(self ‖ other), nats; of the unclipped actions."""
        gap = jnp.square((self.mean - other.mean) * jnp.exp(-other.log_std))
        log_ratio = self.log_std - other.log_std
        return _sum_free(self, 0.5 * (jnp.exp(2.0 * log_ratio) + gap - 1.0) - log_ratio)

    def environment_action(self, action: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The action clipped to [low, high]: float[*shape], action units."""
        return jnp.clip(action, self.low, self.high)


@record
class TanhNormal(Distribution):
    """Normal squashed into (low, high): a = low + (high − low)(tanh u + 1)/2, u ~ N(mean, std²).

    The action that is stored and scored is u, so that saturation loses nothing; its log-probability
    is the exact density of a, by the change of variables
    log p(a) = log N(u; mean, std²) − log((high − low)/2) − log(1 − tanh² u).

    Attributes:
      mean: float[*shape], mean of u.
      log_std: float[*shape], log standard deviation of u.
      low, high: float[*shape], action units, finite.

    Source: Haarnoja et al. (2018), Soft Actor-Critic, appendix C.
    """

    mean: Float[Array, "*shape"]
    log_std: Float[Array, "*shape"]
    low: Float[Array, "*shape"]
    high: Float[Array, "*shape"]

    noise = staticmethod(Normal.noise)
    sample = Normal.sample
    mode = Normal.mode
    # A divergence does not change when both are squashed in the same way.
    divergence = Normal.divergence

    def log_prob(self, action: Float[Array, "*shape"]) -> Float[Array, ""]:
        """Log-density of a = environment_action(u) at u = `action`, nats."""
        density = _normal_log_density(action, self.mean, self.log_std)
        return _sum_free(self, density - self._log_slope(action))

    def entropy(self) -> Float[Array, ""]:
        """H[u] + E[log da/du] by 32-node Gauss–Hermite quadrature: within 1e-3 nats for std ≤ 2."""
        nodes, weights = jnp.asarray([_NODES, _NODE_WEIGHTS], self.mean.dtype)
        slopes = jax.vmap(lambda node: self._log_slope(self.sample(node)))(nodes)
        expected_slope = jnp.tensordot(weights, slopes, axes=1)
        return _sum_free(self, 0.5 + _HALF_LOG_TWO_PI + self.log_std + expected_slope)

    def environment_action(self, action: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """a = low + (high − low)(tanh u + 1)/2, inside [low, high]: float[*shape], action units."""
        squashed = self.low + (self.high - self.low) * (jnp.tanh(action) + 1.0) / 2.0
        return jnp.clip(squashed, self.low, self.high)

    def _log_slope(self, u: Array) -> Array:
        # log(1 − tanh² u) = 2 (log 2 − u − softplus(−2u)), which never takes the log of 0.
        return jnp.log(_width(self.low, self.high) / 2.0) + _log_tanh_slope(u)


@record
class SquashedNormal(Distribution):
    """Normal squashed into a range without some of its bounds: a = f(u), u ~ N(mean, std²), where

        f(u) = low + (high − low)(tanh u + 1)/2    between two bounds, as `TanhNormal`,
        f(u) = low + softplus(u)                   above one,
        f(u) = high − softplus(−u)                 below one,
        f(u) = u                                   without any,

    in each dimension on its own. The action that is stored and scored is u; its log-probability is
    the exact density of a, log p(a) = log N(u; mean, std²) − log f′(u).

    Attributes:
      mean: float[*shape], mean of u.
      log_std: float[*shape], log standard deviation of u.
      low, high: float[*shape], action units; infinite without a bound.

    Source: Kucukelbir et al. (2017), Automatic differentiation variational inference, section 2.3,
      normals mapped into constrained supports.
    """

    mean: Float[Array, "*shape"]
    log_std: Float[Array, "*shape"]
    low: Float[Array, "*shape"]
    high: Float[Array, "*shape"]

    noise = staticmethod(Normal.noise)
    sample = Normal.sample
    mode = Normal.mode
    divergence = Normal.divergence
    log_prob = TanhNormal.log_prob
    entropy = TanhNormal.entropy

    def environment_action(self, action: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """a = f(u), inside [low, high]: float[*shape], action units."""
        # Every branch is finite, so that a branch that is not selected spoils no derivative.
        low, high = (jnp.where(jnp.isfinite(x), x, 0.0) for x in (self.low, self.high))
        between = low + _width(low, high) * (jnp.tanh(action) + 1.0) / 2.0
        above, below = low + jax.nn.softplus(action), high - jax.nn.softplus(-action)
        return jnp.clip(self._select(between, above, below, action), self.low, self.high)

    def _log_slope(self, u: Array) -> Array:
        between = jnp.log(_width(self.low, self.high) / 2.0) + _log_tanh_slope(u)
        above, below = -jax.nn.softplus(-u), -jax.nn.softplus(u)
        return self._select(between, above, below, jnp.zeros_like(u))

    def _select(self, between: Array, above: Array, below: Array, free: Array) -> Array:
        """Selects, in each dimension, the array for the bounds that it has."""
        has_low, has_high = jnp.isfinite(self.low), jnp.isfinite(self.high)
        one_sided = jnp.where(has_low, above, jnp.where(has_high, below, free))
        return jnp.where(has_low & has_high, between, one_sided)


@record
class Beta(Distribution):
    """Independent betas on (low, high): a = low + (high − low) x, x_i ~ Beta(alpha_i, beta_i).

    The action that is stored is x, kept 1e-6 away from 0 and 1, where its density may vanish.

    Attributes:
      alpha, beta: float[*shape], ≥ 1: the density has one maximum.
      low, high: float[*shape], action units, finite.

    Source: Chou, Maturana & Scherer (2017), Improving stochastic policy gradients in continuous
      control with deep reinforcement learning using the Beta distribution.
    """

    alpha: Float[Array, "*shape"]
    beta: Float[Array, "*shape"]
    low: Float[Array, "*shape"]
    high: Float[Array, "*shape"]

    @staticmethod
    def noise(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt32[Array, "*shape 2"]:
        """A key's data for each dimension: no noise that is independent of α and β makes a beta."""
        return jax.random.bits(key, (*shape, 2), "uint32")

    def sample(self, noise: UInt32[Array, "*shape 2"]) -> Float[Array, "*shape"]:
        """x: float[*shape]."""
        keys = jax.random.wrap_key_data(noise.reshape(-1, 2), impl="threefry2x32")
        parameters = self.alpha.ravel(), self.beta.ravel()
        x = jax.vmap(jax.random.beta)(keys, *parameters).reshape(self.alpha.shape)
        return _inside(x)

    def mode(self) -> Float[Array, "*shape"]:
        """(α − 1) / (α + β − 2); the mean where both are 1."""
        excess = self.alpha + self.beta - 2.0
        flat = excess < 1e-6
        return _inside(jnp.where(flat, 0.5, (self.alpha - 1.0) / jnp.where(flat, 1.0, excess)))

    def log_prob(self, action: Float[Array, "*shape"]) -> Float[Array, ""]:
        """Log-density of a = environment_action(x) at x = `action`, nats."""
        density = (
            (self.alpha - 1.0) * jnp.log(action)
            + (self.beta - 1.0) * jnp.log1p(-action)
            - betaln(self.alpha, self.beta)
        )
        return _sum_free(self, density - jnp.log(_width(self.low, self.high)))

    def entropy(self) -> Float[Array, ""]:
        """The entropy of a, in nats."""
        a, b = self.alpha, self.beta
        return _sum_free(
            self,
            betaln(a, b)
            - (a - 1.0) * digamma(a)
            - (b - 1.0) * digamma(b)
            + (a + b - 2.0) * digamma(a + b)
            + jnp.log(_width(self.low, self.high)),
        )

    def divergence(self, other: "Beta") -> Float[Array, ""]:
        """KL(self ‖ other), nats; both have the same range."""
        a, b = self.alpha, self.beta
        return _sum_free(
            self,
            betaln(other.alpha, other.beta)
            - betaln(a, b)
            + (a - other.alpha) * digamma(a)
            + (b - other.beta) * digamma(b)
            + (other.alpha - a + other.beta - b) * digamma(a + b),
        )

    def environment_action(self, action: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """a = low + (high − low) x: float[*shape], action units."""
        return self.low + (self.high - self.low) * action


@record
class Rounded(Distribution):
    """A continuous distribution for a Box of integers: the environment gets the nearest integer.

    The action that is stored and scored is the continuous one, so that its density stays exact.

    Attributes:
      continuous: a distribution over real actions; its range reaches half a unit beyond the
        outermost integers, so that their intervals are as wide as the others'.
      low, high: integers[*shape] of the action space's dtype; the legal range.

    Source: Salimans et al. (2017), PixelCNN++, section 2.1, integers as intervals of width one; but
      here the point in the interval is scored, not the interval.
    """

    continuous: Any
    low: Array
    high: Array

    def sample(self, noise: Array) -> Array:
        """The continuous action."""
        return self.continuous.sample(noise)

    def mode(self) -> Array:
        """The continuous mode."""
        return self.continuous.mode()

    def log_prob(self, action: Array) -> Float[Array, ""]:
        """Log-density of the continuous action, nats."""
        return self.continuous.log_prob(action)

    def entropy(self) -> Float[Array, ""]:
        """The entropy of the continuous action, nats."""
        return self.continuous.entropy()

    def divergence(self, other: "Rounded") -> Float[Array, ""]:
        """KL(self ‖ other), nats; of the continuous actions."""
        return self.continuous.divergence(other.continuous)

    def environment_action(self, action: Array) -> Array:
        """The nearest integer in [low, high]: the space's dtype, [*shape]."""
        return rounded(self.continuous.environment_action(action), self.low, self.high)


def rounded(action: Array, low: Array, high: Array) -> Array:
    """The nearest integers in [low, high], in the bounds' dtype: [*shape]."""
    nearest = jnp.round(action)
    legal = jnp.clip(nearest, *(x.astype(nearest.dtype) for x in (low, high))).astype(low.dtype)
    # Clipped again as integers: no float is exactly the largest of them.
    return jnp.minimum(jnp.maximum(legal, low), high)


@record
class MultiCategorical(Distribution):
    """Independent categoricals: p(a) = Π_i exp(logits_i,a_i) / Σ_b exp(logits_i,b).

    Attributes:
      logits: float[k, n], one row for each integer of the action; very low for the entries after a
        row of fewer than n values, and for values that a mask excludes.
      shape: the action's shape; it has k integers.
      dtype: the dtype of the environment's actions.

    Source: Tavakoli, Pardo & Kormushev (2018), Action branching architectures for deep
      reinforcement learning, a factored policy over discrete dimensions.
    """

    logits: Float[Array, "k n"]
    shape: tuple[int, ...] = static()
    dtype: Any = static()

    def sample(self, noise: Float[Array, "..."]) -> Int[Array, "..."]:
        """int32[*shape], from a uniform number for each integer."""
        return jax.vmap(Categorical.sample)(self._rows, noise.ravel()).reshape(self.shape)

    def mode(self) -> Int[Array, "..."]:
        """The most probable value of each integer: int32[*shape]."""
        return jax.vmap(Categorical.mode)(self._rows).reshape(self.shape)

    def log_prob(self, action: Int[Array, "..."]) -> Float[Array, ""]:
        """Σ_i log p_i(a_i), nats."""
        return jnp.sum(jax.vmap(Categorical.log_prob)(self._rows, action.ravel()))

    def entropy(self) -> Float[Array, ""]:
        """Σ_i H[p_i], nats."""
        return jnp.sum(jax.vmap(Categorical.entropy)(self._rows))

    def divergence(self, other: "MultiCategorical") -> Float[Array, ""]:
        """Σ_i KL(p_i ‖ q_i), nats."""
        return jnp.sum(jax.vmap(Categorical.divergence)(self._rows, other._rows))

    def environment_action(self, action: Array) -> Array:
        """The integers in the space's dtype: [*shape]."""
        return action.astype(self.dtype)

    @property
    def _rows(self) -> Categorical:
        return Categorical(self.logits)


@record
class Joint(Distribution):
    """Independent parts: p(a) = Π_i p_i(a_i), for the entries a_i of a tuple or a dict.

    Attributes:
      parts: a tuple or dict of distributions, which may be joint too; noise and actions have the
        same structure.

    Source: Cover & Thomas (2006), Elements of information theory, theorems 2.5.1 and 2.5.3, the
      chain rules of entropy and of relative entropy, for independent parts.
    """

    parts: Any

    def sample(self, noise: PyTree) -> PyTree:
        """Each part's sample."""
        return map_children(lambda part, noise: part.sample(noise), self.parts, noise)

    def mode(self) -> PyTree:
        """Each part's mode."""
        return map_children(lambda part: part.mode(), self.parts)

    def log_prob(self, action: PyTree) -> Float[Array, ""]:
        """Σ_i log p_i(a_i), nats."""
        return _total(map_children(lambda part, action: part.log_prob(action), self.parts, action))

    def entropy(self) -> Float[Array, ""]:
        """Σ_i H[p_i], nats."""
        return _total(map_children(lambda part: part.entropy(), self.parts))

    def divergence(self, other: "Joint") -> Float[Array, ""]:
        """Σ_i KL(p_i ‖ q_i), nats."""
        return _total(
            map_children(lambda part, other: part.divergence(other), self.parts, other.parts)
        )

    def environment_action(self, action: PyTree) -> PyTree:
        """Each part's environment action."""
        return map_children(
            lambda part, action: part.environment_action(action), self.parts, action
        )


def _total(parts: Any) -> Array:
    return functools.reduce(jnp.add, jax.tree.leaves(parts))


def _sum_free(distribution: Any, terms: Array) -> Array:
    """The sum over the dimensions in which an action can vary, those with low < high."""
    return jnp.sum(jnp.where(distribution.high > distribution.low, terms, 0.0))


def _width(low: Array, high: Array) -> Array:
    """high − low; 1 where its logarithm is not finite, and the result is not used."""
    width = high - low
    return jnp.where(jnp.isfinite(width) & (width > 0.0), width, 1.0)


def _log_tanh_slope(u: Array) -> Array:
    # log(1 − tanh² u) = 2 (log 2 − u − softplus(−2u)), which never takes the log of 0.
    return 2.0 * (_LOG_TWO - u - jax.nn.softplus(-2.0 * u))


def _inside(x: Array) -> Array:
    return jnp.clip(x, _BETA_MARGIN, 1.0 - _BETA_MARGIN)


def _inverse_cumulative(probabilities: Array, uniform: Array) -> Array:
    """The first a with Σ_{b ≤ a} p_b > uniform · Σ_b p_b: int32[], never one with p_a = 0."""
    n = probabilities.shape[0]
    if n <= _FEW:
        sums = _prefix_sums(probabilities)
        return _num_passed(sums, uniform * sums[-1])
    # First the block, of about √n, then the action inside it: O(n), and all prefix sums are O(n²).
    width = math.isqrt(n - 1) + 1
    blocks = jnp.pad(probabilities, (0, -n % width)).reshape(-1, width)
    sums = _prefix_sums(jnp.sum(blocks, axis=1))
    target = uniform * sums[-1]
    block = _num_passed(sums, target)
    sum_before = jnp.where(block > 0, sums[block - 1], 0.0)
    return block * width + _num_passed(_prefix_sums(blocks[block]), target - sum_before)


def _num_passed(sums: Array, target: Array) -> Array:
    # Once a sum equals the last one, all later probabilities are 0, however sums were rounded.
    return jnp.sum((target >= sums[:-1]) & (sums[:-1] < sums[-1]), dtype=jnp.int32)


def _prefix_sums(probabilities: Array) -> Array:
    # Σ_{b ≤ a} p_b. For the few actions that environments have, a masked sum is faster on a CPU
    # than `cumsum`; and where p_a = 0 it gives the same number twice, which a tree of sums may not.
    n = probabilities.shape[0]
    keep = np.tril(np.ones((n, n), bool))
    return jnp.sum(jnp.where(keep, probabilities[None, :], 0.0), axis=1)


def _normal_log_density(x: Array, mean: Array, log_std: Array) -> Array:
    scaled = (x - mean) * jnp.exp(-log_std)
    return -0.5 * jnp.square(scaled) - log_std - _HALF_LOG_TWO_PI
