"""What each worker process makes; imports no JAX, whose start takes seconds and hundreds of MB."""

from collections.abc import Callable
from typing import Any

import gymnasium

TERMINATED, TRUNCATED = 1, 2


class Resting(gymnasium.Wrapper):
    """An environment that does nothing between its episode's end and its next reset.

    How the episode ended is a sum of `TERMINATED` and `TRUNCATED` in `info["ended"]`, and no flag:
    a vector environment then goes on with its others, and resets nothing by itself.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._obs: Any = None
        self._over = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """An episode's first observation; no info, which nobody reads and which costs time."""
        self._obs, _ = self.env.reset(seed=seed)
        self._over = False
        return self._obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step, or the last observation again and no reward."""
        if self._over:
            return self._obs, 0.0, False, False, {}
        self._obs, reward, terminated, truncated, _ = self.env.step(action)
        ended = TERMINATED * bool(terminated) + TRUNCATED * bool(truncated)
        self._over = ended > 0
        return self._obs, float(reward), False, False, {"ended": ended} if ended else {}


def resting(make: Callable[[], gymnasium.Env]) -> gymnasium.Env:
    """What a function makes, resting after each episode."""
    return Resting(make())
