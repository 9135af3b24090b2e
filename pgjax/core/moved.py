"""Import paths of earlier versions: each fails with a sentence that names the new place."""

import importlib
import importlib.util
import re
from collections.abc import Callable
from typing import Any

MOVED = {
    "batching": "core.loops",
    "chunks": "core.chunks",
    "components": "core.components",
    "distributed": "core.processes",
    "exports": "core.exports",
    "identities": "core.identities",
    "keys": "core.keys",
    "names": "core.names",
    "parallel": "core.parallel",
    "schedules": "core.schedules",
    "trees": "core.trees",
    "types": "core.types",
    "adapters": "environments.suites",
    "environments.adapters": "environments.suites",
    "elements": "environments.elements",
    "env_params": "environments.env_params",
    "finite_mdp": "environments.finite_mdp",
    "own_modules": "environments.own_modules",
    "spaces": "environments.spaces",
    "checking": "study.checking",
    "evaluation": "study.evaluation",
    "faults": "study.faults",
    "gymnasium_bridge": "study.gymnasium_bridge",
    "memory": "study.memory_estimate",
    "statistics": "study.gradient_statistics",
    "tabular": "study.tabular",
    "trials": "study.probe",
    "action_heads": "policies.action_heads",
    "distributions": "policies.distributions",
    "heads": "policies.heads",
    "networks": "policies.networks",
    "normalizers": "policies.normalizers",
    "recurrent": "policies.recurrent",
    "rollout": "sampling.rollout",
    "baselines": "estimators.baselines",
    "returns": "estimators.returns",
    "gradients": "ascents.gradients",
    "optimizers": "ascents.optimizers",
    "bound": "training.bound",
    "config": "training.config",
    "presets": "training.presets",
    "updates": "training.updates",
    "curves": "pictures.curves",
    "drawing": "pictures.drawing",
    "plots": "pictures.plots",
    "rendering": "pictures.rendering",
    "checkpoints": "runs.checkpoints",
    "disk": "runs.disk",
    "events": "runs.tensorboard",
    "folders": "runs.folders",
    "schema": "runs.schema",
    "serialization": "runs.config_json",
    "sweep_folders": "runs.sweep_folders",
    "sweeps": "runs.sweeps",
    "commands": "cli.commands",
    "diagnosis": "cli.diagnosis",
    "flag_names": "cli.flag_names",
    "flags": "cli.flags",
    "parsers": "cli.parsers",
    "reports": "cli.printing",
    "startup": "cli.startup",
}

_PATH = re.compile(rf"\bpgjax\.({'|'.join(map(re.escape, MOVED))})\.")


def sentence(path: str) -> str | None:
    """The message for an import path of an earlier version; None for any other path.

    >>> sentence("pgjax.rollout")
    'pgjax.rollout is now pgjax.sampling.rollout'
    """
    _, _, module = path.partition(".")
    return f"{path} is now pgjax.{MOVED[module]}" if module in MOVED else None


def current(data: Any) -> Any:
    """JSON of an earlier version with the current paths of pgjax's modules in its strings.

    >>> current({"class": "pgjax.networks.MLP"})
    {'class': 'pgjax.policies.networks.MLP'}
    """
    if isinstance(data, dict):
        return {name: current(value) for name, value in data.items()}
    if isinstance(data, list):
        return [current(value) for value in data]
    if isinstance(data, str):
        return _PATH.sub(lambda match: f"pgjax.{MOVED[match[1]]}.", data)
    return data


class Finder:
    """The last finder of `sys.meta_path`: explains paths that people pickled or imported before."""

    @staticmethod
    def find_spec(path: str, *_: Any) -> None:
        """Raises ModuleNotFoundError for a module that has moved."""
        if message := sentence(path):
            raise ModuleNotFoundError(message, name=path)


def former_module(folder: str, module: str) -> Callable[[str], Any]:
    """`__getattr__` for a folder that has the name of a former module.

    Args:
      folder: the folder's dotted path.
      module: the dotted path that the former module's contents have now.
    """

    def __getattr__(name: str) -> Any:
        is_submodule = name.startswith("__") or importlib.util.find_spec(f"{folder}.{name}")
        if not is_submodule and hasattr(importlib.import_module(module), name):
            # An AttributeError would lose its message in `from folder import name`.
            raise ImportError(f"{folder}.{name} is now {module}.{name}", name=folder)
        raise AttributeError(f"module {folder!r} has no attribute {name!r}")

    return __getattr__
