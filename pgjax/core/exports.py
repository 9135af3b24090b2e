"""pgjax's exports, read from `__init__.pyi`, which type checkers read too; imports no JAX."""

import ast
import functools
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@functools.cache
def homes() -> dict[str, str]:
    """The module that each exported name is in."""
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def families() -> dict[str, dict[str, str]]:
    """The components that each field of a config can hold: their names and modules."""
    families: dict[str, dict[str, str]] = {field: {} for field in FOLDERS}
    for name, module in homes().items():
        field = _field(module)
        if field and name not in OTHERS:
            families[field][name] = module
    return families


def _field(module: str) -> str | None:
    """The field whose family a module belongs to, or None. The longest of the folders that the
    module is in decides: optimizers live beside the ascents."""
    fields = {folder: field for field, folders in FOLDERS.items() for folder in folders}
    enclosing = [folder for folder in fields if module.startswith(folder)]
    return fields[max(enclosing, key=len)] if enclosing else None


# The fields of a config that hold a component, and the folders or modules of its family.
FOLDERS = {
    "network": ("pgjax.policies.networks", "pgjax.policies.recurrent"),
    "sampler": ("pgjax.sampling",),
    "estimator": ("pgjax.estimators",),
    "critic": ("pgjax.critics",),
    "objective": ("pgjax.objectives",),
    "ascent": ("pgjax.ascents",),
    "optimizer": ("pgjax.ascents.optimizers",),
}
# Exports of those folders that are no components, or need more than a name.
OTHERS = {
    "Ascent",
    "BaseCritic",
    "BoundCritic",
    "Estimator",
    "LinearCell",
    "MemoryNetwork",
    "MinGRU",
    "NetworkCritic",
    "Objective",
    "Oracle",
    "Sampler",
    "Select",
    "Step",
    "Values",
}
