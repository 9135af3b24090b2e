"""What an `Environment` of the user's own says and gives, against its contract."""

from typing import Any

import jax
import numpy as np

from pgjax.core.components import check_int
from pgjax.core.contracts import is_real, matches, require, require_arrays, require_values
from pgjax.core.names import shown
from pgjax.environments import spaces


def check_facts(env: Any) -> None:
    """Raises TypeError or ValueError unless its name, limit and bounds can be those."""
    name = type(env).__name__
    if not isinstance(env.name, str):
        raise TypeError(f"{name}.name must be a text, got {shown(env.name)}")
    if env.limit is not None:
        check_int(f"{name}.limit", env.limit, 1)
    actions = spaces.read("action_space", env.action_space)
    given = jax.tree.map(lambda bound: np.zeros(np.shape(bound)), env.bounds)
    if not matches(given, _bounds_like(actions)):
        raise ValueError(
            f"{name}.bounds must be (low, high) of a Box, arrays of its shape, and None of other "
            f"actions, in a dict or tuple as the action space: got {shown(env.bounds)} for "
            f"{shown(actions)}"
        )


def _bounds_like(space: Any) -> Any:
    """Zeros in the structure and shapes of `Environment.bounds`."""
    parts = spaces.children(space)
    if parts is not None:
        return spaces.joined(space, {n: _bounds_like(child) for n, child in parts.items()})
    return (np.zeros(space.shape),) * 2 if isinstance(space, spaces.Box) else None


def check_start(env: Any, method: str, start: Any) -> None:
    """Raises ValueError unless `reset` or `restart` gave an observation and a state."""
    require_values("environment", env, method, ("obs", "env_state"), start)
    require_arrays("environment", env, method, start)


def check_step(env: Any, step: Any, names: tuple[str, ...]) -> None:
    """Raises TypeError or ValueError unless `step` gave the five values of a `Step`."""
    if not isinstance(step, tuple) or len(step) != len(names):
        given = f"{len(step)} values" if isinstance(step, tuple) else repr(step)
        raise TypeError(
            f"{type(env).__name__}.step must return pgjax's environment Step, of five values: "
            f"{', '.join(names)}, got {given}"
        )
    require_arrays("environment", env, "step", step)
    for name, value in zip(names[2:], step[2:], strict=True):
        require(is_real(value), "environment", env, "step", f"a number for {name}", value)
