"""Rollouts: steps of a policy in an environment, and the loop over blocks of them."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.core.components import record
from pgjax.core.loops import any_in_batch
from pgjax.core.types import Array, PyTree, Trajectories
from pgjax.environments.interface import Environment
from pgjax.policies.distributions import Distribution
from pgjax.policies.policy import Policy
from pgjax.sampling.compaction import Compaction

# Steps between two checks whether any trajectory still runs. Noise is drawn and results are stored
# once a block; the longer it is, the more steps follow the last episode's end.
_BLOCK_LENGTH = 20


class Steps(NamedTuple):
    """The record of one or more steps; its fields are those of `Trajectories` with these names."""

    obs: PyTree
    memory: PyTree
    action: PyTree
    log_prob: Array
    reward: Array
    valid: Array
    terminated: Array
    truncated: Array


class Carry(NamedTuple):
    """State of n trajectories between two steps.

    Attributes:
      obs: pytree of [n, …]; the observation before the next action; s_H after an episode's end.
      memory: pytree of [n, …]; the policy's memory before it sees `obs`.
      env_state: pytree of [n, …]; the environment's state.
      running: bool[n]; whether the episode goes on.
    """

    obs: PyTree
    memory: PyTree
    env_state: PyTree
    running: Array


@record
class Actor:
    """A policy that acts in an environment, for n trajectories side by side.

    Attributes:
      deterministic: bool or bool[]; whether actions are the distribution's mode, not samples.
    """

    environment: Environment
    policy: Policy
    variables: PyTree
    deterministic: bool | Array = False

    def begin(self, keys: Array, active: Array) -> tuple[Array, Carry]:
        """Starts n episodes; returns the keys, [n], for their steps, and the first carry."""
        start_keys, keys = split_each(keys, 2)
        obs, env_state = jax.vmap(self.environment.reset)(start_keys)
        return keys, Carry(obs, self._initial_memory(len(start_keys)), env_state, active)

    def step(
        self, carry: Carry, keys: Array, noise: PyTree, last: bool | Array = False
    ) -> tuple[Carry, Steps]:
        """One step of n trajectories; a step after an episode's end is marked invalid.

        Args:
          carry: the state before the step.
          keys: [n], for the environment.
          noise: [n, …], from the policy's `noise`.
          last: whether running trajectories are truncated after the step.

        Returns:
          The state after the step, and its record, [n, …].
        """
        obs, memory, env_state, running = carry

        def act(obs, memory, noise):
            distribution, memory = self.policy.apply(self.variables, obs, memory)
            action = self.select_action(distribution, noise)
            environment_action = distribution.environment_action(action)
            return action, distribution.log_prob(action), environment_action, memory

        action, log_prob, environment_action, next_memory = jax.vmap(act)(obs, memory, noise)
        step = jax.vmap(self.environment.step)(keys, env_state, environment_action)
        truncated = step.truncated | last
        steps = Steps(
            obs=obs,
            memory=memory,
            action=action,
            log_prob=log_prob,
            reward=jnp.where(running, step.reward, 0.0),
            valid=running,
            terminated=running & step.terminated,
            truncated=running & truncated,
        )
        next_obs, next_memory = choose(running, (step.obs, next_memory), (obs, memory))
        running = running & ~step.terminated & ~truncated
        return Carry(next_obs, next_memory, step.env_state, running), steps

    def resumed(self, carry: Carry) -> Carry:
        """A carry from an earlier program, without the episodes that are lost meanwhile."""
        env_state, running = jax.vmap(self.environment.resumed)(carry.env_state, carry.running)
        return carry._replace(env_state=env_state, running=running)

    def select_action(self, distribution: Distribution, noise: PyTree) -> PyTree:
        """The distribution's mode if `deterministic`, else a sample."""
        mode, sample = distribution.mode(), distribution.sample(noise)
        return jax.tree.map(lambda x, y: jnp.where(self.deterministic, x, y), mode, sample)

    def restart(self, keys: Array, carry: Carry, running: Array) -> Carry:
        """Starts the next episode of each trajectory that was not running, bool[n]."""

        def restarted(carry):
            restart_each = jax.vmap(self.environment.restart)
            obs, env_state = restart_each(keys, carry.obs, carry.env_state, running)
            memory = choose(running, carry.memory, self._initial_memory(running.shape[0]))
            return Carry(obs, memory, env_state, carry.running | ~running)

        return jax.lax.cond(any_in_batch(~running), restarted, lambda carry: carry, carry)

    def _initial_memory(self, number: int) -> PyTree:
        memory = self.policy.initial_memory()
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (number, *x.shape)), memory)


