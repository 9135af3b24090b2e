"""A policy at work in an environment: steps, and the loop over blocks of them."""

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

# Steps between two looks at whether any trajectory still runs. Noise is drawn and results are
# stored once a block; a longer block would run on for longer after the last episode's end.
_BLOCK_LENGTH = 20


class Steps(NamedTuple):
    """What one or more steps leave behind; the fields of `Trajectories` of the same names."""

    obs: PyTree
    memory: PyTree
    action: PyTree
    log_prob: Array
    reward: Array
    valid: Array
    terminated: Array
    truncated: Array


class Carry(NamedTuple):
    """Where n trajectories stand. `obs`, and the memory with it, stay at s_H when one is over."""

    obs: PyTree
    memory: PyTree
    env_state: PyTree
    running: Array


@record
class Actor:
    """A policy at work in an environment, which n trajectories share.

    Attributes:
      deterministic: bool or bool[]; take the distribution's mode instead of a sample.
    """

    environment: Environment
    policy: Policy
    variables: PyTree
    deterministic: bool | Array = False

    def begin(self, keys: Array, active: Array) -> tuple[Array, Carry]:
        """n episodes at their start, and the keys, [n], for what follows."""
        start_keys, keys = split_each(keys, 2)
        obs, env_state = jax.vmap(self.environment.reset)(start_keys)
        return keys, Carry(obs, self._initial_memory(len(start_keys)), env_state, active)

    def step(
        self, carry: Carry, keys: Array, noise: PyTree, last: bool | Array = False
    ) -> tuple[Carry, Steps]:
        """One step of n trajectories; those that are over go through the motions, marked invalid.

        Args:
          last: whether those that still run are truncated after it.
        """
        obs, memory, env_state, running = carry

        def act(obs, memory, noise):
            distribution, memory = self.policy.apply(self.variables, obs, memory)
            action = self.chosen(distribution, noise)
            environment_action = distribution.environment_action(action)
            return action, distribution.log_prob(action), environment_action, memory

        action, log_prob, environment_action, remembered = jax.vmap(act)(obs, memory, noise)
        step = jax.vmap(self.environment.step)(keys, env_state, environment_action)
        truncated = step.truncated | last
        taken = Steps(
            obs=obs,
            memory=memory,
            action=action,
            log_prob=log_prob,
            reward=jnp.where(running, step.reward, 0.0),
            valid=running,
            terminated=running & step.terminated,
            truncated=running & truncated,
        )
        seen = choose(running, (step.obs, remembered), (obs, memory))
        running = running & ~step.terminated & ~truncated
        return Carry(seen[0], seen[1], step.env_state, running), taken

    def resumed(self, carry: Carry) -> Carry:
        """A carry from an earlier program, without the episodes that are lost meanwhile."""
        env_state, running = jax.vmap(self.environment.resumed)(carry.env_state, carry.running)
        return carry._replace(env_state=env_state, running=running)

    def chosen(self, distribution: Distribution, noise: PyTree) -> PyTree:
        """A sample, or the mode."""
        pairs = distribution.mode(), distribution.sample(noise)
        return jax.tree.map(lambda *pair: jnp.where(self.deterministic, *pair), *pairs)

    def restarted(self, keys: Array, carry: Carry, running: Array) -> Carry:
        """Those that were not running, bool[n], at the start of their next episode."""

        def restart(carry):
            restart_each = jax.vmap(self.environment.restart)
            obs, env_state = restart_each(keys, carry.obs, carry.env_state, running)
            memory = choose(running, carry.memory, self._initial_memory(running.shape[0]))
            return Carry(obs, memory, env_state, carry.running | ~running)

        return jax.lax.cond(any_in_batch(~running), restart, lambda carry: carry, carry)

    def _initial_memory(self, number: int) -> PyTree:
        memory = self.policy.initial_memory()
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (number, *x.shape)), memory)


class RolloutLimits(NamedTuple):
    """How far to go.

    Attributes:
      horizon: steps, after which whole episodes are truncated.
      block: steps between two looks at whether any trajectory still runs.
      restarts: whether the next episode follows where one ends.
    """

    horizon: int
    block: int
    restarts: bool = False


def episode_limits(horizon: int) -> RolloutLimits:
    """RolloutLimits of whole episodes."""
    return RolloutLimits(horizon, padded_block(horizon))


def padded_block(length: int) -> int:
    """Steps in each of equal blocks, of which the last may have some to spare."""
    return math.ceil(length / math.ceil(length / _BLOCK_LENGTH))


def even_block(length: int) -> int:
    """The same with none to spare, unless the blocks would be short."""
    most = min(_BLOCK_LENGTH, length)
    even = next(n for n in range(most, 0, -1) if length % n == 0)
    return even if 2 * even >= most else padded_block(length)


