"""Saving and loading: arrays by Orbax, the config as JSON, a manifest that vouches for both."""

import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pgjax import serialization, training
from pgjax.config import Config, checked
from pgjax.types import TrainState

FORMAT = 1
IN_RUN = "checkpoint"  # its name in a run folder
_MANIFEST, _ARRAYS = "pgjax.json", "arrays"
_PACKAGES = ("pgjax", "jax", "jaxlib", "flax", "optax", "gymnax", "orbax-checkpoint")


def save(path: str | os.PathLike, state: TrainState, config: Config) -> None:
    """Writes a checkpoint: the whole state and the config, with the versions that made them.

    It appears under its name complete or not at all; an earlier checkpoint there is replaced.

    Args:
      path: a folder to make.
      state: from `init`, `update` or `train`.
      config: the config it was trained with.

    Raises:
      ValueError: `path` exists and is no checkpoint; state and config do not belong together.
    """
    path = Path(path).absolute()
    if path.exists() and not (path / _MANIFEST).is_file():
        raise ValueError(f"{path} exists and is not a pgjax checkpoint; nothing was written")
    training.check_state(state, checked(config))
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    with _checkpointer() as checkpointer:
        checkpointer.save(unfinished / _ARRAYS, jax.tree.map(np.asarray, _to_arrays(state)))
    manifest = {
        "format": FORMAT,
        "versions": versions(),
        "key_impl": str(jax.random.key_impl(state.key)),
        "config": serialization.to_dict(config),
        "sha256": _digests(unfinished / _ARRAYS),
    }
    (unfinished / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        path.rename(replaced)
    unfinished.rename(path)
    shutil.rmtree(replaced, ignore_errors=True)


def load(path: str | os.PathLike, config: Config | None = None) -> tuple[TrainState, Config]:
    """Reads what `save` wrote.

    Args:
      path: a checkpoint, or a run folder that holds one.
      config: needed only where the saved one holds objects of the user's own: an environment
        object, a Flax module, an optimizer factory.

    Returns:
      The state, equal in every bit, and the config.

    Raises:
      ValueError: nothing there, a file missing, truncated or changed, another format, a config
        that does not fit. Nothing is loaded half.
    """
    path = _find(Path(path))
    manifest = _read_manifest(path)
    found = _digests(path / _ARRAYS)
    for name, digest in manifest["sha256"].items():
        if found.get(name) != digest:
            problem = "is damaged" if name in found else "is missing"
            raise ValueError(f"checkpoint {path}: {_ARRAYS}/{name} {problem}")
    if config is None:
        try:
            config = serialization.from_dict(manifest["config"])
        except ValueError as error:
            raise ValueError(f"checkpoint {path}: {error}; pass config=…") from error
    return _restore(path, config, manifest["key_impl"]), config


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """The installed versions of packages; by default, of what a result depends on."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _find(path: Path) -> Path:
    for candidate in (path, path / IN_RUN):
        if (candidate / _MANIFEST).is_file():
            return candidate.absolute()
    what = "does not exist" if not path.exists() else f"holds no checkpoint ({_MANIFEST})"
    raise ValueError(f"{path} {what}")


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"checkpoint {path}: {_MANIFEST} cannot be read ({error})") from error
    given = manifest.get("format") if isinstance(manifest, dict) else None
    if given != FORMAT:
        raise ValueError(
            f"checkpoint {path} has format {given!r}; this version of pgjax reads format {FORMAT}"
        )
    missing = [name for name in ("key_impl", "config", "sha256") if name not in manifest]
    if missing:
        raise ValueError(f"checkpoint {path}: {_MANIFEST} lacks {', '.join(missing)}")
    return manifest


def _restore(path: Path, config: Config, key_impl: str) -> TrainState:
    import orbax.checkpoint as ocp

    state = jax.eval_shape(training.init, jax.random.key(0, impl=key_impl), config)
    target = jax.eval_shape(_to_arrays, state)
    arguments = jax.tree.map(lambda x: ocp.RestoreArgs(restore_type=np.ndarray), target)
    try:
        with _checkpointer() as checkpointer:
            arrays = checkpointer.restore(
                path / _ARRAYS, args=ocp.args.PyTreeRestore(target, restore_args=arguments)
            )
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise ValueError(f"checkpoint {path} does not fit its config: {error}") from error
    for name, expected in target.items():
        found = arrays[name]
        if (found.shape, found.dtype) != (expected.shape, expected.dtype):
            raise ValueError(
                f"checkpoint {path} does not fit its config: {name} is {found.dtype}{found.shape}, "
                f"not {expected.dtype}{expected.shape}"
            )
    return _from_arrays(arrays, state, key_impl)


def _checkpointer() -> Any:
    import orbax.checkpoint as ocp  # slow to import, and only needed here

    # Of several processes, the one that saves or loads does not wait for the others.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"pgjax{jax.process_index()}",
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _to_arrays(state: TrainState) -> dict[str, jax.Array]:
    """The leaves of a state by their paths; the key as plain integers."""
    leaves = jax.tree_util.tree_leaves_with_path(state.replace(key=None))
    named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    return {".key": jax.random.key_data(state.key), **named}


def _from_arrays(arrays: dict[str, Any], like: TrainState, key_impl: str) -> TrainState:
    paths, structure = jax.tree_util.tree_flatten_with_path(like.replace(key=None))
    leaves = [jax.numpy.asarray(arrays[jax.tree_util.keystr(path)]) for path, _ in paths]
    key = jax.random.wrap_key_data(arrays[".key"], impl=key_impl)
    return jax.tree.unflatten(structure, leaves).replace(key=key)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }
