"""The run-time check of annotated shapes, Float[Array, "T m"], that conftest.py turns on."""

import sys
import types
import typing
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

import jaxtyping
from beartype import beartype

# Functions of arrays. Those that users give configs and keys to answer a wrong one in words of
# their own, which are tested; a check of types would come before.
MODULES = (
    "pgjax.critics.two_hot",
    "pgjax.critics.units",
    "pgjax.estimators",
    "pgjax.policies.distributions",
    "pgjax.study.tabular",
)

_KINDS = (types.FunctionType, staticmethod, property)


def install() -> None:
    """Checks the functions and methods of these modules from their import on."""
    sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds the modules as Python does, and changes them once they are made.

    jaxtyping's own import hook checks constructors too, but pgjax's components answer a wrong
    field in their own words, and JAX makes records of axes and of shapes.
    """

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not f"{name}.".startswith(tuple(f"{module}." for module in MODULES)):
            return None
        spec = PathFinder.find_spec(name, path, target)
        make = spec.loader.exec_module

        def make_and_check(module: types.ModuleType) -> None:
            make(module)
            _check_all(module)

        spec.loader.exec_module = make_and_check
        return spec


def _check_all(module: types.ModuleType) -> None:
    own = {
        name: member
        for name, member in vars(module).items()
        if getattr(member, "__module__", "") == module.__name__
    }
    for name, member in own.items():
        if not isinstance(member, type):
            setattr(module, name, _checked(member))
            continue
        for inner, method in [*vars(member).items()]:
            if isinstance(method, _KINDS) and not inner.startswith("__"):
                setattr(member, inner, _checked(method))


def _checked(member: Any) -> Any:
    """A function, method or property whose annotated shapes are checked; all else as it is."""
    if isinstance(member, staticmethod):
        return staticmethod(_checked(member.__func__))
    if isinstance(member, property):
        return property(_checked(member.fget), doc=member.__doc__)
    if not isinstance(member, types.FunctionType):
        return member
    if not any(map(_has_shape, member.__annotations__.values())):
        return member
    return jaxtyping.jaxtyped(member, typechecker=_shapes_only)


def _shapes_only(function: types.FunctionType) -> Any:
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if _has_shape(hint)}
    return beartype(function)


def _has_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_has_shape, typing.get_args(hint)))
