"""Brax: continuous control on four physics engines."""

from collections.abc import Sequence
from typing import Literal

import jax

from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.environments.suites.adapted import Adapted, unbounded
from pgjax.environments.suites.suite import Suite, imported

_Backend = Literal["generalized", "positional", "spring", "mjx"]


class Brax(Suite):
    """`brax/ant`, with the options `limit` and `backend`.

    Source: Freeman et al. (2021), Brax.
    """

    name, extra = "brax", "brax"

    def names(self) -> Sequence[str]:
        """The environments that Brax has registered."""
        return sorted(imported("brax.envs", self.extra)._envs)

    def make(self, name: str, limit: int = 1000, backend: _Backend | None = None) -> Adapted:
        """The environment, as `from_brax` describes it."""
        env_id = f"{self.name}/{name}"
        chosen = {} if backend is None else {"backend": backend}
        env = imported("brax.envs", self.extra).get_environment(name, **chosen)

        def reset(key: Array) -> tuple[PyTree, PyTree]:
            state = env.reset(key)
            return state.obs, state

        def step(key: Array, state: PyTree, action: Array) -> tuple:
            after = env.step(state, action)
            return after.obs, after, after.reward, after.done > 0

        obs = jax.eval_shape(reset, jax.random.key(0))[0]
        actions = spaces.Box(-1.0, 1.0, (env.action_size,))
        return Adapted(env_id, reset, step, unbounded(obs), actions, limit)


def from_brax(name: str, limit: int = 1000, backend: _Backend | None = None) -> Adapted:
    """A Brax environment, as the id `brax/NAME`; needs the extra pgjax-rl[brax].

    Args:
      name: as for `brax.envs.get_environment`, "ant" for instance.
      limit: steps until an episode is truncated.
      backend: the physics engine; None: the environment's own choice.

    Raises:
      ValueError: an unknown name (the message names the nearest), a limit below 1.
      ImportError: Brax is not installed.

    Source: Freeman et al. (2021), Brax.
    """
    return Brax().environment(name, limit=limit, backend=backend)
