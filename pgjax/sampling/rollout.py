"""Sampling trajectories from a policy in an environment."""

import abc
import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from pgjax.core.components import Component, component, option, record
from pgjax.core.loops import any_in_batch
from pgjax.core.types import Array, PyTree, Trajectories
from pgjax.environments.interface import Environment
from pgjax.policies.distributions import Distribution
from pgjax.policies.policy import Policy

# Steps between two looks at whether any trajectory still runs. Noise is drawn and results are
# stored once a block; a longer block would run on for longer after the last episode's end.
_BLOCK_LENGTH = 20


class Taken(NamedTuple):
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


class Streams(NamedTuple):
    """Where n streams of episodes stand; float[n] but for the carry.

    Attributes:
      carry: the environments.
      returns, lengths: of the episode that is running, so far.
      finished_returns, finished_lengths, num_finished: sums over the episodes that ended among the
        latest rows, and their number.
    """

    carry: Carry
    returns: Array
    lengths: Array
    finished_returns: Array
    finished_lengths: Array
    num_finished: Array


class Sampler(Component, abc.ABC):
    """Base of every sampler, the user's own among them: what one update learns from.

    Attributes:
      whole_episodes: whether each trajectory is one episode.
      width_field, rows_field: which of its fields say how many trajectories it has, and rows.
    """

    whole_episodes: ClassVar[bool]
    width_field: ClassVar[str]
    rows_field: ClassVar[str]

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """m, trajectories side by side."""

    @property
    def num_steps(self) -> int | None:
        """Steps in each update; None where that depends on how long episodes last."""
        return None

    @abc.abstractmethod
    def num_rows(self, environment: Environment) -> int:
        """T, the rows of an update's trajectories."""

    @abc.abstractmethod
    def resolve_horizon(self, environment: Environment) -> int:
        """The longest whole episode, in steps.

        Raises:
          ValueError: nothing bounds it.
        """

    @abc.abstractmethod
    def start(self, keys: Array, actor: "Actor") -> PyTree:
        """Where its streams are before the first update, given keys [m]; each leaf [m, …]."""

    @abc.abstractmethod
    def sample(
        self, keys: Array, active: Array, streams: PyTree, actor: "Actor"
    ) -> tuple[Trajectories, PyTree]:
        """Trajectories [T, n] for n keys, of those that are active, bool[n]; and the streams."""

    @abc.abstractmethod
    def repaired(self, streams: PyTree, before: PyTree) -> tuple[PyTree, Array]:
        """Streams to go on with, and which were good, bool[n] or bool[]."""

    @abc.abstractmethod
    def divisor(self, valid: Array, share: float = 1.0) -> float | Array:
        """What makes an objective of a sum over steps, valid bool[T, m]; `share` of all steps."""

    @abc.abstractmethod
    def counts(self, trajectories: Trajectories, streams: PyTree) -> tuple[Array, Array]:
        """Summed returns of the episodes that ended; int32[3]: their number, their summed lengths,
        and all valid steps."""


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
        start_keys, keys = _split_each(keys, 2)
        return keys, Carry(*self._start(start_keys), active)

    def step(
        self, carry: Carry, keys: Array, noise: PyTree, last: bool | Array = False
    ) -> tuple[Carry, Taken]:
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
        taken = Taken(
            obs=obs,
            memory=memory,
            action=action,
            log_prob=log_prob,
            reward=jnp.where(running, step.reward, 0.0),
            valid=running,
            terminated=running & step.terminated,
            truncated=running & truncated,
        )
        seen = _where(running, (step.obs, remembered), (obs, memory))
        running = running & ~step.terminated & ~truncated
        return Carry(seen[0], seen[1], step.env_state, running), taken

    def chosen(self, distribution: Distribution, noise: PyTree) -> PyTree:
        """A sample, or the mode."""
        pairs = distribution.mode(), distribution.sample(noise)
        return jax.tree.map(lambda *pair: jnp.where(self.deterministic, *pair), *pairs)

    def restarted(self, keys: Array, carry: Carry, running: Array) -> Carry:
        """Those that were not running, bool[n], at the start of their next episode."""

        def restart(carry):
            now = carry.obs, carry.memory, carry.env_state
            obs, memory, env_state = _where(running, now, self._start(keys))
            return Carry(obs, memory, env_state, carry.running | ~running)

        return jax.lax.cond(any_in_batch(~running), restart, lambda carry: carry, carry)

    def _start(self, keys: Array) -> tuple[PyTree, PyTree, PyTree]:
        obs, env_state = jax.vmap(self.environment.reset)(keys)
        number, memory = keys.shape[0], self.policy.initial_memory()
        memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (number, *x.shape)), memory)
        return obs, memory, env_state


