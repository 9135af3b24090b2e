"""The components that flags and config.json name."""

import importlib

from pgjax.core import exports

# For each field of a config, the classes by name.
COMPONENTS: dict[str, dict[str, type]] = {
    field: {name: getattr(importlib.import_module(home), name) for name, home in names.items()}
    for field, names in exports.families().items()
}
