"""Environments of Gymnasium for tests; imports no JAX, for which worker processes would wait."""

import asyncio
import os
import signal
import time

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
        if self.part == "exit":
            raise SystemExit(3)
        if self.part == "cancel":
            raise asyncio.CancelledError
        if self.part == "process":
            os._exit(1)
        if self.part == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


class Robot(gymnasium.Env):
    """Shows the time in an arm's angle and in two pixels, and pays it.

    Args:
      at: the step, 0 for the reset, that gives other values.
      values: what it gives in place of "reward", "terminated", "info" or "result", or a function
        of the right "obs".
    """

    observation_space = spaces.Dict(
        {
            "arm": spaces.Dict({"angle": spaces.Box(-9.0, 9.0, (2,)), "grip": spaces.Discrete(3)}),
            "pixels": spaces.Box(0, 255, (2,), np.uint8),
        }
    )
    action_space = spaces.Discrete(2)

    def __init__(self, at=0, **values):
        self.at, self.values = at, values

    def reset(self, *, seed=None, options=None):
        self.time = 0
        result = self._obs(), self._given("info", {})
        return self._given("result", result)

    def step(self, action):
        self.time += 1
        reward = self._given("reward", float(self.time))
        ends = self._given("terminated", False), False
        return self._given("result", (self._obs(), reward, *ends, self._given("info", {})))

    def _obs(self):
        obs = {
            "arm": {"angle": np.full(2, self.time, np.float32), "grip": np.int64(1)},
            "pixels": np.full(2, self.time, np.uint8),
        }
        return self._given("obs", lambda obs: obs)(obs)

    def _given(self, name, right):
        return self.values.get(name, right) if self.time == self.at else right


class Shared(Robot):
    """All of a process write their observations into the same arrays."""

    observation_space = spaces.Box(0.0, 99.0, (2,))
    obs = np.zeros(2, np.float32)

    def reset(self, *, seed=None, options=None):
        self.seed = seed
        return super().reset(seed=seed)

    def _obs(self):
        self.obs[:] = self.seed, self.time
        return self.obs


class Talks(Robot):
    """Prints at each step, and is slow to close."""

    def step(self, action):
        print(f"step {self.time} of {os.getpid()}")
        return super().step(action)

    def close(self):
        time.sleep(0.2)


class Unsampled(gymnasium.spaces.Discrete):
    """Cannot be sampled."""

    def sample(self, mask=None, probability=None):
        raise KeyError("seed")


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
