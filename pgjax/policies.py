"""Stochastic policies π_θ(a | s): a network, and a head that the action space chooses."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pgjax import networks, normalizers
from pgjax.components import unknown
from pgjax.distributions import (
    Beta,
    Categorical,
    Distribution,
    Normal,
    Rounded,
    SquashedNormal,
    TanhNormal,
)
from pgjax.environments import Environment, is_whole, spaces
from pgjax.types import Array, PyTree, Remembered

DISTRIBUTIONS = ("auto", "categorical", "normal", "tanh_normal", "beta")
_NORMALIZER = "normalizer"

# A small last layer starts the policy nearly uniform: with sparse rewards, a first batch that never
# meets one then costs time only, and does not freeze an arbitrary preference for some action.
_HEAD_INIT = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
_INITIAL_LOG_STD = -0.5
_LOG_STD_RANGE = (-5.0, 2.0)
_INITIAL_CONCENTRATION = 1.0


class CategoricalHead(nn.Module):
    """logits = W x + b, one for each of n actions."""

    num_actions: int

    @nn.compact
    def __call__(self, features: Array) -> tuple[Array]:
        """float[features] -> (logits[n],)."""
        return (networks.Dense(self.num_actions, kernel_init=_HEAD_INIT)(features),)


class NormalHead(nn.Module):
    """mean = W x + b, and one learned log std per dimension, the same in every state.

    In units of half the action's legal range. log std starts at −0.5 and is kept in [−5, 2]; where
    the optimizer has left that range, gradients that lead back into it still count.
    """

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, features: Array) -> tuple[Array, Array]:
        """float[features] -> (mean[*shape], log_std[*shape])."""
        layer = nn.DenseGeneral(self.shape or (1,), kernel_init=_HEAD_INIT, param_dtype=_float())
        mean = layer(features)
        initial = nn.initializers.constant(_INITIAL_LOG_STD)
        log_std = self.param("log_std", initial, self.shape)
        return mean.reshape(self.shape), _bounded(log_std)


def _bounded(log_std: Array) -> Array:
    """log_std clipped to its range. Outside of it a clip has no gradient and would never let the
    parameter return: here a gradient to be climbed passes if it leads back, and is 0 if not."""
    led = _led_back(log_std)
    clipped = jax.lax.stop_gradient(jnp.clip(led, *_LOG_STD_RANGE))
    return clipped + (led - jax.lax.stop_gradient(led))


@jax.custom_vjp
def _led_back(log_std: Array) -> Array:
    return log_std


def _leading_back(log_std: Array, gradient: Array) -> tuple[Array]:
    low, high = _LOG_STD_RANGE
    leads_on = ((log_std < low) & (gradient < 0.0)) | ((log_std > high) & (gradient > 0.0))
    return (jnp.where(leads_on, 0.0, gradient),)


_led_back.defvjp(lambda log_std: (log_std, log_std), _leading_back)


def _float() -> Any:
    # JAX's default, as that of `networks.Dense`; Flax's own layers have float32 whatever it is.
    return jnp.result_type(float)


class BetaHead(nn.Module):
    """α = 1 + softplus(W x + b) and β likewise, one each per dimension: one hump, never two."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, features: Array) -> tuple[Array, Array]:
        """float[features] -> (alpha[*shape], beta[*shape])."""
        bias = nn.initializers.constant(_INITIAL_CONCENTRATION)
        layer = nn.DenseGeneral(
            (2, *self.shape), kernel_init=_HEAD_INIT, bias_init=bias, param_dtype=_float()
        )
        return tuple(1.0 + jax.nn.softplus(layer(features)))


