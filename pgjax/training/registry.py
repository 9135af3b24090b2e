"""The components that flags and config.json name."""

import importlib

from pgjax.core import exports
from pgjax.environments.wrappers.distributions import ParameterDistribution
from pgjax.environments.wrappers.wrapper import Wrapper

# For each field of a config, the classes by name.
COMPONENTS: dict[str, dict[str, type]] = {
    field: {name: getattr(importlib.import_module(home), name) for name, home in names.items()}
    for field, names in exports.families().items()
}


def _exported(folder: str, contract: type) -> dict[str, type]:
    """The classes of a contract, but for itself, that pgjax exports from a folder."""
    classes = {
        name: getattr(importlib.import_module(home), name)
        for name, home in exports.homes().items()
        if home.startswith(folder)
    }
    return {n: c for n, c in classes.items() if issubclass(c, contract) and c is not contract}


WRAPPERS = _exported("pgjax.environments.wrappers", Wrapper)
DISTRIBUTIONS = _exported("pgjax.environments.wrappers", ParameterDistribution)
