"""How parameters follow from an objective: one gradient step, several, or one along F⁻¹∇U.

`improve` goes by the objective's class. One step is what every objective gets that says nothing
else, the user's own among them; `improve.register` adds another way.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from pgjax import gradients
from pgjax.batching import any_in_batch
from pgjax.chunks import Chunk, minibatches, per_step, summed
from pgjax.config import Config
from pgjax.gradients import Gradient
from pgjax.objectives import ClippedRatio, NaturalGradient
from pgjax.optimizers import Loss
from pgjax.trees import either, norm, unit
from pgjax.types import Array, PyTree, TrainState, Trajectories

# Below it a direction is no direction: the gradient is zero.
_LEAST_CURVATURE = 1e-20
# The squared residual of a gradient of length 1 at which conjugate gradients are done: what is
# left is rounding, in which they would find no direction.
_LEAST_RESIDUAL = 1e-10


class Improvement(NamedTuple):
    """New parameters, the Optax state, and what there is to say of the gradient."""

    params: PyTree
    opt_state: PyTree
    gradient: Gradient


@functools.singledispatch
def improve(
    objective: Any,
    key: Array,
    state: TrainState,
    trajectories: Trajectories,
    weights: Array,
    config: Config,
    mesh: Mesh | None,
) -> Improvement:
    """θ ← θ + α ∇U: one step of the optimizer."""
    data, valid = gradients.steps(trajectories, weights, config)
    gradient_at = _gradient_at(state, (data, valid), config, mesh)
    found = gradient_at(state.params)
    loss = _loss(found, gradient_at, state.params, trajectories, config)
    ascended = config.optimizer.ascend(found.direction, state.opt_state, state.params, loss)
    return Improvement(*ascended, found)


def _gradient_at(
    state: TrainState, batch: tuple, config: Config, mesh: Mesh | None, share: float = 1.0
) -> Callable[[PyTree], Gradient]:
    """The gradient of a batch's objective as a function of the parameters."""
    return lambda params: gradients.at(params, state.variables, *batch, config, mesh, share)


def _loss(
    found: Gradient,
    gradient_at: Callable[[PyTree], Gradient],
    params: PyTree,
    trajectories: Trajectories,
    config: Config,
) -> Loss:
    """−U around `params`: minus the rewards, summed as the objective is; then as that changes."""
    rewards = jnp.where(trajectories.valid, trajectories.reward, 0.0)
    value = -jnp.sum(rewards) / config.sampler.divisor(trajectories.valid)

    # Sums over chunks are loops without a reverse mode; the objective's gradient is at hand.
    @jax.custom_jvp
    def value_fn(params):
        return value + found.objective - gradient_at(params).objective

    @value_fn.defjvp
    def tangent(primals, tangents):
        there = gradient_at(*primals)
        slope = optax.tree.vdot(there.direction, *tangents)
        return value + found.objective - there.objective, -slope

    return Loss(value, jax.tree.map(jnp.negative, found.direction), value_fn)


@improve.register
def _(objective: ClippedRatio, key, state, trajectories, weights, config, mesh) -> Improvement:
    data, valid = gradients.steps(trajectories, weights, config)
    number = objective.minibatches

    def step(carry, batch):
        params, opt_state, stopped, sums, made = carry
        gradient_at = _gradient_at(state, batch, config, mesh, 1.0 / number)
        found = gradient_at(params)
        if objective.max_kl is not None:
            stopped = stopped | (found.extra["kl"] > objective.max_kl)
        loss = _loss(found, gradient_at, params, trajectories, config)
        following = config.optimizer.ascend(found.direction, opt_state, params, loss)
        params, opt_state, sums, made = jax.tree.map(
            lambda old, new: jnp.where(stopped, old, new),
            (params, opt_state, sums, made),
            (*following, jax.tree.map(jnp.add, sums, found), made + 1),
        )
        return (params, opt_state, stopped, sums, made), None

    def epoch(carry):
        index, now = carry
        batches = minibatches(jax.random.fold_in(key, index), data, valid, number, mesh)
        return index + 1, jax.lax.scan(step, now, batches)[0]

    def unfinished(carry):
        index, (_, _, stopped, _, _) = carry
        return (index < objective.epochs) & any_in_batch(~stopped)

    shapes = jax.eval_shape(
        lambda: gradients.at(state.params, state.variables, data, valid, config)
    )
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    start = (state.params, state.opt_state, jnp.bool_(False), nothing, jnp.zeros(()))
    _, (params, opt_state, _, sums, made) = jax.lax.while_loop(
        unfinished, epoch, (jnp.int32(0), start)
    )
    mean = jax.tree.map(lambda x: x / jnp.maximum(made, 1.0), sums)
    return Improvement(params, opt_state, mean)