class PolicyModule(nn.Module):
    """A network and a head on top of it: one encoded observation -> distribution parameters."""

    network: nn.Module
    head: nn.Module

    def __call__(self, obs: PyTree, memory: PyTree = None) -> tuple[tuple[Array, ...], PyTree]:
        """The parameters and the memory after the observation, None of a network without one.

        Raises:
          ValueError: the network does not give one vector of floats.
        """
        if networks.has_memory(self.network):
            features, memory = self.network(obs, memory)
        else:
            features = self.network(obs)
        if not isinstance(features, jax.Array) or features.ndim != 1:
            shapes = jax.tree.map(jnp.shape, features)
            raise ValueError(
                f"network must map one observation to a vector of features, float[n]; "
                f"{type(self.network).__name__} gave {shapes}"
            )
        return self.head(features), memory


class Policy(NamedTuple):
    """A stochastic policy as pure functions of its variables; one observation at a time.

    What the policy sees of a step is the observation, or, with a memory, `Remembered`.

    Attributes:
      init: key -> Flax variables, {"params": θ, other collections…}.
      begin: obs -> what it sees of an episode's first observation.
      follow: (variables, seen, obs) -> what it sees next, after `seen`.
      encode: (variables, seen) -> the same in floats, for a network.
      apply: (variables, seen) -> Distribution.
      replay: (variables, seen [n, …], valid bool[n]) -> Distribution, each leaf [n, …]. With a
        memory: [n, L, …] and bool[n, L], windows of L rows, in which the memory is computed anew
        from the first row's on, and is what was seen wherever an episode starts.
      window: L, or None without a memory; 0: all rows.
      observe: (variables, seen [T, m, …], valid bool[T, m]) -> variables whose statistics of
        observations have seen these.
      stuck: (seen [T, m, …], valid bool[T, m]) -> bool[], whether in a step that was taken a mask
        allowed no action.
      noise: (key, batch_shape) -> the noise that `Distribution.sample` takes, one per action.
    """

    init: Callable[[Array], PyTree]
    begin: Callable[[PyTree], PyTree]
    follow: Callable[[PyTree, PyTree, PyTree], PyTree]
    encode: Callable[[PyTree, PyTree], PyTree]
    apply: Callable[[PyTree, PyTree], Distribution]
    replay: Callable[[PyTree, PyTree, Array], Distribution]
    window: int | None
    observe: Callable[[PyTree, PyTree, Array], PyTree]
    stuck: Callable[[PyTree, Array], Array]
    noise: Callable[[Array, tuple[int, ...]], Array]


def build(
    environment: Environment,
    network: nn.Module,
    distribution: str = "auto",
    normalize_observations: bool = False,
) -> Policy:
    """The policy of a network for an environment.

    Args:
      environment: its spaces decide the encoding and the head.
      network: any Flax module from one encoded observation to features float[n]; if it has a
        method `initial_memory`, from an observation and a memory to features and a memory.
      distribution: "categorical" for Discrete actions, "normal", "tanh_normal" or "beta" for Box
        ones; "auto": categorical, tanh_normal for a bounded Box, normal for an unbounded one; where
        a Box has some bounds only, a normal squashed in each dimension by those that it has.
      normalize_observations: whether the network sees observations relative to the running mean
        and standard deviation of those seen in training.

    Raises:
      TypeError: an action space that the distribution cannot cover, a network that is no module.
    """
    networks.check(network)
    head, distribution_type, to_distribution = _head(environment, distribution)
    networks.check_mask(environment.name, environment.observation_space, environment.action_space)
    action_shape = tuple(environment.action_space.shape)
    functions = _Functions(
        environment, PolicyModule(network, head), to_distribution, normalize_observations
    )
    recurrent = functions.recurrent
    return Policy(
        init=functions.init,
        begin=functions.begin,
        follow=functions.follow,
        encode=functions.encode,
        apply=functions.apply,
        replay=functions.replay,
        window=(getattr(network, "window", None) or 0) if recurrent else None,
        observe=functions.observe,
        stuck=functions.stuck,
        noise=lambda key, shape: distribution_type.noise(key, shape + action_shape),
    )


