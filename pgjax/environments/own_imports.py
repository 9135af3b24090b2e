"""Environments of the user's own by name, `module:factory`, imported only where a user says so."""

import functools
import importlib
import os
import sys
import traceback
import types
from typing import Any

from pgjax.core.names import unknown
from pgjax.environments import ids, own_modules


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
    if name in ids.IMPORTED:
        return name
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        env = _attribute(importlib.import_module(module), attribute)
        env = env() if callable(env) and not hasattr(env, "default_params") else env
        env = env() if isinstance(env, type) else env
        ids.IMPORTED[name] = ids.resolve(env)
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
