"""What pgjax exports, read from `__init__.pyi`, which type checkers read too; imports no JAX."""

import ast
import functools
from pathlib import Path

PACKAGE = Path(__file__).parent


@functools.cache
def homes() -> dict[str, str]:
    """The module that each exported name is in."""
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def families() -> dict[str, dict[str, str]]:
    """By a config's field, the names of the components that it can hold, and their modules."""
    found: dict[str, dict[str, str]] = {field: {} for field in FOLDERS}
    for name, module in homes().items():
        for field, homes_of in FOLDERS.items():
            if module.removeprefix("pgjax.").split(".")[0] in homes_of and name not in OTHERS:
                found[field][name] = module
    return found


# The fields of a config that hold a component, and where its family lives.
FOLDERS = {
    "network": ("networks", "recurrent"),
    "sampler": ("rollout",),
    "estimator": ("estimators",),
    "critic": ("critics",),
    "objective": ("objectives",),
    "ascent": ("ascents",),
    "optimizer": ("optimizers",),
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