class _Functions(NamedTuple):
    """What the functions of a `Policy` share; they are its methods, where they are not trivial."""

    environment: Environment
    module: PolicyModule
    to_distribution: Callable
    normalizes: bool

    @property
    def recurrent(self) -> bool:
        return networks.has_memory(self.module.network)

    @property
    def space(self) -> Any:
        return self.environment.observation_space

    def encoded(self, variables: PyTree, obs: PyTree) -> PyTree:
        """An observation in floats, normalised if it is to be."""
        plain = networks.encode(obs, self.space)
        return normalizers.normalized(variables[_NORMALIZER], plain) if self.normalizes else plain

    def init(self, key: Array) -> PyTree:
        obs = jax.eval_shape(self.environment.reset, jax.random.key(0))[0]
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), obs)
        first = networks.encode(zeros, self.space)
        memory = [self.module.network.initial_memory()] if self.recurrent else []
        variables = networks.initial("network", self.module, key, first, *memory)
        if self.normalizes:
            variables = {**variables, _NORMALIZER: normalizers.init(first)}
        return variables

    def begin(self, obs: PyTree) -> PyTree:
        return Remembered(obs, self.module.network.initial_memory()) if self.recurrent else obs

    def run(self, variables: PyTree, obs: PyTree, memory: PyTree) -> tuple[Distribution, PyTree]:
        """The distribution, and the memory after the observation."""
        ours = {name: found for name, found in variables.items() if name != _NORMALIZER}
        parameters, memory = self.module.apply(ours, self.encoded(variables, obs), memory)
        return self.to_distribution(*networks.masked(parameters, obs, self.space)), memory

    def follow(self, variables: PyTree, seen: PyTree, obs: PyTree) -> PyTree:
        if not self.recurrent:
            return obs
        return Remembered(obs, self.run(variables, seen.obs, seen.memory)[1])

    def encode(self, variables: PyTree, seen: PyTree) -> PyTree:
        if not self.recurrent:
            return self.encoded(variables, seen)
        return {"obs": self.encoded(variables, seen.obs), "memory": seen.memory}

    def apply(self, variables: PyTree, seen: PyTree) -> Distribution:
        parts = (seen.obs, seen.memory) if self.recurrent else (seen, None)
        return self.run(variables, *parts)[0]

    def replay(self, variables: PyTree, seen: PyTree, valid: Array) -> Distribution:
        if self.recurrent:
            return jax.vmap(self.replay_window, (None, 0, 0))(variables, seen, valid)
        return jax.vmap(self.apply, (None, 0))(variables, seen)

    def replay_window(self, variables: PyTree, seen: PyTree, valid: Array) -> Distribution:
        """Of one window, [L, …]."""

        def row(memory, inputs):
            seen, starts = inputs
            memory = jax.tree.map(lambda old, x: jnp.where(starts, x, old), memory, seen.memory)
            distribution, memory = self.run(variables, seen.obs, memory)
            return memory, distribution

        first = jax.tree.map(lambda x: x[0], seen.memory)
        # A row that follows one in which nothing was done is an episode's first.
        starts = jnp.append(True, ~valid[:-1])
        return jax.lax.scan(row, first, (seen, starts))[1]

    def observe(self, variables: PyTree, seen: PyTree, valid: Array) -> PyTree:
        if not self.normalizes:
            return variables
        obs = seen.obs if self.recurrent else seen
        plain = jax.vmap(jax.vmap(lambda x: networks.encode(x, self.space)))(obs)
        return {**variables, _NORMALIZER: normalizers.add(variables[_NORMALIZER], plain, valid)}

    def stuck(self, seen: PyTree, valid: Array) -> Array:
        obs = seen.obs if self.recurrent else seen
        return jnp.any(valid & networks.excludes_all(obs, self.space))


def head_name(environment: Environment) -> str:
    """The distribution that "auto" chooses for an environment's actions.

    Raises:
      TypeError: none covers them.
    """
    return _head(environment, "auto")[1].__name__


