"""Heads of Box actions, real or whole numbers, with or without bounds."""

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

    In units of half the action's legal range. log std starts at −0.5 and is kept in [−5, 2]; where
    the optimizer has left that range, gradients that lead back into it still count.
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
    """α = 1 + softplus(W x + b) and β likewise, one each per dimension: one hump, never two."""

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


@register(spaces.Box, ("normal", "tanh_normal", "beta"))
def _box(part: str, space: Any, bounds: Any, distribution: str) -> Head:
    kind = _kind(part, space, bounds, distribution)
    low, high = _bounds(space, bounds)
    # Rounding then makes the outermost integers as likely as those between.
    margin = jnp.where(low < high, 0.5 if spaces.is_whole(space) else 0.0, 0.0)
    continuous = kind.between(low - margin, high + margin)
    if not spaces.is_whole(space):
        return continuous
    return RoundedHead(continuous, *_whole_bounds(low, high, jnp.dtype(space.dtype)))


def _kind(part: str, space: Any, bounds: Any, distribution: str) -> type[BoxHead]:
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


def _bounds(space: Any, usual_bounds: Any) -> tuple[Array, Array]:
    """Low and high of a Box: float[*shape] both."""
    bounds = (jnp.asarray(bound, float) for bound in (space.low, space.high))
    actual = (jnp.broadcast_to(bound, space.shape) for bound in bounds)
    # What stands for no bound, as the largest number of a dtype does, is infinite there.
    low, high = (
        jnp.where(np.isfinite(usual), bound, usual.astype(bound.dtype))
        for bound, usual in zip(actual, usual_bounds, strict=True)
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
