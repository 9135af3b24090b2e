"""Training: `train`, `init`, `update` and others, pure functions of a key, a state and a config.

They check their arguments, bind the config's parts, and run the functions of `updates`, compiled.
"""

import dataclasses
import functools
import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgjax.core.components import number_meant
from pgjax.core.keys import is_key
from pgjax.core.loops import any_in_batch
from pgjax.core.names import shown
from pgjax.core.parallel import check_mesh
from pgjax.core.trees import either
from pgjax.core.types import Array, Metrics, PyTree, Scalar, TrainResult, TrainState, Trajectories
from pgjax.environments.host import failure
from pgjax.sampling import rollout
from pgjax.training import results, updates
from pgjax.training.config import (
    Config,
    bind,
    check_key,
    check_on_device,
    checked,
    initial_variables,
)


def train(key: Array, config: Config, mesh: Mesh | None = None) -> TrainResult:
    """`num_updates` updates from fresh parameters: `init`, then a scan over `update`.

    One compiled program for every value of the config's floats; pure, so that
    `jax.vmap(pgjax.train, in_axes=(0, None))(keys, config)` trains many seeds at once.

    Args:
      key: one `jax.random.key`.
      config: what to train, on what, how.
      mesh: from `make_mesh`, to divide each update's trajectories over its devices: the same
        numbers but for the order of floating-point sums. None: one device.

    Returns:
      The final state, and metrics with a leading axis [num_updates].

    Raises:
      ValueError, TypeError: before compilation, for anything in the config that is not allowed.
      EnvironmentFailure: an environment on the host raised an exception; other functions that step
        it raise this, too.

    >>> import jax, pgjax
    >>> config = pgjax.Config(env="Catch-bsuite", num_updates=2)
    >>> state, metrics = pgjax.train(jax.random.key(0), config)
    >>> metrics.episode_return.shape
    (2,)
    """
    check_key(key)
    return failure.call(_train, key, _checked(config, mesh), mesh)


def init(key: Array, config: Config) -> TrainState:
    """Fresh parameters, optimizer state and counters.

    Args:
      key: one `jax.random.key`; parameters and all later updates derive from it.
      config: what to train.
    """
    check_key(key)
    return failure.call(_init, key, checked(config))


def update(
    state: TrainState, config: Config, mesh: Mesh | None = None
) -> tuple[TrainState, Metrics]:
    """One step of gradient ascent, θ ← θ + α ∇U, on m fresh trajectories.

    Args:
      state: from `init`, an earlier `update` or `load`, for this config.
      mesh: see `train`.

    Returns:
      The next state, and scalar metrics of the trajectories that it learned from.
    """
    config = _checked(config, mesh)
    check_state(state, config)
    return failure.call(_update, state, config, mesh)


def sample_trajectories(
    key: Array, state: TrainState, config: Config, mesh: Mesh | None = None
) -> Trajectories:
    """The trajectories that one update would learn from.

    Args:
      key: one `jax.random.key`; `state.key` is not used.
      mesh: see `train`.

    Returns:
      [T, m] trajectories, T the horizon.
    """
    check_key(key)
    config = _checked(config, mesh)
    check_state(state, config, SAMPLING)
    return failure.call(_sample, key, state, config, mesh)


def policy_gradient(
    key: Array, state: TrainState, config: Config, mesh: Mesh | None = None
) -> tuple[PyTree, Metrics]:
    """The estimate of ∇U that one update climbs, from m trajectories.

        ∇U ≈ (1/m) Σ_i Σ_t ∇log π(a_t⁽ⁱ⁾, s_t⁽ⁱ⁾) · w_t⁽ⁱ⁾

    with the weights of `config.estimator`, by `jax.grad` of the Monte Carlo objective.

    Args:
      key: one `jax.random.key`; `state.key` is not used.
      mesh: see `train`.

    Returns:
      The gradient, an ascent direction like `state.params`, and scalar metrics.

    Source: Williams (1992), REINFORCE.
    """
    check_key(key)
    config = _checked(config, mesh)
    check_state(state, config, ESTIMATING)
    return failure.call(_policy_gradient, key, state, config, mesh)


# The parts of a state that acting, sampling and estimating need; `update` needs all.
ACTING = ("params", "variables")
SAMPLING = (*ACTING, "streams")
ESTIMATING = (*SAMPLING, "critic", "objective")
_ALL = tuple(field.name for field in dataclasses.fields(TrainState))
# The fields of a config that decide the structure of each part of a state.
_DECIDED_BY = {
    "params": "env, network and distribution",
    "variables": "network and normalize_observations",
    "opt_state": "optimizer",
    "critic": "estimator and critic",
    "objective": "objective",
    "streams": "sampler and env",
}


