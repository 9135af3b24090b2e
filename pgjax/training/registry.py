"""The components that a name can stand for: in flags, in config.json."""

import importlib

from pgjax.core import exports

# By the config's field.
COMPONENTS: dict[str, dict[str, type]] = {
    field: {name: getattr(importlib.import_module(home), name) for name, home in names.items()}
    for field, names in exports.families().items()
}
