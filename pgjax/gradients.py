"""The m-trajectory policy gradient, by `jax.grad` of the Monte Carlo objective.

    objective(θ) = (1/m) Σ_i Σ_t contribution(log π_θ(a_t | s_t), H[π_θ(· | s_t)], w_t, t)

Sum over t, mean over the m trajectories; never a mean over steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from pgjax.batching import max_in_batch, sequential_on_cpu
from pgjax.config import Config
from pgjax.parallel import on_shares
from pgjax.policies import Policy
from pgjax.types import TRAJECTORY_AXES, Array, Metrics, PyTree, TrainState, Trajectories

# Transitions in one backward pass. On a CPU the activations of a few hundred stay in its caches,
# and XLA does not yet split their matrix products over threads, which costs more than it gains.
_CHUNK_SIZE = 256


class Chunk(NamedTuple):
    """Transitions to differentiate, [size, …]: what was done where and when, and its weight."""

    obs: PyTree
    action: Array
    weight: Array
    valid: Array
    time: Array


def estimate(
    key: Array,
    state: TrainState,
    config: Config,
    mesh: Mesh | None = None,
    active: bool | Array = True,
) -> tuple[PyTree, Metrics]:
    """∇U ≈ (1/m) Σ_i Σ_t ∇log π(a_t⁽ⁱ⁾, s_t⁽ⁱ⁾) · w_t⁽ⁱ⁾ from m fresh trajectories.

    `config` must be checked; `pgjax.policy_gradient` is the public form. Unless `active`, bool[],
    the trajectories are empty, and nobody waits for them.
    """
    trajectories = sample(key, state.policy_variables, config, mesh, active)
    gradient, objective, entropy = from_trajectories(
        state.params, state.variables, trajectories, config, mesh
    )
    return gradient, _metrics(trajectories, gradient, objective, entropy, state.env_steps)


def sample(
    key: Array,
    variables: PyTree,
    config: Config,
    mesh: Mesh | None = None,
    active: bool | Array = True,
) -> Trajectories:
    """The m trajectories of one update, m / devices of them sampled on each device."""

    def share(keys, active, variables, config):
        environment, policy = config.build()
        return config.sampler.sample(keys, active, policy, variables, environment)

    m = config.sampler.num_trajectories
    shares = on_shares(share, mesh, (0, 0, None, None), TRAJECTORY_AXES)
    return shares(jax.random.split(key, m), jnp.full(m, active), variables, config)


def from_trajectories(
    params: PyTree,
    variables: PyTree,
    trajectories: Trajectories,
    config: Config,
    mesh: Mesh | None = None,
) -> tuple[PyTree, Array, Array]:
    """The gradient of the objective at `params`, in chunks of transitions.

    Returns:
      The gradient, like `params`; the objective, float[]; the mean entropy over valid steps, nats.
    """
    weights = config.estimator.weights(trajectories)
    axes = (None, None, TRAJECTORY_AXES, 1, None)
    share = sequential_on_cpu(_sums)
    shares = on_shares(share, mesh, axes, 0)(params, variables, trajectories, weights, config)
    _, unravel = ravel_pytree((params, weights[0, 0], weights[0, 0]))
    gradient, objective, entropy = unravel(jnp.sum(shares, axis=0))
    m = trajectories.valid.shape[1]
    gradient, objective = jax.tree.map(lambda x: x / m, (gradient, objective))
    return gradient, objective, entropy / jnp.sum(trajectories.valid)


def _sums(
    params: PyTree, variables: PyTree, trajectories: Trajectories, weights: Array, config: Config
) -> Array:
    """Of one share: m times the gradient and the objective, and the summed entropy, all in one
    array [1, …]: between processes every array takes its own round of messages."""
    _, policy = config.build()
    chunk_of, num_chunks = _chunks(trajectories, weights)

    def accumulate(carry):
        index, *sums = carry
        (objective, entropy), gradient = jax.value_and_grad(_objective, has_aux=True)(
            params, variables, chunk_of(index), policy, config
        )
        return index + 1, *jax.tree.map(jnp.add, tuple(sums), (gradient, objective, entropy))

    zero = jnp.zeros_like(weights[0, 0])
    start = (jnp.zeros_like(num_chunks), jax.tree.map(jnp.zeros_like, params), zero, zero)
    _, *sums = jax.lax.while_loop(lambda carry: carry[0] < num_chunks, accumulate, start)
    return ravel_pytree(tuple(sums))[0][None]


def _chunks(trajectories: Trajectories, weights: Array) -> tuple[Callable[[Array], Chunk], Array]:
    """The valid transitions, cut into chunks: a function of a chunk's index, and their number.

    They go step by step, and in each step the longest trajectories first, so that those still
    running come before those that are over.
    """
    steps, n = weights.shape
    taken = (trajectories.obs, trajectories.action, weights)
    flat = jax.tree.map(lambda x: x.reshape(steps * n, *x.shape[2:]), taken)
    size = min(_CHUNK_SIZE, steps * n)
    longest_first = jnp.argsort(-jnp.sum(trajectories.valid, axis=0))
    running = jnp.sum(trajectories.valid, axis=1, dtype=jnp.int32)
    ends = jnp.cumsum(running)
    # Trajectories of one length lie in this order as they are, and need no gathering.
    in_order = ends[-1] == n * jnp.sum(running > 0)

    def sliced(position, time):
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, position[0], size), flat)

    def gathered(position, time):
        trajectory = longest_first[position - (ends - running)[time]]
        return jax.tree.map(lambda x: x[time * n + trajectory], flat)

    def chunk_of(index):
        position = index * size + jnp.arange(size, dtype=jnp.int32)
        time = jnp.minimum(jnp.searchsorted(ends, position, side="right"), steps - 1)
        whole = in_order & (position[-1] < steps * n)
        found = jax.lax.cond(whole, sliced, gathered, position, time)
        return Chunk(*found, valid=position < ends[-1], time=time)

    return chunk_of, max_in_batch((ends[-1] + size - 1) // size)


def _objective(
    params: PyTree, variables: PyTree, chunk: Chunk, policy: Policy, config: Config
) -> tuple[Array, Array]:
    """Sums over a chunk: of the contributions to m times the objective, and of the entropy."""

    def score(obs, action):
        distribution = policy.apply({"params": params, **variables}, obs)
        return distribution.log_prob(action), distribution.entropy()

    log_prob, entropy = jax.vmap(score)(chunk.obs, chunk.action)
    weight = jax.lax.stop_gradient(chunk.weight)
    contribution = config.objective.contribution(log_prob, entropy, weight, chunk.time)
    return _sum(contribution, chunk.valid), _sum(entropy, chunk.valid)


def _sum(values: Array, valid: Array) -> Array:
    return jnp.sum(jnp.where(valid, values, 0.0))


def _metrics(trajectories, gradient, objective, entropy, env_steps) -> Metrics:
    over = jnp.any(trajectories.terminated | trajectories.truncated, axis=0)
    lengths = jnp.sum(trajectories.valid, axis=0)
    returns = jnp.sum(trajectories.reward, axis=0)
    # Summed together, for the same reason as in `_sums`.
    counts = jnp.stack([over, jnp.where(over, lengths, 0), lengths]).astype(jnp.int32)
    number, finished_steps, steps = jnp.sum(counts, axis=1, dtype=jnp.int32)
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)]
    return Metrics(
        # 0/0 is NaN where no episode finished: a placeholder would look like a return.
        episode_return=_sum(returns, over) / number,
        episode_length=finished_steps / number,
        num_episodes=number,
        env_steps=env_steps + steps.astype(jnp.uint32),
        entropy=entropy,
        gradient_norm=optax.tree.norm(gradient),
        objective=objective,
        finite=jnp.all(jnp.stack(finite)),
    )
