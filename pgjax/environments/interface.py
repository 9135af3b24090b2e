"""Environments: one interface over gymnax; the only file that imports it, but for its spaces.

`bind` turns an id or a gymnax object, with its parameters, into an `Environment`: two pure
functions, and what must be known about the problem before compilation.
"""

import abc
import dataclasses
import functools
import importlib
import os
import sys
import traceback
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.environment import Environment as GymnaxEnvironment
from gymnax.environments.environment import EnvParams, EnvState

from pgjax.core.components import is_traced, unknown
from pgjax.core.keys import is_key
from pgjax.core.types import Array, PyTree
from pgjax.environments import elements, own_modules, spaces
from pgjax.environments import env_params as parameters
from pgjax.environments.suites import table

__all__ = [
    "EnvParams",
    "EnvState",
    "Environment",
    "GymnaxEnvironment",
    "Step",
    "action_bounds",
    "bind",
    "canonical",
    "check",
    "default_params",
    "ids",
    "import_environment",
    "is_own_name",
    "make",
    "no_bound",
    "overrides",
    "spaces",
    "version",
    "with_time",
]

_INTERFACE = ("default_params", "reset", "step", "action_space", "observation_space")
_METHODS = (*_INTERFACE, "reset_env", "step_env", "is_truncated", "is_terminated", "get_obs")
# As they are before anybody replaces one.
_OWN = {name: getattr(GymnaxEnvironment, name) for name in ("reset", "step", "step_env")}


class Step(NamedTuple):
    """What follows an action: s_{t+1} as it truly is, r_t, and how the episode ended, if it did."""

    obs: PyTree
    env_state: PyTree
    reward: Array
    terminated: Array
    truncated: Array


class Environment(abc.ABC):
    """A problem with its parameters bound: a pytree whose leaves are parameters."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The name in messages."""

    @property
    @abc.abstractmethod
    def limit(self) -> int | None:
        """The environment's own time limit in steps, or None."""

    @property
    @abc.abstractmethod
    def observation_space(self) -> Any:
        """A gymnax space; its bounds may be traced."""

    @property
    @abc.abstractmethod
    def action_space(self) -> Any:
        """A gymnax space; its bounds may be traced."""

    @property
    @abc.abstractmethod
    def bounds(self) -> Any:
        """Low and high of a Box of actions, NumPy arrays of its shape, with the environment's
        default parameters; infinite where a dimension has no bound. None for other actions; of a
        Dict or Tuple, a dict or tuple of such."""

    @property
    def params(self) -> PyTree:
        """The parameters as the environment is given them; None: it has none."""
        return None

    @abc.abstractmethod
    def reset(self, key: Array) -> tuple[PyTree, PyTree]:
        """An episode's first observation, and the environment's state."""

    @abc.abstractmethod
    def step(self, key: Array, env_state: PyTree, action: PyTree) -> Step:
        """What the action led to, also at the end of an episode: an automatic reset, where there
        is one, shows only in `env_state`."""

    def restart(
        self, key: Array, obs: PyTree, env_state: PyTree, running: Array
    ) -> tuple[PyTree, PyTree]:
        """Observation and state as they are while the episode runs, else those of the next one.

        Args:
          key: of the reset.
          running: bool[]; whether the episode goes on.
        """
        start = self.reset(key)
        return jax.tree.map(lambda x, y: jnp.where(running, x, y), (obs, env_state), start)


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class _Gymnax(Environment):
    """An object with gymnax's interface, and its parameters; None: its defaults."""

    env: Any
    env_params: PyTree

    # What may hold arrays is made anew at each use, and not kept: made inside of one function that
    # JAX traces, it is unknown outside of it.
    @property
    def params(self) -> PyTree:
        """The parameters that the environment is given; Python's whole numbers become NumPy's."""
        params = _defaults(self.env) if self.env_params is None else self.env_params
        return parameters.constants(params)

    @property
    def _arrays(self) -> PyTree:
        return jax.tree.map(lambda x: x if isinstance(x, np.integer) else _strong(x), self.params)

    @property
    def name(self) -> str:
        return _name(self.env)

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

    def reset(self, key: Array) -> tuple[PyTree, PyTree]:
        reset = self.env.reset_env if _is_plain(self.env) else self.env.reset
        return jax.tree.map(_strong, reset(key, self._arrays))

    def step(self, key: Array, env_state: PyTree, action: PyTree) -> Step:
        step = _plain_step if _is_plain(self.env) else _wrapped_step
        return step(self.env, key, env_state, action, self._arrays)

    def tree_flatten(self):
        return (parameters.split(self.env_params),), (self.env, version(self.env))

    @classmethod
    def tree_unflatten(cls, static, children):
        return cls(static[0], parameters.joined(children[0]))


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class _Own(Environment):
    """An `Environment` of the user's own, which need not be a pytree: part of the program."""

    env: Environment

    @property
    def name(self) -> str:
        return _name(self.env)

    @property
    def limit(self) -> int | None:
        return self.env.limit

    @property
    def observation_space(self) -> Any:
        return spaces.read("observation_space", self.env.observation_space)

    @property
    def action_space(self) -> Any:
        return spaces.read("action_space", self.env.action_space)

    @property
    def bounds(self) -> Any:
        return self.env.bounds

    def reset(self, key: Array) -> tuple[PyTree, PyTree]:
        return jax.tree.map(_strong, self.env.reset(key))

    def step(self, key: Array, env_state: PyTree, action: PyTree) -> Step:
        return _as_step(*_checked_step(self.env, self.env.step(key, env_state, action)))

    def restart(
        self, key: Array, obs: PyTree, env_state: PyTree, running: Array
    ) -> tuple[PyTree, PyTree]:
        return jax.tree.map(_strong, self.env.restart(key, obs, env_state, running))

    def tree_flatten(self):
        return (), (self.env, version(self.env))

    @classmethod
    def tree_unflatten(cls, static, children):
        return cls(static[0])


