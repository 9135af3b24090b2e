"""Names that another process finds again: of public objects, and of what is the user's own.

Nothing here runs what a file names: a name is looked up in the public part of an allowed module,
and what is the user's own is only described.
"""

import dataclasses
import hashlib
import importlib
import re
from typing import Any

import jax
import numpy as np

from pgjax.core.components import unknown

# What a config may name, by what it stands for.
OPTIMIZERS = ("optax", "optax.contrib")
MODULES = ("flax.linen", "pgjax.policies.networks", "pgjax.policies.recurrent")
FUNCTIONS = ("flax.linen", "jax.nn", "jax.nn.initializers")

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_DIGITS = 8


def public_name(value: Any, modules: tuple[str, ...]) -> str | None:
    """`module.name` of an object that one of the modules exports; None: none does."""
    name = getattr(value, "__name__", None)
    if not isinstance(name, str) or name.startswith("_"):
        return None
    for module in modules:
        if getattr(importlib.import_module(module), name, None) is value:
            return f"{module}.{name}"
    return None


def imported(name: str, modules: tuple[str, ...]) -> Any:
    """The object of a name that `public_name` gave.

    Raises:
      ValueError: another module than these, or nothing callable of that name in it.
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
    """What is the user's own in words, the same in every process: never a memory address.

    A function or class is its module and qualified name; a dataclass that and its fields; another
    object that and a digest of its attributes, if it has no `__repr__` of its own.
    """
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, (np.ndarray, jax.Array)) and value.ndim:
        return f"{value.dtype}{list(value.shape)} {_digest(np.asarray(value).tobytes())}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(described, value))})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {described(each)}" for key, each in value.items()) + "}"
    if dataclasses.is_dataclass(value):
        fields = ((f.name, getattr(value, f.name, None)) for f in dataclasses.fields(value))
        shown = (f"{n}={described(v)}" for n, v in fields if n not in ("parent", "name"))
        return f"{described(type(value))}({', '.join(shown)})"
    if type(value).__repr__ is object.__repr__:
        return _by_attributes(value)
    return _ADDRESS.sub("", repr(value))


def _by_attributes(value: Any) -> str:
    name, attributes = described(type(value)), getattr(value, "__dict__", {})
    if not attributes:
        return name
    # Objects among them by their types alone: they may be large, or lead back to this one.
    parts = (f"{key}={_shallow(inner)}" for key, inner in sorted(attributes.items()))
    return f"{name} #{_digest(', '.join(parts).encode())}"


_PLAIN = (bool, int, float, str, type(None), np.ndarray, np.generic, jax.Array)


def _shallow(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_shallow, value))})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shallow(each)}" for key, each in value.items()) + "}"
    return described(
        value if isinstance(value, _PLAIN) or hasattr(value, "__qualname__") else type(value)
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]
