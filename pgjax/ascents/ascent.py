"""How parameters follow from an objective: θ ← θ + α ∇U, once, several times, or along F⁻¹∇U."""

import abc
from typing import ClassVar, NamedTuple

from pgjax.ascents.gradients import Gradient, Surrogate
from pgjax.ascents.optimizers import Optimizer
from pgjax.core.types import Array, PyTree
from pgjax.objectives.objective import Reporter


class Place(NamedTuple):
    """Where an ascent is: parameters, and the Optax state."""

    params: PyTree
    opt_state: PyTree


class Ascent(Reporter, abc.ABC):
    """Base of every ascent, the user's own among them.

    Attributes:
      takes_critic: whether a critic's loss may be part of what it climbs, see `SharedCritic`.
    """

    takes_critic: ClassVar[bool] = True

    @abc.abstractmethod
    def climb(
        self, key: Array, surrogate: Surrogate, optimizer: Optimizer, start: Place
    ) -> tuple[Place, Gradient]:
        """Where it ends, and what there is to say of the gradient.

        Args:
          key: for what it draws.
          surrogate: the objective, of an update's trajectories.
          optimizer: makes steps of gradients, by `ascend`.
          start: where the trajectories were sampled.
        """

    def check_steps(self, path: str, steps: int) -> None:
        """Raises ValueError unless it can learn from so many steps an update."""
