"""pgjax: policy gradients as pure functions."""

import importlib
import sys
from typing import Any

from pgjax.core import exports as _exports
from pgjax.core import late_drawing as _late_drawing
from pgjax.core import moved as _moved

__version__ = "0.1.0"

# The stub lists them for type checkers.
__all__ = sorted(_exports.homes())  # pyright: ignore[reportUnsupportedDunderAll]

sys.meta_path.append(_moved.Finder)
sys.meta_path.insert(0, _late_drawing.Finder)


# Imported when first used: gymnax starts JAX's devices when it is imported, and what must come
# before that, such as `jax.distributed.initialize`, could not follow `import pgjax` otherwise.
def __getattr__(name: str) -> Any:
    home = _exports.homes().get(name)
    if home is not None:
        module = importlib.import_module(home)
        # A module, such as `tabular`, is no attribute of its folder before it is imported.
        return getattr(module, name, None) or importlib.import_module(f"{home}.{name}")
    try:
        return importlib.import_module(f"pgjax.{name}")
    except ModuleNotFoundError as error:
        # An AttributeError would lose the sentence of a moved module in `from pgjax import …`.
        if error.name != f"pgjax.{name}" or name in _moved.MOVED:
            raise
        raise AttributeError(f"module 'pgjax' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return [*globals(), *__all__]
