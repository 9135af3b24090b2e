"""m whole episodes: τ_1, …, τ_m ~ π_θ, each from its start to its end."""

import jax.numpy as jnp

from pgjax.core.components import component, option
from pgjax.core.types import Array, Trajectories
from pgjax.environments.interface import Environment
from pgjax.sampling.rollout import Actor, episode_limits, few_of, recorded_steps
from pgjax.sampling.sampler import Sampler, horizon


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
          ValueError: a horizon beyond the environment's limit, or neither of them is given.
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
        """Returns (): every update starts its own episodes."""
        return ()

    def sample(
        self,
        keys: Array,
        active: Array,
        streams: tuple,
        actor: Actor,
    ) -> tuple[Trajectories, tuple]:
        """Samples one episode for each of n keys; an empty one where `active`, bool[n], is false.

        Returns:
          [T', n] trajectories, where T' is T rounded up to a multiple of a block; and `streams`.
        """
        few = few_of(actor.environment, len(keys))
        limits = episode_limits(horizon(self, actor.environment))._replace(few=few)
        keys, start = actor.begin(keys, active)
        trajectories, _ = recorded_steps(actor, keys, start, limits)
        return trajectories, streams

    def repair(self, streams: tuple, before: tuple) -> tuple[tuple, Array]:
        """Returns the empty streams, and True."""
        return streams, jnp.bool_(True)

    def divisor(self, valid: Array, share: float = 1.0) -> float:
        """share · m, float.

        A sum over all steps, divided by m, is a sum over t and a mean over trajectories. A
        minibatch with a `share` of the rows, bool[share · T, m], has only that share of the sum.
        """
        return share * valid.shape[1]

    def counts(self, trajectories: Trajectories, streams: tuple) -> tuple[Array, Array]:
        """Summed returns of the episodes that ended; int32[3]: their number, their summed lengths,
        and all valid steps."""
        ended = jnp.any(trajectories.terminated | trajectories.truncated, axis=0)
        returns = jnp.sum(trajectories.reward, axis=0)
        lengths = jnp.sum(trajectories.valid, axis=0)
        # Summed as one array: between processes every array takes its own round of messages.
        counts = jnp.stack([ended, jnp.where(ended, lengths, 0), lengths]).astype(jnp.int32)
        return jnp.sum(jnp.where(ended, returns, 0.0)), jnp.sum(counts, axis=1, dtype=jnp.int32)
