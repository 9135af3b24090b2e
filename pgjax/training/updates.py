"""One update: m trajectories, their values and weights, the ascent, and the critic's fit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.ascents.ascent import Place
from pgjax.ascents.gradients import Gradient, Surrogate, Terms
from pgjax.core.components import jax_option
from pgjax.core.parallel import divided, on_shares
from pgjax.core.trees import either, norm, still_finite
from pgjax.core.types import TRAJECTORY_AXES, Array, Metrics, PyTree, TrainState, Trajectories
from pgjax.critics.base import BoundCritic
from pgjax.training import results
from pgjax.training.bound import Bound


def sample(
    key: Array, state: TrainState, bound: Bound, active: bool | Array = True
) -> tuple[Trajectories, PyTree]:
    """Samples the m trajectories of one update, m / devices of them on each device.

    If `active`, bool[], is false, whole episodes are empty, and take no time.

    Returns:
      The trajectories, and the streams' state after them.
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
    """The work of an update, given its trajectories.

    Attributes:
      surrogate: the objective to climb.
      critic, critic_state: the critic, and its state before it learns.
      lesson: what the critic is to learn.
      report: metrics of the critic's errors.
    """

    surrogate: Surrogate
    critic: BoundCritic
    critic_state: PyTree
    lesson: PyTree
    report: dict[str, Array]


def task(state: TrainState, trajectories: Trajectories, bound: Bound) -> Task:
    """The objective of trajectories, weighted by estimator and critic; the critic's lesson."""
    critic = bound.critic_at(state.policy_variables)
    critic_state = critic.prepared(state.critic, trajectories)
    results.check_state(bound, "prepared", critic_state, state.critic)
    values = critic.evaluate(critic_state, trajectories)
    results.check_values(bound, values, trajectories)
    learning = critic.lesson(critic_state, trajectories, values)
    results.check_lesson(bound, critic, learning, state, trajectories.valid)
    critic_state, lesson, report = learning
    objective = bound.objective.with_state(state.objective)
    results.check_with_state(bound.objective, objective)
    terms = Terms(bound.policy, state.variables, objective, bound.ascent, critic, critic_state)
    joint_lesson = lesson if critic.joint else ()
    surrogate = Surrogate(
        terms, bound.estimator, values, trajectories, joint_lesson, bound.sampler, bound.mesh
    )
    return Task(surrogate, critic, critic_state, lesson, report)


def estimate(key: Array, state: TrainState, bound: Bound) -> tuple[PyTree, Metrics]:
    """∇U ≈ (1/m) Σ_i Σ_t ∇log π(a_t⁽ⁱ⁾, s_t⁽ⁱ⁾) · w_t⁽ⁱ⁾ from m fresh trajectories."""
    trajectories, streams = sample(key, state, bound)
    surrogate = task(state, trajectories, bound).surrogate
    gradient = surrogate.gradient(state.params, surrogate.batch())
    return gradient.direction, _metrics(trajectories, streams, gradient, state, bound)


def update(
    state: TrainState, bound: Bound, active: bool | Array = True
) -> tuple[TrainState, Metrics]:
    """Makes an update: θ ← θ + α ∇U, once, or as the ascent decides; and the critic's fit.

    If a number is not finite, the parts of the state that learn do not change at all.
    """
    key, sample_key, policy_key, critic_key = jax.random.split(state.key, 4)
    trajectories, streams = sample(sample_key, state, bound, active)
    learned, gradient, report = _learn((policy_key, critic_key), state, trajectories, bound)
    metrics = _metrics(trajectories, streams, gradient, state, bound)
    streams, good = _repair(streams, state, trajectories, bound)
    unchanged = {name: getattr(state, name) for name in learned}
    # The report is included: errors whose squares are infinite would spoil the critic's units.
    zeros = jax.tree.map(jnp.zeros_like, report)
    finite = metrics.finite & good & still_finite((learned, report), (unchanged, zeros))
    state = state.replace(
        key=key,
        num_updates=state.num_updates + 1,
        env_steps=metrics.env_steps,
        streams=divided(streams, bound.mesh),
        **either(finite, learned, unchanged),
    )
    return state, metrics.replace(finite=finite)


def _learn(
    keys: tuple[Array, Array], state: TrainState, trajectories: Trajectories, bound: Bound
) -> tuple[dict[str, PyTree], Gradient, dict[str, Array]]:
    """Climbs the objective and fits the critic, each with its key.

    Returns:
      The fields of the state that learn, after the update; the gradient, with all metrics of
      objective, ascent and critic; the critic's metrics.
    """
    policy_key, critic_key = keys
    surrogate, critic, critic_state, lesson, report = task(state, trajectories, bound)
    start = Place(state.params, state.opt_state)
    climbed = bound.ascent.climb(policy_key, surrogate, bound.optimizer, start)
    results.check_climbed(bound, climbed, start)
    place, gradient = climbed
    critic_state = critic.fit(critic_key, critic_state, trajectories, lesson)
    results.check_state(bound, "fit", critic_state, state.critic)
    results.check_reports(bound, gradient.extra, report)
    gradient = gradient._replace(extra={**gradient.extra, **report})
    objective = bound.objective.next_state(state.objective, gradient.extra)
    results.check_next_state(bound.objective, objective, state.objective)
    learned = {
        "params": place.params,
        "variables": bound.policy.update_statistics(
            state.variables, trajectories.obs, trajectories.valid
        ),
        "opt_state": place.opt_state,
        "critic": critic_state,
        "objective": objective,
    }
    return learned, gradient, report


def _repair(
    streams: PyTree, state: TrainState, trajectories: Trajectories, bound: Bound
) -> tuple[PyTree, Array]:
    """The streams for the next update; and whether they and all rewards are finite, bool[]."""
    repaired = bound.sampler.repair(streams, state.streams)
    results.check_repair(bound, repaired, state.streams)
    streams, good = repaired
    return streams, jnp.all(good & jnp.all(jnp.isfinite(trajectories.reward), axis=0))


def _metrics(
    trajectories: Trajectories, streams: PyTree, gradient: Gradient, state: TrainState, bound: Bound
) -> Metrics:
    """The scalars that describe an update from these trajectories."""
    counts = bound.sampler.counts(trajectories, streams)
    results.check_counts(bound, counts)
    returns, (number, lengths, num_steps) = counts
    gradient_norm = norm(gradient.direction)
    stuck = bound.policy.stuck(trajectories.obs, trajectories.valid)
    numbers = jnp.stack([gradient_norm, gradient.entropy, gradient.objective])
    return Metrics(
        episode_return=_mean(returns, number),
        episode_length=_mean(lengths, number),
        num_episodes=number,
        env_steps=state.env_steps + num_steps.astype(jnp.uint32),
        entropy=gradient.entropy,
        gradient_norm=gradient_norm,
        objective=gradient.objective,
        # The norm is not finite if any number of the gradient is not.
        finite=jnp.all(jnp.isfinite(numbers)) & ~stuck,
        extra=gradient.extra,
    )


def _mean(total: Array, number: Array) -> Array:
    """The mean over `number` episodes; NaN without any, as a number would look like a return.

    In place of NaN, −∞ while `jax_debug_nans` is on, which treats a program's NaN as an error.
    """
    no_mean = -jnp.inf if jax_option("jax_debug_nans") else jnp.nan
    return jnp.where(number > 0, total / jnp.maximum(number, 1), no_mean)