class RolloutLimits(NamedTuple):
    """The length of a rollout.

    Attributes:
      horizon: steps, after which whole episodes are truncated.
      block: steps between two checks whether any trajectory still runs.
      restarts: whether a new episode starts after an episode's end.
      few: once so many trajectories or fewer run, `recorded_steps` computes those alone; 0: all,
        to the end. Only without restarts.
    """

    horizon: int
    block: int
    restarts: bool = False
    few: int = 0


def episode_limits(horizon: int) -> RolloutLimits:
    """The limits of a rollout of whole episodes."""
    return RolloutLimits(horizon, padded_block(horizon))


def few_of(environment: Environment, number: int) -> int:
    """The `few` of a rollout of so many trajectories on this device: an eighth, or 0.

    On a CPU a step takes as long as its trajectories are many, down to 16; on an accelerator as
    long as one of an eighth. The second loop is another second of compiling. An environment on the
    host steps all of its copies in one call.
    """
    few = number // 8
    usable = few >= 16 and jax.default_backend() == "cpu" and not environment.on_host
    return few if usable else 0


def padded_block(length: int) -> int:
    """The length of equal blocks that cover `length` steps; the last may reach beyond them."""
    return math.ceil(length / math.ceil(length / _BLOCK_LENGTH))


def even_block(length: int) -> int:
    """The length of blocks that cover `length` steps exactly; `padded_block` if it is too short."""
    longest = min(_BLOCK_LENGTH, length)
    even = next(n for n in range(longest, 0, -1) if length % n == 0)
    return even if 2 * even >= longest else padded_block(length)


def unroll(
    actor: Actor,
    keys: Array,
    carry: Carry,
    limits: RolloutLimits,
    recorded: PyTree,
    record: Callable[[PyTree, Array, Steps], PyTree],
    first_step: int | Array = 0,
) -> tuple[Array, Carry, PyTree]:
    """Runs n trajectories, block by block, until all have ended or the horizon is reached.

    Args:
      actor: the policy and the environment.
      keys: [n], one for each trajectory and all of its randomness, so that it is the same beside
        any other trajectories and on any device.
      carry: the state before the first step.
      limits: the horizon and the blocks.
      recorded: the first value of a fold over blocks of K steps.
      record: makes its next value, `record(recorded, first_step, steps)`, where the leaves of
        `steps` are [K, n, …].
      first_step: int or int32[]; the number of the next step, whole blocks after 0.

    Returns:
      The number of the step after the last block, the carry, and the last value of `recorded`.
      With `limits.few`, so many may still run.
    """
    length = limits.block

    def unfinished(loop):
        first_step, carry, _ = loop
        below_horizon = first_step < limits.horizon
        if limits.restarts:
            return below_horizon
        more = jnp.sum(carry.running) > limits.few if limits.few else carry.running
        return below_horizon & any_in_batch(more)

    def block(loop):
        first_step, carry, recorded = loop
        block_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, first_step)
        noise_keys, step_keys = split_each(block_keys, 2)
        noise = jax.vmap(lambda key: actor.policy.noise(key, (length,)), out_axes=1)(noise_keys)
        times = first_step + jnp.arange(length, dtype=jnp.int32)

        def row(carry, inputs):
            time, noise, key_data = inputs
            row_keys = jax.random.wrap_key_data(key_data, impl=jax.random.key_impl(keys))
            last = False if limits.restarts else time + 1 >= limits.horizon
            next_carry, steps = actor.step(carry, row_keys, noise, last)
            if limits.restarts:
                # No block's first step has such a number, so that no key is used twice.
                reset_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, limits.horizon + time)
                next_carry = actor.restart(reset_keys, next_carry, carry.running)
            return next_carry, steps

        # The keys' data: under `vmap`, JAX's check of key reuse takes a scan's keys for used ones.
        rows = times, noise, jax.random.key_data(split_each(step_keys, length))
        if limits.restarts and limits.horizon % length:
            # Streams do not move in the last block's rows beyond the horizon.
            num_rows = jnp.minimum(limits.horizon - first_step, length)
            carry, steps = _scan_first(row, carry, rows, num_rows)
        else:
            carry, steps = jax.lax.scan(row, carry, rows)
        return first_step + length, carry, record(recorded, first_step, steps)

    return jax.lax.while_loop(unfinished, block, (jnp.int32(first_step), carry, recorded))


