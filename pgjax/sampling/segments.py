"""Segments: T rows of n streams of episodes, which each update continues."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.core.components import component, option
from pgjax.core.loops import short_step_unroll
from pgjax.core.types import Array, Trajectories
from pgjax.environments.interface import Environment
from pgjax.sampling.rollout import (
    Actor,
    Carry,
    RolloutLimits,
    choose,
    even_block,
    first_rows,
    recorded_steps,
)
from pgjax.sampling.sampler import Sampler


class Streams(NamedTuple):
    """State of n streams of episodes between two updates; float[n] but for the carry.

    Attributes:
      carry: the state of the environments.
      returns, lengths: sums over the running episode's steps so far.
      finished_returns, finished_lengths: sums over the episodes that ended in the latest update.
      num_finished: the number of those episodes.
    """

    carry: Carry
    returns: Array
    lengths: Array
    finished_returns: Array
    finished_lengths: Array
    num_finished: Array


@component
class Segments(Sampler):
    """The next T rows of n streams of episodes, which continue where the last update ended.

    After an episode's end a stream has one row with its last observation, in which no action is
    taken and the environment is reset: values bootstrap from the true last observation, and
    observations are stored once. Time limits are the environment's own.

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
        """n · T, the rows between two episodes included."""
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
        """The streams before the first update, [n]: each at an episode's start."""
        number = keys.shape[0]
        _, carry = actor.begin(keys, jnp.ones(number, bool))
        return Streams(actor.resumed(carry), *[jnp.zeros(number)] * 5)

    def sample(
        self,
        keys: Array,
        active: Array,
        streams: Streams,
        actor: Actor,
    ) -> tuple[Trajectories, Streams]:
        """Samples the next T rows of each stream, active or not: all take equally long.

        Returns:
          [T, n] trajectories, and the streams' state after them.
        """
        if actor.environment.on_host:
            streams = _resumed(actor, streams)
        limits = RolloutLimits(self.length, even_block(self.length), restarts=True)
        trajectories, carry = recorded_steps(actor, keys, streams.carry, limits)
        trajectories = first_rows(trajectories, self.length)
        return trajectories, _counted(trajectories, streams)._replace(carry=carry)

    def repair(self, streams: Streams, before: Streams) -> tuple[Streams, Array]:
        """The streams for the next update; and whether each was good, bool[n]: finite in
        observation, memory and return.

        A stream that was not good gets its state before the update, but its episode has ended
        without counting: the next row resets its environment.
        """
        good = jnp.isfinite(streams.returns)
        for leaf in jax.tree.leaves((streams.carry.obs, streams.carry.memory)):
            good &= jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim)))
        carry = choose(good, streams.carry, before.carry)
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
        """The number of valid steps, int32[], at least 1.

        A stream's rows are no episode, so that the objective is a mean over steps, and a gradient's
        norm does not grow with `length`.
        """
        return jnp.maximum(jnp.sum(valid), 1)

    def counts(self, trajectories: Trajectories, streams: Streams) -> tuple[Array, Array]:
        """`Sampler.counts`; an episode's return and length include its earlier segments."""
        num_steps = jnp.sum(trajectories.valid, axis=0)
        counts = jnp.stack([streams.num_finished, streams.finished_lengths, num_steps])
        counts = jnp.sum(counts.astype(jnp.int32), axis=1, dtype=jnp.int32)
        return jnp.sum(streams.finished_returns), counts


def _resumed(actor: Actor, streams: Streams) -> Streams:
    """Streams from an earlier program; an episode that is lost counts nowhere, and the next row
    resets its environment."""
    carry = actor.resumed(streams.carry)
    kept = carry.running | ~streams.carry.running
    returns, lengths = (jnp.where(kept, x, 0.0) for x in (streams.returns, streams.lengths))
    return streams._replace(carry=carry, returns=returns, lengths=lengths)


def _counted(trajectories: Trajectories, streams: Streams) -> Streams:
    """The streams with their sums after these rows; the carry does not change."""

    def row(totals, inputs):
        reward, valid, ended = inputs
        running = totals[0] + reward, totals[1] + valid
        finished = (*(jnp.where(ended, x, 0.0) for x in running), ended.astype(reward.dtype))
        running = (jnp.where(ended, 0.0, x) for x in running)
        return (*running, *map(jnp.add, totals[2:], finished)), None

    zero = jnp.zeros_like(streams.returns)
    ended = trajectories.terminated | trajectories.truncated
    start = (streams.returns, streams.lengths, zero, zero, zero)
    rows = trajectories.reward, trajectories.valid, ended
    totals, _ = jax.lax.scan(row, start, rows, unroll=short_step_unroll())
    return Streams(streams.carry, *totals)
