"""Heads of Box actions: real numbers or integers, with or without bounds."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.components import record, static
from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.policies.action_heads.discrete import HEAD_INIT
from pgjax.policies.action_heads.head import Head, register
from pgjax.policies.distributions import (
    Beta,
    Distribution,
    Normal,
    Rounded,
    SquashedNormal,
    TanhNormal,
    rounded,
)

_INITIAL_LOG_STD = -0.5
_LOG_STD_RANGE = (-5.0, 2.0)
_INITIAL_CONCENTRATION = 1.0


class MeanAndLogStd(nn.Module):
    """mean = W x + b, and one learned log std per dimension, the same in every state.

    `NormalHead` takes both in units of half the action's legal range. log std starts at −0.5 and is
    clipped to [−5, 2]; outside that range, gradients that lead back into it still count.
    """

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, features: Array) -> tuple[Array, Array]:
        """float[features] -> (mean[*shape], log_std[*shape])."""
        layer = nn.DenseGeneral(self.shape or (1,), kernel_init=HEAD_INIT, param_dtype=_float())
        mean = layer(features)
        initial = nn.initializers.constant(_INITIAL_LOG_STD)
        log_std = self.param("log_std", initial, self.shape)
        return mean.reshape(self.shape), _bounded(log_std)


class Concentrations(nn.Module):
    """α = 1 + softplus(W x + b) and β likewise, for each dimension: a density with one maximum."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, features: Array) -> tuple[Array, Array]:
        """float[features] -> (alpha[*shape], beta[*shape])."""
        bias = nn.initializers.constant(_INITIAL_CONCENTRATION)
        layer = nn.DenseGeneral(
            (2, *self.shape), kernel_init=HEAD_INIT, bias_init=bias, param_dtype=_float()
        )
        return tuple(1.0 + jax.nn.softplus(layer(features)))


def _bounded(log_std: Array) -> Array:
    """log_std clipped to its range, with a gradient that leads back into the range.

    Outside the range a clip has no gradient, so that the parameter would never return: here an
    ascent's gradient passes if it leads back, and is 0 if it leads further away.
    """
    steered = _steer_back(log_std)
    clipped = jax.lax.stop_gradient(jnp.clip(steered, *_LOG_STD_RANGE))
    return clipped + (steered - jax.lax.stop_gradient(steered))


@jax.custom_vjp
def _steer_back(log_std: Array) -> Array:
    """The identity, whose gradient is 0 where it leads further out of the range."""
    return log_std


def _inward_gradient(log_std: Array, gradient: Array) -> tuple[Array]:
    low, high = _LOG_STD_RANGE
    outward = ((log_std < low) & (gradient < 0.0)) | ((log_std > high) & (gradient > 0.0))
    return (jnp.where(outward, 0.0, gradient),)


_steer_back.defvjp(lambda log_std: (log_std, log_std), _inward_gradient)


def _float() -> Any:
    # JAX's default, as in `networks.Dense`; Flax's own layers use float32 whatever it is.
    return jnp.result_type(float)


@record
class BoxHead(Head):
    """A Box of real numbers; a subclass names the distribution.

    Attributes:
      low, high: float[*shape], action units; infinite without a bound.
      shape: the shape of an action.
    """

    distribution_class: ClassVar[type]

    low: Array
    high: Array
    shape: tuple[int, ...] = static()

    @classmethod
    def between(cls, low: Array, high: Array) -> "BoxHead":
        """The head of a Box with these bounds, float[*shape] each."""
        return cls(low, high, low.shape)

    def __str__(self) -> str:
        return f"Box({','.join(map(str, self.shape))})"

    @property
    def family(self) -> str:
        return self.distribution_class.__name__

    def module(self) -> nn.Module:
        """float[features] -> (mean[*shape], log_std[*shape])."""
        return MeanAndLogStd(self.shape)

    def distribution(self, parameters: tuple[Array, Array], mask: None = None) -> Distribution:
        del mask
        return self.distribution_class(*parameters, self.low, self.high)

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """[*shape, *self.shape, …], for the distribution's `sample`."""
        return self.distribution_class.noise(key, (*shape, *self.shape))

    def random_action(self, key: Array) -> Array:
        """float[*shape]."""
        normal_key, uniform_key = jax.random.split(key)
        has_low, has_high = jnp.isfinite(self.low), jnp.isfinite(self.high)
        normal = jax.random.normal(normal_key, self.shape)
        above, below = self.low + jnp.abs(normal), self.high - jnp.abs(normal)
        closed = has_low & has_high
        low, high = jnp.where(closed, self.low, 0.0), jnp.where(closed, self.high, 1.0)
        uniform = jax.random.uniform(uniform_key, self.shape, float, low, high)
        return jnp.select([closed, has_low, has_high], [uniform, above, below], normal)

    def encode(self, action: Array) -> Array:
        """The numbers themselves: float[k]."""
        return jnp.ravel(action).astype(float)