def _head(environment: Environment, distribution: str) -> tuple[nn.Module, type, Callable]:
    """The head, the type of distribution, and the function from the one's outputs to the other."""
    space, name = environment.action_space, environment.name
    if distribution not in DISTRIBUTIONS:
        raise ValueError(unknown(f"distribution {distribution!r}", distribution, DISTRIBUTIONS))
    if isinstance(space, spaces.Discrete):
        if distribution not in ("auto", "categorical"):
            raise TypeError(f"{name}: distribution {distribution!r} needs a Box, not {space!r}")
        return CategoricalHead(space.n), Categorical, Categorical
    if not isinstance(space, spaces.Box):
        raise TypeError(f"{name}: no policy head for the actions {space!r}, only Discrete and Box")
    if distribution == "categorical":
        raise TypeError(f"{name}: distribution 'categorical' needs Discrete actions, not {space!r}")
    if distribution in ("tanh_normal", "beta") and not environment.bounded:
        raise TypeError(
            f"{name}: distribution {distribution!r} needs finite bounds, not {space!r}; "
            "'auto' takes any"
        )
    kind, to_distribution = _continuous(environment, distribution)
    head = (BetaHead if kind is Beta else NormalHead)(tuple(space.shape))
    if not is_whole(space):
        return head, kind, to_distribution
    low, high = _whole_bounds(environment)
    return head, kind, lambda *parameters: Rounded(to_distribution(*parameters), low, high)


def _continuous(environment: Environment, distribution: str) -> tuple[type, Callable]:
    """The distribution over a Box, and the function from its head's outputs to it."""
    low, high = _bounds(environment)
    if distribution == "beta":
        return Beta, lambda alpha, beta: Beta(alpha, beta, low, high)
    unbounded = not np.isfinite(environment.bounds).any()
    if distribution == "normal" or unbounded:
        middle, half = _typical(low, high)
        return Normal, lambda mean, log_std: Normal(
            middle + half * mean, log_std + jnp.log(half), low, high
        )
    kind = TanhNormal if environment.bounded else SquashedNormal
    return kind, lambda mean, log_std: kind(mean, log_std, low, high)


def _typical(low: Array, high: Array) -> tuple[Array, Array]:
    """Where a normal starts, and its unit: a Box's middle and half its width; 1 inside an only
    bound and 1; 0 and 1 without any."""
    inside = jnp.where(jnp.isfinite(low), low + 1.0, jnp.where(jnp.isfinite(high), high - 1.0, 0.0))
    both = jnp.isfinite(high - low)
    half = jnp.where(both & (high > low), (high - low) / 2.0, 1.0)
    return jnp.where(both, (low + high) / 2.0, inside), half


def _bounds(environment: Environment) -> tuple[Array, Array]:
    """The range of continuous actions: float[*shape] both. Of integers, half a unit more at each
    end, so that rounding makes the outermost as likely as those between."""
    space = environment.action_space
    low, high = _as_arrays(environment)
    margin = jnp.where(low < high, 0.5 if is_whole(space) else 0.0, 0.0)
    return low - margin, high + margin


def _whole_bounds(environment: Environment) -> tuple[Array, Array]:
    """The least and the largest integers of a Box, in its dtype."""
    dtype = jnp.dtype(environment.action_space.dtype)
    limits = (0, 1) if dtype.kind == "b" else (jnp.iinfo(dtype).min, jnp.iinfo(dtype).max)
    low, high = _as_arrays(environment)
    rounded = (jnp.ceil(low), jnp.floor(high))
    low, high = (
        jnp.where(jnp.isfinite(x), jnp.where(jnp.isfinite(x), x, 0.0).astype(dtype), limit)
        for x, limit in zip(rounded, np.array(limits, dtype), strict=True)
    )
    return low, high


def _as_arrays(environment: Environment) -> tuple[Array, Array]:
    space = environment.action_space
    bounds = (jnp.asarray(bound, float) for bound in (space.low, space.high))
    actual = (jnp.broadcast_to(bound, space.shape) for bound in bounds)
    # What stands for no bound, as the largest number of a dtype does, is infinite there.
    low, high = (
        jnp.where(np.isfinite(usual), bound, usual.astype(bound.dtype))
        for bound, usual in zip(actual, environment.bounds, strict=True)
    )
    return low, high
