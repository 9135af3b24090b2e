"""Plotting libraries that gymnax imports, imported when it first draws with them; without JAX.

Five of gymnax's environments import Matplotlib or seaborn, and with it pandas and SciPy's
statistics, for methods that draw: more than half of the time that importing gymnax takes.
"""

import builtins
import pkgutil
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

_IMPORTERS = "gymnax.environments."
_LATE = ("matplotlib", "seaborn")


class Finder:
    """Finds the modules of gymnax's environments; the first of `sys.meta_path`."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The module's usual spec, with a loader that imports what draws later; None: not ours."""
        if not name.startswith(_IMPORTERS):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        """Runs a module whose own `import` is `_import`; that of all others stays as it is."""
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


class _Late:
    """Stands for a module, or for what one has, until something is asked of it."""

    def __init__(self, path: str, **known: "_Late") -> None:
        vars(self).update(known)
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return getattr(pkgutil.resolve_name(self._path), name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return pkgutil.resolve_name(self._path)(*args, **options)


def _import(
    name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
) -> Any:
    """`__import__`, but for what draws and is not there yet."""
    names = fromlist or ()
    if level or name.partition(".")[0] not in _LATE or name in sys.modules or "*" in names:
        return builtins.__import__(name, globals, locals, fromlist, level)
    late = _Late(name, **{each: _Late(f"{name}.{each}") for each in names})
    while "." in name and not names:  # `import a.b` gives a, which has b
        name, _, submodule = name.rpartition(".")
        late = _Late(name, **{submodule: late})
    return late
