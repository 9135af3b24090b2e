"""Training: pure functions of a key, a state and a config. Knows everything, computes nothing."""

import functools

import jax
import jax.numpy as jnp

from pgjax import gradients
from pgjax.config import Config, check_key, checked, initial_variables
from pgjax.types import Array, Metrics, PyTree, TrainResult, TrainState, Trajectories


def train(key: Array, config: Config) -> TrainResult:
    """`num_updates` updates from fresh parameters: `init`, then a scan over `update`.

    One compiled program for every value of the config's floats; pure, so that
    `jax.vmap(pgjax.train, in_axes=(0, None))(keys, config)` trains many seeds at once.

    Args:
      key: one `jax.random.key`.
      config: what to train, on what, how.

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
    return _train(key, checked(config))


def init(key: Array, config: Config) -> TrainState:
    """Fresh parameters, optimizer state and counters.

    Args:
      key: one `jax.random.key`; parameters and all later updates derive from it.
      config: what to train.
    """
    check_key(key)
    return _init(key, checked(config))


def update(state: TrainState, config: Config) -> tuple[TrainState, Metrics]:
    """One step of gradient ascent, θ ← θ + α ∇U, on m fresh trajectories.

    Args:
      state: from `init`, an earlier `update` or `load`, for this config.

    Returns:
      The next state, and scalar metrics of the trajectories that it learned from.
    """
    config = checked(config)
    check_state(state, config)
    return _update(state, config)


def sample_trajectories(key: Array, state: TrainState, config: Config) -> Trajectories:
    """The trajectories that one update would learn from.

    Args:
      key: one `jax.random.key`; `state.key` is not used.

    Returns:
      [T, m] trajectories, T the horizon.
    """
    check_key(key)
    config = checked(config)
    check_state(state, config)
    return _sample(key, state, config)


def policy_gradient(key: Array, state: TrainState, config: Config) -> tuple[PyTree, Metrics]:
    """The estimate that one update climbs: ∇U from m trajectories.

        ∇U ≈ (1/m) Σ_i Σ_t ∇log π(a_t⁽ⁱ⁾, s_t⁽ⁱ⁾) · w_t⁽ⁱ⁾

    with the weights of `config.estimator`, by `jax.grad` of the Monte Carlo objective.

    Args:
      key: one `jax.random.key`; `state.key` is not used.

    Returns:
      The gradient, an ascent direction like `state.params`, and scalar metrics.

    Source: Williams (1992), REINFORCE.
    """
    check_key(key)
    config = checked(config)
    check_state(state, config)
    return _policy_gradient(key, state, config)


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


@jax.jit
def _train(key: Array, config: Config) -> TrainResult:
    def step(state, _):
        return _update(state, config)

    return TrainResult(*jax.lax.scan(step, _init(key, config), length=config.num_updates))


@jax.jit
def _init(key: Array, config: Config) -> TrainState:
    params_key, run_key = jax.random.split(key)
    _, policy = config.build()
    variables = dict(policy.init(params_key))
    params = variables.pop("params")
    return TrainState(
        params=params,
        variables=variables,
        opt_state=config.optimizer.init(params),
        key=run_key,
        num_updates=jnp.int32(0),
        env_steps=jnp.uint32(0),
    )


@jax.jit
def _update(state: TrainState, config: Config) -> tuple[TrainState, Metrics]:
    key, sample_key = jax.random.split(state.key)
    gradient, metrics = gradients.estimate(sample_key, state, config)
    params, opt_state = config.optimizer.ascend(gradient, state.opt_state, state.params)
    state = state.replace(
        params=params,
        opt_state=opt_state,
        key=key,
        num_updates=state.num_updates + 1,
        env_steps=metrics.env_steps,
    )
    return state, metrics


@functools.partial(jax.jit, static_argnums=3, donate_argnums=0)
def update_block(
    state: TrainState, config: Config, number: Array, capacity: int
) -> tuple[TrainState, Metrics]:
    """Up to `capacity` updates in one call, for a host loop; `config` must be checked.

    `number` is traced, so that blocks of any length run one compiled program. `state` is donated.

    Returns:
      The state after `number` updates, and metrics [capacity], of which the first `number` count.
    """

    def step(carry):
        index, state, stored = carry
        state, metrics = _update(state, config)
        stored = jax.tree.map(lambda old, new: old.at[index].set(new), stored, metrics)
        return index + 1, state, stored

    shapes = jax.eval_shape(_update, state, config)[1]
    empty = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes)
    start = (jnp.zeros_like(number), state, empty)
    _, state, metrics = jax.lax.while_loop(lambda carry: carry[0] < number, step, start)
    return state, metrics


@jax.jit
def _sample(key: Array, state: TrainState, config: Config) -> Trajectories:
    environment, policy = config.build()
    trajectories = config.sampler.sample(key, policy, state.policy_variables, environment)
    horizon = config.sampler.resolve_horizon(environment)
    final_obs = trajectories.final_obs
    trajectories = jax.tree.map(lambda x: x[:horizon], trajectories.replace(final_obs=None))
    return trajectories.replace(final_obs=final_obs)


_policy_gradient = jax.jit(gradients.estimate)
