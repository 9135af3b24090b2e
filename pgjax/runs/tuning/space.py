"""A search space: paths of a config, and the values that each may take."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from pgjax.core.names import shown
from pgjax.environments.wrappers.distributions import (
    Choice,
    LogUniform,
    ParameterDistribution,
    Uniform,
)
from pgjax.training.config import Config

Point = tuple[float, ...]  # a coordinate on each axis


class Axis(NamedTuple):
    """One path of a space. A coordinate is a number in a range, or the index of a choice.

    Attributes:
      path: dotted, as for `Config.replace`.
      low, high: the range, inclusive.
      log: whether the logarithm is searched evenly.
      values: the choices; (): a range.
    """

    path: str
    low: float
    high: float
    log: bool
    values: tuple[Any, ...] = ()

    def value(self, coordinate: float) -> Any:
        """What the config gets."""
        return self.values[int(coordinate)] if self.values else float(coordinate)


def checked_axes(space: Mapping[str, Any], config: Config) -> tuple[Axis, ...]:
    """The axes of a space that the user gives.

    Raises:
      ValueError, TypeError: no path, one that does not exist, wrong bounds, a range of what is part
        of the program, a value that stands there twice.
    """
    if not isinstance(space, Mapping) or not space:
        raise ValueError(
            "space must map at least one of the config's paths to a range or a list of values, "
            f"got {shown(space)}"
        )
    if "num_updates" in space:
        raise ValueError("space must not hold num_updates: budget says how long a trial is")
    axes = tuple(_axis(path, given) for path, given in space.items())
    for axis in axes:
        ends = [config.replace(**{axis.path: end}) for end in (axis.low, axis.high)]
        if not axis.values and jax.tree.structure(ends[0]) != jax.tree.structure(ends[1]):
            raise ValueError(
                f"space[{axis.path!r}] is part of the program, not a number to vary within one: "
                "give a list of values, as [8, 16]"
            )
    return axes


def _axis(path: str, given: Any) -> Axis:
    name = f"space[{path!r}]"
    if isinstance(given, Axis):  # of a folder
        return given
    if isinstance(given, Choice):
        given = given.values
    if isinstance(given, (Uniform, LogUniform)):
        given.check(name)
        return Axis(path, float(given.low), float(given.high), isinstance(given, LogUniform))
    if isinstance(given, ParameterDistribution):
        raise TypeError(f"{name} must be Uniform, LogUniform or a list, got {shown(given)}")
    if isinstance(given, str) or not np.iterable(given) or not (values := tuple(given)):
        raise ValueError(
            f"{name} must be Uniform(low, high), LogUniform(low, high) or a list of values, "
            f"got {shown(given)}"
        )
    repeated = [value for index, value in enumerate(values) if value in values[:index]]
    if repeated:
        raise ValueError(f"{name} has {repeated[0]!r} twice")
    return Axis(path, 0.0, len(values) - 1.0, False, values)