def unroll(
    actor: Actor,
    keys: Array,
    carry: Carry,
    limits: RolloutLimits,
    recorded: PyTree,
    record: Callable[[PyTree, Array, Steps], PyTree],
) -> tuple[Carry, PyTree]:
    """Runs n trajectories, block by block, until all are over or the horizon is reached.

    Args:
      actor: who acts, and where.
      keys: [n], one for each trajectory and all of its randomness, so that it is the same whatever
        others run beside it, and on whichever device.
      carry: where they stand.
      recorded, record: a fold over blocks of K steps: `recorded = record(recorded, first_step,
        taken)`, where the leaves of `taken` are [K, n, …].

    Returns:
      The carry after the last block, and what was recorded.
    """
    length = limits.block

    def unfinished(loop):
        first_step, carry, _ = loop
        more = first_step < limits.horizon
        return more if limits.restarts else more & any_in_batch(carry.running)

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
            after, taken = actor.step(carry, row_keys, noise, last)
            if limits.restarts:
                # Numbers that no block begins with.
                reset_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, limits.horizon + time)
                after = actor.restarted(reset_keys, after, carry.running)
            return after, taken

        # The keys' data: under `vmap`, JAX's check of key reuse takes a scan's keys for used ones.
        rows = times, noise, jax.random.key_data(split_each(step_keys, length))
        if limits.restarts and limits.horizon % length:
            # Streams stay where they are in the rows that the last block has to spare.
            left = jnp.minimum(limits.horizon - first_step, length)
            carry, taken = _scanned(row, carry, rows, left)
        else:
            carry, taken = jax.lax.scan(row, carry, rows)
        return first_step + length, carry, record(recorded, first_step, taken)

    loop = (jnp.int32(0), carry, recorded)
    _, carry, recorded = jax.lax.while_loop(unfinished, block, loop)
    return carry, recorded


def _scanned(row: Callable, carry: PyTree, inputs: PyTree, number: Array) -> tuple[PyTree, PyTree]:
    """`jax.lax.scan` over the first `number` rows of the inputs, int32[]; zeros after those."""

    def inputs_of(index: Array) -> PyTree:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, 0, False), inputs)

    def step(index: Array, loop: tuple) -> tuple:
        carry, stored = loop
        carry, taken = row(carry, inputs_of(index))
        return carry, jax.tree.map(
            lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, index, 0), stored, taken
        )

    length = jax.tree.leaves(inputs)[0].shape[0]
    shapes = jax.eval_shape(lambda carry: row(carry, inputs_of(jnp.int32(0)))[1], carry)
    stored = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), shapes)
    return jax.lax.fori_loop(jnp.int32(0), number, step, (carry, stored))


def recorded_steps(
    actor: Actor, keys: Array, carry: Carry, limits: RolloutLimits
) -> tuple[Trajectories, Carry]:
    """All steps kept: [T', n], T' the horizon rounded up to whole blocks."""
    rows = math.ceil(limits.horizon / limits.block) * limits.block
    empty = _empty(actor, carry, rows)

    def record(stored: Steps, first_step: Array, taken: Steps) -> Steps:
        return jax.tree.map(
            lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, first_step, axis=0),
            stored,
            taken,
        )

    carry, stored = unroll(actor, keys, carry, limits, empty, record)
    ends = {"final_obs": carry.obs, "final_memory": carry.memory}
    return Trajectories(**stored._asdict(), **ends), carry


def first_rows(trajectories: Trajectories, number: int) -> Trajectories:
    """The first rows, and what followed all of them."""
    ends = {"final_obs": trajectories.final_obs, "final_memory": trajectories.final_memory}
    rows = trajectories.replace(**dict.fromkeys(ends))
    return jax.tree.map(lambda x: x[:number], rows).replace(**ends)


def split_each(keys: Array, number: int) -> Array:
    """Each of n keys split: [number, n]."""
    split = jax.vmap(lambda key: jax.random.split(key, number))(keys)
    # Their data are transposed: JAX's check of key reuse takes transposed keys for used ones.
    data = jnp.swapaxes(jax.random.key_data(split), 0, 1)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(keys))


def choose(flags: Array, new: PyTree, old: PyTree) -> PyTree:
    """Leaf by leaf, [n, …]: `new` where the flag is set, else `old`."""

    def one(x: Array, y: Array) -> Array:
        return jnp.where(flags.reshape(flags.shape + (1,) * (x.ndim - 1)), x, y)

    return jax.tree.map(one, new, old)


def _empty(actor: Actor, carry: Carry, rows: int) -> Steps:
    """Room for so many rows of what `Actor.step` leaves behind."""

    def mode(obs: PyTree, memory: PyTree) -> PyTree:
        return actor.policy.apply(actor.variables, obs, memory)[0].mode()

    action = jax.eval_shape(jax.vmap(mode), carry.obs, carry.memory)
    zero, flags = jnp.zeros(carry.running.shape), carry.running
    taken = Steps(carry.obs, carry.memory, action, zero, zero, flags, flags, flags)
    return jax.tree.map(lambda x: jnp.zeros((rows, *x.shape), x.dtype), taken)
