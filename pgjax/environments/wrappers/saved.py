"""A wrapped environment as JSON, {"type": …, "env": …, …}, and what is inside of all wrappers."""

from collections.abc import Callable
from typing import Any


def core_of(env: Any) -> Any:
    """What is inside of all wrappers: an id, or the description of an object."""
    while _is_wrapped(env):
        env = env["env"]
    return env


def with_core(env: Any, change: Callable[[Any], Any]) -> Any:
    """The same wrappers around a changed core."""
    if not _is_wrapped(env):
        return change(env)
    return {**env, "env": with_core(env["env"], change)}


def _is_wrapped(env: Any) -> bool:
    return isinstance(env, dict) and "env" in env
