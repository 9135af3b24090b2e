"""One step of the optimizer along the gradient."""

from pgjax.ascents.ascent import Ascent, Place
from pgjax.ascents.gradients import Gradient, Surrogate
from pgjax.ascents.optimizers import Optimizer
from pgjax.core.components import component
from pgjax.core.types import Array


@component
class GradientStep(Ascent):
    """θ ← θ + α ∇U: one step of the optimizer for each update's trajectories.

    Source: Williams (1992), REINFORCE.
    """

    def climb(
        self, key: Array, surrogate: Surrogate, optimizer: Optimizer, start: Place
    ) -> tuple[Place, Gradient]:
        """One step."""
        batch = surrogate.batch()
        found = surrogate.gradient(start.params, batch)
        loss = surrogate.loss(found, start.params, batch)
        return Place(*optimizer.ascend(found.direction, start.opt_state, start.params, loss)), found