@component
class Episodes(Sampler):
    """m whole episodes side by side, each from its start to its end or to the horizon.

    Attributes:
      num_trajectories: m ≥ 1 episodes in each update.
      horizon: T in steps, at most the environment's own time limit; None: that limit. An episode
        that reaches it is marked `truncated`.
    """

    num_trajectories: int = option(64, low=1)
    horizon: int | None = option(None, low=1)

    whole_episodes = True
    width_field, rows_field = "num_trajectories", "horizon"

    @property
    def width(self) -> int:
        """m."""
        return self.num_trajectories

    def resolve_horizon(self, environment: Environment) -> int:
        """T in steps.

        Raises:
          ValueError: a horizon beyond the environment's limit, or neither of them given.
        """
        limit = environment.limit
        horizon = limit if self.horizon is None else self.horizon
        if horizon is None:
            raise ValueError(f"{environment.name} has no time limit: set sampler.horizon, in steps")
        if self.horizon is not None and limit is not None and self.horizon > limit:
            raise ValueError(
                f"sampler.horizon must be at most {limit}, the time limit of {environment.name}, "
                f"got {self.horizon}"
            )
        return horizon

    num_rows = resolve_horizon

    def start(self, keys: Array, actor: Actor) -> tuple:
        """Nothing: every update starts its own episodes, whatever the keys [m]."""
        return ()

    def sample(
        self,
        keys: Array,
        active: Array,
        streams: tuple,
        actor: Actor,
    ) -> tuple[Trajectories, tuple]:
        """One trajectory for each of n keys, empty where not active, bool[n].

        Returns:
          [T', n] trajectories, where T' is T rounded up to whole blocks of steps; `streams`.
        """
        bounds = whole(self.resolve_horizon(actor.environment))
        keys, start = actor.begin(keys, active)
        trajectories, _ = _recorded(actor, keys, start, bounds)
        return trajectories, streams

    def repaired(self, streams: tuple, before: tuple) -> tuple[tuple, Array]:
        """No streams, and that they are good."""
        return streams, jnp.bool_(True)

    def divisor(self, valid: Array, share: float = 1.0) -> float:
        """m, to make of a sum over steps a sum over t and a mean over trajectories; share · m of a
        `share` of their rows, bool[share · T, m], whose sum has so much less in it."""
        return share * valid.shape[1]

    def counts(self, trajectories: Trajectories, streams: tuple) -> tuple[Array, Array]:
        """Summed returns of the episodes that ended; int32[3]: their number, their summed lengths,
        and all valid steps."""
        over = jnp.any(trajectories.terminated | trajectories.truncated, axis=0)
        returns = jnp.sum(trajectories.reward, axis=0)
        lengths = jnp.sum(trajectories.valid, axis=0)
        # Summed together: between processes every array takes its own round of messages.
        counts = jnp.stack([over, jnp.where(over, lengths, 0), lengths]).astype(jnp.int32)
        return jnp.sum(jnp.where(over, returns, 0.0)), jnp.sum(counts, axis=1, dtype=jnp.int32)


