"""The changes that a run may have when it goes on: its floats, their schedules, its length."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from pgjax.core.schedules import Schedule
from pgjax.environments import interface
from pgjax.runs import checkpoints, config_json
from pgjax.training.config import Config

# A number in a description that is a float, no integer.
_FLOAT = re.compile(r"\b\d+(\.\d+(e[+-]?\d+)?|e[+-]?\d+)\b")


def check(
    path: Path,
    changes: dict[str, list],
    saved: dict[str, Any],
    config: Config,
    settings: tuple[str, ...],
) -> None:
    """Raises ValueError for a change that makes another environment or another program.

    Args:
      path: the run folder, for messages.
      changes: from `folders.changes`.
      saved: the config before them, as JSON types.
      config: to go on with.
      settings: paths that may change, as they are no part of the program.
    """
    # First: another wrapper's fields differ because it is another one.
    for name, (old, new) in changes.items():
        _check_env(path, name, old, new)
    (saved,) = filled(config, saved)
    floats = tuple(name for name in _floats(config) if _at(saved, name) is not None)
    for changed, (old, new) in changes.items():
        for name, before, after in _leaves(changed, old, new):
            is_float = f"{name}.".startswith(tuple(f"{known}." for known in floats))
            if not is_float and name not in settings and not _differ_in_floats(name, before, after):
                raise ValueError(
                    f"{path}: {name} cannot change when a run goes on, from {before!r} to "
                    f"{after!r}: it is part of the program, unlike floats and num_updates; start a "
                    f"new run, --from {path} if it is to go on from what this one has learned"
                )


def filled(config: Config, *configs: dict[str, Any]) -> list[dict[str, Any]]:
    """Configs as JSON types, with the environment's default parameters in place of None."""
    defaults = config.replace(env_params=interface.default_params(config.env))
    params = json.loads(json.dumps(config_json.to_dict(defaults)["env_params"]))
    return [{**data, "env_params": data["env_params"] or params} for data in configs]


def _check_env(path: Path, name: str, old: Any, new: Any) -> None:
    """Raises ValueError where the environment is another one."""
    classes = {checkpoints.without_module(str(text)) for text in (old, new)}
    is_env = name == "env" or re.fullmatch(r"env(\.env)*\.(env|type)", name)
    if is_env or (re.fullmatch(r"env(\.env)*\.custom", name) and len(classes) > 1):
        raise ValueError(
            f"{path}: the environment of a run cannot change, from {old!r} to {new!r}; start a "
            "new run"
        )


def _floats(config: Config) -> tuple[str, ...]:
    """The dotted paths of a config's floats, each a number or a schedule."""
    leaves = jax.tree_util.tree_leaves_with_path(config, is_leaf=lambda x: isinstance(x, Schedule))
    return tuple(jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves)


def _at(data: Any, path: str) -> Any:
    """The value at a dotted path in JSON types; None where there is none."""
    for name in path.split("."):
        data = _entries(data).get(name)
    return data


def _entries(data: Any) -> dict[str, Any]:
    """The fields of an object, or the entries of a mapping."""
    if not isinstance(data, dict):
        return {}
    pairs = data.get("mapping")
    return {str(key): value for key, value in pairs} if pairs else data


def _differ_in_floats(name: str, old: Any, new: Any) -> bool:
    """Whether an object of the user's own differs in its module and in floats alone."""
    texts = {_FLOAT.sub("", checkpoints.without_module(str(text))) for text in (old, new)}
    return name.endswith(".custom") and len(texts) == 1


def _leaves(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """The paths that differ, those inside of mappings, too."""
    if name.endswith(".mapping"):
        pairs = [_entries({"mapping": data}) for data in (old, new)]
        yield from _leaves(name.removesuffix(".mapping"), *pairs)
    elif isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        for key in old:
            yield from _leaves(f"{name}.{key}", old[key], new[key])
    elif old != new:
        yield name, old, new
