"""The contract of samplers, which sample the trajectories that an update learns from."""

import abc
from typing import ClassVar

from pgjax.core.components import Component, check_int
from pgjax.core.types import Array, PyTree, Trajectories
from pgjax.environments.interface import Environment
from pgjax.sampling.rollout import Actor


class Sampler(Component, abc.ABC):
    """Base of every sampler, the user's own included: samples an update's trajectories.

    Attributes:
      whole_episodes: whether each trajectory is one episode.
      width_field, rows_field: names of the fields for m and T, for messages.
    """

    whole_episodes: ClassVar[bool]
    width_field: ClassVar[str]
    rows_field: ClassVar[str]

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """m, trajectories side by side."""

    @property
    def num_steps(self) -> int | None:
        """Steps in each update; None if that depends on the episodes' lengths."""
        return None

    @abc.abstractmethod
    def num_rows(self, environment: Environment) -> int:
        """T, the rows of an update's trajectories."""

    @abc.abstractmethod
    def resolve_horizon(self, environment: Environment) -> int:
        """The longest whole episode, in steps.

        Raises:
          ValueError: nothing limits it.
        """

    @abc.abstractmethod
    def start(self, keys: Array, actor: Actor) -> PyTree:
        """The streams' state before the first update, given keys [m]; each leaf [m, …]."""

    @abc.abstractmethod
    def sample(
        self, keys: Array, active: Array, streams: PyTree, actor: Actor
    ) -> tuple[Trajectories, PyTree]:
        """Samples trajectories [T, n] with n keys; `active`, bool[n], says which are needed.

        Returns:
          The trajectories, and the streams' state after them.
        """

    @abc.abstractmethod
    def repair(self, streams: PyTree, before: PyTree) -> tuple[PyTree, Array]:
        """The streams' state for the next update, given `before`, the state before this one; and
        whether each was finite, bool[n] or bool[]."""

    @abc.abstractmethod
    def divisor(self, valid: Array, share: float = 1.0) -> float | Array:
        """The number by which a sum over steps is divided to give the objective.

        Args:
          valid: bool[T, m].
          share: the share of the update's rows that `valid` has; below 1 in a minibatch.
        """

    @abc.abstractmethod
    def counts(self, trajectories: Trajectories, streams: PyTree) -> tuple[Array, Array]:
        """Summed returns of the episodes that ended; int32[3]: their number, their summed lengths,
        and all valid steps."""


def horizon(sampler: Sampler, environment: Environment) -> int:
    """The longest whole episode, in steps; raises unless the sampler gives a number of steps."""
    steps = sampler.resolve_horizon(environment)
    check_int(f"sampler {type(sampler).__name__}.resolve_horizon", steps, 1)
    return steps


def transitions(sampler: Sampler, environment: Environment) -> int:
    """m · T, the rows of an update.

    Raises:
      TypeError: T or the steps of an update are no integers.
      ValueError: they are below 1, or m · T is 2³¹ or more.
    """
    name = f"sampler {type(sampler).__name__}"
    rows = sampler.num_rows(environment)
    check_int(f"{name}.num_rows", rows, 1)
    number = sampler.width * rows
    if number >= 2**31:
        raise ValueError(
            f"sampler.{sampler.width_field} × {sampler.rows_field} must be below 2³¹ in one "
            f"update, got {number:,}"
        )
    if sampler.num_steps is not None:
        check_int(f"{name}.num_steps", sampler.num_steps, 1)
    return number
