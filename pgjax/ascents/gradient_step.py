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
        params, batch = start.params, surrogate.batch()
        gradient = surrogate.gradient(params, batch)
        loss = surrogate.loss(gradient, params, batch)
        place = Place(*optimizer.ascend(gradient.direction, start.opt_state, params, loss))
        return place, gradient