def check_state(state: TrainState, config: Config, fields: tuple[str, ...] = _ALL) -> None:
    """Raises unless the named parts of a state are like those that `init` makes for the config.

    Args:
      state: the state.
      config: a checked config.
      fields: the parts that the caller needs. A critic or streams that it does not need may differ.

    Raises:
      TypeError: `state` is no TrainState.
      ValueError: the first path that is missing, not expected, or of another shape or dtype.
    """
    if not isinstance(state, TrainState):
        raise TypeError(f"state must be a TrainState, got {type(state).__name__}")
    expected = _expected(config, state.key, fields)
    for field in fields:
        required, actual = getattr(expected, field), getattr(state, field)
        if fields != _ALL and field not in ACTING and not jax.tree.leaves(required):
            continue
        problem = difference(avals(actual, field), avals(required, field))
        if problem is None and jax.tree.structure(actual) != jax.tree.structure(required):
            problem = f"{field} is built otherwise than the config's"
        if problem:
            part = _DECIDED_BY.get(field)
            raise ValueError(
                f"state and config do not belong together: {problem}"
                + (f" ({field} depends on the config's {part})" if part else "")
                + "; give the config that the state was made with, or init(key, config)"
            )


def avals(tree: PyTree, name: str = "") -> dict[str, str]:
    """The dtype and shape of each leaf, "float32[3, 4]", by the leaf's path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {name + jax.tree_util.keystr(path): aval(leaf) for path, leaf in leaves}


def difference(actual: dict[str, str], expected: dict[str, str]) -> str | None:
    """The first path where two results of `avals` differ, in words; None if they are equal."""
    for path, aval in expected.items():
        if path not in actual:
            return f"{path} is missing, which the config has as {aval}"
        if actual[path] != aval:
            return f"{path} is {actual[path]}, the config has {aval}{_hint(actual[path], aval)}"
    extra = next((path for path in actual if path not in expected), None)
    return extra and f"{extra} is {actual[extra]}, which the config does not have"


def aval(leaf: Any) -> str:
    """The dtype and shape of an array, a `jax.ShapeDtypeStruct` or a number."""
    shaped = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    return f"{leaf.dtype}{list(leaf.shape)}" if shaped else f"{jnp.result_type(leaf)}[]"


def _hint(actual: str, expected: str) -> str:
    stacked = re.sub(r"\[\d+(, )?", "[", actual, count=1) == expected
    return ": several states at once need jax.vmap" if stacked else ""


def _expected(config: Config, key: Array, fields: tuple[str, ...]) -> TrainState:
    """Shapes and dtypes of a state; if `fields` are in `ACTING`, the other parts are ()."""
    if set(fields) <= set(ACTING):
        variables = dict(initial_variables(config))
        empty: PyTree = ()
        return TrainState(variables.pop("params"), variables, *[empty] * 4)
    typed = is_key(key)
    leaves, structure = jax.tree.flatten(config)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return _traced_state(structure, shapes, jax.random.key_impl(key) if typed else None)


@functools.lru_cache(maxsize=1024)
def _traced_state(structure: Any, shapes: tuple, key_impl: Any) -> TrainState:
    key, config = jax.random.key(0, impl=key_impl), jax.tree.unflatten(structure, shapes)
    return jax.eval_shape(_init, key, config)


def _checked(config: Config, mesh: Mesh | None) -> Config:
    config = checked(config)
    check_devices(config, mesh)
    return config


def check_devices(config: Config, mesh: Mesh | None) -> None:
    """Raises unless each update's trajectories can be divided over the devices of a mesh.

    Args:
      config: checked.
    """
    check_mesh(mesh, f"sampler.{config.sampler.width_field}", config.sampler.width)
    if mesh is not None and mesh.size > 1:
        check_on_device(config, f"it takes one device, not {mesh.size}; use mesh=None, --devices 1")


@functools.partial(jax.jit, static_argnums=2)
def _train(key: Array, config: Config, mesh: Mesh | None) -> TrainResult:
    def step(state, _):
        return _update(state, config, mesh)

    return TrainResult(*jax.lax.scan(step, _init(key, config), length=config.num_updates))


@jax.jit
def _init(key: Array, config: Config) -> TrainState:
    params_key, run_key, critic_key, streams_key = jax.random.split(key, 4)
    bound = bind(config, 0)
    variables = bound.policy.init(params_key)
    params = variables["params"]
    stream_keys = jax.random.split(streams_key, bound.sampler.width)
    critic = bound.critic_at(variables).start(critic_key)
    objective = bound.objective.start()
    streams = bound.sampler.start(stream_keys, bound.actor(variables))
    results.check_start(bound, critic, objective, streams)
    return TrainState(
        params=params,
        variables={name: values for name, values in variables.items() if name != "params"},
        opt_state=bound.optimizer.init(params),
        key=run_key,
        num_updates=jnp.int32(0),
        env_steps=jnp.uint32(0),
        critic=critic,
        objective=objective,
        streams=streams,
    )


@functools.partial(jax.jit, static_argnums=2)
def _update(
    state: TrainState, config: Config, mesh: Mesh | None = None, active: bool | Array = True
) -> tuple[TrainState, Metrics]:
    return updates.update(state, bind(config, state.num_updates, mesh), active)


class StopRule(NamedTuple):
    """A rule that ends a loop of updates.

    Attributes:
      number: int32[]; the most updates. Traced, so that all numbers run the same program.
      target: float[]; the update whose `episode_return` reaches it is the last.
      bad: bool[]; whether an update that is not `finite` is the last.
    """

    number: Array | np.integer
    target: Scalar | np.ndarray
    bad: Array | np.bool_ | bool

    def reached(self, metrics: Metrics) -> Array:
        """Whether each update was made, and its return is finite and at or above the target."""
        returns = metrics.episode_return
        return metrics.finite & (abs(returns) < math.inf) & (returns >= self.target)


def check_target(stop_at_return: float) -> None:
    """Raises unless `stop_at_return` is a number, perhaps infinite, which no return reaches."""
    target = np.asarray(stop_at_return)
    if target.ndim or target.dtype.kind not in "iuf":
        hint = number_meant(stop_at_return)
        raise TypeError(f"stop_at_return must be a number, got {shown(stop_at_return)}{hint}")
    if np.isnan(target):
        raise ValueError(
            "stop_at_return must be a return to reach, got nan, which none does; to go on to the "
            "last update, leave it out, or give math.inf"
        )


def advance(
    state: TrainState,
    config: Config,
    until: StopRule,
    capacity: int,
    mesh: Mesh | None = None,
    ended: bool | Array = False,
) -> TrainResult:
    """Makes updates in one program, for host loops and sweeps; `config` must be checked.

    Under `vmap`, members that have ended do not change; the loop ends when all have ended.

    Args:
      state: the state before the updates.
      config: a checked config.
      until: the rule that ends the updates.
      capacity: at least `until.number`.
      mesh: see `train`.
      ended: whether the loop had ended before: then no update is made, and the metrics mean
        nothing.

    Returns:
      The state, which counts the updates made, and metrics [capacity]: those of the updates made,
      then the last one's repeated.
    """

    def unfinished(carry):
        index, _, _, ended = carry
        return any_in_batch((index < until.number) & ~ended)

    def step(carry):
        index, state, stored, ended = carry
        following, row = _update(state, config, mesh, ~ended)
        state = either(ended, state, following)
        stored = jax.tree.map(
            lambda rows, new: rows.at[index].set(jnp.where(ended, rows[index - 1], new)),
            stored,
            row,
        )
        last = until.reached(row) | (until.bad & ~row.finite)
        return index + 1, state, stored, ended | last

    shapes = jax.eval_shape(lambda state, config: _update(state, config)[1], state, config)
    stored = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes)
    start = (jnp.zeros_like(until.number), state, stored, jnp.asarray(ended))
    index, state, stored, _ = jax.lax.while_loop(unfinished, step, start)
    row_of = jnp.minimum(jnp.arange(capacity, dtype=index.dtype), index - 1)
    return TrainResult(state, jax.tree.map(lambda rows: rows[row_of], stored))


# `state` is donated: the next state takes its memory.
update_block = jax.jit(advance, static_argnames=("capacity", "mesh"), donate_argnums=0)


@functools.partial(jax.jit, static_argnums=3)
def _sample(key: Array, state: TrainState, config: Config, mesh: Mesh | None) -> Trajectories:
    bound = bind(config, state.num_updates, mesh)
    trajectories, _ = updates.sample(key, state, bound)
    return rollout.first_rows(trajectories, bound.sampler.num_rows(bound.environment))


@functools.partial(jax.jit, static_argnums=3)
def _policy_gradient(
    key: Array, state: TrainState, config: Config, mesh: Mesh | None
) -> tuple[PyTree, Metrics]:
    return updates.estimate(key, state, bind(config, state.num_updates, mesh))
