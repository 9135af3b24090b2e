"""The loss of critics that are fitted by regression on λ-returns."""

import abc
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import optax

from pgjax.core.types import Array, PyTree
from pgjax.critics import units
from pgjax.critics.base import BaseCritic
from pgjax.critics.units import CriticState

# With a small last layer the first value is the mean in every state: other values of an untrained
# network would be standardised into weights as large as any.
LAST_INIT = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
LOSSES: dict[str, Callable[[Array], Array]] = {
    "squared": lambda error: 0.5 * jnp.square(error),
    "huber": optax.losses.huber_loss,
}


class Regression(BaseCritic, abc.ABC):
    """Base of the settings of critics that are fitted by regression.

    Attributes:
      td_lambda: λ of the targets, in [0, 1]; 1: the return to the episode's end, if the trajectory
        reaches it.
      loss: a name in `LOSSES`, of the error in units of the targets' standard deviation.
      value_clip: if a number ε ≥ 0, a step stops counting once its value is ε standard deviations
        from its value before the update.
    """

    td_lambda: float
    loss: str
    value_clip: float | None

    def lesson_loss(self, state: CriticState, output: Array, lesson: PyTree) -> Array:
        """The step's loss, float[].

        Args:
          output: the network's output, in its units: a value, or the values of all actions.
          lesson: the action; the target and the value before the update, in reward units.
        """
        action, target, old = lesson
        output = units.action_value(output, action) if output.ndim else output
        return self.step_loss(output, state.in_units(old), state.in_units(target))

    def step_loss(self, value: Array, old: Array, target: Array) -> Array:
        """The loss of one step; `old` is the value before the update; in the network's units."""
        loss = LOSSES[self.loss](value - target)
        if self.value_clip is None:
            return loss
        clipped = old + jnp.clip(value - old, -self.value_clip, self.value_clip)
        return jnp.maximum(loss, LOSSES[self.loss](clipped - target))