@component
class Segments(Sampler):
    """The next T rows of n streams of episodes, which go on where the last update left them.

    A stream whose episode ended spends one row on the episode's last observation, where nothing is
    done and the environment is reset: values bootstrap from what was truly seen, and observations
    are stored once. Time limits are the environment's own.

    Attributes:
      num_envs: n ≥ 1 streams, side by side.
      length: T ≥ 1 rows in each update.
    """

    num_envs: int = option(64, low=1)
    length: int = option(32, low=1)

    whole_episodes = False
    width_field, rows_field = "num_envs", "length"

    @property
    def width(self) -> int:
        """n."""
        return self.num_envs

    @property
    def num_steps(self) -> int:
        """n · T, those between two episodes included."""
        return self.num_envs * self.length

    def num_rows(self, environment: Environment) -> int:
        """T."""
        return self.length

    def resolve_horizon(self, environment: Environment) -> int:
        """The environment's own time limit in steps, for evaluations.

        Raises:
          ValueError: it has none.
        """
        if environment.limit is None:
            raise ValueError(
                f"{environment.name} has no time limit: whole episodes need "
                "sampler=Episodes(horizon=…)"
            )
        return environment.limit

    def start(self, keys: Array, actor: Actor) -> Streams:
        """Where the streams are before the first update: at an episode's start, [n]."""
        running, zeros = jnp.ones(keys.shape[0], bool), jnp.zeros(keys.shape[0])
        _, carry = actor.begin(keys, running)
        return Streams(carry, *[zeros] * 5)

    def sample(
        self,
        keys: Array,
        active: Array,
        streams: Streams,
        actor: Actor,
    ) -> tuple[Trajectories, Streams]:
        """The next T rows of each stream. All are sampled, active or not: they take equally long.

        Returns:
          [T, n] trajectories, and where the streams are then.
        """
        bounds = Bounds(self.length, _even_block(self.length), restarts=True)
        trajectories, carry = _recorded(actor, keys, streams.carry, bounds)
        trajectories = first_rows(trajectories, self.length)
        return trajectories, _counted(trajectories, streams)._replace(carry=carry)

    def repaired(self, streams: Streams, before: Streams) -> tuple[Streams, Array]:
        """Streams to go on with, and which were good, bool[n]: finite in observation and return.

        One that was not stands where it was before, but its episode is over, and counts nowhere:
        the next row resets its environment.
        """
        good = jnp.isfinite(streams.returns)
        for leaf in jax.tree.leaves((streams.carry.obs, streams.carry.memory)):
            good &= jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim)))
        carry = _where(good, streams.carry, before.carry)
        carry = carry._replace(running=streams.carry.running & good)
        returns, lengths = (jnp.where(good, x, 0.0) for x in (streams.returns, streams.lengths))
        total = streams.finished_returns
        streams = streams._replace(
            carry=carry,
            returns=returns,
            lengths=lengths,
            finished_returns=jnp.where(jnp.isfinite(total), total, 0.0),
        )
        return streams, good

    def divisor(self, valid: Array, share: float = 1.0) -> Array:
        """The number of valid steps, int32[], at least 1: rows of a stream are no trajectory whose
        sum means something, and a gradient's norm must not grow with `length`."""
        return jnp.maximum(jnp.sum(valid), 1)

    def counts(self, trajectories: Trajectories, streams: Streams) -> tuple[Array, Array]:
        """The same of the episodes that ended, with their rewards and steps in earlier segments."""
        taken = jnp.sum(trajectories.valid, axis=0)
        counts = jnp.stack([streams.num_finished, streams.finished_lengths, taken])
        counts = jnp.sum(counts.astype(jnp.int32), axis=1, dtype=jnp.int32)
        return jnp.sum(streams.finished_returns), counts


def first_rows(trajectories: Trajectories, number: int) -> Trajectories:
    """The first rows, and what followed all of them."""
    ends = {"final_obs": trajectories.final_obs, "final_memory": trajectories.final_memory}
    rows = trajectories.replace(**dict.fromkeys(ends))
    return jax.tree.map(lambda x: x[:number], rows).replace(**ends)


class Bounds(NamedTuple):
    """How far to go.

    Attributes:
      horizon: steps, after which whole episodes are truncated.
      block: steps between two looks at whether any trajectory still runs.
      restarts: whether the next episode follows where one ends.
    """

    horizon: int
    block: int
    restarts: bool = False


def whole(horizon: int) -> Bounds:
    """Bounds of whole episodes."""
    return Bounds(horizon, _padded_block(horizon))


def _padded_block(length: int) -> int:
    """Steps in each of equal blocks, of which the last may have some to spare."""
    return math.ceil(length / math.ceil(length / _BLOCK_LENGTH))


def _even_block(length: int) -> int:
    """The same with none to spare, unless the blocks would be short."""
    most = min(_BLOCK_LENGTH, length)
    even = next(n for n in range(most, 0, -1) if length % n == 0)
    return even if 2 * even >= most else _padded_block(length)


