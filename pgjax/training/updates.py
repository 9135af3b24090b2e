"""One update: m trajectories, their values, weights, the ascent, and what the critic learns."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.ascents.ascent import Place
from pgjax.ascents.gradients import Gradient, Surrogate, Terms
from pgjax.core.components import jax_option
from pgjax.core.contracts import require_alike
from pgjax.core.parallel import divided, on_shares
from pgjax.core.trees import either, norm, still_finite
from pgjax.core.types import TRAJECTORY_AXES, Array, Metrics, PyTree, TrainState, Trajectories
from pgjax.critics.base import BoundCritic
from pgjax.training import results
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
        sample = bound.sampler.sample(keys, active, streams, bound.actor(variables))
        results.check_sample(bound, sample, keys.shape[0], streams)
        return sample

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
    results.check_state(bound, "prepared", informed, state.critic)
    values = critic.evaluate(informed, trajectories)
    results.check_values(bound, values, trajectories)
    learning = critic.lesson(informed, trajectories, values)
    results.check_lesson(bound, critic, learning, state, trajectories.valid)
    taught, lesson, report = learning
    objective = bound.objective.carrying(state.objective)
    results.check_carrying(bound.objective, objective)
    terms = Terms(bound.policy, state.variables, objective, bound.ascent, critic, taught)
    shared = lesson if critic.joint else ()
    surrogate = Surrogate(
        terms, bound.estimator, values, trajectories, shared, bound.sampler, bound.mesh
    )
    return Task(surrogate, critic, taught, lesson, report)


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
    results.check_climbed(bound, climbed, start)
    place, gradient = climbed
    critic_state = critic.fit(critic_key, critic_state, trajectories, lesson)
    results.check_state(bound, "fit", critic_state, state.critic)
    results.check_reports(bound, gradient.extra, report)
    gradient = gradient._replace(extra={**gradient.extra, **report})
    metrics = _metrics(trajectories, streams, gradient, state, bound)
    variables = bound.policy.update_statistics(
        state.variables, trajectories.obs, trajectories.valid
    )
    carried = bound.objective.carried(state.objective, gradient.extra)
    require_alike("objective", bound.objective, "carried", carried, state.objective, "start()")
    repaired = bound.sampler.repaired(streams, state.streams)
    results.check_repaired(bound, repaired, state.streams)
    streams, good = repaired
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
    counts = bound.sampler.counts(trajectories, streams)
    results.check_counts(bound, counts)
    returns, (number, lengths, taken) = counts
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
