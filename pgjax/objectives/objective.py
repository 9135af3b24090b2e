"""Objectives: what `jax.grad` differentiates, to be maximised; arrays in, arrays out.

    objective(θ) = (1/m) Σ_i Σ_t contribution(step),

a function of log π_θ(a_t | s_t), H[π_θ(· | s_t)] and a weight w_t that does not depend on θ. How
the parameters climb it is the `Ascent`'s to say.
"""

import abc
from typing import ClassVar

from pgjax.core.components import Component, record
from pgjax.core.types import Array, PyTree


@record
class Step:
    """One step of a trajectory, or arrays of steps, all of one shape.

    Attributes:
      log_prob: log π_θ(a_t | s_t), nats.
      old_log_prob: the same of the policy that sampled it; does not depend on θ.
      entropy: H[π_θ(· | s_t)], nats.
      weight: w_t, what the estimator made of the trajectory.
      time: the row among the update's, an integer from 0, in a minibatch too; of a whole episode,
        t.
    """

    log_prob: Array
    old_log_prob: Array
    entropy: Array
    weight: Array
    time: Array


class Reporter(Component):
    """Base of what says something of every step besides its contribution."""

    def report(self, step: Step) -> dict[str, Array]:
        """Each step's metrics by name, elementwise; updates report their means over valid steps."""
        return {}


class Objective(Reporter, abc.ABC):
    """Base of every objective, the user's own among them.

    Attributes:
      takes_all_actions: whether weights may be of all actions, with their probabilities in them, in
        place of the one that was taken.
      takes_ratio: whether weights may have the ratio ρ = π_θ / π_old of the action in them; not, if
        contributions have it themselves, or are not proportional to the weight.
    """

    takes_all_actions: ClassVar[bool] = True
    takes_ratio: ClassVar[bool] = True

    @abc.abstractmethod
    def contribution(self, step: Step) -> Array:
        """Each step's contribution, elementwise: an array of the shape of `step.log_prob`."""

    def weights(self, weights: Array, valid: Array) -> Array:
        """An estimator's weights as this objective takes them: [T, m, …], valid bool[T, m]."""
        return weights

    def start(self) -> PyTree:
        """What it carries from one update to the next; () for nothing."""
        return ()

    def carrying(self, carried: PyTree) -> "Objective":
        """The objective of an update that begins with what is carried."""
        return self

    def carried(self, carried: PyTree, report: dict[str, Array]) -> PyTree:
        """What it carries on, given the means, float[], of what the update reported."""
        return carried