@record
class NormalHead(BoxHead):
    """`Normal` for any Box.

    Attributes:
      middle: float[*shape], action units; the action of a mean of 0: the middle between two
        bounds, 1 inside an only bound, 0 without bounds.
      unit: float[*shape], action units; the unit of mean and std: half the distance between two
        bounds, else 1.
    """

    distribution_class = Normal

    middle: Array
    unit: Array

    @classmethod
    def between(cls, low: Array, high: Array) -> "NormalHead":
        closed = jnp.isfinite(high - low)
        unit = jnp.where(closed & (high > low), (high - low) / 2.0, 1.0)
        cases = [closed, jnp.isfinite(low), jnp.isfinite(high)]
        middle = jnp.select(cases, [(low + high) / 2.0, low + 1.0, high - 1.0], 0.0)
        return cls(low, high, low.shape, middle, unit)

    def distribution(self, parameters: tuple[Array, Array], mask: None = None) -> Normal:
        del mask
        mean, log_std = parameters
        mean, log_std = self.middle + self.unit * mean, log_std + jnp.log(self.unit)
        return Normal(mean, log_std, self.low, self.high)


@record
class TanhNormalHead(BoxHead):
    """`TanhNormal`, for a Box with all its bounds."""

    distribution_class = TanhNormal


@record
class SquashedNormalHead(BoxHead):
    """`SquashedNormal`, for a Box with some bounds."""

    distribution_class = SquashedNormal


@record
class BetaHead(BoxHead):
    """`Beta`, for a Box with all its bounds."""

    distribution_class = Beta

    def module(self) -> nn.Module:
        """float[features] -> (alpha[*shape], beta[*shape])."""
        return Concentrations(self.shape)


@record
class RoundedHead(Head):
    """A Box of integers: a continuous head's action, rounded.

    Attributes:
      continuous: a head whose range reaches half a unit beyond the outermost integers.
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
        """The continuous head's module."""
        return self.continuous.module()

    def distribution(self, parameters: PyTree, mask: None = None) -> Rounded:
        del mask
        return Rounded(self.continuous.distribution(parameters), self.low, self.high)

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """The continuous head's noise."""
        return self.continuous.noise(key, shape)

    def random_action(self, key: Array) -> Array:
        """The space's dtype, [*shape]."""
        return rounded(self.continuous.random_action(key), self.low, self.high)

    def encode(self, action: Array) -> Array:
        """The numbers themselves: float[k]."""
        return self.continuous.encode(action)


@register(spaces.Box, ("normal", "tanh_normal", "beta"))
def _box(part: str, space: Any, bounds: Any, distribution: str) -> Head:
    head_class = _head_class(part, space, bounds, distribution)
    low, high = _bounds(space, bounds)
    # Rounding then makes the outermost integers as likely as those between.
    margin = jnp.where(low < high, 0.5 if spaces.is_whole(space) else 0.0, 0.0)
    continuous = head_class.between(low - margin, high + margin)
    if not spaces.is_whole(space):
        return continuous
    return RoundedHead(continuous, *_whole_bounds(low, high, jnp.dtype(space.dtype)))


def _head_class(part: str, space: Any, bounds: Any, distribution: str) -> type[BoxHead]:
    finite = np.isfinite(bounds)
    if distribution in ("tanh_normal", "beta") and not finite.all():
        raise TypeError(
            f"{part}: distribution {distribution!r} needs finite bounds, not {space!r}; "
            "'auto' takes any"
        )
    if distribution == "beta":
        return BetaHead
    if distribution == "normal" or not finite.any():
        return NormalHead
    return TanhNormalHead if finite.all() else SquashedNormalHead


def _bounds(space: Any, default_bounds: Any) -> tuple[Array, Array]:
    """Low and high of a Box, float[*shape] each; infinite where `default_bounds` are."""
    bounds = (jnp.asarray(bound, float) for bound in (space.low, space.high))
    actual = (jnp.broadcast_to(bound, space.shape) for bound in bounds)
    # A number that means no bound, such as the largest of a dtype, is infinite in `default_bounds`.
    low, high = (
        jnp.where(np.isfinite(default), bound, default.astype(bound.dtype))
        for bound, default in zip(actual, default_bounds, strict=True)
    )
    return low, high


def _whole_bounds(low: Array, high: Array, dtype: Any) -> tuple[Array, Array]:
    """The smallest and the largest integers of a Box, in its dtype."""
    limits = (0, 1) if dtype.kind == "b" else (jnp.iinfo(dtype).min, jnp.iinfo(dtype).max)
    rounded_bounds = (jnp.ceil(low), jnp.floor(high))
    low, high = (
        jnp.where(jnp.isfinite(x), jnp.where(jnp.isfinite(x), x, 0.0).astype(dtype), limit)
        for x, limit in zip(rounded_bounds, np.array(limits, dtype), strict=True)
    )
    return low, high
