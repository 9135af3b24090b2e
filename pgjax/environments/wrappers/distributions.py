"""Distributions of an environment's parameters, for `Randomized`."""

import abc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.components import Component, component, is_traced, option
from pgjax.core.names import shown
from pgjax.core.types import Array


class ParameterDistribution(Component, abc.ABC):
    """What a parameter is drawn from; one of your own is a component that says how.

    Attributes:
      whole: whether all that it draws are whole numbers, as parameters that are integers need.
    """

    @property
    def whole(self) -> bool:
        """Whether what is drawn are whole numbers."""
        return False

    @abc.abstractmethod
    def sample(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Independent draws, of this shape."""


@component
class Uniform(ParameterDistribution):
    """Uniform in [low, high].

    Attributes:
      low, high: low ≤ high, in the parameter's units.
    """

    low: float = option(0.0)
    high: float = option(1.0)

    def check(self, path: str) -> None:
        """Raises unless low ≤ high."""
        super().check(path)
        _check_order(path, self)

    def sample(self, key: Array, shape: tuple[int, ...]) -> Array:
        """low + (high − low) u, u uniform in [0, 1)."""
        return jax.random.uniform(key, shape, float, self.low, self.high)


@component
class LogUniform(ParameterDistribution):
    """Uniform in the logarithm: a factor of two is as likely anywhere in [low, high].

    Attributes:
      low, high: 0 < low ≤ high, in the parameter's units.
    """

    low: float = option(0.1, low=float(np.finfo(np.float32).tiny))
    high: float = option(10.0)

    def check(self, path: str) -> None:
        """Raises unless 0 < low ≤ high."""
        super().check(path)
        _check_order(path, self)

    def sample(self, key: Array, shape: tuple[int, ...]) -> Array:
        """exp(u), u uniform in [log low, log high)."""
        low, high = jnp.asarray(self.low, float), jnp.asarray(self.high, float)
        logarithm = jax.random.uniform(key, shape, float, jnp.log(low), jnp.log(high))
        return jnp.clip(jnp.exp(logarithm), low, high)


@component
class Normal(ParameterDistribution):
    """Normal, without bounds.

    Attributes:
      mean: in the parameter's units.
      standard_deviation: in the parameter's units, ≥ 0.
    """

    mean: float = option(0.0)
    standard_deviation: float = option(1.0, low=0.0)

    def sample(self, key: Array, shape: tuple[int, ...]) -> Array:
        """mean + standard_deviation · n, n standard normal."""
        return self.mean + self.standard_deviation * jax.random.normal(key, shape)


@component
class Choice(ParameterDistribution):
    """One of some values, each as likely; part of the program.

    Attributes:
      values: at least one number, or True and False.
    """

    values: tuple[float, ...] = (0.0, 1.0)

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        return all(float(value).is_integer() for value in self.values)

    def check(self, path: str) -> None:
        """Raises unless there are values, all of them finite numbers."""
        if not isinstance(self.values, tuple) or not self.values:
            raise TypeError(
                f"{path}.values must be a tuple of at least one number, got {shown(self.values)}"
            )
        for value in self.values:
            if not isinstance(value, (bool, int, float)) or not np.isfinite(value):
                raise ValueError(f"{path}.values must be finite numbers, got {shown(value)}")

    def sample(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Values, each with the same probability."""
        return jax.random.choice(key, jnp.asarray(self.values, float), shape)


def _check_order(path: str, distribution: Any) -> None:
    low, high = distribution.low, distribution.high
    if not is_traced(low) and not is_traced(high) and low > high:
        raise ValueError(f"{path}.low must be at most {path}.high = {high}, got {low}")
