"""Heads: what a policy needs to know of an environment's action space, one object for each."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pgjax import networks
from pgjax.components import record, static, unknown
from pgjax.distributions import (
    Beta,
    Categorical,
    Distribution,
    Normal,
    Rounded,
    SquashedNormal,
    TanhNormal,
    rounded,
)
from pgjax.environments import Environment, is_whole, spaces
from pgjax.types import Array, PyTree

DISTRIBUTIONS = ("auto", "categorical", "normal", "tanh_normal", "beta")
_MASK = "action_mask"

# A small last layer starts the policy nearly uniform: with sparse rewards, a first batch that never
# meets one then costs time only, and does not freeze an arbitrary preference for some action.
_HEAD_INIT = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
_INITIAL_LOG_STD = -0.5
_LOG_STD_RANGE = (-5.0, 2.0)
_INITIAL_CONCENTRATION = 1.0


class Head(abc.ABC):
    """An action space and the family of distributions over it.

    A head is a pytree (`components.record`): bounds are leaves, as they may follow traced
    parameters of the environment; sizes and shapes are static.
    """

    @abc.abstractmethod
    def __str__(self) -> str:
        """The action space in short, as "Discrete(2)"."""

    @property
    @abc.abstractmethod
    def family(self) -> str:
        """The distribution's name, as "Categorical"."""

    @property
    def num_actions(self) -> int | None:
        """n, if the actions are 0 … n−1, so that a Q critic can give all their values at once."""
        return None

    @abc.abstractmethod
    def module(self) -> nn.Module:
        """A Flax module without memory: features float[n] -> the parameters, a pytree of arrays."""

    @abc.abstractmethod
    def distribution(self, parameters: PyTree, mask: PyTree = None) -> Distribution:
        """The distribution of one action.

        Args:
          parameters: the module's output for one observation.
          mask: the observation's entry "action_mask", or None: 0 or False excludes an action.
        """

    @abc.abstractmethod
    def noise(self, key: Array, shape: tuple[int, ...]) -> PyTree:
        """Noise for `Distribution.sample`, each leaf [*shape, …]: independent for each action."""

    @abc.abstractmethod
    def random_action(self, key: Array) -> PyTree:
        """An action for the environment, uniform over the space; where a dimension has one bound,
        |N(0, 1)| away from it, and N(0, 1) where it has none."""

    @abc.abstractmethod
    def encode(self, action: PyTree) -> Array:
        """One action, as the environment gets it, for a Q critic: float[k]."""

    def check_mask(self, name: str, mask_space: Any) -> None:
        """Raises unless a mask of this space fits the actions; `name` begins the message."""
        raise TypeError(f"{name}: an observation's {_MASK!r} needs Discrete actions, not {self}")

    def excludes_all(self, mask: PyTree) -> Array:
        """Whether masks, each leaf [..., n], leave no action: bool[...]; None leaves all."""
        del mask
        return jnp.bool_(False)


def of(environment: Environment, distribution: str = "auto") -> Head:
    """The head for an environment's actions.

    Args:
      environment: its action space and bounds count.
      distribution: "categorical" for Discrete actions, "normal", "tanh_normal" or "beta" for Box
        ones; "auto": categorical, tanh_normal for a bounded Box, normal for an unbounded one; where
        a Box has some bounds only, a normal squashed in each dimension by those that it has.

    Raises:
      ValueError: an unknown distribution; the message names the nearest.
      TypeError: an action space that no head covers, or not with that distribution.
    """
    space, name = environment.action_space, environment.name
    if distribution not in DISTRIBUTIONS:
        raise ValueError(unknown(f"distribution {distribution!r}", distribution, DISTRIBUTIONS))
    if isinstance(space, spaces.Discrete):
        if distribution not in ("auto", "categorical"):
            raise TypeError(f"{name}: distribution {distribution!r} needs a Box, not {space!r}")
        return CategoricalHead(space.n)
    if not isinstance(space, spaces.Box):
        raise TypeError(f"{name}: no policy head for the actions {space!r}, only Discrete and Box")
    if distribution == "categorical":
        raise TypeError(f"{name}: distribution 'categorical' needs Discrete actions, not {space!r}")
    if distribution in ("tanh_normal", "beta") and not environment.bounded:
        raise TypeError(
            f"{name}: distribution {distribution!r} needs finite bounds, not {space!r}; "
            "'auto' takes any"
        )
    return _box_head(environment, distribution)


