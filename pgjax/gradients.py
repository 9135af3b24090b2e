"""The m-trajectory policy gradient, by `jax.grad` of the Monte Carlo objective.

    objective(θ) = (1/m) Σ_i Σ_t contribution(log π_θ(a_t | s_t), H[π_θ(· | s_t)], w_t, t)

Sum over t, mean over the m trajectories; never a mean over steps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from pgjax.batching import max_in_batch
from pgjax.config import Config
from pgjax.policies import Policy
from pgjax.types import Array, Metrics, PyTree, TrainState, Trajectories

# Transitions in one backward pass. On a CPU the activations of a few hundred stay in its caches,
# and XLA does not yet split their matrix products over threads, which costs more than it gains.
_CHUNK_SIZE = 256


class Scored(NamedTuple):
    """Transitions to differentiate, [n, …]: what was done where and when, and its weight."""

    obs: PyTree
    action: Array
    weight: Array
    valid: Array
    time: Array


def estimate(key: Array, state: TrainState, config: Config) -> tuple[PyTree, Metrics]:
    """∇U ≈ (1/m) Σ_i Σ_t ∇log π(a_t⁽ⁱ⁾, s_t⁽ⁱ⁾) · w_t⁽ⁱ⁾ from m fresh trajectories.

    `config` must be checked; `pgjax.policy_gradient` is the public form.
    """
    environment, policy = config.build()
    trajectories = config.sampler.sample(key, policy, state.policy_variables, environment)
    gradient, objective, entropy = from_trajectories(
        state.params, state.variables, trajectories, policy, config
    )
    return gradient, _metrics(trajectories, gradient, objective, entropy, state.env_steps)


def from_trajectories(
    params: PyTree, variables: PyTree, trajectories: Trajectories, policy: Policy, config: Config
) -> tuple[PyTree, Array, Array]:
    """The gradient of the objective at `params`, in chunks of transitions.

    Returns:
      The gradient, like `params`; the objective, float[]; the mean entropy over valid steps, nats.
    """
    steps, m = trajectories.valid.shape
    weights = config.estimator.weights(trajectories)
    time = jnp.broadcast_to(jnp.arange(steps, dtype=jnp.int32)[:, None], (steps, m))
    scored = Scored(trajectories.obs, trajectories.action, weights, trajectories.valid, time)
    flat = jax.tree.map(lambda x: x.reshape(steps * m, *x.shape[2:]), scored)
    size = min(_CHUNK_SIZE, steps * m)
    # Chunks after the last valid step hold nothing; whole blocks of them are never computed.
    last = jnp.max(jnp.where(trajectories.valid, time + 1, 0))
    num_chunks = max_in_batch((last * m + size - 1) // size)

    def accumulate(carry):
        index, *sums = carry
        chunk = _chunk(flat, index * size, size)
        (objective, entropy), gradient = jax.value_and_grad(_objective, has_aux=True)(
            params, variables, chunk, policy, config
        )
        return index + 1, *jax.tree.map(jnp.add, tuple(sums), (gradient, objective, entropy))

    zero = jnp.zeros_like(weights[0, 0])
    start = (jnp.zeros_like(num_chunks), jax.tree.map(jnp.zeros_like, params), zero, zero)
    _, gradient, objective, entropy = jax.lax.while_loop(
        lambda carry: carry[0] < num_chunks, accumulate, start
    )
    gradient, objective = jax.tree.map(lambda x: x / m, (gradient, objective))
    return gradient, objective, entropy / jnp.sum(trajectories.valid)


def _objective(
    params: PyTree, variables: PyTree, chunk: Scored, policy: Policy, config: Config
) -> tuple[Array, Array]:
    """Sums over a chunk: of the contributions to m times the objective, and of the entropy."""

    def score(obs, action):
        distribution = policy.apply({"params": params, **variables}, obs)
        return distribution.log_prob(action), distribution.entropy()

    log_prob, entropy = jax.vmap(score)(chunk.obs, chunk.action)
    weight = jax.lax.stop_gradient(chunk.weight)
    contribution = config.objective.contribution(log_prob, entropy, weight, chunk.time)
    return _sum(contribution, chunk.valid), _sum(entropy, chunk.valid)


def _chunk(flat: Scored, start: Array, size: int) -> Scored:
    """`size` transitions from `start` on. A slice that would reach over the end begins earlier, and
    what an earlier chunk has counted is marked invalid."""
    total = flat.valid.shape[0]
    chunk = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), flat)
    position = jnp.minimum(start, total - size) + jnp.arange(size, dtype=start.dtype)
    return chunk._replace(valid=chunk.valid & (position >= start))


def _sum(values: Array, valid: Array) -> Array:
    return jnp.sum(jnp.where(valid, values, 0.0))


def _metrics(trajectories, gradient, objective, entropy, env_steps) -> Metrics:
    over = jnp.any(trajectories.terminated | trajectories.truncated, axis=0)
    number = jnp.sum(over, dtype=jnp.int32)
    lengths = jnp.sum(trajectories.valid, axis=0)
    returns = jnp.sum(trajectories.reward, axis=0)
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)]
    return Metrics(
        # 0/0 is NaN where no episode finished: a placeholder would look like a return.
        episode_return=_sum(returns, over) / number,
        episode_length=_sum(lengths, over) / number,
        num_episodes=number,
        env_steps=env_steps + jnp.sum(lengths).astype(jnp.uint32),
        entropy=entropy,
        gradient_norm=optax.tree.norm(gradient),
        objective=objective,
        finite=jnp.all(jnp.stack(finite)),
    )
