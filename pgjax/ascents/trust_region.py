"""The natural gradient inside a trust region."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgjax.ascents.ascent import Ascent, Place
from pgjax.ascents.gradients import Gradient, Surrogate
from pgjax.ascents.optimizers import Optimizer
from pgjax.core.components import component, option
from pgjax.core.loops import any_in_batch
from pgjax.core.trees import dot, either, norm, unit
from pgjax.core.types import Array, PyTree

# A lower bound on xᵀFx, which is 0 where the gradient is.
_MIN_CURVATURE = 1e-20
# Conjugate gradients for a gradient of length 1 end at this squared residual, which is rounding.
_MIN_RESIDUAL = 1e-10


@component
class TrustRegion(Ascent):
    """A step along F⁻¹∇U that stays inside a trust region: TRPO.

        x = (F + λI)⁻¹ ∇U,    F = E_s[∇² KL(π_old(· | s) ‖ π_θ(· | s))],
        θ ← θ + β s,          s the optimizer's step for sqrt(2δ / xᵀFx) · x,

    with β the largest of 1, κ, κ², … that has KL(π_old ‖ π_θ) ≤ δ and a better objective; 0 if
    none has. Conjugate gradients compute x from products of F with vectors, which are derivatives
    along them; F itself is never computed. Expectations are means over valid steps. With `SGD(1.0)`
    and `ImportanceRatio` this is TRPO; with `max_kl=None`, s is the optimizer's step for x itself
    and β = 1: the natural gradient.

    Reports `kl`, the divergence after the step, in nats, and `step_size`, β.

    Attributes:
      max_kl: δ > 0, nats; or None.
      damping: λ ≥ 0, added to the diagonal of F.
      iterations: iterations of conjugate gradients, ≥ 1.
      backtracks: the number of step sizes that are tried, ≥ 1.
      backtrack_factor: κ in [0, 1].

    Source: Kakade (2001), A natural policy gradient; Schulman et al. (2015), Trust Region Policy
      Optimization, appendix C.
    """

    max_kl: float | None = option(0.01, low=0.0)
    damping: float = option(0.01, low=0.0)
    iterations: int = option(10, low=1)
    backtracks: int = option(10, low=1)
    backtrack_factor: float = option(0.7, low=0.0, high=1.0)

    takes_critic = False

    def climb(
        self, key: Array, surrogate: Surrogate, optimizer: Optimizer, start: Place
    ) -> tuple[Place, Gradient]:
        """One step."""
        params, batch = start.params, surrogate.batch()
        gradient = surrogate.gradient(params, batch)
        # A mean over steps, like F, so that damping means the same for any length of episodes.
        per_step = surrogate.per_step(batch)
        mean = jax.tree.map(lambda x: _at_least_single(x) * per_step, gradient.direction)
        direction = self._natural(mean, lambda v: surrogate.fisher_product(params, v, batch))
        loss = surrogate.loss(gradient, params, batch)
        ascended, opt_state = optimizer.ascend(direction, start.opt_state, params, loss)
        full = jax.tree.map(jnp.subtract, ascended, params)

        def moved(size):
            return jax.tree.map(lambda x, s: (x + size * s).astype(x.dtype), params, full)

        size, divergence = self._line_search(
            lambda size: surrogate.divergence_and_gain(moved(size), params, batch)
        )
        report = {"kl": divergence, "step_size": size}
        extra = surrogate.terms.with_report(gradient.extra, report)
        return Place(moved(size), opt_state), gradient._replace(extra=extra)

    def _natural(self, gradient: PyTree, fisher: Callable[[PyTree], PyTree]) -> PyTree:
        """x, with the length that the trust region allows."""

        def damped(v):
            return jax.tree.map(lambda x, y: x + self.damping * y, fisher(v), v)

        direction = _conjugate_gradients(damped, unit(gradient), self.iterations)
        if self.max_kl is None:
            length = norm(gradient)
        else:
            curvature = jnp.maximum(dot(direction, fisher(direction)), _MIN_CURVATURE)
            length = jnp.sqrt(2.0 * self.max_kl / curvature)
        return jax.tree.map(lambda x: x * length, direction)

    def _line_search(self, measure: Callable) -> tuple[Array, Array]:
        """The share of the step to take, and its divergence, by `measure`: size -> (KL, gain)."""
        if self.max_kl is None:
            return jnp.ones(()), measure(1.0)[0]

        def unfinished(carry):
            trials, _, _, accepted = carry
            return any_in_batch(~accepted & (trials < self.backtracks))

        def attempt(carry):
            trials, size, divergence, accepted = carry
            new_size = jnp.where(trials > 0, size * self.backtrack_factor, size)
            new_divergence, gain = measure(new_size)
            fits = (new_divergence <= self.max_kl) & (gain > 0.0)
            size, divergence = jax.tree.map(
                lambda old, new: jnp.where(accepted, old, new),
                (size, divergence),
                (new_size, new_divergence),
            )
            return trials + 1, size, divergence, accepted | fits

        start = (jnp.int32(0), jnp.ones(()), jnp.zeros(()), jnp.bool_(False))
        _, size, divergence, accepted = jax.lax.while_loop(unfinished, attempt, start)
        return jnp.where(accepted, size, 0.0), jnp.where(accepted, divergence, 0.0)


def _at_least_single(x: Array) -> Array:
    """Casts to 32 bits or more, which conjugate gradients need."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _conjugate_gradients(product: Callable, b: PyTree, iterations: int) -> PyTree:
    """Solves A x ≈ b for ‖b‖ = 1 or 0 and A positive semi-definite, given `product`: v -> A v.

        α = rᵀr / pᵀAp,   x ← x + α p,   r' = r − α A p,   p ← r' + (r'ᵀr' / rᵀr) p

    It ends after the given iterations, once rᵀr ≤ 1e-10, or if A has no curvature along p.

    Source: Hestenes & Stiefel (1952), Methods of conjugate gradients for solving linear systems.
    """

    def unfinished(carry):
        index, *_, going = carry
        return any_in_batch((index < iterations) & going)

    def step(carry):
        index, x, r, p, square, going = carry
        product_p = product(p)
        curvature = dot(p, product_p)
        going = going & ~(curvature <= 0)
        alpha = square / jnp.where(going, curvature, 1.0)
        new_x = jax.tree.map(lambda x, p: x + alpha * p, x, p)
        new_r = jax.tree.map(lambda r, ap: r - alpha * ap, r, product_p)
        new_square = dot(new_r, new_r)
        new_p = jax.tree.map(lambda r, p: r + new_square / square * p, new_r, p)
        state = either(going, (new_x, new_r, new_p, new_square), (x, r, p, square))
        return index + 1, *state, going & ~(new_square <= _MIN_RESIDUAL)

    zeros, square = jax.tree.map(jnp.zeros_like, b), dot(b, b)
    start = (jnp.int32(0), zeros, b, b, square, square > 0)
    return jax.lax.while_loop(unfinished, step, start)[1]
