"""Environments side by side in one process, which may be a worker's; imports no JAX."""

import functools
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import batch_space, create_empty_array

from pgjax.environments.host import contract
from pgjax.environments.host.resting import Maker, Resting


class Bundle(gymnasium.Env):
    """Some of n environments as one, whose observations and actions are theirs, [k, …].

    Rewards and ends, [k] each, are in the info: the bundle has no episodes. It makes them at the
    first reset.

    Args:
      maker: of one environment.
      number: k.
      first: the index of its first one among the n.
    """

    def __init__(self, maker: Maker, number: int, first: int) -> None:
        self._makers = [functools.partial(Resting, maker)] * number
        self._space = maker.spaces[0]
        self.observation_space, self.action_space = (
            batch_space(space, number) for space in maker.spaces
        )
        self._share = slice(first, first + number)
        self._obs: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets those that `options` marks: of all n, "mask" bool[n] and "seeds" int[n]."""
        mask, seeds = ((options or {})[name][self._share] for name in ("mask", "seeds"))
        if mask.any():
            obs, _ = self._envs.reset(seed=seeds.tolist(), options={"reset_mask": mask})
            self._obs = self._checked(obs)
        return self._obs, {}

    @functools.cached_property
    def _envs(self) -> SyncVectorEnv:
        return SyncVectorEnv(self._makers, copy=False, autoreset_mode=AutoresetMode.DISABLED)

    def blank(self) -> Any:
        """Observations of zeros."""
        return create_empty_array(self._space, len(self._makers))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """A step of each."""
        obs, rewards, _, _, infos = self._envs.step(action)
        self._obs = self._checked(obs)
        ended = infos.get("ended", np.zeros(len(rewards), int))
        return self._obs, 0.0, False, False, {"rewards": rewards, "ended": ended}

    def _checked(self, obs: Any) -> Any:
        """The observations, if all their numbers can be."""
        for row, path, fault in contract.faults(self._space, obs):
            env: Any = self._envs.envs[row]
            raise contract.WrongValue(f"observation{path} of {env.when()}: {fault}")
        return obs

    def close(self) -> None:
        """Closes those that were made."""
        if "_envs" in vars(self):
            self._envs.close()