@record
class CategoricalHead(Head):
    """Discrete: one of n actions.

    Attributes:
      n: their number.
    """

    n: int = static()

    def __str__(self) -> str:
        return f"Discrete({self.n})"

    @property
    def family(self) -> str:
        return Categorical.__name__

    @property
    def num_actions(self) -> int:
        return self.n

    def module(self) -> nn.Module:
        """float[features] -> (logits[n],)."""
        return Logits(self.n)

    def distribution(self, parameters: tuple[Array], mask: Array | None = None) -> Categorical:
        """Where the mask, [n], excludes every action, all are equally likely, and an update with
        such a step is not made.

        Raises:
          ValueError: the mask has not one entry for each action.
        """
        (logits,) = parameters
        if mask is None:
            return Categorical(logits)
        if mask.shape != logits.shape:
            raise ValueError(self._misfit(mask.shape))
        return Categorical(jnp.where(mask.astype(bool), logits, jnp.finfo(logits.dtype).min / 4))

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """float[*shape]."""
        return Categorical.noise(key, shape)

    def random_action(self, key: Array) -> Array:
        """int32[]."""
        return jax.random.randint(key, (), 0, self.n)

    def encode(self, action: Array) -> Array:
        """One-hot: float[n]."""
        return jax.nn.one_hot(action, self.n)

    def check_mask(self, name: str, mask_space: Any) -> None:
        shape = getattr(mask_space, "shape", None)
        if shape is None or tuple(shape) != (self.n,):
            raise ValueError(f"{name}: the observation's {self._misfit(shape)}")

    def excludes_all(self, mask: Array | None) -> Array:
        return super().excludes_all(mask) if mask is None else ~jnp.any(mask.astype(bool), axis=-1)

    def _misfit(self, shape: Any) -> str:
        return (
            f"{_MASK!r} must have one entry for each of {self.n} actions, shape ({self.n},), "
            f"got {shape}"
        )


@record
class BoxHead(Head):
    """A Box of real numbers; its subclasses say which distribution.

    Attributes:
      low, high: float[*shape], action units; infinite where there is no bound.
      shape: of an action.
    """

    kind: ClassVar[type]

    low: Array
    high: Array
    shape: tuple[int, ...] = static()

    @classmethod
    def between(cls, low: Array, high: Array) -> "BoxHead":
        """The head of a Box with these bounds: float[*shape] both."""
        return cls(low, high, low.shape)

    def __str__(self) -> str:
        return f"Box({','.join(map(str, self.shape))})"

    @property
    def family(self) -> str:
        return self.kind.__name__

    def module(self) -> nn.Module:
        """float[features] -> (mean[*shape], log_std[*shape])."""
        return MeanAndLogStd(self.shape)

    def distribution(self, parameters: tuple[Array, Array], mask: None = None) -> Distribution:
        del mask
        return self.kind(*parameters, self.low, self.high)

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """[*shape, *self.shape, …], as the distribution takes it."""
        return self.kind.noise(key, (*shape, *self.shape))

    def random_action(self, key: Array) -> Array:
        """float[*shape]."""
        far_key, between_key = jax.random.split(key)
        lower, upper = jnp.isfinite(self.low), jnp.isfinite(self.high)
        far = jax.random.normal(far_key, self.shape)
        below = jnp.where(upper, self.high - jnp.abs(far), far)
        open_end = jnp.where(lower, self.low + jnp.abs(far), below)
        closed = lower & upper
        low, high = jnp.where(closed, self.low, 0.0), jnp.where(closed, self.high, 1.0)
        between = jax.random.uniform(between_key, self.shape, float, low, high)
        return jnp.where(closed, between, open_end)

    def encode(self, action: Array) -> Array:
        """The numbers themselves: float[k]."""
        return jnp.ravel(action).astype(float)


@record
class NormalHead(BoxHead):
    """`Normal` for any Box.

    Attributes:
      middle, unit: float[*shape], action units; where a mean of 0 stands, and a mean of 1 from
        there: a Box's middle and half its width; 1 inside an only bound and 1; 0 and 1 without any.
    """

    kind = Normal

    middle: Array
    unit: Array

    @classmethod
    def between(cls, low: Array, high: Array) -> "NormalHead":
        only = jnp.where(jnp.isfinite(high), high - 1.0, 0.0)
        inside = jnp.where(jnp.isfinite(low), low + 1.0, only)
        both = jnp.isfinite(high - low)
        unit = jnp.where(both & (high > low), (high - low) / 2.0, 1.0)
        middle = jnp.where(both, (low + high) / 2.0, inside)
        return cls(low, high, low.shape, middle, unit)

    def distribution(self, parameters: tuple[Array, Array], mask: None = None) -> Normal:
        del mask
        mean, log_std = parameters
        mean, log_std = self.middle + self.unit * mean, log_std + jnp.log(self.unit)
        return Normal(mean, log_std, self.low, self.high)


@record
class TanhNormalHead(BoxHead):
    """`TanhNormal`, for a Box with all its bounds."""

    kind = TanhNormal


