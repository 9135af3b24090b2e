"""Saving and loading: arrays by Orbax, the config as JSON, a manifest that vouches for both."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from pgjax.ascents.gradient_step import GradientStep
from pgjax.ascents.optimizers import SGD
from pgjax.core import distribution, moved
from pgjax.core.keys import keys_again, numbers
from pgjax.core.types import TrainState
from pgjax.critics.critic import Critic
from pgjax.environments import interface
from pgjax.estimators.gae import GAE
from pgjax.objectives.score_function import ScoreFunction
from pgjax.runs import config_json, schema
from pgjax.training import training
from pgjax.training.config import Config, checked

FORMAT = 3
IN_RUN = "checkpoint"  # its name in a run folder, and in a sweep's that is done
SWEEP = "sweep.json"  # in a sweep's folder
_STORE_BYTES = 2**16  # of Orbax, beside the arrays
_LONGEST_TEXT = 200  # of a message that is not ours
_MANIFEST, _ARRAYS, _SEAL = "pgjax.json", "arrays-", "seal"
_SCHEMA = {
    "format": int,
    "versions": dict[str, str],
    "key_impl": str,
    "config": dict,
    "notes": dict,
    "arrays": re.compile(f"{_ARRAYS}[0-9a-f]{{32}}"),
    "sha256": dict[str, schema.HEX],
    _SEAL: schema.HEX,
}


def save(
    path: str | os.PathLike,
    state: TrainState,
    config: Config,
    notes: dict[str, Any] | None = None,
) -> None:
    """Writes a checkpoint: the whole state and the config, with the versions that made them.

    The manifest is replaced in one step once all else is written: whatever happens before, an
    earlier checkpoint there is the one that is loaded.

    Args:
      path: a folder to make.
      state: from `init`, `update` or `train`.
      config: the config it was trained with.
      notes: JSON types, to be read by `notes`.

    Raises:
      ValueError: `path` exists and is no checkpoint; state and config do not belong together.
      OSError: it cannot be written there; an earlier checkpoint is as it was.
    """
    path = Path(path).absolute()
    if path.exists() and not _is_ours(path):
        raise ValueError(f"{path} exists and is not a pgjax checkpoint; nothing was written")
    training.check_state(state, checked(config))
    arrays = f"{_ARRAYS}{uuid.uuid4().hex}"
    path.mkdir(parents=True, exist_ok=True)
    try:
        _write_arrays(path / arrays, jax.tree.map(np.asarray, to_arrays(state)))
        contents = {
            "format": FORMAT,
            "versions": distribution.versions(),
            "key_impl": str(jax.random.key_impl(state.key)),
            "config": schema.printable(config_json.to_dict(config)),
            "notes": schema.printable(notes or {}),
            "arrays": arrays,
            "sha256": _digests(path / arrays),
        }
        write_text(path / _MANIFEST, json.dumps(sealed(contents), indent=2) + "\n")
    except OSError:
        shutil.rmtree(path / arrays, ignore_errors=True)
        raise
    _remove_others(path, arrays)


def load(
    path: str | os.PathLike, config: Config | None = None, env: str | None = None
) -> tuple[TrainState, Config]:
    """Reads what `save` wrote.

    Args:
      path: a checkpoint, or a run folder that holds one.
      config: needed only where the saved one holds objects of the user's own: an environment
        object, a Flax module, an optimizer factory.
      env: `module:factory`, to import for an environment of the user's own; with it `config` is
        needed for other objects only.

    Returns:
      The state, equal in every bit, and the config.

    Raises:
      ValueError: nothing there, a file missing, truncated or changed, another format, a config
        that does not fit. Nothing is loaded half.
    """
    path, manifest = _whole(path, env)
    config = _config(path, config, manifest["config"])
    return _restore(path, manifest, _like(config, manifest)), config


def load_config(
    path: str | os.PathLike, config: Config | None = None, env: str | None = None
) -> Config:
    """The config alone of what `load` reads, without a look at the arrays.

    Args, Raises: as for `load`.
    """
    path, manifest = _manifest(path, env)
    return _config(path, config, manifest["config"])


def load_policy(
    path: str | os.PathLike, config: Config | None = None, env: str | None = None
) -> tuple[TrainState, Config]:
    """What acting needs of a checkpoint: no optimizer, objective, estimator or critic.

    Where one of these is the user's own, the config has another in its place.

    Args, Raises: as for `load`.

    Returns:
      The state without what only learning needs, and the config.
    """
    path, manifest = _whole(path, env)
    config = _config(path, config, {**manifest["config"], **_instead(manifest["config"])})
    like = _like(config, manifest)
    unused = ("opt_state", "critic", "objective", "streams")
    like = like.replace(**dict.fromkeys(unused, ()))
    return _restore(path, manifest, like, tuple(f".{name}" for name in unused)), config


def _instead(config: dict[str, Any]) -> dict[str, Any]:
    """Plain components where those of a config that acting does not need are the user's own."""
    parts = {
        "optimizer": SGD(),
        "objective": ScoreFunction(),
        "ascent": GradientStep(),
        "estimator": GAE(),
        "critic": Critic(),
    }
    plain = config_json.to_dict(Config("", **parts))
    return {name: plain[name] for name in parts if config_json.is_custom(config.get(name))}


