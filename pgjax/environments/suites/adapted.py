"""An environment of another project as an object with the gymnax ≥ 1.0 interface.

Two functions that know nothing of time become one; the time limit truncates, and only what ends an
episode for another reason terminates it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.environments.gymnax_objects import EnvParams, EnvState, GymnaxEnvironment


@struct.dataclass
class AdaptedState(EnvState):
    """The time, int32[], and the leaves of the other project's state.

    Leaves only: not every project's states can be compared with `==` while being traced.
    """

    inner: tuple[Any, ...] = ()


class Adapted(GymnaxEnvironment):
    """An environment of another project, by two functions that know nothing of time.

    Args:
      name: the id, for messages; not a name of gymnax's, whose states are drawn in another way.
      reset: key -> (obs, inner state).
      step: (key, inner state, action) -> (obs, inner state, reward, terminated); no automatic
        reset, no time limit.
      observation_space, action_space: gymnax spaces.
      limit: the time limit in steps, `max_steps_in_episode` of the default params.
    """

    def __init__(
        self,
        name: str,
        reset: Callable[[Array], tuple[PyTree, PyTree]],
        step: Callable[[Array, PyTree, PyTree], tuple[PyTree, PyTree, Array, Array]],
        observation_space: Any,
        action_space: Any,
        limit: int,
    ) -> None:
        self._name, self._limit = name, limit
        # Physics take seconds to trace: jitted, once for all programs.
        self._reset, self._step = jax.jit(reset), jax.jit(step)
        self._observation_space, self._action_space = observation_space, action_space
        self._structure = jax.tree.structure(jax.eval_shape(self._reset, jax.random.key(0))[1])

    @property
    def name(self) -> str:
        """The name in messages."""
        return self._name

    @property
    def default_params(self) -> EnvParams:
        """The time limit."""
        return EnvParams(max_steps_in_episode=self._limit)

    def reset_env(self, key: Array, params: EnvParams) -> tuple[PyTree, AdaptedState]:
        """An episode's first observation and state."""
        obs, inner = self._reset(key)
        return obs, AdaptedState(time=jnp.int32(0), inner=_leaves(inner))

    def step_env(
        self, key: Array, state: AdaptedState, action: int | float | Array, params: EnvParams
    ):
        """One step, whose `terminated` says nothing of the time limit."""
        inner = jax.tree.unflatten(self._structure, state.inner)
        obs, inner, reward, terminated = self._step(key, inner, action)
        after = AdaptedState(time=state.time + 1, inner=_leaves(inner))
        return obs, after, jnp.asarray(reward, float), jnp.asarray(terminated, bool), {}

    def observation_space(self, params: EnvParams | None = None) -> Any:
        """The space of one observation."""
        return self._observation_space

    def action_space(self, params: EnvParams | None = None) -> Any:
        """The space of one action."""
        return self._action_space


def unbounded(obs: PyTree) -> Any:
    """The space of an array, or of a dict of them."""
    if isinstance(obs, Mapping):
        return spaces.Dict({name: unbounded(entry) for name, entry in obs.items()})
    return spaces.Box(-jnp.inf, jnp.inf, obs.shape)


def _leaves(tree: PyTree) -> tuple[Array, ...]:
    return tuple(jnp.asarray(leaf) for leaf in jax.tree.leaves(tree))
