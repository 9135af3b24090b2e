"""What each worker process makes; imports no JAX, whose start takes seconds and hundreds of MB."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium

from pgjax.core.names import told
from pgjax.environments.host import contract

TERMINATED, TRUNCATED = 1, 2
_SPACES = ("observation_space", "action_space")
_STEP = "obs, reward, terminated, truncated and info"


class Maker(NamedTuple):
    """A name for messages, a function that makes one environment, and the spaces of it."""

    name: str
    make: Callable[[], gymnasium.Env]
    spaces: tuple[gymnasium.Space, gymnasium.Space]


class Resting(gymnasium.Wrapper):
    """An environment that does nothing between its episode's end and its next reset, and whose
    values are compared with Gymnasium's interface and its spaces.

    How the episode ended is a sum of `TERMINATED` and `TRUNCATED` in `info["ended"]`, and no flag:
    a vector environment then goes on with its others, and resets nothing by itself.

    Args:
      maker: makes it.
    """

    def __init__(self, maker: Maker) -> None:
        super().__init__(maker.make())
        self._name, self._first = maker.name, maker.spaces
        self._spaces = self._same_spaces((None, None), "of another one")
        self._obs: Any = None
        self._over, self._steps = True, 0
        self._seed: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """An episode's first observation; no info, which nobody reads and which costs time."""
        self._seed, self._steps = seed, 0
        given = self.env.reset(seed=seed)
        obs, _ = contract.unpacked(self.when(), 2, "obs and info", given)
        self._spaces = self._same_spaces(self._spaces, f"after {self.when()}")
        self._obs = contract.fitted(self._first[0], obs, self.when)
        self._over = False
        return self._obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step, or the last observation again and no reward."""
        if self._over:
            return self._obs, 0.0, False, False, {}
        self._steps += 1
        result = contract.unpacked("step", 5, _STEP, self.env.step(action))
        obs, reward, terminated, truncated, _ = result
        self._obs = contract.fitted(self._first[0], obs, self.when)
        ended = TERMINATED * contract.flag("terminated", self.when, terminated)
        ended += TRUNCATED * contract.flag("truncated", self.when, truncated)
        self._over = ended > 0
        reward = contract.number("reward", self.when, reward)
        return self._obs, reward, False, False, {"ended": ended} if ended else {}

    def when(self) -> str:
        """The latest call that gave an observation, "step 3", for messages."""
        return f"step {self._steps}" if self._steps else f"reset(seed={self._seed})"

    def close(self) -> None:
        """Closes the environment; what it raises is a warning, as nothing is left to do with it."""
        close(self._name, self.env)

    def _same_spaces(self, known: tuple, when: str) -> tuple:
        """Its spaces, compared with the first ones where they are not the known objects."""
        current = tuple(getattr(self.env, name) for name in _SPACES)
        for name, space, old, first in zip(_SPACES, current, known, self._first, strict=True):
            if space is not old:
                contract.same_space(name, when, space, first)
        return current


def close(name: str, env: gymnasium.Env) -> None:
    """Closes an environment; what it raises is a warning."""
    try:
        env.close()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the environment's own code may raise any
        warnings.warn(f"{name}: close raised {told(error)}", RuntimeWarning, stacklevel=2)