def _manifest(path: str | os.PathLike, env: str | None) -> tuple[Path, dict[str, Any]]:
    """The folder of a checkpoint and its manifest.

    Args:
      env: as for `load`; stands for the saved one in what is returned.
    """
    path = _find(Path(path))
    manifest = _read_manifest(path)
    if env is not None:
        manifest["config"]["env"] = named_env(path, manifest["config"]["env"], env)
    return path, manifest


def _whole(path: str | os.PathLike, env: str | None) -> tuple[Path, dict[str, Any]]:
    """`_manifest`, after each file has been compared with it."""
    path, manifest = _manifest(path, env)
    arrays = manifest["arrays"]
    found, expected = _digests(path / arrays), manifest["sha256"]
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            problem = "is damaged" if name in found else "is missing"
            problem = problem if name in expected else "does not belong there"
            raise ValueError(f"checkpoint {path}: {arrays}/{name} {problem}")
    return path, manifest


def _config(path: Path, given: Config | None, saved: dict[str, Any]) -> Config:
    if given is not None:
        _check_same_function(path, given, saved)
        return given
    try:
        return config_json.from_dict(saved)
    except ValueError as error:
        raise ValueError(
            f"checkpoint {path}: {error}; pass config=…, or env='module:factory' "
            "(--env) for an environment"
        ) from error


def _like(config: Config, manifest: dict[str, Any]) -> TrainState:
    return jax.eval_shape(training.init, jax.random.key(0, impl=manifest["key_impl"]), config)


def named_env(path: Path, saved: Any, name: str) -> Any:
    """The environment that the user names for the one saved in a folder, imported: its name where a
    name was saved, else the object.

    Raises:
      ValueError: it is another one.
    """
    if isinstance(saved, str):
        if saved != name:
            raise ValueError(f"{path} is of the environment {saved!r}, not of {name!r}")
        return interface.import_environment(name) if interface.is_own_name(name) else name
    env = interface.make(interface.import_environment(name))
    kind = type(env).__qualname__.rpartition(".")[2]
    saved_kind = re.match(r"\w+", without_module(saved["custom"]))
    if saved_kind is None or saved_kind[0] != kind:
        raise ValueError(f"{path} is of {saved['custom']}; {name} makes a {kind}")
    return env


def without_module(described: str) -> str:
    """What is saved of an environment object, without the module of its class, which is another one
    in a script than in an import of it."""
    return re.sub(r"^[\w.<>]+\.(?=\w)", "", described)


def notes(path: str | os.PathLike) -> dict[str, Any]:
    """The notes that were saved with a checkpoint; as for `load`."""
    return _read_manifest(_find(Path(path)))["notes"]


def saved_config(path: str | os.PathLike) -> dict[str, Any]:
    """The config that was saved with a checkpoint, as JSON types; as for `load`."""
    return _read_manifest(_find(Path(path)))["config"]


def write_text(path: Path, text: str) -> None:
    """Makes or replaces a file in one step."""
    write(path, lambda file: file.write(text.encode()))


def write(path: Path, fill: Callable[[BinaryIO], Any]) -> None:
    """Makes or replaces a file in one step, once `fill` has written its contents."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(unfinished, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        # Of the file that was meant, not of one whose name nobody gave.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _find(path: Path) -> Path:
    for candidate in (path, path / IN_RUN):
        if os.path.lexists(candidate / _MANIFEST):
            return candidate.absolute()
    if os.path.lexists(path / SWEEP):
        raise ValueError(undone(path))
    what = "does not exist" if not path.exists() else f"holds no checkpoint ({_MANIFEST})"
    raise ValueError(f"{path} {what}")


def undone(path: Path) -> str:
    """What there is to say of a sweep's folder without a checkpoint of its best."""
    return f"{path} is a sweep that is not done; `pgjax resume {path}` ends it"


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = schema.read(path / _MANIFEST)
    given = manifest.get("format")
    if given != FORMAT:
        raise ValueError(
            f"checkpoint {path} has format {given!r}; this version of pgjax reads format {FORMAT}: "
            f"load it with the version that wrote it ({_writer(manifest)}), or train anew"
        )
    schema.check(path / _MANIFEST, manifest, _SCHEMA)
    if not manifest["sha256"]:
        raise ValueError(f"{path / _MANIFEST} cannot be read (field sha256 names no file)")
    if manifest != sealed(manifest):
        raise ValueError(f"checkpoint {path}: {_MANIFEST} is damaged or was edited")
    return moved.current(manifest)


