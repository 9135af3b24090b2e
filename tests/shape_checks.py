"""The run-time check of annotated shapes, Float[Array, "T m"], that conftest.py turns on."""

import sys
import types
import typing
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

import jaxtyping
from beartype import beartype

# Modules with functions of arrays. Functions of configs and keys have error messages of their own,
# which are tested; a check of types would come before them.
MODULES = (
    "pgjax.critics.two_hot",
    "pgjax.critics.units",
    "pgjax.estimators",
    "pgjax.policies.distributions",
    "pgjax.study.tabular",
)

_KINDS = (types.FunctionType, staticmethod, property)


def install() -> None:
    """Makes Python check the functions and methods of these modules, from their import on."""
    sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds the modules as Python does, and adds the checks after their import.

    jaxtyping's own import hook checks constructors too, but pgjax's components have their own
    messages about a wrong field, and JAX makes records of axes and of shapes.
    """

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not f"{name}.".startswith(tuple(f"{module}." for module in MODULES)):
            return None
        spec = PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def execute_and_check(module: types.ModuleType) -> None:
            execute(module)
            _check_all(module)

        spec.loader.exec_module = execute_and_check
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
    """A function, method or property with checks of its annotated shapes; others unchanged."""
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
