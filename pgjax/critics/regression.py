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

# A small last layer starts with the mean everywhere: what an untrained network says would be
# standardised into weights as large as any.
LAST_INIT = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
LOSSES: dict[str, Callable[[Array], Array]] = {
    "squared": lambda error: 0.5 * jnp.square(error),
    "huber": optax.losses.huber_loss,
}


class Regression(BaseCritic, abc.ABC):
    """Base of their settings.

    Attributes:
      td_lambda: λ in [0, 1] of the targets; 1: the return to the episode's end, where it has one.
      loss: of `LOSSES`, of the error in units of the targets' standard deviation.
      value_clip: if a number ε ≥ 0, a step counts no more once its value has moved by ε standard
        deviations from what it was before the update.
    """

    td_lambda: float
    loss: str
    value_clip: float | None

    def lesson_loss(self, state: CriticState, output: Array, lesson: PyTree) -> Array:
        """The step's loss, float[].

        Args:
          output: what the network says, in its units: a value, or those of all actions.
          lesson: the action, the target and what was said before the update; reward units.
        """
        action, target, old = lesson
        output = units.of_taken(output, action) if output.ndim else output
        return self.step_loss(output, state.in_units(old), state.in_units(target))

    def step_loss(self, value: Array, old: Array, target: Array) -> Array:
        """The loss of one step; all three in the network's units."""
        loss = LOSSES[self.loss](value - target)
        if self.value_clip is None:
            return loss
        near = old + jnp.clip(value - old, -self.value_clip, self.value_clip)
        return jnp.maximum(loss, LOSSES[self.loss](near - target))
