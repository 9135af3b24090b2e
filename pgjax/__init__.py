"""pgjax: policy gradients as pure functions."""

import importlib
from typing import Any

from pgjax import exports

__version__ = "0.1.0"

__all__ = sorted(exports.homes())


# Imported when first used: gymnax starts JAX's devices when it is imported, and what must come
# before that, such as `jax.distributed.initialize`, could not follow `import pgjax` otherwise.
def __getattr__(name: str) -> Any:
    module = exports.homes().get(name, "pgjax")
    if module != "pgjax":
        return getattr(importlib.import_module(module), name)
    try:
        return importlib.import_module(f"pgjax.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"pgjax.{name}":
            raise
        raise AttributeError(f"module 'pgjax' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return [*globals(), *__all__]
