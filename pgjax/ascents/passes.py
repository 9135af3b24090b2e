"""Several passes over an update's trajectories, in minibatches."""

import jax
import jax.numpy as jnp

from pgjax.ascents.ascent import Ascent, Place
from pgjax.ascents.gradients import Gradient, Surrogate
from pgjax.ascents.optimizers import Optimizer
from pgjax.core.chunks import check_minibatches
from pgjax.core.components import component, option
from pgjax.core.loops import any_in_batch
from pgjax.core.trees import either
from pgjax.core.types import Array
from pgjax.objectives.objective import Step


@component
class Passes(Ascent):
    """Several passes over the same trajectories, with one optimizer step per minibatch, as in PPO.

    After the first step the trajectories come from an older policy. `ClippedRatio` accounts for
    that; `ScoreFunction` does not, and its gradient is biased from the second step on.

    Reports `kl`, the mean of ρ − 1 − log ρ, an estimate of KL(π_old ‖ π_θ) in nats. This and the
    objective's metrics are measured before each step, and averaged over the steps made.

    Attributes:
      epochs: passes over the trajectories, ≥ 1.
      minibatches: gradient steps in each pass, ≥ 1; each uses its share of every trajectory.
      max_kl: the first minibatch whose `kl` exceeds it ends the update, before its step; None:
        no limit.

    Source: Schulman et al. (2017), Proximal Policy Optimization; the estimate of the divergence:
      Schulman (2020), Approximating KL divergence.
    """

    epochs: int = option(4, low=1)
    minibatches: int = option(4, low=1)
    max_kl: float | None = option(None, low=0.0)

    def climb(
        self, key: Array, surrogate: Surrogate, optimizer: Optimizer, start: Place
    ) -> tuple[Place, Gradient]:
        """Steps until the last pass ends or `kl` exceeds `max_kl`."""
        share = 1.0 / self.minibatches

        def step(carry, batch):
            place, stopped, sums, num_steps = carry
            gradient = surrogate.gradient(place.params, batch, share)
            loss = surrogate.loss(gradient, place.params, batch, share)
            ascended = optimizer.ascend(gradient.direction, place.opt_state, place.params, loss)
            moved = Place(*ascended), jax.tree.map(jnp.add, sums, gradient), num_steps + 1
            if self.max_kl is not None:
                stopped = stopped | (gradient.extra["kl"] > self.max_kl)
                moved = either(stopped, (place, sums, num_steps), moved)
            place, sums, num_steps = moved
            return (place, stopped, sums, num_steps), None

        def epoch(carry):
            index, step_carry = carry
            params = step_carry[0].params
            epoch_key = jax.random.fold_in(key, index)
            batches = surrogate.minibatches(epoch_key, self.minibatches, params)
            return index + 1, jax.lax.scan(step, step_carry, batches)[0]

        def unfinished(carry):
            index, (_, stopped, _, _) = carry
            return (index < self.epochs) & any_in_batch(~stopped)

        shapes = jax.eval_shape(lambda: surrogate.gradient(start.params, surrogate.batch()))
        zero_sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        carry = jnp.int32(0), (start, jnp.bool_(False), zero_sums, jnp.zeros(()))
        _, (place, _, sums, num_steps) = jax.lax.while_loop(unfinished, epoch, carry)
        return place, jax.tree.map(lambda x: x / jnp.maximum(num_steps, 1.0), sums)

    def report(self, step: Step) -> dict[str, Array]:
        """Elementwise; see the class."""
        log_ratio = step.log_prob - step.old_log_prob
        return {"kl": jnp.exp(log_ratio) - 1.0 - log_ratio}

    def check_steps(self, path: str, steps: int) -> None:
        """Raises ValueError if there are more minibatches than steps."""
        check_minibatches(path, self.minibatches, type(self)().minibatches, steps)
