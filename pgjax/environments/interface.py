"""The face of this folder: what other folders take from it, and `bind`, which starts all.

`bind` turns an id or an object, with its parameters, into an `Environment`: two pure functions, and
what must be known about the problem before compilation.
"""

from typing import Any

import jax

from pgjax.core.contracts import changes
from pgjax.core.types import PyTree
from pgjax.environments import elements, gymnax_objects, spaces
from pgjax.environments.as_gymnax import AsGymnax
from pgjax.environments.bounds import no_bound
from pgjax.environments.environment import Environment, Step, check_own
from pgjax.environments.gymnax_objects import (
    BoundGymnax,
    EnvParams,
    EnvState,
    GymnaxEnvironment,
    overrides,
)
from pgjax.environments.gymnax_objects import registered as ids
from pgjax.environments.ids import (
    canonical,
    import_environment,
    is_own_name,
    make,
    resolve,
    version,
)
from pgjax.environments.own_imports import import_module
from pgjax.environments.time_aware import with_time

__all__ = [
    "AsGymnax",
    "EnvParams",
    "EnvState",
    "Environment",
    "GymnaxEnvironment",
    "Step",
    "action_bounds",
    "bind",
    "canonical",
    "check",
    "check_own",
    "default_params",
    "ids",
    "import_environment",
    "import_module",
    "is_own_name",
    "make",
    "no_bound",
    "overrides",
    "spaces",
    "version",
    "with_time",
]


def default_params(env: str | Any) -> PyTree:
    """The default parameters of an id or an object; None: an `Environment` that has its own in it.

    Raises:
      ValueError: an unknown id, or an environment that cannot be made.
      TypeError: an object without the gymnax ≥ 1.0 interface.
    """
    env = resolve(env)
    own = isinstance(env, Environment)
    return env.default_params if own else gymnax_objects.defaults(env)


def bind(env: str | Any, env_params: PyTree = None) -> Environment:
    """The environment of an id or an object, with its parameters (None: its defaults).

    Raises:
      ValueError: an unknown id, or an environment that cannot be made.
      TypeError: an object without the gymnax ≥ 1.0 interface.
    """
    env = resolve(env)
    own = isinstance(env, Environment)
    environment = env.bind(env_params) if own else BoundGymnax(env, env_params)
    # What cannot be is said here.
    _ = environment.limit, environment.action_space, environment.bounds
    return environment


def action_bounds(env: str | Any, env_params: PyTree = None) -> Any:
    """`Environment.bounds` of an id or an object.

    Raises:
      ValueError: bounds that cannot be, by default or with `env_params` that are not traced.
    """
    env = resolve(env)
    own = isinstance(env, Environment)
    return env.bind(env_params).bounds if own else gymnax_objects.action_bounds(env, env_params)


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
        for path, old, new in changes(before, after):
            raise TypeError(
                f"{environment.name}: {name} changes from reset to step: {path}{old} -> {new}"
            )
    part = f"{environment.name}: the observation"
    for fault in elements.misfits(part, obs, environment.observation_space):
        raise ValueError(f"{fault.part}: expected {fault.expected}, got {fault.actual}")
