"""Several passes over an update's trajectories, in minibatches."""

import jax
import jax.numpy as jnp

from pgjax.ascents.ascent import Ascent, Place
from pgjax.ascents.gradients import Gradient, Surrogate
from pgjax.ascents.optimizers import Optimizer
from pgjax.core.chunks import check_minibatches
from pgjax.core.components import component, option
from pgjax.core.loops import any_in_batch
from pgjax.core.types import Array
from pgjax.objectives.objective import Step


@component
class Passes(Ascent):
    """Several passes over the same trajectories, a step of the optimizer for each minibatch: PPO's.

    After the first step the trajectories are another policy's. `ClippedRatio` accounts for that;
    `ScoreFunction` does not, and its gradient is biased from there on.

    Reports `kl`, the mean of ρ − 1 − log ρ, an estimate of KL(π_old ‖ π_θ) in nats. It, and what
    the objective reports, are means over the steps made, before each.

    Attributes:
      epochs: passes over the trajectories, ≥ 1.
      minibatches: gradient steps in each pass, ≥ 1; every one takes its share of all trajectories.
      max_kl: the first minibatch whose `kl` exceeds it ends the update, before its step; None:
        none does.

    Source: Schulman et al. (2017), Proximal Policy Optimization; the estimate of the divergence:
      Schulman (2020), Approximating KL divergence.
    """

    epochs: int = option(4, low=1)
    minibatches: int = option(4, low=1)
    max_kl: float | None = option(None, low=0.0)

    def climb(
        self, key: Array, surrogate: Surrogate, optimizer: Optimizer, start: Place
    ) -> tuple[Place, Gradient]:
        """Until the last pass, or `max_kl`."""
        share = 1.0 / self.minibatches

        def step(carry, batch):
            place, stopped, sums, made = carry
            found = surrogate.gradient(place.params, batch, share)
            if self.max_kl is not None:
                stopped = stopped | (found.extra["kl"] > self.max_kl)
            loss = surrogate.loss(found, place.params, batch, share)
            following = optimizer.ascend(found.direction, place.opt_state, place.params, loss)
            place, sums, made = jax.tree.map(
                lambda old, new: jnp.where(stopped, old, new),
                (place, sums, made),
                (Place(*following), jax.tree.map(jnp.add, sums, found), made + 1),
            )
            return (place, stopped, sums, made), None

        def epoch(carry):
            index, now = carry
            place = now[0]
            epoch_key = jax.random.fold_in(key, index)
            batches = surrogate.minibatches(epoch_key, self.minibatches, place.params)
            return index + 1, jax.lax.scan(step, now, batches)[0]

        def unfinished(carry):
            index, (_, stopped, _, _) = carry
            return (index < self.epochs) & any_in_batch(~stopped)

        shapes = jax.eval_shape(lambda: surrogate.gradient(start.params, surrogate.batch()))
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        begun = (start, jnp.bool_(False), nothing, jnp.zeros(()))
        _, (place, _, sums, made) = jax.lax.while_loop(unfinished, epoch, (jnp.int32(0), begun))
        return place, jax.tree.map(lambda x: x / jnp.maximum(made, 1.0), sums)

    def report(self, step: Step) -> dict[str, Array]:
        """Elementwise; see the class."""
        log_ratio = step.log_prob - step.old_log_prob
        return {"kl": jnp.exp(log_ratio) - 1.0 - log_ratio}

    def check_steps(self, path: str, steps: int) -> None:
        """Raises ValueError if there are more minibatches than steps."""
        check_minibatches(path, self.minibatches, type(self)().minibatches, steps)