class AsGymnax:
    """An `Environment` with gymnax's interface, for what looks at that: resets itself."""

    def __init__(self, env: Environment) -> None:
        self.env, self.name, self.default_params = env, _name(env), {}

    def __hash__(self) -> int:
        return hash(self.env)

    def observation_space(self, params: PyTree) -> Any:
        """The environment's own."""
        return self.env.observation_space

    def action_space(self, params: PyTree) -> Any:
        """The environment's own."""
        return self.env.action_space

    def reset(self, key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        """The environment's own."""
        return _Own(self.env).reset(key)

    def step(self, key: Array, env_state: PyTree, action: PyTree, params: PyTree) -> tuple:
        """Six values, with an automatic reset."""
        step_key, reset_key = jax.random.split(key)
        found, started = _Own(self.env).step(step_key, env_state, action), self.reset(reset_key, {})
        ended = found.terminated | found.truncated
        now = jax.tree.map(
            lambda new, old: jnp.where(ended, new, old), started, (found.obs, found.env_state)
        )
        return (
            *now,
            found.reward,
            found.terminated,
            found.truncated,
            {"final_observation": found.obs},
        )


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class _Timed(Environment):
    """Another environment, whose observations also tell the time; see `with_time`."""

    inner: Environment
    time_limit: int

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def params(self) -> PyTree:
        return self.inner.params

    @property
    def limit(self) -> int | None:
        return self.inner.limit

    @property
    def action_space(self) -> Any:
        return self.inner.action_space

    @property
    def bounds(self) -> Any:
        return self.inner.bounds

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
        return self._timed(obs, jnp.int32(0)), (env_state, jnp.int32(0))

    def step(self, key: Array, env_state: PyTree, action: PyTree) -> Step:
        env_state, time = env_state
        found = self.inner.step(key, env_state, action)
        after = (found.env_state, time + 1)
        return found._replace(obs=self._timed(found.obs, time + 1), env_state=after)

    def restart(
        self, key: Array, obs: PyTree, env_state: PyTree, running: Array
    ) -> tuple[PyTree, PyTree]:
        env_state, time = env_state
        entries = {name: obs[name] for name in self._entries}
        inner = entries if self._has_entries else entries["obs"]
        inner, env_state = self.inner.restart(key, inner, env_state, running)
        time = jnp.where(running, time, 0)
        return self._timed(inner, time), (env_state, time)

    def _timed(self, obs: PyTree, time: Array) -> dict[str, PyTree]:
        entries = {"obs": obs}
        if self._has_entries:
            entries = {name: spaces.entry(obs, name) for name in self._entries}
        return {**entries, "time": time.astype(float) / self.time_limit}

    def tree_flatten(self):
        return (self.inner,), self.time_limit

    @classmethod
    def tree_unflatten(cls, static, children):
        (inner,) = children
        return cls(inner, static)


def ids() -> list[str]:
    """Every id that gymnax knows, those that a user registered included."""
    return list(gymnax.registered_envs)


def canonical(env_id: str) -> str:
    """The id without gymnax's name in front: `gymnax/CartPole-v1` is `CartPole-v1`."""
    return env_id if env_id in gymnax.registered_envs else env_id.removeprefix("gymnax/")


def is_own_name(name: str) -> bool:
    """Whether a name is `module:factory`, the user's own code, rather than an id."""
    return ":" in name and not table.is_suite_id(name)


class _Identity:
    """Equal to another one of the same object, whatever that object is."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def version(env: str | Any, depth: int = 4) -> tuple:
    """What tells an environment from itself after a method of it was replaced, or an id's meaning.

    Compiled programs are kept by it: an environment object equals itself whatever changes in it.
    """
    if isinstance(env, str):
        if table.is_suite_id(env):
            return (table.SUITES[env.partition("/")[0]],)
        env = canonical(env)
        env = _IMPORTED.get(env, _factory(env))
        return (_Identity(env), *version(env, depth))
    own = getattr(env, "__dict__", {})
    methods = [_Identity(own.get(name, getattr(type(env), name, None))) for name in _METHODS]
    inner = [value for value in own.values() if depth and hasattr(value, "reset")]
    return (*methods, *(version(value, depth - 1) for value in inner))


# The users' own that were imported by name in this process.
_IMPORTED: dict[str, Any] = {}


def import_environment(name: str) -> str:
    """Imports an environment of the user's own and lets its name stand for it from here on.

    Nothing else imports what a config names: a folder that says `module:factory` runs no code.

    Args:
      name: `module:attribute`, an environment object or a function without arguments that makes
        one; the working folder is searched for the module, too.

    Returns:
      The name, for `Config(env=…)`.

    Raises:
      ValueError: no such module or attribute, or no environment.
    """
    module, _, attribute = name.partition(":")
    hint = own_modules.hint(name)
    if hint or not (module and attribute):
        raise ValueError(f"an environment of your own is named module:factory, got {name!r}{hint}")
    if name in _IMPORTED:
        return name
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        made = _attribute(importlib.import_module(module), attribute)
        made = made() if callable(made) and not hasattr(made, "default_params") else made
        made = made() if isinstance(made, type) else made
        _IMPORTED[name] = _resolve(made)
    except Exception as error:  # the user's own code may raise any
        raise ValueError(f"environment {name!r} cannot be imported: {_said(error)}") from error
    return name


def _said(error: Exception) -> str:
    """An error with its kind, where that is not plain, and the line that raised it."""
    if isinstance(error, (ImportError, AttributeError, TypeError, SyntaxError, ValueError)):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(last.filename)}, line {last.lineno}"
    return f"{type(error).__name__}: {error} ({place})"


def _attribute(module: types.ModuleType, path: str) -> Any:
    """What a module has under a name, or a dotted path.

    Raises:
      AttributeError: there is none of that name; the message says which there are.
    """
    first = path.partition(".")[0]
    if not hasattr(module, first):
        makers = [name for name, value in vars(module).items() if _is_maker(module, name, value)]
        what = f"name {first!r} in {module.__name__}"
        raise AttributeError(unknown(what, first, makers))
    return functools.reduce(getattr, path.split("."), module)


def _is_maker(module: types.ModuleType, name: str, value: Any) -> bool:
    """Whether a module's public attribute, defined there, may be an environment or make one."""
    own = callable(value) and getattr(value, "__module__", None) == module.__name__
    return not name.startswith("_") and (own or hasattr(value, "default_params"))


def make(env_id: str) -> Any:
    """The environment of an id, or of the name of an imported one; one object for each.

    Args:
      env_id: gymnax's (`CartPole-v1`, `gymnax/CartPole-v1`), another suite's
        (`brax/ant?backend=spring&limit=500`), or `module:factory`.

    Raises:
      ValueError: an unknown id (the message names the nearest), or one that cannot be made.
      ImportError: the suite is not installed; the message has the command that installs it.
    """
    env_id = canonical(env_id)
    if env_id in gymnax.registered_envs and ":" not in env_id:
        return _make(env_id, _factory(env_id))
    if table.is_suite_id(env_id):
        return table.make(env_id)
    if ":" not in env_id:
        raise ValueError(_no_id(env_id))
    if env_id not in _IMPORTED:
        raise ValueError(
            f"environment {env_id!r} is somebody's own code, imported only if you name it: "
            f"--env {env_id}, or in Python pgjax.load(path, env={env_id!r})"
        )
    return _IMPORTED[env_id]


def _no_id(env_id: str) -> str:
    """What to say of a text that is no id."""
    if hint := own_modules.hint(env_id):
        return f"environment {env_id!r} is no id{hint}"
    if env_id in table.SUITES:
        return f"{env_id!r} is a suite: write {env_id}/NAME; `pgjax envs {env_id}` lists the names"
    name, mark, _ = env_id.partition("?")
    if mark and name in gymnax.registered_envs:
        return f"{name} has no options: its parameters are in env_params, got {env_id!r}"
    suite, slash, _ = env_id.partition("/")
    if slash:
        return unknown(f"suite {suite!r} of {env_id!r}", suite, ("gymnax", *table.SUITES))
    return unknown(f"environment {env_id!r}", env_id, ids(), "`pgjax envs`")


def _factory(env_id: str) -> Any:
    """What makes the environment of an id today; gymnax has no public name for it."""
    return getattr(gymnax.registration, "_registry", {}).get(env_id)


@functools.lru_cache
def _make(env_id: str, factory: Any) -> GymnaxEnvironment:
    try:
        return gymnax.make(env_id)[0]
    except OSError as error:
        raise ValueError(
            f"environment {env_id!r} cannot be made here: it loads data when it is made ({error})"
        ) from error


def default_params(env: str | Any) -> PyTree:
    """The default parameters of an id or a gymnax object.

    Raises:
      ValueError: an unknown id, or an environment that cannot be made.
      TypeError: an object without the gymnax ≥ 1.0 interface.
    """
    return _defaults(_resolve(env))


def bind(env: str | Any, env_params: PyTree = None) -> Environment:
    """The environment of an id or a gymnax object, with its parameters (None: its defaults).

    Raises:
      ValueError: an unknown id, or an environment that cannot be made.
      TypeError: an object without the gymnax ≥ 1.0 interface.
    """
    env = _resolve(env)
    if isinstance(env, Environment):
        check_own(env, env_params)
        environment: Environment = _Own(env)
    else:
        environment = _Gymnax(env, env_params)
    # What cannot be is said here.
    _ = environment.limit, environment.action_space, environment.bounds
    return environment


def check_own(env: Any, env_params: PyTree) -> None:
    """Raises TypeError if an `Environment` of the user's own is given parameters."""
    if isinstance(env, Environment) and env_params is not None:
        raise TypeError(
            f"env_params must be None, as {_name(env)} is a pgjax.Environment, which has its "
            f"parameters in it, got {env_params!r}"
        )


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
    return _Timed(environment, limit)


def check(environment: Environment) -> None:
    """Raises unless reset, step and the space of observations agree with each other; traces both
    functions, compiles nothing.

    Raises:
      TypeError: `step` has the five values of gymnax before 1.0, or a state that changes its
        structure, shape or dtype.
      ValueError: a reward or an end-of-episode flag that is not a scalar, an observation that is
        none of its space.
    """
    key = jax.random.key(0)
    obs, env_state = jax.eval_shape(environment.reset, key)
    action = spaces.example(environment.action_space)
    step = jax.eval_shape(environment.step, key, env_state, action)
    for name in ("reward", "terminated", "truncated"):
        if getattr(step, name).shape != ():
            shape = getattr(step, name).shape
            raise ValueError(f"{environment.name}: {name} must be a scalar, got shape {shape}")
    for name, before, after in (("state", env_state, step.env_state), ("obs", obs, step.obs)):
        for path, old, new in _changes(before, after):
            raise TypeError(
                f"{environment.name}: {name} changes from reset to step: {path}{old} -> {new}"
            )
    part = f"{environment.name}: the observation"
    for fault in elements.misfits(part, obs, environment.observation_space):
        raise ValueError(f"{fault.part}: expected {fault.expected}, got {fault.found}")


def _changes(before: PyTree, after: PyTree) -> Iterator[tuple[str, Any, Any]]:
    """Where structure, shapes or dtypes differ; by their own names, as objects may not compare."""
    structures = jax.tree.structure(before), jax.tree.structure(after)
    if structures[0] != structures[1]:
        yield "", *structures
        return
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    for (path, old), new in pairs:
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            old_kind, new_kind = (f"{x.dtype}{list(x.shape)}" for x in (old, new))
            yield f"{jax.tree_util.keystr(path)} ", old_kind, new_kind


def _defaults(env: Any) -> PyTree:
    if isinstance(env, Environment):
        return None
    # As numbers, also while something else is traced: some are made by `jax.numpy` at every call.
    with jax.ensure_compile_time_eval():
        return env.default_params


def _resolve(env: str | Any) -> Any:
    if isinstance(env, str):
        return make(env)
    if isinstance(env, Environment):
        return env
    missing = [name for name in _INTERFACE if isinstance(env, type) or not hasattr(env, name)]
    if missing:
        raise TypeError(
            f"env must be a gymnax id or an environment object, got {env!r}, "
            f"which has no {', '.join(missing)}"
        )
    return env


def _checked_step(env: Environment, found: Any) -> Step:
    if not isinstance(found, tuple) or len(found) != len(Step._fields):
        given = f"{len(found)} values" if isinstance(found, tuple) else repr(found)
        raise TypeError(
            f"{type(env).__name__}.step must return pgjax's environment Step, of five values: "
            f"{', '.join(Step._fields)}, got {given}"
        )
    return Step(*found)


def _plain_step(env, key, env_state, action, params) -> Step:
    # `Environment.step` computes a whole reset at every step; whole episodes need none.
    result = env.step_env(key, env_state, action, params)
    if len(result) != 5:
        raise TypeError(
            f"{type(env).__name__}.step_env returns {len(result)} values; expected five: obs, "
            "state, reward, terminated, info; a time limit is told by is_truncated"
        )
    obs, env_state, reward, terminated, _ = result
    return _as_step(obs, env_state, reward, terminated, env.is_truncated(env_state, params))


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
    return _as_step(true_obs, env_state, reward, terminated, truncated)


def _as_step(obs, env_state, reward, terminated, truncated) -> Step:
    return Step(
        obs=jax.tree.map(_strong, obs),
        env_state=jax.tree.map(_strong, env_state),
        reward=jnp.asarray(reward, float),
        terminated=jnp.asarray(terminated, bool),
        truncated=jnp.asarray(truncated, bool),
    )


def _is_plain(env: Any) -> bool:
    """Whether reset and step are gymnax's own, so that `step_env` says all that they do."""
    return isinstance(env, GymnaxEnvironment) and not (
        overrides(env, "reset") or overrides(env, "step")
    )


def overrides(env: Any, name: str) -> bool:
    """Whether an object, or its class, has a reset, step or step_env other than gymnax's own."""
    replaced = name in getattr(env, "__dict__", {})
    return replaced or getattr(type(env), name, None) is not _OWN[name]


def action_bounds(env: str | Any, env_params: PyTree = None) -> Any:
    """`Environment.bounds`, of an id or a gymnax object.

    Raises:
      ValueError: bounds that cannot be, by default or with `env_params` that are not traced.
    """
    # Which bounds are finite is decided by the default parameters, since others may be traced.
    resolved = _resolve(env)
    if isinstance(resolved, Environment):
        return resolved.bounds
    usual = _bounds_as_numbers(resolved, _defaults(resolved))
    if any(is_traced(x) for x in jax.tree.leaves(env_params)):
        return usual
    given = usual if env_params is None else _bounds_as_numbers(resolved, env_params)
    if not _equally_bounded(usual, given):
        every = (_defaults(resolved), env_params)
        spaces_of = [resolved.action_space(params) for params in every]
        raise ValueError(
            f"{_name(resolved)}: env_params must leave the bounds of action_space finite or not as "
            f"they are by default, {spaces_of[0]!r}, got {spaces_of[1]!r}"
        )
    return usual


def _equally_bounded(one: Any, other: Any) -> bool:
    if jax.tree.structure(one) != jax.tree.structure(other):
        return False
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.isfinite(a), np.isfinite(b)) for a, b in leaves)


