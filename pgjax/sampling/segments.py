"""The next T rows of n streams of episodes, which go on where the last update left them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.core.components import component, option
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
        return Streams(actor.resumed(carry), *[zeros] * 5)

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
        if actor.environment.on_host:
            streams = _resumed(actor, streams)
        limits = RolloutLimits(self.length, even_block(self.length), restarts=True)
        trajectories, carry = recorded_steps(actor, keys, streams.carry, limits)
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
        """The number of valid steps, int32[], at least 1: rows of a stream are no trajectory whose
        sum means something, and a gradient's norm must not grow with `length`."""
        return jnp.maximum(jnp.sum(valid), 1)

    def counts(self, trajectories: Trajectories, streams: Streams) -> tuple[Array, Array]:
        """The same of the episodes that ended, with their rewards and steps in earlier segments."""
        taken = jnp.sum(trajectories.valid, axis=0)
        counts = jnp.stack([streams.num_finished, streams.finished_lengths, taken])
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
