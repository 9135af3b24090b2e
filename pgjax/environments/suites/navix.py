"""Navix: MiniGrid in JAX."""

from collections.abc import Sequence

import jax.numpy as jnp

from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.environments.suites.adapted import Adapted
from pgjax.environments.suites.suite import Suite, imported


class Navix(Suite):
    """`navix/Navix-Empty-5x5-v0`, with the option `limit`; the whole grid is observed.

    Source: Pignatelli et al. (2024), NAVIX.
    """

    name, extra = "navix", "navix"

    def names(self) -> Sequence[str]:
        """The environments that Navix has registered."""
        return sorted(imported("navix", self.extra).registry())

    def make(self, name: str, limit: int = 100) -> Adapted:
        """The environment, as `from_navix` describes it."""
        env_id = f"{self.name}/{name}"
        env = imported("navix", self.extra).make(name, max_steps=limit)

        def reset(key: Array) -> tuple[PyTree, PyTree]:
            timestep = env.reset(key)
            return timestep.observation, timestep

        def step(key: Array, timestep: PyTree, action: Array) -> tuple:
            # Its own automatic reset follows a step that is marked as an episode's end.
            going = jnp.zeros_like(timestep.step_type, shape=())
            state = timestep.state.replace(key=key)
            after = env.step(timestep.replace(step_type=going, state=state), action)
            return after.observation, after, after.reward, after.is_termination()

        space = env.observation_space
        # The maximum that it declares is below what it shows: in 0.7.4, 8 for a player, who is 10.
        observed = spaces.Box(0, 255, space.shape, space.dtype)
        return Adapted(env_id, reset, step, observed, spaces.Discrete(len(env.action_set)), limit)


def from_navix(name: str, limit: int = 100) -> Adapted:
    """A Navix environment, as the id `navix/NAME`; needs the extra pgjax-rl[navix].

    Args:
      name: as for `navix.make`, "Navix-Empty-5x5-v0" for instance.
      limit: steps until an episode is truncated.

    Raises:
      ValueError: an unknown name (the message names the nearest), a limit below 1.
      ImportError: Navix is not installed.

    Source: Pignatelli et al. (2024), NAVIX.
    """
    return Navix().environment(name, limit=limit)
