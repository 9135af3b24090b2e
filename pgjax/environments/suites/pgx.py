"""Pgx: 2048 and MinAtar, its games for one player."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.environments.suites.adapted import Adapted
from pgjax.environments.suites.suite import Suite, imported

_NAMES = (
    "2048",
    "minatar-asterix",
    "minatar-breakout",
    "minatar-freeway",
    "minatar-seaquest",
    "minatar-space_invaders",
)
_NEVER = 2**30  # steps


class Pgx(Suite):
    """`pgx/2048` or `pgx/minatar-breakout`, with the option `limit`.

    - A game that is over terminates. Freeway's `terminated` is a time limit of its own, which
      `limit` replaces.
    - 2048 observes a Dict: "board", and "action_mask", since Pgx ends a game with a penalty at an
      action that is not legal.
    - MinAtar has the minimal actions, and repeats the last one with probability 0.1.

    Source: Koyamada et al. (2023), Pgx; Young & Tian (2019), MinAtar.
    """

    name, extra = "pgx", "pgx"

    def names(self) -> Sequence[str]:
        """The games for one player."""
        imported("pgx", self.extra)
        return _NAMES

    def make(self, name: str, limit: int = 2500) -> Adapted:
        """The environment of a name.

        Args:
          name: as for `pgx.make`, "minatar-breakout" for instance.
          limit: steps until an episode is truncated; 2500, as in Pgx's Freeway.
        """
        env = imported("pgx", self.extra).make(name)

        def reset(key: Array) -> tuple[PyTree, PyTree]:
            state = env.init(key)
            if name == "minatar-freeway":
                state = state.replace(_terminate_timer=jnp.int32(_NEVER))
            return _observed(name, state), state

        def step(key: Array, state: PyTree, action: Array) -> tuple:
            after = env.step(state, action, key)
            return _observed(name, after), after, after.rewards[0], after.terminated

        obs = jax.eval_shape(reset, jax.random.key(0))[0]
        actions = spaces.Discrete(env.num_actions)
        return Adapted(name, reset, step, _bits(obs), actions, limit)


def _observed(name: str, state: PyTree) -> PyTree:
    if name != "2048":
        return state.observation
    return {"board": state.observation, "action_mask": state.legal_action_mask}


def _bits(obs: PyTree) -> spaces.Space:
    """The space of an array of 0 and 1, or of a dict of them."""
    if isinstance(obs, dict):
        return spaces.Dict({name: _bits(entry) for name, entry in obs.items()})
    return spaces.Box(0, 1, obs.shape, obs.dtype)
