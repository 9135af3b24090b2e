"""Environments of Gymnasium for tests; imports no JAX, for which worker processes would wait."""

import os

import gymnasium
import numpy as np
from gymnasium import spaces

_MADE = {}


class Dice(gymnasium.Env):
    """Shows the time and a die; pays for the first of two actions; ends by itself at a six."""

    observation_space = spaces.Dict(
        {"time": spaces.Box(0.0, 99.0, (1,), np.float64), "die": spaces.Discrete(7)}
    )
    action_space = spaces.MultiDiscrete([3, 2])

    def _obs(self):
        self.die = int(self.np_random.integers(1, 7))
        return {"time": np.array([self.time], np.float64), "die": np.int64(self.die)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._obs(), {}

    def step(self, action):
        self.time += 1
        obs = self._obs()
        return obs, float(action[0] - action[1]), self.die == 6, False, {"die": self.die}


class TwoArguments(Exception):
    """No pickle of it can be read."""

    def __init__(self, text, code):
        super().__init__(text)


class Breaks(Dice):
    """Raises in a part of its life, or ends its process.

    Args:
      part: which one.
      makeable: how many can be made in one process.
    """

    def __init__(self, part="step", makeable=9):
        self.part = part
        _MADE[makeable] = _MADE.get(makeable, 0) + 1
        if _MADE[makeable] > makeable:
            raise OSError("no licence")

    def reset(self, *, seed=None, options=None):
        if self.part == "reset" and seed == 1:
            raise TwoArguments("the\nbroker is gone", 3)
        return super().reset(seed=seed)

    def step(self, action):
        if self.part == "step":
            raise KeyError("valve")
        if self.part == "process":
            os._exit(1)
        return super().step(action)


class Filmable(Dice):
    """A grey picture, lighter by 20 at each step; its die never ends it."""

    def __init__(self, render_mode="rgb_array", frame=None):
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 4}
        self.render_mode, self.frame = render_mode, frame

    def step(self, action):
        obs, reward, _, *rest = super().step(action)
        return obs, reward, False, *rest

    def render(self):
        if self.frame is not None:
            raise self.frame
        return np.full((40, 480, 3), 20 * self.time, np.uint8)
