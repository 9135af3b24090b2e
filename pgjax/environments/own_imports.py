"""Environments of the user's own by name, `module:factory`, imported only where a user says so."""

import functools
import importlib
import os
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

import jax

from pgjax.core.names import told, unknown
from pgjax.environments import own_modules

# The modules that the user has named: a folder may say `module:factory` of these.
ALLOWED: set[str] = set()


def import_module(name: str) -> None:
    """Imports a module of the user's own, which may register ids with gymnax, and allows what it
    defines as environments of folders: `name:factory`.

    Args:
      name: the module's; the working folder is searched for it, too.

    Raises:
      ValueError: no module's name, no such module, or an error while it is imported.
    """
    if name.endswith(".py") or not _is_dotted(name):
        plain = name.partition(":")[0].removesuffix(".py").strip("./").replace("/", ".")
        hint = f"; write {plain}" if _is_dotted(plain) else ""
        raise ValueError(f"--import takes a module's name, as my_module, got {name!r}{hint}")
    try:
        _imported(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's own code may raise any
        raise ValueError(f"module {name!r} cannot be imported: {_said(error)}") from error
    ALLOWED.add(name)


def is_allowed(name: str) -> bool:
    """Whether `module:factory` is defined in a module that the user has named."""
    module, _, attribute = name.partition(":")
    if module not in ALLOWED:
        return False
    defined = _imported(module)
    # Not what the module has imported, such as `os`: a folder must not choose among all of that.
    return _is_maker(defined, attribute, vars(defined).get(attribute))


def made(name: str, resolve: Callable[[Any], Any]) -> Any:
    """The environment that `module:factory` makes.

    Args:
      name: `module:attribute`, an environment object or a function without arguments that makes
        one; the working folder is searched for the module, too.
      resolve: raises for what is no environment; returns it else.

    Raises:
      ValueError: no such module or attribute, or no environment.
    """
    module, _, attribute = name.partition(":")
    hint = own_modules.hint(name)
    if hint or not (module and attribute):
        raise ValueError(f"an environment of your own is named module:factory, got {name!r}{hint}")
    try:
        # Its arrays are numbers, also where its first use is inside a `jax.jit`.
        with jax.ensure_compile_time_eval():
            env = _attribute(_imported(module), attribute)
            env = env() if callable(env) and not hasattr(env, "default_params") else env
            env = env() if isinstance(env, type) else env
        return resolve(env)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's own code may raise any
        raise ValueError(f"environment {name!r} cannot be imported: {_said(error)}") from error


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _imported(module: str) -> types.ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with jax.ensure_compile_time_eval():
        return importlib.import_module(module)


def _said(error: BaseException) -> str:
    """An error with its kind, where that is not plain, and the line that raised it."""
    if isinstance(error, (ImportError, AttributeError, TypeError, SyntaxError, ValueError)):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(last.filename)}, line {last.lineno}"
    return f"{told(error)} ({place})"


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