@improve.register
def _(objective: NaturalGradient, key, state, trajectories, weights, config, mesh) -> Improvement:
    data, valid = gradients.steps(trajectories, weights, config)
    ragged = config.sampler.whole_episodes
    over_steps = functools.partial(summed, data=data, valid=valid, ragged=ragged, mesh=mesh)
    gradient_at = _gradient_at(state, (data, valid), config, mesh)
    found = gradient_at(state.params)
    number = jnp.maximum(jnp.sum(valid), 1)

    def fisher(v):
        sums = over_steps(_fisher_product, (v, state.params, state.variables, config))
        return jax.tree.map(lambda x: x / number, sums)

    def damped(v):
        return jax.tree.map(lambda x, y: x + objective.damping * y, fisher(v), v)

    # Per step, as F is, so that the damping means the same whatever the episodes' length.
    per_step = config.sampler.divisor(valid) / number
    gradient = jax.tree.map(lambda x: _at_least_single(x) * per_step, found.direction)
    direction = _conjugate_gradients(damped, unit(gradient), objective.iterations)
    if objective.max_kl is None:
        size = norm(gradient)
        direction = jax.tree.map(lambda x: x * size, direction)
    else:
        curvature = jnp.maximum(optax.tree.vdot(direction, fisher(direction)), _LEAST_CURVATURE)
        length = jnp.sqrt(2.0 * objective.max_kl / curvature)
        direction = jax.tree.map(lambda x: x * length, direction)
    loss = _loss(found, gradient_at, state.params, trajectories, config)
    params, opt_state = config.optimizer.ascend(direction, state.opt_state, state.params, loss)
    full = jax.tree.map(jnp.subtract, params, state.params)

    def moved(size):
        return jax.tree.map(lambda x, s: (x + size * s).astype(x.dtype), state.params, full)

    def measured(params):
        sums = over_steps(_step_taken, (params, state.params, state.variables, config))
        return jax.tree.map(lambda x: x / number, sums)

    size, divergence = _line_search(objective, lambda size: measured(moved(size)))
    report = {"kl": divergence, "step_size": size}
    return Improvement(moved(size), opt_state, found._replace(extra=report))


def _conjugate_gradients(product: Callable, b: PyTree, iterations: int) -> PyTree:
    """x with A x ≈ b, ‖b‖ = 1 or 0, `product` being v -> A v, A positive semi-definite.

        α = rᵀr / pᵀAp,   x ← x + α p,   r' = r − α A p,   p ← r' + (r'ᵀr' / rᵀr) p

    It ends after so many iterations, once rᵀr ≤ 1e-10, or where A has no curvature along p.

    Source: Hestenes & Stiefel (1952), Methods of conjugate gradients for solving linear systems.
    """
    dot = optax.tree.vdot

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


def _at_least_single(x: Array) -> Array:
    """The same numbers in 32 bits or more, which conjugate gradients need."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _fisher_product(context: Any, chunk: Chunk) -> PyTree:
    """Of a chunk: Σ ∇² KL(π_old ‖ π_θ) v at θ = θ_old, the derivative of the gradient along v."""
    v, params, variables, config = context

    def divergence(moved):
        return _step_taken((moved, params, variables, config), chunk)[0]

    v = jax.tree.map(lambda x, p: x.astype(p.dtype), v, params)  # a network's own, for instance
    return jax.jvp(jax.grad(divergence), (params,), (v,))[1]


def _step_taken(context: Any, chunk: Chunk) -> tuple[Array, Array]:
    """Of a chunk: Σ KL(π_old ‖ π_θ) in nats, and Σ (ρ_t − 1) w_t, what the step gains."""
    params, old_params, variables, config = context
    _, policy = config.build()
    obs, action, _, weight = chunk.data

    def one(new, old, action, weight):
        if weight.ndim:
            ratio = jnp.exp(new.log_probs() - old.log_probs())
        else:
            ratio = jnp.exp(new.log_prob(action) - old.log_prob(action))
        return old.divergence(new), jnp.sum((ratio - 1.0) * weight)

    new, old = (
        policy.replay({"params": which, **variables}, obs, chunk.valid)
        for which in (params, old_params)
    )
    found = per_step(one, chunk)(new, old, action, weight)
    return jax.tree.map(lambda x: jnp.sum(jnp.where(chunk.valid, x, 0.0)), found)


def _line_search(objective: NaturalGradient, measured: Any) -> tuple[Array, Array]:
    """The share of the step to take, and its divergence."""
    if objective.max_kl is None:
        return jnp.ones(()), measured(1.0)[0]

    def unfinished(carry):
        tried, _, _, accepted = carry
        return any_in_batch(~accepted & (tried < objective.backtracks))

    def attempt(carry):
        tried, size, divergence, accepted = carry
        new_size = jnp.where(tried > 0, size * objective.backtrack_factor, size)
        new_divergence, gain = measured(new_size)
        fits = (new_divergence <= objective.max_kl) & (gain > 0.0)
        kept = jax.tree.map(
            lambda old, new: jnp.where(accepted, old, new),
            (size, divergence),
            (new_size, new_divergence),
        )
        return tried + 1, *kept, accepted | fits

    start = (jnp.int32(0), jnp.ones(()), jnp.zeros(()), jnp.bool_(False))
    _, size, divergence, accepted = jax.lax.while_loop(unfinished, attempt, start)
    return jnp.where(accepted, size, 0.0), jnp.where(accepted, divergence, 0.0)
