"""Checks of the results of an update's parts against their contracts; errors name the part."""

from typing import Any

import jax
import jax.numpy as jnp

from pgjax.ascents.ascent import Place
from pgjax.ascents.gradients import Gradient
from pgjax.core.contracts import (
    is_real_of,
    require,
    require_alike,
    require_arrays,
    require_free_names,
    require_values,
)
from pgjax.core.types import Array, PyTree, TrainState, Trajectories
from pgjax.critics.base import BoundCritic
from pgjax.estimators.estimator import Values
from pgjax.objectives.objective import Objective
from pgjax.training.bound import Bound

# The fields of trajectories with one entry for each step: numbers, and flags.
_NUMBERS = ("log_prob", "reward")
_FLAGS = ("valid", "terminated", "truncated")


def check_start(bound: Bound, critic: PyTree, objective: PyTree, streams: PyTree) -> None:
    """Raises ValueError unless what critic, objective and sampler start with are arrays, the
    sampler's [m, …]."""
    require_arrays("critic", bound.critic, "start", critic)
    require_arrays("objective", bound.objective, "start", objective)
    sampler, m = bound.sampler, bound.sampler.width
    require_arrays("sampler", sampler, "start", streams)
    for leaf in jax.tree.leaves(streams):
        right = jnp.shape(leaf)[:1] == (m,)
        require(right, "sampler", sampler, "start", f"leaves [m, …] with m = {m}", leaf)


def check_sample(bound: Bound, sample: Any, number: int, streams: PyTree) -> None:
    """Raises ValueError unless a sampler gave trajectories [T, n] for n keys, and streams."""
    sampler = bound.sampler
    require_values("sampler", sampler, "sample", ("trajectories", "streams"), sample)
    tau, next_streams = sample
    require(isinstance(tau, Trajectories), "sampler", sampler, "sample", "Trajectories", tau)
    rows = jnp.shape(tau.valid)[0] if jnp.ndim(tau.valid) else 0
    for name in (*_NUMBERS, *_FLAGS):
        result, flags = getattr(tau, name), name in _FLAGS
        right = is_real_of(result, (rows, number)) and (result.dtype == bool) == flags
        contract = f"{'bool' if flags else 'float'}[T, n] with n = {number}"
        require(right, "sampler", sampler, f"sample, {name!r}", contract, result)
    _check_rows(bound, tau, (rows, number))
    require_alike("sampler", sampler, "sample", next_streams, streams, "the streams")


def _check_rows(bound: Bound, tau: Trajectories, shape: tuple[int, int]) -> None:
    """Raises ValueError unless observations, memories and actions are those of the steps."""
    sampler, actions = bound.sampler, jax.tree.leaves(tau.action)
    right = actions and all(jnp.shape(leaf)[:2] == shape for leaf in actions)
    contract = f"leaves [T, n, …] with T, n = {shape}"
    require(bool(right), "sampler", sampler, "sample, 'action'", contract, tau.action)
    for name in ("obs", "memory"):
        row = jax.tree.map(lambda x: x[0], getattr(tau, name))
        final, whence = getattr(tau, f"final_{name}"), f"one row of {name!r}"
        require_alike("sampler", sampler, f"sample, 'final_{name}'", final, row, whence)
        require_rows = all(jnp.shape(x)[:2] == shape for x in jax.tree.leaves(getattr(tau, name)))
        require(require_rows, "sampler", sampler, f"sample, {name!r}", contract, getattr(tau, name))


def check_values(bound: Bound, values: Values, trajectories: Trajectories) -> None:
    """Raises ValueError unless a critic gave the values that the estimator needs."""
    needed, (rows, m) = bound.estimator.critic, trajectories.valid.shape
    if needed is None:
        return
    critic = bound.critic
    require(isinstance(values, Values), "critic", critic, "evaluate", "Values", values)
    shape = (rows + 1, m)
    contract = (
        "Values with the values of the rows and of the one after the last, "
        f"real numbers [T + 1, m] = {shape}"
    )
    require(is_real_of(values.state, shape), "critic", critic, "evaluate", contract, values.state)
    if needed == "actions":
        _check_action_values(bound, values, (rows, m))


def _check_action_values(bound: Bound, values: Values, shape: tuple[int, ...]) -> None:
    critic, number = bound.critic, bound.policy.head.num_actions
    contract = "Values with the values of actions, as the estimator asks for them"
    require(values.action is not None, "critic", critic, "evaluate", contract, values)
    if number is not None:
        shape = (*shape, number)
        result, contract = values.probability, f"Values with probability {shape}, of all actions"
        require(is_real_of(result, shape), "critic", critic, "evaluate", contract, result)
    result, contract = values.action, f"Values with action {shape}"
    require(is_real_of(result, shape), "critic", critic, "evaluate", contract, result)


