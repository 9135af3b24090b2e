"""gymnax's environments, and objects like them, behind `Environment`.

The only file that imports gymnax, but for its spaces.
"""

import dataclasses
import functools
from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.environment import Environment as GymnaxEnvironment
from gymnax.environments.environment import EnvParams, EnvState

from pgjax.core.components import is_traced
from pgjax.core.types import Array, PyTree
from pgjax.environments import bounds, spaces, versions
from pgjax.environments import env_params as parameters
from pgjax.environments.environment import Environment, Step, as_step, name_of, strong

__all__ = [
    "BoundGymnax",
    "EnvParams",
    "EnvState",
    "GymnaxEnvironment",
    "action_bounds",
    "defaults",
    "factory",
    "make",
    "overrides",
    "registered",
]

# As they are before anybody replaces one.
_OWN = {name: getattr(GymnaxEnvironment, name) for name in ("reset", "step", "step_env")}


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class BoundGymnax(Environment):
    """An object with gymnax's interface, and its parameters; None: its defaults."""

    env: Any
    env_params: PyTree

    is_pytree = True

    # What may hold arrays is made anew at each use, and not kept: made inside of one function that
    # JAX traces, it is unknown outside of it.
    @property
    def params(self) -> PyTree:
        """The parameters that the environment is given; Python's whole numbers become NumPy's."""
        params = defaults(self.env) if self.env_params is None else self.env_params
        return parameters.constants(params)

    @property
    def _arrays(self) -> PyTree:
        return jax.tree.map(lambda x: x if isinstance(x, np.integer) else strong(x), self.params)

    @property
    def name(self) -> str:
        return name_of(self.env)

    @property
    def limit(self) -> int | None:
        return self._limit

    @functools.cached_property
    def _limit(self) -> int | None:
        return parameters.limit_of(self.params)

    @property
    def observation_space(self) -> Any:
        return spaces.read("observation_space", self.env.observation_space(self.params))

    @property
    def action_space(self) -> Any:
        return spaces.read("action_space", self.env.action_space(self.params))

    @property
    def bounds(self) -> Any:
        return self._bounds

    @functools.cached_property
    def _bounds(self) -> Any:
        return action_bounds(self.env, self.params)

    @property
    def default_params(self) -> PyTree:
        return defaults(self.env)

    def bind(self, env_params: PyTree = None) -> Environment:
        return self if env_params is None else BoundGymnax(self.env, env_params)

    def reset(self, key: Array) -> tuple[PyTree, PyTree]:
        reset = self.env.reset_env if _is_plain(self.env) else self.env.reset
        return jax.tree.map(strong, reset(key, self._arrays))

    def step(self, key: Array, env_state: PyTree, action: PyTree) -> Step:
        step = _plain_step if _is_plain(self.env) else _wrapped_step
        return step(self.env, key, env_state, action, self._arrays)

    def tree_flatten(self):
        return (parameters.split(self.env_params),), (self.env, versions.of_object(self.env))

    @classmethod
    def tree_unflatten(cls, static, children):
        return cls(static[0], parameters.joined(children[0]))


def _plain_step(env, key, env_state, action, params) -> Step:
    # `Environment.step` computes a whole reset at every step; whole episodes need none.
    result = env.step_env(key, env_state, action, params)
    if len(result) != 5:
        raise TypeError(
            f"{type(env).__name__}.step_env returns {len(result)} values; expected five: obs, "
            "state, reward, terminated, info; a time limit is told by is_truncated"
        )
    obs, env_state, reward, terminated, _ = result
    return as_step(obs, env_state, reward, terminated, env.is_truncated(env_state, params))


def _wrapped_step(env, key, env_state, action, params) -> Step:
    result = env.step(key, env_state, action, params)
    if len(result) != 6:
        raise TypeError(
            f"{type(env).__name__}.step returns {len(result)} values; gymnax >= 1.0 returns six: "
            "obs, state, reward, terminated, truncated, info"
        )
    obs, env_state, reward, terminated, truncated, info = result
    if "final_observation" not in info:
        raise TypeError(f"{type(env).__name__}.step must put 'final_observation' into its info")
    ended = jnp.logical_or(terminated, truncated)
    true_obs = jax.tree.map(
        lambda final, reset: jnp.where(ended, final, reset), info["final_observation"], obs
    )
    return as_step(true_obs, env_state, reward, terminated, truncated)


def _is_plain(env: Any) -> bool:
    """Whether reset and step are gymnax's own, so that `step_env` says all that they do."""
    return isinstance(env, GymnaxEnvironment) and not (
        overrides(env, "reset") or overrides(env, "step")
    )


def overrides(env: Any, name: str) -> bool:
    """Whether an object, or its class, has a reset, step or step_env other than gymnax's own."""
    replaced = name in getattr(env, "__dict__", {})
    return replaced or getattr(type(env), name, None) is not _OWN[name]


def action_bounds(env: Any, env_params: PyTree) -> Any:
    """`Environment.bounds` of an object with gymnax's interface.

    Raises:
      ValueError: bounds that cannot be, by default or with `env_params` that are not traced.
    """
    # Which bounds are finite is decided by the default parameters, since others may be traced.
    usual = _bounds(env, defaults(env))
    if any(is_traced(x) for x in jax.tree.leaves(env_params)):
        return usual
    given = usual if env_params is None else _bounds(env, env_params)
    if not bounds.alike(usual, given):
        shown = [f"{env.action_space(params)!r}" for params in (defaults(env), env_params)]
        raise ValueError(
            f"{name_of(env)}: env_params must leave the bounds of action_space finite or not as "
            f"they are by default, {shown[0]}, got {shown[1]}"
        )
    return usual


def _bounds(env: Any, params: PyTree) -> Any:
    # As numbers, also while something else is traced.
    with jax.ensure_compile_time_eval():
        return bounds.of_space(name_of(env), spaces.read("action_space", env.action_space(params)))


def defaults(env: Any) -> PyTree:
    """The default parameters of an object with gymnax's interface."""
    # As numbers, also while something else is traced: some are made by `jax.numpy` at every call.
    with jax.ensure_compile_time_eval():
        return env.default_params


def registered() -> list[str]:
    """Every id that gymnax knows, those that a user registered included."""
    return list(gymnax.registered_envs)


def make(env_id: str) -> Any:
    """The environment of a registered id; one object for each factory that the id has had.

    Raises:
      ValueError: it cannot be made here.
    """
    return _make(env_id, factory(env_id))


def factory(env_id: str) -> Any:
    """What makes the environment of an id today, which gymnax has no public name for, or None."""
    return getattr(gymnax.registration, "_registry", {}).get(env_id)


@functools.lru_cache
def _make(env_id: str, factory: Any) -> GymnaxEnvironment:
    try:
        return gymnax.make(env_id)[0]
    except OSError as error:
        raise ValueError(
            f"environment {env_id!r} cannot be made here: it loads data when it is made ({error})"
        ) from error
