"""What tells an environment object from itself after a method of it was replaced."""

from typing import Any

INTERFACE = ("default_params", "reset", "step", "action_space", "observation_space")
_METHODS = (*INTERFACE, "reset_env", "step_env", "is_truncated", "is_terminated", "get_obs")


class Identity:
    """Equal to another one of the same object, whatever that object is."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def of_object(env: Any, depth: int = 4) -> tuple:
    """The methods of an environment object, and of those inside it, down to `depth`.

    Compiled programs are kept by it: an object equals itself whatever changes in it.
    """
    own = getattr(env, "__dict__", {})
    methods = [Identity(own.get(name, getattr(type(env), name, None))) for name in _METHODS]
    inner = [value for value in own.values() if depth and hasattr(value, "reset")]
    return (*methods, *(of_object(value, depth - 1) for value in inner))