def _scan_first(
    function: Callable, carry: PyTree, inputs: PyTree, number: Array
) -> tuple[PyTree, PyTree]:
    """`jax.lax.scan` over the first `number` rows, int32[], of the inputs; outputs 0 after them."""

    def inputs_at(index: Array) -> PyTree:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, 0, False), inputs)

    def step(index: Array, loop: tuple) -> tuple:
        carry, outputs = loop
        carry, output = function(carry, inputs_at(index))
        return carry, jax.tree.map(
            lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, index, 0), outputs, output
        )

    length = jax.tree.leaves(inputs)[0].shape[0]
    shapes = jax.eval_shape(lambda carry: function(carry, inputs_at(jnp.int32(0)))[1], carry)
    outputs = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), shapes)
    return jax.lax.fori_loop(jnp.int32(0), number, step, (carry, outputs))


def recorded_steps(
    actor: Actor, keys: Array, carry: Carry, limits: RolloutLimits
) -> tuple[Trajectories, Carry]:
    """Runs n trajectories and records all steps.

    With `limits.few` there are two loops, and the second computes those that still run after the
    first. A trajectory has keys of its own and takes the same steps in either: the sample is that
    of one loop, and no length is preferred.

    Returns:
      Trajectories [T', n], where T' is the horizon rounded up to a multiple of a block; and the
      carry after them.
    """
    rows = math.ceil(limits.horizon / limits.block) * limits.block
    empty = _empty(actor, carry, rows)

    def record(stored: Steps, first_step: Array, steps: Steps) -> Steps:
        return jax.tree.map(
            lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, first_step, axis=0),
            stored,
            steps,
        )

    step, carry, stored = unroll(actor, keys, carry, limits, empty, record)
    if limits.few:
        few = Compaction.of(carry.running, limits.few)
        members = few.gather(carry)
        members = members._replace(running=members.running & few.filled)
        limits, keys = limits._replace(few=0), few.gather(keys)
        _, members, stored = unroll(actor, keys, members, limits, stored, few.write, step)
        carry = few.spread(members, carry)
    ends = {"final_obs": carry.obs, "final_memory": carry.memory}
    return Trajectories(**stored._asdict(), **ends), carry


def first_rows(trajectories: Trajectories, number: int) -> Trajectories:
    """The first rows of trajectories, with the same final observation and memory."""
    ends = {"final_obs": trajectories.final_obs, "final_memory": trajectories.final_memory}
    rows = trajectories.replace(**dict.fromkeys(ends))
    return jax.tree.map(lambda x: x[:number], rows).replace(**ends)


def split_each(keys: Array, number: int) -> Array:
    """Splits each of n keys into `number` keys: [number, n]."""
    split = jax.vmap(lambda key: jax.random.split(key, number))(keys)
    # Their data are transposed: JAX's check of key reuse takes transposed keys for used ones.
    data = jnp.swapaxes(jax.random.key_data(split), 0, 1)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(keys))


def choose(flags: Array, new: PyTree, old: PyTree) -> PyTree:
    """Chooses `new` where a trajectory's flag, bool[n], is true, else `old`; leaves are [n, …]."""

    def choose_leaf(x: Array, y: Array) -> Array:
        return jnp.where(flags.reshape(flags.shape + (1,) * (x.ndim - 1)), x, y)

    return jax.tree.map(choose_leaf, new, old)


def _empty(actor: Actor, carry: Carry, rows: int) -> Steps:
    """Zeros for the records of `rows` steps, [rows, n, …]."""

    def mode(obs: PyTree, memory: PyTree) -> PyTree:
        return actor.policy.apply(actor.variables, obs, memory)[0].mode()

    action = jax.eval_shape(jax.vmap(mode), carry.obs, carry.memory)
    zero, flags = jnp.zeros(carry.running.shape), carry.running
    steps = Steps(carry.obs, carry.memory, action, zero, zero, flags, flags, flags)
    return jax.tree.map(lambda x: jnp.zeros((rows, *x.shape), x.dtype), steps)
