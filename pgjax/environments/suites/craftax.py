"""Craftax: an open world in JAX, and its smaller Craftax-Classic."""

from collections.abc import Sequence

from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.environments.suites.adapted import Adapted
from pgjax.environments.suites.suite import Suite, imported

_NAMES = (
    "Craftax-Classic-Pixels-v1",
    "Craftax-Classic-Symbolic-v1",
    "Craftax-Pixels-v1",
    "Craftax-Symbolic-v1",
)
_NEVER = 2**30  # steps


class Craftax(Suite):
    """`craftax/Craftax-Symbolic-v1`, with the option `limit`.

    Source: Matthews et al. (2024), Craftax.
    """

    name, extra = "craftax", "craftax"

    def names(self) -> Sequence[str]:
        """Those that `make_craftax_env_from_name` knows."""
        imported("craftax.craftax_env", self.extra)
        return _NAMES

    def make(self, name: str, limit: int = 10_000) -> Adapted:
        """The environment, as `from_craftax` describes it."""
        env_id = f"{self.name}/{name}"
        craftax = imported("craftax.craftax_env", self.extra)
        env = craftax.make_craftax_env_from_name(name, auto_reset=False)
        # Its `done` would not tell death from the time limit.
        params = env.default_params.replace(max_timesteps=_NEVER)

        def reset(key: Array) -> tuple[PyTree, PyTree]:
            return env.reset_env(key, params)

        def step(key: Array, state: PyTree, action: Array) -> tuple:
            return env.step_env(key, state, action, params)[:4]

        space = env.observation_space(params)
        observed = spaces.Box(space.low, space.high, space.shape, space.dtype)
        actions = spaces.Discrete(env.action_space(params).n)
        return Adapted(env_id, reset, step, observed, actions, limit)


def from_craftax(name: str, limit: int = 10_000) -> Adapted:
    """A Craftax environment, as the id `craftax/NAME`; needs the extra pgjax-rl[craftax].

    Args:
      name: "Craftax-Symbolic-v1", "Craftax-Classic-Symbolic-v1", or either with "Pixels".
      limit: steps until an episode is truncated; 10 000, as in Craftax-Classic.

    Raises:
      ValueError: an unknown name (the message names the nearest), a limit below 1.
      ImportError: Craftax is not installed.

    Source: Matthews et al. (2024), Craftax.
    """
    return Craftax().environment(name, limit=limit)
