"""Environments of other projects as objects with the gymnax ≥ 1.0 interface, for `Config(env=…)`.

Each project is an extra, imported when one of its environments is made. Time limits are theirs by
default; they truncate, and only what ends an episode for another reason terminates it.
"""

import functools
import importlib
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from pgjax.core import distribution
from pgjax.core.components import check_int, unknown
from pgjax.core.types import Array, PyTree
from pgjax.environments.interface import EnvParams, EnvState, GymnaxEnvironment, spaces

_CRAFTAX = (
    "Craftax-Symbolic-v1",
    "Craftax-Pixels-v1",
    "Craftax-Classic-Symbolic-v1",
    "Craftax-Classic-Pixels-v1",
)
_NEVER = 2**30  # steps


@struct.dataclass
class AdaptedState(EnvState):
    """The time, int32[], and the leaves of the other project's state.

    Leaves only: not every project's states can be compared with `==` while being traced.
    """

    inner: tuple[Any, ...] = ()


class Adapted(GymnaxEnvironment):
    """An environment of another project, by two functions that know nothing of time.

    Args:
      name: for messages.
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
        self._name, self._reset, self._step, self._limit = name, reset, step, limit
        self._observation_space, self._action_space = observation_space, action_space
        self._structure = jax.tree.structure(jax.eval_shape(reset, jax.random.key(0))[1])

    @property
    def name(self) -> str:
        """The other project's name for it."""
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


@functools.lru_cache
def from_brax(name: str, limit: int = 1000) -> Adapted:
    """A Brax environment; needs the extra pgjax-rl[brax].

    Args:
      name: as for `brax.envs.get_environment`, "ant" for instance.
      limit: steps until an episode is truncated.

    Raises:
      ValueError: an unknown name (the message names the nearest), a limit below 1.
      ImportError: Brax is not installed.

    Source: Freeman et al. (2021), Brax.
    """
    envs = _imported("brax.envs", "brax")
    _check(name, envs._envs, limit)
    env = envs.get_environment(name)

    def reset(key: Array) -> tuple[PyTree, PyTree]:
        state = env.reset(key)
        return state.obs, state

    def step(key: Array, state: PyTree, action: Array) -> tuple:
        after = env.step(state, action)
        return after.obs, after, after.reward, after.done > 0

    obs = jax.eval_shape(reset, jax.random.key(0))[0]
    return Adapted(
        name, reset, step, _unbounded(obs), spaces.Box(-1.0, 1.0, (env.action_size,)), limit
    )


@functools.lru_cache
def from_navix(name: str, limit: int = 100) -> Adapted:
    """A Navix environment, MiniGrid in JAX, the whole grid observed; extra pgjax-rl[navix].

    Args:
      name: as for `navix.make`, "Navix-Empty-5x5-v0" for instance.
      limit: steps until an episode is truncated.

    Raises:
      ValueError: an unknown name (the message names the nearest), a limit below 1.
      ImportError: Navix is not installed.

    Source: Pignatelli et al. (2024), NAVIX.
    """
    navix = _imported("navix", "navix")
    _check(name, navix.registry(), limit)
    env = navix.make(name, max_steps=limit)

    def reset(key: Array) -> tuple[PyTree, PyTree]:
        timestep = env.reset(key)
        return timestep.observation, timestep

    def step(key: Array, timestep: PyTree, action: Array) -> tuple:
        # Its own automatic reset follows a step that is marked as an episode's end.
        going = jnp.zeros_like(timestep.step_type, shape=())
        state = timestep.state.replace(key=key)
        after = env.step(timestep.replace(step_type=going, state=state), action)
        return after.observation, after, after.reward, after.is_termination()

    space = env.observation_space
    # The maximum that it declares is below what it shows: in 0.7.4, 8 for a player, who is a 10.
    seen = spaces.Box(0, 255, space.shape, space.dtype)
    return Adapted(name, reset, step, seen, spaces.Discrete(len(env.action_set)), limit)


@functools.lru_cache
def from_craftax(name: str, limit: int = 10_000) -> Adapted:
    """A Craftax environment; needs the extra pgjax-rl[craftax].

    Args:
      name: "Craftax-Symbolic-v1", "Craftax-Classic-Symbolic-v1", or either with "Pixels".
      limit: steps until an episode is truncated; 10 000, as in Craftax-Classic.

    Raises:
      ValueError: an unknown name (the message names the nearest), a limit below 1.
      ImportError: Craftax is not installed.

    Source: Matthews et al. (2024), Craftax.
    """
    craftax = _imported("craftax.craftax_env", "craftax")
    _check(name, _CRAFTAX, limit)
    env = craftax.make_craftax_env_from_name(name, auto_reset=False)
    # Its `done` would not tell death from the time limit.
    params = env.default_params.replace(max_timesteps=_NEVER)

    def step(key: Array, state: PyTree, action: Array) -> tuple:
        return env.step_env(key, state, action, params)[:4]

    space = env.observation_space(params)
    seen = spaces.Box(space.low, space.high, space.shape, space.dtype)
    actions = spaces.Discrete(env.action_space(params).n)
    return Adapted(name, lambda key: env.reset_env(key, params), step, seen, actions, limit)


def _unbounded(obs: PyTree) -> Any:
    """The space of an array, or of a dict of them."""
    if isinstance(obs, Mapping):
        return spaces.Dict({name: _unbounded(entry) for name, entry in obs.items()})
    return spaces.Box(-jnp.inf, jnp.inf, obs.shape)


def _leaves(tree: PyTree) -> tuple[Array, ...]:
    return tuple(jnp.asarray(leaf) for leaf in jax.tree.leaves(tree))


def _imported(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = distribution.missing(f"{package} environments", package, error)
        raise ImportError(message) from error


def _check(name: str, known: Iterable[str], limit: int) -> None:
    check_int("limit", limit, 1)
    if name not in known:
        raise ValueError(unknown(f"environment {name!r}", name, known))
