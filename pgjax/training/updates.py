"""One update: m trajectories, their values, weights, the ascent, and what the critic learns."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax.ascents.ascent import Place
from pgjax.ascents.gradients import Gradient, Surrogate, Terms
from pgjax.core.components import jax_option
from pgjax.core.contracts import alike, require
from pgjax.core.parallel import divided, on_shares
from pgjax.core.trees import either, norm, still_finite
from pgjax.core.types import TRAJECTORY_AXES, Array, Metrics, PyTree, TrainState, Trajectories
from pgjax.critics.base import BoundCritic
from pgjax.estimators.estimator import Values
from pgjax.training.bound import Bound


def sample(
    key: Array, state: TrainState, bound: Bound, active: bool | Array = True
) -> tuple[Trajectories, PyTree]:
    """The m trajectories of one update, m / devices of them sampled on each device.

    Unless `active`, bool[], whole episodes are empty, and nobody waits for them.

    Returns:
      The trajectories, and where the streams stand after them.
    """

    def share(keys, active, streams, variables, bound):
        return bound.sampler.sample(keys, active, streams, bound.actor(variables))

    m = bound.sampler.width
    shares = on_shares(share, bound.mesh, (0, 0, 0, None, None), (TRAJECTORY_AXES, 0))
    keys, active = jax.random.split(key, m), jnp.full(m, active)
    return shares(keys, active, state.streams, state.policy_variables, bound)


class Task(NamedTuple):
    """What there is to climb and to learn, given an update's trajectories.

    Attributes:
      surrogate: the objective.
      critic, critic_state, lesson, report: the critic, what it knows before it learns its lesson,
        and what it says of its errors.
    """

    surrogate: Surrogate
    critic: BoundCritic
    critic_state: PyTree
    lesson: PyTree
    report: dict[str, Array]


def task(state: TrainState, trajectories: Trajectories, bound: Bound) -> Task:
    """The objective of trajectories, with the weights that estimator and critic give them."""
    critic = bound.critic_at(state.policy_variables)
    informed = critic.prepared(state.critic, trajectories)
    values = critic.evaluate(informed, trajectories)
    _check_values(bound, values, trajectories)
    taught, lesson, report = critic.lesson(informed, trajectories, values)
    objective = bound.objective.carrying(state.objective)
    terms = Terms(bound.policy, state.variables, objective, bound.ascent, critic, taught)
    shared = lesson if critic.joint else ()
    surrogate = Surrogate(
        terms, bound.estimator, values, trajectories, shared, bound.sampler, bound.mesh
    )
    return Task(surrogate, critic, taught, lesson, report)


def _check_values(bound: Bound, values: Values, trajectories: Trajectories) -> None:
    needed, (rows, m) = bound.estimator.critic, trajectories.valid.shape
    if needed is None:
        return
    require(isinstance(values, Values), "critic", bound.critic, "evaluate", "Values", values)
    contract = "Values with the values of actions, as the estimator asks for them"
    right = needed == "states" or values.action is not None
    require(right, "critic", bound.critic, "evaluate", contract, values)
    if jnp.shape(values.state) != (rows + 1, m):
        raise ValueError(
            f"critic {type(bound.critic).__name__} must give the values of the rows and of the one "
            f"after the last, [T + 1, m] = ({rows + 1}, {m}), got {jnp.shape(values.state)}"
        )


def _check_climbed(bound: Bound, found: Any, start: Place) -> None:
    ascent, pair = bound.ascent, isinstance(found, tuple) and len(found) == 2
    right = pair and isinstance(found[0], Place) and isinstance(found[1], Gradient)
    require(right, "ascent", ascent, "climb", "a Place and a Gradient", found)
    contract = "a Place with parameters and optimizer state like those at the start"
    require(alike(found[0], start), "ascent", ascent, "climb", contract, found[0])


def _check_names(bound: Bound, extra: dict[str, Array], report: dict[str, Array]) -> None:
    """Raises ValueError if one name would stand for two metrics."""
    fields = {field.name for field in dataclasses.fields(Metrics)}
    for name in sorted(extra.keys() & (fields | report.keys())):
        raise ValueError(
            f"objective {type(bound.objective).__name__}.report has the name {name!r}, which is "
            "that of another metric: give it another name"
        )


def estimate(key: Array, state: TrainState, bound: Bound) -> tuple[PyTree, Metrics]:
    """∇U ≈ (1/m) Σ_i Σ_t ∇log π(a_t⁽ⁱ⁾, s_t⁽ⁱ⁾) · w_t⁽ⁱ⁾ from m fresh trajectories."""
    trajectories, streams = sample(key, state, bound)
    surrogate = task(state, trajectories, bound).surrogate
    found = surrogate.gradient(state.params, surrogate.batch())
    return found.direction, _metrics(trajectories, streams, found, state, bound)


def make(
    state: TrainState, bound: Bound, active: bool | Array = True
) -> tuple[TrainState, Metrics]:
    """θ ← θ + α ∇U, once, or as the ascent says; and what else is learned.

    All or nothing: one number that is not finite must not cost what was learned before.
    """
    key, sample_key, policy_key, critic_key = jax.random.split(state.key, 4)
    trajectories, streams = sample(sample_key, state, bound, active)
    surrogate, critic, critic_state, lesson, report = task(state, trajectories, bound)
    start = Place(state.params, state.opt_state)
    climbed = bound.ascent.climb(policy_key, surrogate, bound.optimizer, start)
    _check_climbed(bound, climbed, start)
    place, gradient = climbed
    critic_state = critic.fit(critic_key, critic_state, trajectories, lesson)
    _check_names(bound, gradient.extra, report)
    gradient = gradient._replace(extra={**gradient.extra, **report})
    metrics = _metrics(trajectories, streams, gradient, state, bound)
    variables = bound.policy.update_statistics(
        state.variables, trajectories.obs, trajectories.valid
    )
    carried = bound.objective.carried(state.objective, gradient.extra)
    contract = "what is carried in the structure, shapes and dtypes of start()"
    right = alike(carried, state.objective)
    require(right, "objective", bound.objective, "carried", contract, carried)
    streams, good = bound.sampler.repaired(streams, state.streams)
    good &= jnp.all(jnp.isfinite(trajectories.reward), axis=0)
    learned = place.params, variables, place.opt_state, critic_state, carried
    before = state.params, state.variables, state.opt_state, state.critic, state.objective
    # Errors that have no square would leave the critic in units that it never gets out of.
    zeros = jax.tree.map(jnp.zeros_like, report)
    finite = metrics.finite & jnp.all(good) & still_finite((learned, report), (before, zeros))
    params, variables, opt_state, critic_state, carried = either(finite, learned, before)
    state = state.replace(
        params=params,
        variables=variables,
        opt_state=opt_state,
        key=key,
        num_updates=state.num_updates + 1,
        env_steps=metrics.env_steps,
        critic=critic_state,
        objective=carried,
        streams=divided(streams, bound.mesh),
    )
    return state, metrics.replace(finite=finite)


def _metrics(
    trajectories: Trajectories, streams: PyTree, found: Gradient, state: TrainState, bound: Bound
) -> Metrics:
    """The scalars that describe an update from these trajectories."""
    returns, (number, lengths, taken) = bound.sampler.counts(trajectories, streams)
    gradient_norm = norm(found.direction)
    stuck = bound.policy.stuck(trajectories.obs, trajectories.valid)
    described = jnp.stack([gradient_norm, found.entropy, found.objective])
    return Metrics(
        episode_return=_mean(returns, number),
        episode_length=_mean(lengths, number),
        num_episodes=number,
        env_steps=state.env_steps + taken.astype(jnp.uint32),
        entropy=found.entropy,
        gradient_norm=gradient_norm,
        objective=found.objective,
        # The norm is not finite where any number of the gradient is not.
        finite=jnp.all(jnp.isfinite(described)) & ~stuck,
        extra=found.extra,
    )


def _mean(total: Array, number: Array) -> Array:
    """The mean of `number` episodes; NaN of none, as any number would look like a return.

    −∞ while `jax_debug_nans` is on, which takes every NaN that leaves a program for a mistake.
    """
    nothing = -jnp.inf if jax_option("jax_debug_nans") else jnp.nan
    return jnp.where(number > 0, total / jnp.maximum(number, 1), nothing)
