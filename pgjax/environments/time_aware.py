"""Observations that also tell the time."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.environments.around import Around
from pgjax.environments.environment import Environment, Step


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Timed(Around):
    """Another environment, whose observations also tell the time; see `with_time`."""

    env: Environment
    time_limit: int

    @property
    def observation_space(self) -> Any:
        return spaces.Dict({**self._entries, "time": spaces.Box(0.0, 1.0, ())})

    @property
    def _entries(self) -> dict[str, Any]:
        space = self.inner.observation_space
        entries = spaces.children(space) if self._has_entries else None
        return {"obs": space} if entries is None else entries

    @property
    def _has_entries(self) -> bool:
        return isinstance(self.inner.observation_space, spaces.Dict)

    def reset(self, key: Array) -> tuple[PyTree, PyTree]:
        obs, env_state = self.inner.reset(key)
        return self.timed(obs, jnp.int32(0)), (env_state, jnp.int32(0))

    def step(self, key: Array, env_state: PyTree, action: PyTree) -> Step:
        env_state, time = env_state
        step = self.inner.step(key, env_state, action)
        after = (step.env_state, time + 1)
        return step._replace(obs=self.timed(step.obs, time + 1), env_state=after)

    def restart(
        self, key: Array, obs: PyTree, env_state: PyTree, running: Array
    ) -> tuple[PyTree, PyTree]:
        env_state, time = env_state
        entries = {name: obs[name] for name in self._entries}
        inner = entries if self._has_entries else entries["obs"]
        inner, env_state = self.inner.restart(key, inner, env_state, running)
        time = jnp.where(running, time, 0)
        return self.timed(inner, time), (env_state, time)

    def resumed(self, env_state: PyTree, running: Array) -> tuple[PyTree, Array]:
        env_state, time = env_state
        env_state, running = self.inner.resumed(env_state, running)
        return (env_state, time), running

    def timed(self, obs: PyTree, time: Array) -> dict[str, PyTree]:
        """An observation inside, with the time, int32[]: steps since the episode's start."""
        entries = {"obs": obs}
        if self._has_entries:
            entries = {name: spaces.entry(obs, name) for name in self._entries}
        return {**entries, "time": time.astype(float) / self.time_limit}

    def tree_flatten(self):
        return (self.env,), self.time_limit

    @classmethod
    def tree_unflatten(cls, static, children):
        (env,) = children
        return cls(env, static)


def with_time(environment: Environment, limit: int) -> Environment:
    """The same, whose observations also tell the time: entry "time" of a Dict, t / limit in [0, 1].

    Where a time limit counts, what is best, and what a state is worth, depend on the time left.

    Raises:
      ValueError: the observation has an entry of that name.

    Source: Pardo et al. (2018), Time limits in reinforcement learning, time-awareness.
    """
    if "time" in (spaces.children(environment.observation_space) or {}):
        raise ValueError(
            f"time_aware adds an entry 'time' to the observation, and {environment.name} has one "
            "of that name: rename it, or use time_aware=False"
        )
    return Timed(environment, limit)
