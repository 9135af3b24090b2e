"""The natural gradient, no further than a trust region."""

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

# Below it a direction is no direction: the gradient is zero.
_LEAST_CURVATURE = 1e-20
# The squared residual of a gradient of length 1 at which conjugate gradients are done: what is
# left is rounding, in which they would find no direction.
_LEAST_RESIDUAL = 1e-10


@component
class TrustRegion(Ascent):
    """Along F⁻¹∇U, and no further than a trust region: TRPO.

        x = (F + λI)⁻¹ ∇U,    F = E_s[∇² KL(π_old(· | s) ‖ π_θ(· | s))],
        θ ← θ + β s,          s the optimizer's step for sqrt(2δ / xᵀFx) · x,

    β the largest of 1, κ, κ², … with KL(π_old ‖ π_θ) ≤ δ and a better objective; 0 if none is.
    x is found by conjugate gradients; F is never made, its products with vectors are derivatives
    along them. Expectations are means over valid steps. With `SGD(1.0)` and `ImportanceRatio` this
    is TRPO; with `max_kl=None`, s is the optimizer's step for x itself and β = 1: the natural
    gradient.

    Reports `kl`, that of the step taken, in nats, and `step_size`, β.

    Attributes:
      max_kl: δ > 0, nats; or None.
      damping: λ ≥ 0, added to the diagonal of F.
      iterations: of conjugate gradients, ≥ 1.
      backtracks: most factors κ that are tried, ≥ 1.
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
        found = surrogate.gradient(params, batch)
        # Per step, as F is, so that the damping means the same whatever the episodes' length.
        per_step = surrogate.per_step(batch)
        gradient = jax.tree.map(lambda x: _at_least_single(x) * per_step, found.direction)
        direction = self._natural(gradient, lambda v: surrogate.fisher_product(params, v, batch))
        loss = surrogate.loss(found, params, batch)
        ascended, opt_state = optimizer.ascend(direction, start.opt_state, params, loss)
        full = jax.tree.map(jnp.subtract, ascended, params)

        def moved(size):
            return jax.tree.map(lambda x, s: (x + size * s).astype(x.dtype), params, full)

        size, divergence = self._line_search(
            lambda size: surrogate.step_taken(moved(size), params, batch)
        )
        report = {"kl": divergence, "step_size": size}
        extra = surrogate.terms.with_report(found.extra, report)
        return Place(moved(size), opt_state), found._replace(extra=extra)

    def _natural(self, gradient: PyTree, fisher: Callable[[PyTree], PyTree]) -> PyTree:
        """x, as long as the trust region allows."""

        def damped(v):
            return jax.tree.map(lambda x, y: x + self.damping * y, fisher(v), v)

        direction = _conjugate_gradients(damped, unit(gradient), self.iterations)
        if self.max_kl is None:
            length = norm(gradient)
        else:
            curvature = jnp.maximum(dot(direction, fisher(direction)), _LEAST_CURVATURE)
            length = jnp.sqrt(2.0 * self.max_kl / curvature)
        return jax.tree.map(lambda x: x * length, direction)

    def _line_search(self, measured: Callable) -> tuple[Array, Array]:
        """The share of the step to take, and its divergence."""
        if self.max_kl is None:
            return jnp.ones(()), measured(1.0)[0]

        def unfinished(carry):
            tried, _, _, accepted = carry
            return any_in_batch(~accepted & (tried < self.backtracks))

        def attempt(carry):
            tried, size, divergence, accepted = carry
            new_size = jnp.where(tried > 0, size * self.backtrack_factor, size)
            new_divergence, gain = measured(new_size)
            fits = (new_divergence <= self.max_kl) & (gain > 0.0)
            kept = jax.tree.map(
                lambda old, new: jnp.where(accepted, old, new),
                (size, divergence),
                (new_size, new_divergence),
            )
            return tried + 1, *kept, accepted | fits

        start = (jnp.int32(0), jnp.ones(()), jnp.zeros(()), jnp.bool_(False))
        _, size, divergence, accepted = jax.lax.while_loop(unfinished, attempt, start)
        return jnp.where(accepted, size, 0.0), jnp.where(accepted, divergence, 0.0)


def _at_least_single(x: Array) -> Array:
    """The same numbers in 32 bits or more, which conjugate gradients need."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _conjugate_gradients(product: Callable, b: PyTree, iterations: int) -> PyTree:
    """x with A x ≈ b, ‖b‖ = 1 or 0, `product` being v -> A v, A positive semi-definite.

        α = rᵀr / pᵀAp,   x ← x + α p,   r' = r − α A p,   p ← r' + (r'ᵀr' / rᵀr) p

    It ends after so many iterations, once rᵀr ≤ 1e-10, or where A has no curvature along p.

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
        moved = jax.tree.map(lambda x, p: x + alpha * p, x, p)
        left = jax.tree.map(lambda r, ap: r - alpha * ap, r, product_p)
        smaller = dot(left, left)
        turned = jax.tree.map(lambda r, p: r + smaller / square * p, left, p)
        kept = either(going, (moved, left, turned, smaller), (x, r, p, square))
        return index + 1, *kept, going & ~(smaller <= _LEAST_RESIDUAL)

    zeros, square = jax.tree.map(jnp.zeros_like, b), dot(b, b)
    start = (jnp.int32(0), zeros, b, b, square, square > 0)
    return jax.lax.while_loop(unfinished, step, start)[1]
