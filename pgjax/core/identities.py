"""Names for public objects and descriptions of a user's own, the same in every process.

Nothing here runs code that a file names: a name is looked up in the public part of an allowed
module, and a user's own object is only described.
"""

import dataclasses
import hashlib
import importlib
from typing import Any

import jax
import numpy as np

from pgjax.core.names import unknown, without_addresses

# The modules in which a config may name optimizers, networks and functions.
OPTIMIZERS = ("optax", "optax.contrib")
MODULES = ("flax.linen", "pgjax.policies.networks", "pgjax.policies.recurrent")
FUNCTIONS = ("flax.linen", "jax.nn", "jax.nn.initializers")

_DIGITS = 8


def public_name(value: Any, modules: tuple[str, ...]) -> str | None:
    """`module.name` of an object that one of the modules exports; None if none does."""
    name = getattr(value, "__name__", None)
    if not isinstance(name, str) or name.startswith("_"):
        return None
    for module in modules:
        if getattr(importlib.import_module(module), name, None) is value:
            return f"{module}.{name}"
    return None


def imported(name: str, modules: tuple[str, ...]) -> Any:
    """The inverse of `public_name`: the object with a name.

    Raises:
      ValueError: a module that is not among these, or no callable of that name in it.
    """
    module, _, attribute = name.rpartition(".")
    if module not in modules:
        raise ValueError(unknown(f"module of {name!r}", module, modules))
    exported = vars(importlib.import_module(module))
    if attribute.startswith("_") or not callable(exported.get(attribute)):
        names = [key for key, value in exported.items() if callable(value) and key[0] != "_"]
        raise ValueError(unknown(f"name {name!r}", attribute, names).split("known:")[0].strip("; "))
    return exported[attribute]


def described(value: Any) -> str:
    """A description of a user's own object, the same in every process: never a memory address.

    A function or class is described by its module and qualified name; a dataclass by that name and
    its fields; another object by its `__repr__`, or, if that is Python's, by its class's name and a
    digest of its attributes.
    """
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return f"{getattr(value, '__module__', None)}.{value.__qualname__}"
    if isinstance(value, (np.ndarray, jax.Array)) and value.ndim:
        return f"{value.dtype}{list(value.shape)} {_digest(np.asarray(value).tobytes())}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(described, value))})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {described(inner)}" for key, inner in value.items()) + "}"
    if dataclasses.is_dataclass(value):
        fields = ((f.name, getattr(value, f.name, None)) for f in dataclasses.fields(value))
        shown = (f"{n}={described(v)}" for n, v in fields if n not in ("parent", "name"))
        return f"{described(type(value))}({', '.join(shown)})"
    if type(value).__repr__ is object.__repr__:
        return _by_attributes(value)
    return without_addresses(repr(value))


def _by_attributes(value: Any) -> str:
    name, attributes = described(type(value)), getattr(value, "__dict__", {})
    if not attributes:
        return name
    # An attribute that is an object counts by its type: it may be large, or refer to this one.
    parts = (f"{key}={_shallow(inner)}" for key, inner in sorted(attributes.items()))
    return f"{name} #{_digest(', '.join(parts).encode())}"


_PLAIN = (bool, int, float, str, type(None), np.ndarray, np.generic, jax.Array)


def _shallow(value: Any) -> str:
    """`described` for numbers, arrays, functions and containers; else the type's name."""
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_shallow, value))})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shallow(inner)}" for key, inner in value.items()) + "}"
    return described(
        value if isinstance(value, _PLAIN) or hasattr(value, "__qualname__") else type(value)
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]
