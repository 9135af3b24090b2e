"""The contract of schedulers: which trials begin, how long a round is, and what follows it."""

import abc
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from pgjax.core.components import Component
from pgjax.core.types import Array
from pgjax.runs.tuning.space import Axis, Point
from pgjax.runs.tuning.trials import Trial


class Scheduler(Component, abc.ABC):
    """A rule that divides a tuning's updates among its trials.

    All that it decides depends on its arguments alone, so that an interrupted tuning goes on to the
    same trials.

    Attributes:
      default_seeds: seeds of a trial, where the caller does not say.
      least_trials: the fewest trials that it can decide between.
      changes_points: whether a trial's point may change between two rounds.
    """

    default_seeds: ClassVar[int]
    least_trials: ClassVar[int] = 1
    changes_points: ClassVar[bool] = False

    def check_axes(self, axes: Sequence[Axis]) -> None:
        """Raises ValueError for a space that it cannot search."""

    def check_extra(self) -> None:
        """Raises `MissingExtra` if a package that it needs is not installed."""

    @abc.abstractmethod
    def check_length(self, num_updates: int) -> None:
        """Raises ValueError if a trial of so many updates is too short for it."""

    @abc.abstractmethod
    def batch_size(self, num_trials: int) -> int:
        """Trials side by side."""

    @abc.abstractmethod
    def round_updates(self, num_updates: int) -> int:
        """Updates of a round, where a trial has so many: the last round may be shorter."""

    def keys(self, key: Array, num_trials: int, num_seeds: int) -> Array:
        """key[num_trials, num_seeds]; by default the same seeds for every trial."""
        return jnp.tile(jax.random.split(key, num_seeds), (num_trials, 1))

    @abc.abstractmethod
    def proposals(
        self, axes: Sequence[Axis], trials: Sequence[Trial], number: int, seed: int
    ) -> list[Point]:
        """The points of the next `number` trials, after all so far.

        Args:
          seed: in [0, 2³²).
        """

    @abc.abstractmethod
    def decided(self, axes: Sequence[Axis], trials: Sequence[Trial], seed: int) -> list[Trial]:
        """All trials after a round, by number: with those stopped that do not go on, or with a
        handover for each that does.

        Args:
          trials: all so far; those that have made their last update are done.
          seed: in [0, 2³²).
        """
