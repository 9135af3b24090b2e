"""What pgjax exports, read from `__init__.pyi`, which type checkers read too; imports no JAX."""

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
    """The field of the longest home that a module is in: optimizers live beside the ascents."""
    homes = {home: field for field, homes in FOLDERS.items() for home in homes}
    inside = [home for home in homes if module.startswith(home)]
    return homes[max(inside, key=len)] if inside else None


# The fields of a config that hold a component, and where its family lives.
FOLDERS = {
    "network": ("pgjax.policies.networks", "pgjax.policies.recurrent"),
    "sampler": ("pgjax.sampling",),
    "estimator": ("pgjax.estimators",),
    "critic": ("pgjax.critics",),
    "objective": ("pgjax.objectives",),
    "ascent": ("pgjax.ascents",),
    "optimizer": ("pgjax.ascents.optimizers",),
}
# What is there, too, and no component that a name alone could stand for.
OTHERS = {
    "Ascent",
    "BaseCritic",
    "BoundCritic",
    "Estimator",
    "LinearCell",
    "MemoryNetwork",
    "MinGRU",
    "Objective",
    "Oracle",
    "Sampler",
    "Select",
    "Step",
    "Values",
}
