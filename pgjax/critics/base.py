"""The contract of critics: they value an update's trajectories, and then learn from them."""

import abc
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.sharding import Mesh

from pgjax.core.components import Component, record, static
from pgjax.core.types import Array, PyTree, Trajectories
from pgjax.estimators.estimator import Estimator, Values
from pgjax.policies.heads import Head
from pgjax.policies.policy import Policy


@record
class Setting:
    """The parts of an update that a critic works with.

    Attributes:
      policy, variables: the sampling policy; the critic sees observations in its encoding.
      estimator: decides which values it needs, their discount, and whether they bootstrap.
      ragged: whether trajectories end early, as whole episodes do.
      mesh: the devices that the trajectories are divided over, or None.
    """

    policy: Policy
    variables: PyTree
    estimator: Estimator
    ragged: bool = static()
    mesh: Mesh | None = static()


class BoundCritic(abc.ABC):
    """A critic in its setting. Its `state` is a pytree of what it has learned, () for nothing.

    Attributes:
      joint: whether its loss is subtracted from the policy's objective; `fit` then does nothing.
    """

    joint: ClassVar[bool] = False

    def start(self, key: Array) -> PyTree:
        """The state before the first update."""
        return ()

    def prepared(self, state: PyTree, trajectories: Trajectories) -> PyTree:
        """The state with what it needs from trajectories before it evaluates them."""
        return state

    @abc.abstractmethod
    def evaluate(self, critic_state: PyTree, trajectories: Trajectories) -> Values:
        """The values that the estimator needs, of every step."""

    def lesson(
        self, state: PyTree, trajectories: Trajectories, values: Values
    ) -> tuple[PyTree, PyTree, dict[str, Array]]:
        """The state, in the units of the lesson; the lesson, [T, m, …]; and a report of metrics."""
        return state, (), {}

    def fit(self, key: Array, state: PyTree, trajectories: Trajectories, lesson: PyTree) -> PyTree:
        """The state after it has learned its lesson."""
        return state

    def loss(self, state: PyTree, output: PyTree, lesson: PyTree) -> Array:
        """One step's loss, float[], given the policy network's output for its value; subtracted
        from the objective where the critic is `joint`."""
        raise NotImplementedError(f"{type(self).__name__} has no loss of its own")


class BaseCritic(Component, abc.ABC):
    """Base of every critic's settings, the value of `Config.critic`."""

    @abc.abstractmethod
    def bound(self, setting: Setting) -> BoundCritic:
        """The critic in its setting."""

    def policy_module(self, estimator: Estimator, head: Head) -> nn.Module | None:
        """A module from the policy's features to a value, if the critic has no network; or None."""
        return None

    def check_network(self, path: str) -> None:
        """Raises TypeError or ValueError if the critic has a network and cannot use it."""

    def check_steps(self, path: str, steps: int) -> None:
        """Raises ValueError unless it can learn from so many steps an update."""


class Oracle(BaseCritic, BoundCritic):
    """Base of a user's critic that learns nothing: its values are used as they are."""

    def bound(self, setting: Setting) -> BoundCritic:
        """Itself."""
        return self


@record
class Absent(BoundCritic):
    """The critic of an estimator that needs none."""

    def evaluate(self, critic_state: PyTree, trajectories: Trajectories) -> Values:
        """Nothing."""
        return Values(jnp.zeros(()))
