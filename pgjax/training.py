"""Training: pure functions of a key, a state and a config. Knows everything, computes nothing."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from pgjax import gradients, schedules, values
from pgjax.batching import any_in_batch
from pgjax.config import Config, check_key, checked, initial_variables
from pgjax.improvement import improve
from pgjax.parallel import check_mesh, divided
from pgjax.types import Array, Metrics, PyTree, TrainResult, TrainState, Trajectories


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
      ValueError, TypeError: before compilation, for anything in the config that cannot be.

    >>> import jax, pgjax
    >>> config = pgjax.Config(env="Catch-bsuite", num_updates=2)
    >>> state, metrics = pgjax.train(jax.random.key(0), config)
    >>> metrics.episode_return.shape
    (2,)
    """
    check_key(key)
    return _train(key, _checked(config, mesh), mesh)


def init(key: Array, config: Config) -> TrainState:
    """Fresh parameters, optimizer state and counters.

    Args:
      key: one `jax.random.key`; parameters and all later updates derive from it.
      config: what to train.
    """
    check_key(key)
    return _init(key, checked(config))


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
    return _update(state, config, mesh)


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
    check_state(state, config)
    return _sample(key, state, config, mesh)


def policy_gradient(
    key: Array, state: TrainState, config: Config, mesh: Mesh | None = None
) -> tuple[PyTree, Metrics]:
    """The estimate that one update climbs: ∇U from m trajectories.

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
    check_state(state, config)
    return _policy_gradient(key, state, config, mesh)


def check_state(state: TrainState, config: Config) -> None:
    """Raises ValueError unless the state's parameters are those of the config's network."""
    if not isinstance(state, TrainState):
        raise TypeError(f"state must be a TrainState, got {type(state).__name__}")
    variables = dict(initial_variables(config))
    expected = jax.tree.map(lambda x: x.shape, variables.pop("params"))
    given = jax.tree.map(jnp.shape, state.params)
    if given != expected:
        raise ValueError(
            f"state and config do not belong together: parameters are {given}, "
            f"the config's network has {expected}"
        )


def _checked(config: Config, mesh: Mesh | None) -> Config:
    config = checked(config)
    check_mesh(mesh, f"sampler.{config.sampler.width_field}", config.sampler.width)
    return config


@functools.partial(jax.jit, static_argnums=2)
def _train(key: Array, config: Config, mesh: Mesh | None) -> TrainResult:
    def step(state, _):
        return _update(state, config, mesh)

    return TrainResult(*jax.lax.scan(step, _init(key, config), length=config.num_updates))


@jax.jit
def _init(key: Array, config: Config) -> TrainState:
    params_key, run_key, critic_key, streams_key = jax.random.split(key, 4)
    config = schedules.at(config, 0)
    environment, policy = config.build()
    variables = dict(policy.init(params_key))
    critic = values.init(critic_key, config, variables)
    params = variables.pop("params")
    stream_keys = jax.random.split(streams_key, config.sampler.width)
    return TrainState(
        params=params,
        variables=variables,
        opt_state=config.optimizer.init(params),
        key=run_key,
        num_updates=jnp.int32(0),
        env_steps=jnp.uint32(0),
        critic=critic,
        streams=config.sampler.start(stream_keys, policy, environment),
    )


@functools.partial(jax.jit, static_argnums=2)
def _update(
    state: TrainState, config: Config, mesh: Mesh | None = None, active: bool | Array = True
) -> tuple[TrainState, Metrics]:
    config = schedules.at(config, state.num_updates)
    key, sample_key, policy_key, critic_key = jax.random.split(state.key, 4)
    trajectories, streams = gradients.sample(sample_key, state, config, mesh, active)
    found = values.evaluate(state, trajectories, config, mesh)
    weights = gradients.weights(trajectories, found, config)
    improved = improve(config.objective, policy_key, state, trajectories, weights, config, mesh)
    critic, report = values.fit(critic_key, state, trajectories, found, config, mesh)
    gradient = improved.gradient._replace(extra={**improved.gradient.extra, **report})
    metrics = gradients.metrics(trajectories, streams, gradient, state, config)
    _, policy = config.build()
    variables = policy.observe(state.variables, trajectories.obs, trajectories.valid)
    finite = metrics.finite & _all_finite((improved.params, variables, critic, trajectories.reward))
    # All or nothing: one bad number must not cost what was learned before.
    params, variables, opt_state, critic = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        (improved.params, variables, improved.opt_state, critic),
        (state.params, state.variables, state.opt_state, state.critic),
    )
    metrics = metrics.replace(finite=finite)
    state = state.replace(
        params=params,
        variables=variables,
        opt_state=opt_state,
        key=key,
        num_updates=state.num_updates + 1,
        env_steps=metrics.env_steps,
        critic=critic,
        streams=divided(streams, mesh),
    )
    return state, metrics


def _all_finite(tree: PyTree) -> Array:
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in floats]))


class Until(NamedTuple):
    """What ends a loop of updates early.

    Attributes:
      target: float[]; the update whose `episode_return` reaches it is the last.
      bad: bool[]; whether an update that is not `finite` is the last.
    """

    target: Array
    bad: Array


def advance(
    state: TrainState,
    config: Config,
    number: Array,
    until: Until,
    capacity: int,
    mesh: Mesh | None = None,
) -> TrainResult:
    """Up to `capacity` updates, for host loops and sweeps; `config` must be checked.

    Under `vmap`, members that have ended stay as they are and wait for those that have not; when
    all have, the loop ends.

    Args:
      number: int32[], at most `capacity`; traced, so that any number runs one compiled program.
      until: what ends it before.

    Returns:
      The state, which counts the updates made, and metrics [capacity]: of the updates made, then
      the last one's again.
    """

    def unfinished(carry):
        index, _, _, ended = carry
        return any_in_batch((index < number) & ~ended)

    def step(carry):
        index, state, stored, ended = carry
        following, row = _update(state, config, mesh, ~ended)
        state = jax.tree.map(lambda old, new: jnp.where(ended, old, new), state, following)
        stored = jax.tree.map(
            lambda rows, new: rows.at[index].set(jnp.where(ended, rows[index - 1], new)),
            stored,
            row,
        )
        last = (row.episode_return >= until.target) | (until.bad & ~row.finite)
        return index + 1, state, stored, ended | last

    shapes = jax.eval_shape(lambda state, config: _update(state, config)[1], state, config)
    stored = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes)
    start = (jnp.zeros_like(number), state, stored, jnp.bool_(False))
    index, state, stored, _ = jax.lax.while_loop(unfinished, step, start)
    made = jnp.minimum(jnp.arange(capacity, dtype=index.dtype), index - 1)
    return TrainResult(state, jax.tree.map(lambda rows: rows[made], stored))


# `state` is donated: the next one takes its memory.
update_block = jax.jit(advance, static_argnames=("capacity", "mesh"), donate_argnums=0)


@functools.partial(jax.jit, static_argnums=3)
def _sample(key: Array, state: TrainState, config: Config, mesh: Mesh | None) -> Trajectories:
    trajectories, _ = gradients.sample(key, state, config, mesh)
    environment, _ = config.build()
    rows, final_obs = config.sampler.num_rows(environment), trajectories.final_obs
    trajectories = jax.tree.map(lambda x: x[:rows], trajectories.replace(final_obs=None))
    return trajectories.replace(final_obs=final_obs)


@functools.partial(jax.jit, static_argnums=3)
def _policy_gradient(
    key: Array, state: TrainState, config: Config, mesh: Mesh | None
) -> tuple[PyTree, Metrics]:
    return gradients.estimate(key, state, schedules.at(config, state.num_updates), mesh)
