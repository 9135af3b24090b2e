"""The run-time check of annotated shapes, Float[Array, "T m"], that conftest.py turns on."""

import typing
from collections.abc import Callable
from typing import Any

from beartype import beartype
from jaxtyping import AbstractArray

# Functions of arrays. Those that users give configs and keys to answer a wrong one in words of
# their own, which are tested; a check of types would come before.
MODULES = (
    "pgjax.critics.two_hot",
    "pgjax.critics.units",
    "pgjax.estimators",
    "pgjax.policies.distributions",
    "pgjax.study.tabular",
)


def checked(function: Callable) -> Callable:
    """`function`, whose annotated shapes are checked, and nothing else of its annotations.

    Constructors are not checked: JAX makes records of axes and of shapes, too.
    """
    hints = function.__annotations__
    shapes = {name: hint for name, hint in hints.items() if _has_shape(hint)}
    if function.__name__ == "__init__" or not shapes:
        return function
    function.__annotations__ = shapes
    return beartype(function)


def _has_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_has_shape, typing.get_args(hint)))
