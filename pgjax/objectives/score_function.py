"""The objective whose gradient is the policy gradient."""

from pgjax.core.components import component, option
from pgjax.core.types import Array
from pgjax.objectives.objective import Objective, Step


@component
class ScoreFunction(Objective):
    """log π(a_t | s_t) · w_t + c H[π(· | s_t)]; its gradient is the policy gradient at w.

    Attributes:
      entropy_coefficient: c ≥ 0, objective units per nat. If positive, c Σ_t H[π(· | s_t)] over the
        visited states is added: biased for U.

    Source: Williams (1992), REINFORCE; entropy: Mnih et al. (2016), A3C.
    """

    entropy_coefficient: float = option(0.0, low=0.0)

    def contribution(self, step: Step) -> Array:
        """Elementwise."""
        return step.log_prob * step.weight + self.entropy_coefficient * step.entropy
