"""The parts of an update, each compiled and timed by itself."""

import dataclasses
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from pgjax.ascents.ascent import Place
from pgjax.ascents.gradients import Gradient, Surrogate
from pgjax.core.parallel import replicated
from pgjax.core.types import Array, PyTree, TrainState, Trajectories
from pgjax.runs.device_limits import seconds_of
from pgjax.training import training, updates
from pgjax.training.bound import Bound
from pgjax.training.config import Config, bind


class UpdateParts(NamedTuple):
    """Seconds of the parts of an update; each is compiled by itself, which may be faster or slower
    than the same work inside of an update.

    Attributes:
      rollout: sampling the trajectories.
      values: the critic's values and its lesson; 0 without a critic.
      ascent: all steps of the ascent, with their weights and gradients.
      fit: the critic's learning; 0 without one that learns by itself.
      weights: the weights of all steps once, a part of the ascent.
      gradient: one gradient of all steps, weights included, a part of the ascent.
      num_steps: the steps of the sample.
      operations: floating-point operations of the policy for one action, as XLA counts them before
        it optimises; 0 where it does not say.
    """

    rollout: float
    values: float
    ascent: float
    fit: float
    weights: float
    gradient: float
    num_steps: int
    operations: float


def parts_of(state: TrainState, config: Config, mesh: Mesh | None) -> UpdateParts:
    """Times the parts of an update from a state.

    Args:
      state: where the update starts, on the mesh's devices.
      config: a `checked` one.
      mesh: as for `update`.
    """
    bound = bind(config, 0, mesh)
    key = replicated(jax.random.key(0), mesh)
    sample, values = jax.jit(updates.sample), jax.jit(_values)
    trajectories, _ = sample(key, state, bound)
    learning = values(state, trajectories, bound)
    context = state, trajectories, bound, learning
    has_critic = bound.estimator.critic is not None
    return UpdateParts(
        rollout=seconds_of(sample, key, state, bound),
        values=seconds_of(values, state, trajectories, bound) if has_critic else 0.0,
        ascent=seconds_of(jax.jit(_ascent), key, *context),
        fit=seconds_of(jax.jit(_fit), key, *context) if has_critic else 0.0,
        weights=seconds_of(jax.jit(_weights), *context),
        gradient=seconds_of(jax.jit(_gradient), *context),
        num_steps=int(trajectories.valid.sum()),
        operations=_operations(state, trajectories, bound),
    )


def rollout_seconds(state: TrainState, config: Config, mesh: Mesh | None) -> float:
    """Seconds of sampling as a config says, from new streams, with the policy of a state."""
    fresh = replicated(training.init(jax.random.key(0), config), mesh)
    fresh = fresh.replace(params=state.params, variables=state.variables)
    key = replicated(jax.random.key(0), mesh)
    return seconds_of(jax.jit(updates.sample), key, fresh, bind(config, 0, mesh))


def _values(state: TrainState, trajectories: Trajectories, bound: Bound) -> tuple[PyTree, ...]:
    """The critic's state, its lesson, and the values."""
    task = updates.task(state, trajectories, bound)
    return task.critic_state, task.lesson, task.surrogate.values


def _surrogate(
    state: TrainState, trajectories: Trajectories, bound: Bound, learning: PyTree
) -> Surrogate:
    """The objective; values and lesson are given, so that XLA computes them no more."""
    task = updates.task(state, trajectories, bound)
    _, lesson, values = learning
    joint_lesson = lesson if task.critic.joint else ()
    return dataclasses.replace(task.surrogate, values=values, lesson=joint_lesson)


def _weights(*context: PyTree) -> Array:
    return _surrogate(*context).weights()


def _gradient(state: TrainState, *context: PyTree) -> Gradient:
    surrogate = _surrogate(state, *context)
    return surrogate.gradient(state.params, surrogate.batch())


def _ascent(
    key: Array, state: TrainState, trajectories: Trajectories, bound: Bound, learning: PyTree
) -> tuple[Place, Gradient]:
    surrogate = _surrogate(state, trajectories, bound, learning)
    start = Place(state.params, state.opt_state)
    return bound.ascent.climb(key, surrogate, bound.optimizer, start)


def _fit(
    key: Array, state: TrainState, trajectories: Trajectories, bound: Bound, learning: PyTree
) -> PyTree:
    critic_state, lesson, _ = learning
    critic = bound.critic_at(state.policy_variables)
    return critic.fit(key, critic_state, trajectories, lesson)


def _operations(state: TrainState, trajectories: Trajectories, bound: Bound) -> float:
    """Floating-point operations of the policy for one observation."""

    def act(variables: PyTree, obs: PyTree, memory: PyTree) -> PyTree:
        return bound.policy.apply(variables, obs, memory)[0].mode()

    step = jax.tree.map(lambda x: x[0, 0], (trajectories.obs, trajectories.memory))
    cost = jax.jit(act).lower(state.policy_variables, *step).cost_analysis()
    return float((cost or {}).get("flops", 0.0))