@record
class SquashedNormalHead(BoxHead):
    """`SquashedNormal`, for a Box with some bounds."""

    kind = SquashedNormal


@record
class BetaHead(BoxHead):
    """`Beta`, for a Box with all its bounds."""

    kind = Beta

    def module(self) -> nn.Module:
        """float[features] -> (alpha[*shape], beta[*shape])."""
        return Concentrations(self.shape)


@record
class RoundedHead(Head):
    """A Box of integers: a continuous head's action, rounded.

    Attributes:
      continuous: a head whose range reaches half a unit beyond the integers at its ends.
      low, high: integers[*shape] of the action space's dtype; the legal range.
    """

    continuous: BoxHead
    low: Array
    high: Array

    def __str__(self) -> str:
        return f"{self.continuous} {self.low.dtype.name}"

    @property
    def family(self) -> str:
        return self.continuous.family

    def module(self) -> nn.Module:
        """The continuous head's."""
        return self.continuous.module()

    def distribution(self, parameters: PyTree, mask: None = None) -> Rounded:
        del mask
        return Rounded(self.continuous.distribution(parameters), self.low, self.high)

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """The continuous head's."""
        return self.continuous.noise(key, shape)

    def random_action(self, key: Array) -> Array:
        """The space's dtype, [*shape]."""
        return rounded(self.continuous.random_action(key), self.low, self.high)

    def encode(self, action: Array) -> Array:
        """The numbers themselves: float[k]."""
        return self.continuous.encode(action)


# Masks are an entry of Dict observations, which the network does not see.


def mask_space(observation_space: Any) -> Any:
    """The space of the observation's entry "action_mask", or None."""
    if not isinstance(observation_space, spaces.Dict):
        return None
    return observation_space.spaces.get(_MASK)


def mask(obs: PyTree, observation_space: Any) -> PyTree:
    """An observation's entry "action_mask", or None if its space has none."""
    if mask_space(observation_space) is None:
        return None
    return obs[_MASK] if isinstance(obs, Mapping) else getattr(obs, _MASK)


def without_mask(observation_space: Any) -> Any:
    """The space of what the network sees."""
    if mask_space(observation_space) is None:
        return observation_space
    entries = observation_space.spaces.items()
    return spaces.Dict({name: space for name, space in entries if name != _MASK})


class Logits(nn.Module):
    """logits = W x + b, one for each of n actions."""

    num_actions: int

    @nn.compact
    def __call__(self, features: Array) -> tuple[Array]:
        """float[features] -> (logits[n],)."""
        return (networks.Dense(self.num_actions, kernel_init=_HEAD_INIT)(features),)


class MeanAndLogStd(nn.Module):
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


class Concentrations(nn.Module):
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


def _box_head(environment: Environment, distribution: str) -> Head:
    space, (low, high) = environment.action_space, _bounds(environment)
    # Rounding then makes the outermost integers as likely as those between.
    margin = jnp.where(low < high, 0.5 if is_whole(space) else 0.0, 0.0)
    kind = _continuous_kind(environment, distribution)
    continuous = kind.between(low - margin, high + margin)
    if not is_whole(space):
        return continuous
    return RoundedHead(continuous, *_whole_bounds(low, high, jnp.dtype(space.dtype)))


def _continuous_kind(environment: Environment, distribution: str) -> type[BoxHead]:
    if distribution == "beta":
        return BetaHead
    if distribution == "normal" or not np.isfinite(environment.bounds).any():
        return NormalHead
    return TanhNormalHead if environment.bounded else SquashedNormalHead


def _bounds(environment: Environment) -> tuple[Array, Array]:
    """Low and high of a Box: float[*shape] both."""
    space = environment.action_space
    bounds = (jnp.asarray(bound, float) for bound in (space.low, space.high))
    actual = (jnp.broadcast_to(bound, space.shape) for bound in bounds)
    # What stands for no bound, as the largest number of a dtype does, is infinite there.
    low, high = (
        jnp.where(np.isfinite(usual), bound, usual.astype(bound.dtype))
        for bound, usual in zip(actual, environment.bounds, strict=True)
    )
    return low, high


def _whole_bounds(low: Array, high: Array, dtype: Any) -> tuple[Array, Array]:
    """The least and the largest integers of a Box, in its dtype."""
    limits = (0, 1) if dtype.kind == "b" else (jnp.iinfo(dtype).min, jnp.iinfo(dtype).max)
    rounded_bounds = (jnp.ceil(low), jnp.floor(high))
    low, high = (
        jnp.where(jnp.isfinite(x), jnp.where(jnp.isfinite(x), x, 0.0).astype(dtype), limit)
        for x, limit in zip(rounded_bounds, np.array(limits, dtype), strict=True)
    )
    return low, high
