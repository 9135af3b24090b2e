"""The contract of ascents: θ ← θ + α ∇U, once, several times, or along F⁻¹∇U."""

import abc
from typing import ClassVar, NamedTuple

from pgjax.ascents.gradients import Gradient, Surrogate
from pgjax.ascents.optimizers import Optimizer
from pgjax.core.types import Array, PyTree
from pgjax.objectives.objective import Reporter


class Place(NamedTuple):
    """The state of an ascent: parameters, and the Optax state."""

    params: PyTree
    opt_state: PyTree


class Ascent(Reporter, abc.ABC):
    """Base of every ascent, the user's own included.

    Attributes:
      takes_critic: whether a critic's loss may be part of its objective, see `SharedCritic`.
    """

    takes_critic: ClassVar[bool] = True

    @abc.abstractmethod
    def climb(
        self, key: Array, surrogate: Surrogate, optimizer: Optimizer, start: Place
    ) -> tuple[Place, Gradient]:
        """Climbs the objective; returns the last place, and a gradient for the metrics.

        Args:
          key: for random choices.
          surrogate: the objective, for an update's trajectories.
          optimizer: makes a step of a gradient, by `ascend`.
          start: the parameters that sampled the trajectories, and the Optax state.
        """

    def check_steps(self, path: str, steps: int) -> None:
        """Raises ValueError unless it can learn from so many steps an update."""
