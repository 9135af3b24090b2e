"""The contract of objectives, which `jax.grad` differentiates, to be maximised.

    objective(θ) = (1/m) Σ_i Σ_t contribution(step),

a function of log π_θ(a_t | s_t), H[π_θ(· | s_t)] and a weight w_t that does not depend on θ. An
`Ascent` decides how the parameters climb it.
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
      old_log_prob: log π_old(a_t | s_t), nats, of the policy that sampled a_t; constant in θ.
      entropy: H[π_θ(· | s_t)], nats.
      weight: w_t, from the estimator.
      time: the step's row among the update's rows, an integer from 0, also in a minibatch; in a
        whole episode, t.
    """

    log_prob: Array
    old_log_prob: Array
    entropy: Array
    weight: Array
    time: Array


class Reporter(Component):
    """Base of components that report metrics of each step."""

    def report(self, step: Step) -> dict[str, Array]:
        """Each step's metrics by name, elementwise; updates report their means over valid steps."""
        return {}


class Objective(Reporter, abc.ABC):
    """Base of every objective, the user's own included.

    Attributes:
      takes_all_actions: whether there may be a weight for each action, with its probability as a
        factor, in place of one for the sampled action.
      takes_ratio: whether the ratio ρ = π_θ / π_old may be a factor of the weights; false if
        contributions have the ratio themselves, or are not proportional to the weight.
    """

    takes_all_actions: ClassVar[bool] = True
    takes_ratio: ClassVar[bool] = True

    @abc.abstractmethod
    def contribution(self, step: Step) -> Array:
        """Each step's contribution, elementwise: an array of the shape of `step.log_prob`."""

    def weights(self, weights: Array, valid: Array) -> Array:
        """Transforms an estimator's weights, [T, m, …]; valid is bool[T, m]."""
        return weights

    def start(self) -> PyTree:
        """The state that the objective carries into the first update; () for none."""
        return ()

    def with_state(self, state: PyTree) -> "Objective":
        """The objective of an update, given the state that is carried into it."""
        return self

    def next_state(self, state: PyTree, report: dict[str, Array]) -> PyTree:
        """The state for the next update, given this update's and its reported means, float[]."""
        return state
