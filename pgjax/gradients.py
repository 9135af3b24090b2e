"""The m-trajectory policy gradient, by `jax.grad` of the Monte Carlo objective.

    objective(θ) = (1/m) Σ_i Σ_t contribution(log π_θ(a_t | s_t), H[π_θ(· | s_t)], w_t)

Sum over t, mean over the m trajectories of whole episodes; segments have no episode to sum over,
and take the mean over their valid steps: see each sampler's `divisor`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from pgjax import values
from pgjax.chunks import Chunk, per_step, summed, windows
from pgjax.config import Config
from pgjax.objectives import Step
from pgjax.parallel import on_shares
from pgjax.trees import norm
from pgjax.types import TRAJECTORY_AXES, Array, Metrics, PyTree, TrainState, Trajectories


class Gradient(NamedTuple):
    """What a pass over trajectories gives.

    Attributes:
      direction: ∇U, like the parameters.
      objective: float[]; the objective's value.
      entropy: float[]; mean entropy over valid steps, nats.
      extra: means over valid steps of what the objective reports.
    """

    direction: PyTree
    objective: Array
    entropy: Array
    extra: dict[str, Array]


def estimate(
    key: Array, state: TrainState, config: Config, mesh: Mesh | None = None
) -> tuple[PyTree, Metrics]:
    """∇U ≈ (1/m) Σ_i Σ_t ∇log π(a_t⁽ⁱ⁾, s_t⁽ⁱ⁾) · w_t⁽ⁱ⁾ from m fresh trajectories.

    `config` must be checked; `pgjax.policy_gradient` is the public form.
    """
    trajectories, streams = sample(key, state, config, mesh)
    found = from_trajectories(state.params, state.variables, trajectories, config, mesh, state)
    return found.direction, metrics(trajectories, streams, found, state, config)


def sample(
    key: Array,
    state: TrainState,
    config: Config,
    mesh: Mesh | None = None,
    active: bool | Array = True,
) -> tuple[Trajectories, PyTree]:
    """The m trajectories of one update, m / devices of them sampled on each device.

    Unless `active`, bool[], whole episodes are empty, and nobody waits for them.

    Returns:
      The trajectories, and where the streams stand after them.
    """

    def share(keys, active, streams, variables, config):
        environment, policy = config.build()
        return config.sampler.sample(keys, active, streams, policy, variables, environment)

    m = config.sampler.width
    shares = on_shares(share, mesh, (0, 0, 0, None, None), (TRAJECTORY_AXES, 0))
    keys, active = jax.random.split(key, m), jnp.full(m, active)
    return shares(keys, active, state.streams, state.policy_variables, config)


def from_trajectories(
    params: PyTree,
    variables: PyTree,
    trajectories: Trajectories,
    config: Config,
    mesh: Mesh | None = None,
    state: TrainState | None = None,
) -> Gradient:
    """The gradient of the objective at `params`, with the estimator's weights.

    Args:
      state: holds the critic, where the estimator has one.
    """
    if state is not None:
        state = values.prepared(state, trajectories, config)
    found = weights(trajectories, values.evaluate(state, trajectories, config, mesh), config)
    return at(params, variables, *steps(trajectories, found, config), config, mesh)


def weights(trajectories: Trajectories, found: Any, config: Config) -> Array:
    """The estimator's weights, given what the critic makes of the trajectories, if there is one."""
    estimator = config.estimator
    return estimator.weights(trajectories, *(() if found is None else (found,)))


def steps(trajectories: Trajectories, weights: Array, config: Config) -> tuple[PyTree, Array]:
    """Of each step, what its contribution depends on besides the parameters, and whether it counts:
    [T, m, …]; of a policy with a memory, in windows [T / L, m, L, …]."""
    data = trajectories.obs, trajectories.action, trajectories.log_prob, weights
    window = config.build()[1].window
    if window is None:
        return data, trajectories.valid
    return windows(data, trajectories.valid, window)


def at(
    params: PyTree,
    variables: PyTree,
    data: PyTree,
    valid: Array,
    config: Config,
    mesh: Mesh | None = None,
    share: float = 1.0,
) -> Gradient:
    """The gradient of the objective at `params`, from `steps`, or from a `share` of their rows."""
    ragged = config.sampler.whole_episodes
    sums = summed(_sums, (params, variables, config), data, valid, ragged, mesh)
    gradient, (objective, entropy, extra) = sums
    # A minibatch of windows may have no valid step.
    number = jnp.maximum(jnp.sum(valid), 1)
    factor = 1.0 / config.sampler.divisor(valid, share)
    return Gradient(
        direction=jax.tree.map(lambda x: x * factor, gradient),
        objective=objective * factor,
        entropy=entropy / number,
        extra=jax.tree.map(lambda x: x / number, extra),
    )


def _sums(context: Any, chunk: Chunk) -> tuple[PyTree, tuple]:
    params, variables, config = context
    (objective, rest), gradient = jax.value_and_grad(summed_objective, has_aux=True)(
        params, variables, chunk, config
    )
    return gradient, (objective, *rest)


def summed_objective(
    params: PyTree, variables: PyTree, chunk: Chunk, config: Config
) -> tuple[Array, tuple[Array, dict[str, Array]]]:
    """Sums over a chunk: of the contributions, and of the entropy and what else is reported."""
    _, policy = config.build()
    obs, action, old_log_prob, weight = chunk.data
    every = weight.ndim > chunk.valid.ndim  # weights of all actions, not of the one that was taken

    def score(distribution, action):
        log_prob = distribution.log_probs() if every else distribution.log_prob(action)
        return log_prob, distribution.entropy()

    distributions = policy.replay({"params": params, **variables}, obs, chunk.valid)
    log_prob, entropy = per_step(score, chunk)(distributions, action)
    valid, time, total_entropy = chunk.valid, chunk.time, _sum(entropy, chunk.valid)
    if every:
        # The entropy is the step's, and so each action's in equal parts.
        entropy = entropy / weight.shape[-1]
        entropy, old_log_prob, valid, time = (
            x[..., None] for x in (entropy, old_log_prob, valid, time)
        )
    step = Step(
        log_prob=log_prob,
        # Where nothing was done, a ratio of 1: the exponential of anything else might overflow.
        old_log_prob=jnp.where(valid, old_log_prob, jax.lax.stop_gradient(log_prob)),
        entropy=entropy,
        weight=jax.lax.stop_gradient(weight),
        time=time,
    )
    report = getattr(config.objective, "report", lambda step: {})(step)
    extra = {name: _sum(found, valid) for name, found in report.items()}
    return _sum(config.objective.contribution(step), valid), (total_entropy, extra)


def _sum(values: Array, valid: Array) -> Array:
    return jnp.sum(jnp.where(valid, values, 0.0))


def metrics(
    trajectories: Trajectories,
    streams: PyTree,
    found: Gradient,
    state: TrainState,
    config: Config,
) -> Metrics:
    """The scalars that describe an update from these trajectories."""
    returns, (number, lengths, taken) = config.sampler.counts(trajectories, streams)
    gradient_norm = norm(found.direction)
    stuck = config.build()[1].stuck(trajectories.obs, trajectories.valid)
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
    nothing = -jnp.inf if jax.config.jax_debug_nans else jnp.nan
    return jnp.where(number > 0, total / jnp.maximum(number, 1), nothing)