def check_with_state(original: Objective, objective: Any) -> None:
    """Raises ValueError unless an objective's `with_state` gives an objective."""
    right = isinstance(objective, Objective)
    require(right, "objective", original, "with_state", "an Objective", objective)


def check_next_state(objective: Objective, result: PyTree, state: PyTree) -> None:
    """Raises ValueError unless the state that an objective carries on is like that before."""
    require_alike("objective", objective, "next_state", result, state, "start()")


def check_state(bound: Bound, method: str, result: PyTree, state: PyTree) -> None:
    """Raises ValueError unless a critic's state is like that before."""
    require_alike("critic", bound.critic, method, result, state, "start()")


def check_lesson(bound: Bound, critic: BoundCritic, result: Any, state: TrainState, valid: Array):
    """Raises ValueError unless a critic gave a state, a lesson, and a report of scalars."""
    names = ("the state", "what is to be learned", "a report")
    require_values("critic", bound.critic, "lesson", names, result)
    taught, lesson, report = result
    check_state(bound, "lesson", taught, state.critic)
    require_arrays("critic", bound.critic, "lesson", lesson)
    _check_report("critic", bound.critic, "lesson", report)
    if critic.joint:
        leaves, shape = jax.tree.leaves(lesson), valid.shape
        right = leaves and all(jnp.shape(leaf)[:2] == shape for leaf in leaves)
        contract = f"what is to be learned of each step, leaves [T, m, …] with T, m = {shape}"
        require(bool(right), "critic", bound.critic, "lesson", contract, lesson)


def check_climbed(bound: Bound, result: Any, start: Place) -> None:
    """Raises ValueError unless an ascent gave where it ended, and a gradient."""
    ascent, pair = bound.ascent, isinstance(result, tuple) and len(result) == 2
    right = pair and isinstance(result[0], Place) and isinstance(result[1], Gradient)
    require(right, "ascent", ascent, "climb", "a Place and a Gradient", result)
    place, gradient = result
    whence = "those at the start, in its Place"
    require_alike("ascent", ascent, "climb", place, start, whence)
    whence = "the parameters, in its Gradient's direction"
    require_alike("ascent", ascent, "climb", gradient.direction, start.params, whence)
    for name in ("objective", "entropy"):
        x = getattr(gradient, name)
        right = is_real_of(x, ())
        require(right, "ascent", ascent, "climb", f"a Gradient with {name} float[]", x)
    _check_report("ascent", ascent, "climb", gradient.extra)


def _check_report(part: str, owner: Any, method: str, report: Any) -> None:
    right = isinstance(report, dict)
    require(right, part, owner, method, "a report, a dict of float[] by name", report)
    for name, x in report.items():
        right = isinstance(name, str) and is_real_of(x, ())
        require(right, part, owner, f"{method}, {name!r}", "float[] in its report", x)
    require_free_names(part, owner, method, report)


def check_reports(bound: Bound, extra: dict[str, Array], report: dict[str, Array]) -> None:
    """Raises ValueError if one name would stand for two metrics."""
    for name in sorted(extra.keys() & report.keys()):
        others = f"objective {type(bound.objective).__name__} or {type(bound.ascent).__name__}"
        raise ValueError(
            f"critic {type(bound.critic).__name__} and {others} both report {name!r}: "
            "give one of them another name"
        )


def check_repair(bound: Bound, result: Any, streams: PyTree) -> None:
    """Raises ValueError unless a sampler gave streams to go on with, and which were good."""
    sampler, m = bound.sampler, bound.sampler.width
    require_values("sampler", sampler, "repair", ("streams", "which were good"), result)
    require_alike("sampler", sampler, "repair", result[0], streams, "the streams")
    good = result[1]
    right = any(is_real_of(good, shape) for shape in ((), (m,)))
    right = right and bool(jnp.issubdtype(jnp.result_type(good), jnp.bool_))
    require(right, "sampler", sampler, "repair", f"bool[n] or bool[], n = {m}", good)


def check_counts(bound: Bound, result: Any) -> None:
    """Raises ValueError unless a sampler gave a sum of returns and three integers."""
    sampler = bound.sampler
    require_values("sampler", sampler, "counts", ("summed returns", "int32[3]"), result)
    returns, counts = result
    right = is_real_of(returns, ())
    require(right, "sampler", sampler, "counts", "summed returns, float[]", returns)
    right = is_real_of(counts, (3,)) and jnp.issubdtype(counts.dtype, jnp.integer)
    require(bool(right), "sampler", sampler, "counts", "counts, int32[3]", counts)
