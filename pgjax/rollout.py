"""Sampling trajectories from a policy in an environment."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.batching import any_in_batch
from pgjax.components import Component, component, option
from pgjax.environments import Environment
from pgjax.policies import Policy
from pgjax.types import Array, PyTree, Trajectories

# Steps between two looks at whether any trajectory still runs. Noise is drawn and results are
# stored once a block; a longer block would run on for longer after the last episode's end.
_BLOCK_LENGTH = 20


class Taken(NamedTuple):
    """What one or more steps leave behind; the fields of `Trajectories` of the same names."""

    obs: PyTree
    action: Array
    reward: Array
    valid: Array
    terminated: Array
    truncated: Array


class Carry(NamedTuple):
    """Where n trajectories stand. `obs` stays at s_H once a trajectory is over."""

    obs: PyTree
    env_state: PyTree
    running: Array


@component
class Episodes(Component):
    """m whole episodes side by side, each from its start to its end or to the horizon.

    Attributes:
      num_trajectories: m ≥ 1.
      horizon: T in steps, at most the environment's own time limit; None: that limit. An episode
        that reaches it is marked `truncated`.
    """

    num_trajectories: int = option(64, low=1)
    horizon: int | None = option(None, low=1)

    def resolve_horizon(self, environment: Environment) -> int:
        """T in steps.

        Raises:
          ValueError: a horizon beyond the environment's limit, or neither of them given.
        """
        limit = environment.limit
        if self.horizon is None and limit is None:
            raise ValueError(f"{environment.name} has no time limit: set sampler.horizon, in steps")
        if self.horizon is not None and limit is not None and self.horizon > limit:
            raise ValueError(
                f"sampler.horizon must be at most {limit}, the time limit of {environment.name}, "
                f"got {self.horizon}"
            )
        return limit if self.horizon is None else self.horizon

    def sample(
        self,
        keys: Array,
        active: Array,
        policy: Policy,
        variables: PyTree,
        environment: Environment,
    ) -> Trajectories:
        """One trajectory for each of n keys, empty where not active, bool[n].

        Returns:
          [T', n] trajectories, where T' is T rounded up to whole blocks of steps.
        """
        horizon = self.resolve_horizon(environment)
        empty = _empty(policy, variables, environment, (padded(horizon), keys.shape[0]))

        def record(stored: Taken, first_step: Array, taken: Taken) -> Taken:
            return jax.tree.map(
                lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, first_step, axis=0),
                stored,
                taken,
            )

        carry, stored = unroll(keys, active, policy, variables, environment, horizon, empty, record)
        return Trajectories(**stored._asdict(), final_obs=carry.obs)


def unroll(
    keys: Array,
    active: Array,
    policy: Policy,
    variables: PyTree,
    environment: Environment,
    horizon: int,
    recorded: PyTree,
    record: Callable[[PyTree, Array, Taken], PyTree],
    deterministic: bool | Array = False,
) -> tuple[Carry, PyTree]:
    """Runs n trajectories, block by block, until all are over or the horizon is reached.

    Args:
      keys: [n], one for each trajectory and all of its randomness, so that it is the same whatever
        others run beside it, and on whichever device.
      active: bool[n]; whether a trajectory is run at all.
      recorded, record: a fold over blocks of K steps: `recorded = record(recorded, first_step,
        taken)`, where the leaves of `taken` are [K, n, …].
      deterministic: bool or bool[]; take the distribution's mode instead of a sample.

    Returns:
      The carry after the last block, and what was recorded.
    """
    length = _block_length(horizon)
    start_keys, block_keys = _split_each(keys, 2)
    obs, env_state = jax.vmap(environment.reset)(start_keys)

    def unfinished(loop):
        first_step, carry, _ = loop
        return (first_step < horizon) & any_in_batch(carry.running)

    def block(loop):
        first_step, carry, recorded = loop
        keys = jax.vmap(jax.random.fold_in, (0, None))(block_keys, first_step)
        noise_keys, step_keys = _split_each(keys, 2)
        noise = jax.vmap(lambda key: policy.noise(key, (length,)), out_axes=1)(noise_keys)
        times = first_step + jnp.arange(length, dtype=jnp.int32)

        def step(carry, inputs):
            return _step(carry, *inputs, policy, variables, environment, horizon, deterministic)

        carry, taken = jax.lax.scan(step, carry, (times, noise, _split_each(step_keys, length)))
        return first_step + length, carry, record(recorded, first_step, taken)

    loop = (jnp.int32(0), Carry(obs, env_state, active), recorded)
    _, carry, recorded = jax.lax.while_loop(unfinished, block, loop)
    return carry, recorded


def padded(horizon: int) -> int:
    """The horizon rounded up to whole blocks, in steps."""
    length = _block_length(horizon)
    return math.ceil(horizon / length) * length


def _block_length(horizon: int) -> int:
    return math.ceil(horizon / math.ceil(horizon / _BLOCK_LENGTH))


def _step(
    carry: Carry, time, noise, keys, policy, variables, environment, horizon, deterministic
) -> tuple[Carry, Taken]:
    """One step of n trajectories; those that are over go through the motions, marked invalid."""
    obs, env_state, running = carry

    def act(obs, noise):
        distribution = policy.apply(variables, obs)
        action = jnp.where(deterministic, distribution.mode(), distribution.sample(noise))
        return action, distribution.environment_action(action)

    action, environment_action = jax.vmap(act)(obs, noise)
    step = jax.vmap(environment.step)(keys, env_state, environment_action)
    truncated = step.truncated | (time + 1 >= horizon)
    taken = Taken(
        obs=obs,
        action=action,
        reward=jnp.where(running, step.reward, 0.0),
        valid=running,
        terminated=running & step.terminated,
        truncated=running & truncated,
    )
    following = jax.tree.map(lambda new, old: _where(running, new, old), step.obs, obs)
    return Carry(following, step.env_state, running & ~step.terminated & ~truncated), taken


def _split_each(keys: Array, number: int) -> Array:
    """Each of n keys split: [number, n]."""
    return jax.vmap(lambda key: jax.random.split(key, number), out_axes=1)(keys)


def _where(flags: Array, new: Array, old: Array) -> Array:
    return jnp.where(flags.reshape(flags.shape + (1,) * (new.ndim - 1)), new, old)


def _empty(policy, variables, environment, shape: tuple[int, int]) -> Taken:
    obs, _ = jax.eval_shape(environment.reset, jax.random.key(0))
    action = jax.eval_shape(lambda obs: policy.apply(variables, obs).mode(), obs)
    flags = jnp.zeros(shape, bool)

    def zeros(leaf):
        return jnp.zeros((*shape, *leaf.shape), leaf.dtype)

    return Taken(jax.tree.map(zeros, obs), zeros(action), jnp.zeros(shape), flags, flags, flags)