def _bounds_as_numbers(env: Any, params: PyTree) -> Any:
    # As numbers, also while something else is traced.
    with jax.ensure_compile_time_eval():
        return _bounds_of(_name(env), spaces.read("action_space", env.action_space(params)))


def _bounds_of(name: str, space: Any) -> Any:
    parts = spaces.children(space)
    if parts is not None:
        return spaces.joined(space, {n: _bounds_of(name, child) for n, child in parts.items()})
    if not isinstance(space, spaces.Box):
        return None
    bounds = (np.asarray(bound, np.float64) for bound in (space.low, space.high))
    low, high = (np.broadcast_to(bound, space.shape) for bound in bounds)
    if not np.all((low <= high) & (low < np.inf) & (high > -np.inf)):
        raise ValueError(f"{name}: action_space must have low <= high, got {space!r}")
    far = no_bound(space)
    return np.where(low <= -far, -np.inf, low), np.where(high >= far, np.inf, high)


def no_bound(space: spaces.Box) -> float:
    """What is as far from 0 is no bound: the largest number of a dtype stands for infinity."""
    return 2.0**31 - 1.0 if spaces.is_whole(space) else float(np.finfo(np.float32).max) / 4.0


def _name(env: Any) -> str:
    return str(getattr(env, "name", type(env).__name__))


def _strong(x: Any) -> Array:
    """An array of an explicit dtype: a weakly typed loop carry would change type after a step."""
    if is_key(x):
        return x
    return jax.lax.convert_element_type(x, jnp.result_type(x))