def unroll(
    actor: Actor,
    keys: Array,
    carry: Carry,
    bounds: Bounds,
    recorded: PyTree,
    record: Callable[[PyTree, Array, Taken], PyTree],
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
    length = bounds.block

    def unfinished(loop):
        first_step, carry, _ = loop
        more = first_step < bounds.horizon
        return more if bounds.restarts else more & any_in_batch(carry.running)

    def block(loop):
        first_step, carry, recorded = loop
        block_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, first_step)
        noise_keys, step_keys = _split_each(block_keys, 2)
        noise = jax.vmap(lambda key: actor.policy.noise(key, (length,)), out_axes=1)(noise_keys)
        times = first_step + jnp.arange(length, dtype=jnp.int32)

        def row(carry, inputs):
            time, noise, key_data = inputs
            row_keys = jax.random.wrap_key_data(key_data, impl=jax.random.key_impl(keys))
            last = False if bounds.restarts else time + 1 >= bounds.horizon
            after, taken = actor.step(carry, row_keys, noise, last)
            if bounds.restarts:
                # Numbers that no block begins with.
                reset_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, bounds.horizon + time)
                after = actor.restarted(reset_keys, after, carry.running)
            return after, taken

        # The keys' data: under `vmap`, JAX's check of key reuse takes a scan's keys for used ones.
        rows = times, noise, jax.random.key_data(_split_each(step_keys, length))
        if bounds.restarts and bounds.horizon % length:
            # Streams stay where they are in the rows that the last block has to spare.
            left = jnp.minimum(bounds.horizon - first_step, length)
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


def _recorded(
    actor: Actor, keys: Array, carry: Carry, bounds: Bounds
) -> tuple[Trajectories, Carry]:
    """All steps kept: [T', n], T' the horizon rounded up to whole blocks."""
    rows = math.ceil(bounds.horizon / bounds.block) * bounds.block
    empty = _empty(actor, carry, rows)

    def record(stored: Taken, first_step: Array, taken: Taken) -> Taken:
        return jax.tree.map(
            lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, first_step, axis=0),
            stored,
            taken,
        )

    carry, stored = unroll(actor, keys, carry, bounds, empty, record)
    ends = {"final_obs": carry.obs, "final_memory": carry.memory}
    return Trajectories(**stored._asdict(), **ends), carry


def _counted(trajectories: Trajectories, streams: Streams) -> Streams:
    """The streams' sums after these rows; the carry as it was."""

    def row(totals, taken):
        reward, valid, ended = taken
        now = totals[0] + reward, totals[1] + valid
        over = (*(jnp.where(ended, x, 0.0) for x in now), ended.astype(reward.dtype))
        going = (jnp.where(ended, 0.0, x) for x in now)
        return (*going, *map(jnp.add, totals[2:], over)), None

    zero = jnp.zeros_like(streams.returns)
    ended = trajectories.terminated | trajectories.truncated
    start = (streams.returns, streams.lengths, zero, zero, zero)
    totals, _ = jax.lax.scan(row, start, (trajectories.reward, trajectories.valid, ended), unroll=8)
    return Streams(streams.carry, *totals)


def _split_each(keys: Array, number: int) -> Array:
    """Each of n keys split: [number, n]."""
    split = jax.vmap(lambda key: jax.random.split(key, number))(keys)
    # Their data are transposed: JAX's check of key reuse takes transposed keys for used ones.
    data = jnp.swapaxes(jax.random.key_data(split), 0, 1)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(keys))


def _where(flags: Array, new: PyTree, old: PyTree) -> PyTree:
    """Leaf by leaf, [n, …]: `new` where the flag is set, else `old`."""

    def one(x: Array, y: Array) -> Array:
        return jnp.where(flags.reshape(flags.shape + (1,) * (x.ndim - 1)), x, y)

    return jax.tree.map(one, new, old)


def _empty(actor: Actor, carry: Carry, rows: int) -> Taken:
    """Room for so many rows of what `Actor.step` leaves behind."""

    def mode(obs: PyTree, memory: PyTree) -> PyTree:
        return actor.policy.apply(actor.variables, obs, memory)[0].mode()

    action = jax.eval_shape(jax.vmap(mode), carry.obs, carry.memory)
    zero, flags = jnp.zeros(carry.running.shape), carry.running
    taken = Taken(carry.obs, carry.memory, action, zero, zero, flags, flags, flags)
    return jax.tree.map(lambda x: jnp.zeros((rows, *x.shape), x.dtype), taken)