def _writer(manifest: dict[str, Any]) -> str:
    versions = manifest.get("versions")
    version = versions.get("pgjax") if isinstance(versions, dict) else None
    return f"pgjax {version}" if isinstance(version, str) else "it does not say which"


def sealed(contents: dict[str, Any]) -> dict[str, Any]:
    """The contents with a digest of themselves, as they will be read, in place of any other."""
    unsealed = {name: value for name, value in contents.items() if name != _SEAL}
    text = json.dumps(json.loads(json.dumps(unsealed)), sort_keys=True)
    return {**json.loads(text), _SEAL: hashlib.sha256(text.encode()).hexdigest()}


def _is_ours(path: Path) -> bool:
    """Whether a folder is a checkpoint, or was to become one."""
    return path.is_dir() and all(
        entry.name == _MANIFEST or entry.name.startswith((_ARRAYS, f".{_MANIFEST}."))
        for entry in path.iterdir()
    )


def _remove_others(path: Path, arrays: str) -> None:
    """What an earlier save, finished or not, has left."""
    for entry in path.iterdir():
        if entry.name.startswith(_ARRAYS) and entry.name != arrays:
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name.startswith("."):
            entry.unlink(missing_ok=True)


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    # The store writes twice, in files of whole blocks. Where that fails its threads go on for a
    # while, and print what happens to them.
    needed = 2 * sum(array.nbytes for array in arrays.values()) + _STORE_BYTES
    if shutil.disk_usage(path.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.parent))
    try:
        with _quiet(), _checkpointer() as checkpointer:
            checkpointer.save(path, arrays)
    except OSError:
        raise
    except Exception as error:  # the store's own, of many types
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is not None:
            number = int(code[1])
            raise OSError(number, os.strerror(number), str(path.parent)) from error
        text = " ".join(str(error).split())[:_LONGEST_TEXT]
        raise OSError(f"{path.parent}: the arrays cannot be written ({text})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the store from logging what it raises, a hundred lines of it."""
    logger = logging.getLogger("absl")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _restore(
    path: Path, manifest: dict[str, Any], like: TrainState, left_out: tuple[str, ...] = ()
) -> TrainState:
    """The stored state, but for the parts that are left out."""
    import orbax.checkpoint as ocp

    folder, target = path / manifest["arrays"], jax.eval_shape(to_arrays, like)
    try:
        with _checkpointer() as checkpointer:
            stored = checkpointer.metadata(folder).item_metadata
            # The parameters first: what differs there explains the rest.
            names = sorted(target, key=lambda name: not name.startswith(".params"))
            expected = {name: training.aval(target[name]) for name in names}
            wanted = {name: x for name, x in stored.items() if not name.startswith(left_out)}
            given = {name: training.aval(x) for name, x in wanted.items()}
            problem = training.difference(given, expected)
            if problem is not None:
                raise ValueError(problem)
            arguments = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in stored}
            arrays = checkpointer.restore(
                folder, args=ocp.args.PyTreeRestore(restore_args=arguments)
            )
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        problem = str(error).splitlines()[0]
        raise ValueError(f"checkpoint {path} does not fit its config: {problem}") from error
    return from_arrays(arrays, like)


def _check_same_function(path: Path, config: Config, saved: dict[str, Any]) -> None:
    """Raises where a config makes another function of the saved parameters."""
    given = dict(_function(json.loads(json.dumps(config_json.to_dict(config)))))
    for name, old in _function(saved):
        if given.get(name) != old:
            raise ValueError(
                f"checkpoint {path} does not fit its config: {name} is {given.get(name)!r}, "
                f"{old!r} was saved; its parameters would be another function"
            )


def _function(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What of a config says which functions its parameters are, by paths."""
    names = ("network", "distribution", "normalize_observations", "time_aware")
    parts = {name: config.get(name) for name in names}
    left = [*parts.items(), ("critic.network", config.get("critic", {}).get("network"))]
    while left:
        name, value = left.pop(0)
        if isinstance(value, dict):
            left = [(f"{name}.{field}", inner) for field, inner in value.items()] + left
        else:
            # The address of an object says nothing of it.
            yield name, re.sub(r" at 0x\w+|\s+", " ", value) if isinstance(value, str) else value


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


def to_arrays(state: TrainState) -> dict[str, jax.Array]:
    """The leaves of a state by their paths; keys as plain integers."""
    leaves = jax.tree_util.tree_leaves_with_path(numbers(state))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def from_arrays(arrays: dict[str, Any], like: TrainState) -> TrainState:
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    leaves = [jax.numpy.asarray(arrays[jax.tree_util.keystr(path)]) for path, _ in paths]
    return keys_again(jax.tree.unflatten(structure, leaves), like)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }
