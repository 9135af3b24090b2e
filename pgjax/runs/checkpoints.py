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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from pgjax.ascents.gradient_step import GradientStep
from pgjax.ascents.optimizers import SGD
from pgjax.core import distribution, moved
from pgjax.core.types import TrainState
from pgjax.critics.critic import Critic
from pgjax.environments import interface
from pgjax.environments.wrappers import saved as saved_envs
from pgjax.estimators.gae import GAE
from pgjax.objectives.score_function import ScoreFunction
from pgjax.runs import config_json, schema
from pgjax.runs.zoo import entries
from pgjax.training import training
from pgjax.training.config import Config, checked
from pgjax.training.state_arrays import from_arrays, to_arrays

FORMAT = 3
IN_RUN = "checkpoint"  # its name in a run folder, and in a sweep's that is done
SWEEP = "sweep.json"  # in a sweep's folder
TUNING = "tuning.json"  # in a tuning's folder
_STORE_BYTES = 2**16  # of Orbax, beside the arrays
_LONGEST_TEXT = 200  # characters of a message of Orbax
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
    """Writes a checkpoint: the full state and the config, with the versions that made them.

    The manifest is replaced in one step once all else is written: until then `load` reads the
    checkpoint that was in the folder before.

    Args:
      path: a folder to make.
      state: from `init`, `update` or `train`.
      config: the config it was trained with.
      notes: JSON types, to be read by `notes`.

    Raises:
      ValueError: `path` exists and is no checkpoint; state and config do not belong together.
      OSError: it cannot be written; an earlier checkpoint in the folder is unchanged.
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
    """Reads a checkpoint.

    Args:
      path: a checkpoint, or a run folder that holds one.
      config: needed only where the saved one holds objects of the user's own: an environment
        object, a Flax module, an optimizer factory.
      env: `module:factory`, to import for an environment of the user's own; with it `config` is
        needed for other objects only.

    Returns:
      The state, equal in every bit, and the config.

    Raises:
      ValueError: no checkpoint, a file missing, truncated or changed, another format, a config
        that does not fit. Nothing is loaded in part.
    """
    path, manifest = _verified(path, env)
    config = _config(path, config, manifest["config"])
    return _restore(path, manifest, _like(config, manifest)), config


def load_config(
    path: str | os.PathLike, config: Config | None = None, env: str | None = None
) -> Config:
    """The config of a checkpoint, without reading its arrays.

    Args, Raises: as for `load`.
    """
    path, manifest = _manifest(path, env)
    return _config(path, config, manifest["config"])


def load_policy(
    path: str | os.PathLike, config: Config | None = None, env: str | None = None
) -> tuple[TrainState, Config]:
    """The part of a checkpoint that acting needs: no optimizer, objective, estimator or critic.

    Where one of these is the user's own, the config has one of pgjax's in its place.

    Args:
      path: a checkpoint, a run folder that holds one, or the name of a policy of `zoo`, such as
        "zoo/CartPole-v1"; a folder of that path comes first.
      config, env: as for `load`.

    Returns:
      The state without the parts that only learning needs, and the config: for `evaluate`,
      `render`, `export` and `Agent`.

    Raises:
      ValueError: as for `load`; an unknown policy of the zoo.

    >>> import jax, pgjax
    >>> state, config = pgjax.load_policy("zoo/Catch-bsuite")
    >>> float(pgjax.evaluate(jax.random.key(1), state, config, num_episodes=4).mean)
    1.0
    """
    if entries.is_named(path):
        return _zoo_policy(Path(path), config, env)
    path, manifest = _verified(path, env)
    config = _config(path, config, {**manifest["config"], **_substitutes(manifest["config"])})
    like = _like(config, manifest)
    unused = ("opt_state", "critic", "objective", "streams")
    like = like.replace(**dict.fromkeys(unused, ()))
    return _restore(path, manifest, like, tuple(f".{name}" for name in unused)), config


def _zoo_policy(path: Path, config: Config | None, env: str | None) -> tuple[TrainState, Config]:
    saved = entries.config(path)
    if env is not None:
        saved["env"] = named_env(path, saved["env"], env)
    config = _config(path, config, saved)
    return entries.state(path, config), config


def _substitutes(config: dict[str, Any]) -> dict[str, Any]:
    """pgjax's components for those of the user's own that acting does not need."""
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
      env: as for `load`; replaces the saved one in the manifest that is returned.
    """
    path = _find(Path(path))
    manifest = _read_manifest(path)
    if env is not None:
        manifest["config"]["env"] = named_env(path, manifest["config"]["env"], env)
    return path, manifest


def _verified(path: str | os.PathLike, env: str | None) -> tuple[Path, dict[str, Any]]:
    """`_manifest`, after each file has been compared with it."""
    path, manifest = _manifest(path, env)
    arrays = manifest["arrays"]
    digests, expected = _digests(path / arrays), manifest["sha256"]
    for name in sorted(digests.keys() | expected.keys()):
        if digests.get(name) != expected.get(name):
            problem = "is damaged" if name in digests else "is missing"
            problem = problem if name in expected else "does not belong there"
            raise ValueError(f"checkpoint {path}: {arrays}/{name} {problem}")
    return path, manifest


def _config(path: Path, given: Config | None, saved: dict[str, Any]) -> Config:
    if given is not None:
        check_same_function(path, given, saved)
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
    """The environment that the user names for the saved one, imported: its name where a name was
    saved, else the object.

    Args:
      path: the folder, for messages.
      saved: the environment in the saved config, as JSON types.
      name: `module:factory`, or the saved name.

    Raises:
      ValueError: it is another one than was saved.
    """
    if saved_envs.core_of(saved) is not saved:
        return saved_envs.with_core(saved, lambda core: named_env(path, core, name))
    if isinstance(saved, str):
        if saved != name:
            raise ValueError(f"{path} is of the environment {saved!r}, not of {name!r}")
        return interface.import_environment(name) if interface.is_own_name(name) else name
    env = interface.make(interface.import_environment(name))
    class_name = type(env).__qualname__.rpartition(".")[2]
    saved_name = re.match(r"\w+", without_module(saved["custom"]))
    if saved_name is None or saved_name[0] != class_name:
        raise ValueError(f"{path} is of {saved['custom']}; {name} makes a {class_name}")
    return env


def without_module(described: str) -> str:
    """An environment object's description without the module of its class: a class has another
    module in a script that is run than in one that is imported."""
    return re.sub(r"^[\w.<>]+\.(?=\w)", "", described)


def notes(path: str | os.PathLike) -> dict[str, Any]:
    """The notes that were saved with a checkpoint, none with a policy of the zoo; as for `load`."""
    return {} if entries.is_named(path) else _read_manifest(_find(Path(path)))["notes"]


def saved_config(path: str | os.PathLike) -> dict[str, Any]:
    """The config that was saved with a checkpoint, as JSON types; as for `load_policy`."""
    if entries.is_named(path):
        return entries.config(path)
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
        # The error names the file itself, not the temporary one.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _find(path: Path) -> Path:
    for candidate in (path, path / IN_RUN):
        if os.path.lexists(candidate / _MANIFEST):
            return candidate.absolute()
    if os.path.lexists(path / SWEEP) or os.path.lexists(path / TUNING):
        raise ValueError(undone(path))
    problem = f"{path} holds no checkpoint ({_MANIFEST})" if path.exists() else entries.absent(path)
    raise ValueError(problem)


def undone(path: Path) -> str:
    """The message about a sweep's or a tuning's folder that has no checkpoint of its best run
    yet."""
    kind = "tuning" if os.path.lexists(path / TUNING) else "sweep"
    return f"{path} is a {kind} that is not done; `pgjax resume {path}` ends it"


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = schema.read(path / _MANIFEST)
    saved = manifest.get("format")
    if saved != FORMAT:
        raise ValueError(
            f"checkpoint {path} has format {saved!r}; this version of pgjax reads format {FORMAT}: "
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
    """The contents as JSON will give them back, with their digest in the field "seal"."""
    unsealed = {name: value for name, value in contents.items() if name != _SEAL}
    text = json.dumps(json.loads(json.dumps(unsealed)), sort_keys=True)
    return {**json.loads(text), _SEAL: hashlib.sha256(text.encode()).hexdigest()}


def read_sealed(file: Path, fields: dict[str, Any], advice: str = "") -> dict[str, Any]:
    """The contents of a sealed JSON file; "stop_at_return", if it has that, a number, infinite for
    none.

    Args:
      file: to read.
      fields: its schema.
      advice: the end of the message where it was edited.

    Raises:
      ValueError: the file is damaged, was edited, or is of another schema.
    """
    contents = schema.read(file, fields)
    if contents != sealed(contents):
        raise ValueError(f"{file} was edited or damaged: restore it{advice}")
    contents = moved.current(contents)
    if "stop_at_return" not in contents:
        return contents
    target = contents["stop_at_return"]
    return {**contents, "stop_at_return": float("inf") if target is None else float(target)}


def _is_ours(path: Path) -> bool:
    """Whether a folder is a checkpoint, finished or not."""
    return path.is_dir() and all(
        entry.name == _MANIFEST or entry.name.startswith((_ARRAYS, f".{_MANIFEST}."))
        for entry in path.iterdir()
    )


def _remove_others(path: Path, arrays: str) -> None:
    """Removes the files of earlier saves, finished or not."""
    for entry in path.iterdir():
        if entry.name.startswith(_ARRAYS) and entry.name != arrays:
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name.startswith("."):
            entry.unlink(missing_ok=True)


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    # Orbax writes twice, in files of entire blocks. Where that fails its threads go on for a
    # while, and print their errors.
    needed = 2 * sum(array.nbytes for array in arrays.values()) + _STORE_BYTES
    if shutil.disk_usage(path.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.parent))
    try:
        with _quiet(), _checkpointer() as checkpointer:
            checkpointer.save(path, arrays)
    except OSError:
        raise
    except Exception as error:  # Orbax's own, of many types
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is not None:
            number = int(code[1])
            raise OSError(number, os.strerror(number), str(path.parent)) from error
        text = " ".join(str(error).split())[:_LONGEST_TEXT]
        raise OSError(f"{path.parent}: the arrays cannot be written ({text})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from logging an error that it also raises, in a hundred lines."""
    logger = logging.getLogger("absl")
    was_disabled = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = was_disabled


def _restore(
    path: Path, manifest: dict[str, Any], like: TrainState, omitted: tuple[str, ...] = ()
) -> TrainState:
    """The stored state.

    Args:
      path, manifest: of the checkpoint.
      like: a state of the same structure, shapes and dtypes, without the omitted parts.
      omitted: beginnings of the paths of leaves that are not restored.
    """
    folder, target = path / manifest["arrays"], jax.eval_shape(to_arrays, like)
    try:
        with _checkpointer() as checkpointer:
            stored = checkpointer.metadata(folder).item_metadata
            # The parameters first: a difference in them explains the others.
            names = sorted(target, key=lambda name: not name.startswith(".params"))
            expected = {name: training.aval(target[name]) for name in names}
            given = {
                name: training.aval(x) for name, x in stored.items() if not name.startswith(omitted)
            }
            problem = training.difference(given, expected)
            if problem is not None:
                raise ValueError(problem)
            arrays = _read(checkpointer, folder, stored)
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        problem = str(error).splitlines()[0]
        raise ValueError(f"checkpoint {path} does not fit its config: {problem}") from error
    return from_arrays(arrays, like)


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint by their paths, as `to_arrays` gives them; of a policy of the zoo,
    those that it has. As for `load_policy`."""
    if entries.is_named(path):
        return entries.arrays(path)
    path, manifest = _verified(path, None)
    folder = path / manifest["arrays"]
    with _checkpointer() as checkpointer:
        return _read(checkpointer, folder, checkpointer.metadata(folder).item_metadata)


def _read(checkpointer: Any, folder: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    arguments = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
    return checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=arguments))


# The fields of a config that say which functions its parameters make.
_FUNCTIONS = (
    *("network", "distribution", "normalize_observations", "time_aware"),
    "critic.network",
)


def check_same_function(
    path: Path, config: Config, saved: dict[str, Any], names: Iterable[str] = _FUNCTIONS
) -> None:
    """Raises ValueError where a config makes another function of the saved parameters.

    Args:
      path: of the checkpoint, for messages.
      config, saved: to be compared; `saved` as JSON types.
      names: the fields that count.
    """
    names, described = tuple(names), json.loads(json.dumps(config_json.to_dict(config)))
    given = dict(_function_fields(described, names))
    for name, old in _function_fields(saved, names):
        if given.get(name) != old:
            raise ValueError(
                f"checkpoint {path} does not fit its config: {name} is {given.get(name)!r}, "
                f"{old!r} was saved; its parameters would be another function"
            )


def _function_fields(config: dict[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The fields of a config with these names, and those inside of them: path, value."""
    critic = {f"critic.{name}": value for name, value in config.get("critic", {}).items()}
    fields = [(name, {**config, **critic}.get(name)) for name in names]
    while fields:
        name, value = fields.pop(0)
        if isinstance(value, dict):
            fields = [(f"{name}.{field}", inner) for field, inner in value.items()] + fields
        else:
            # An object's address differs between two processes.
            yield name, re.sub(r" at 0x\w+|\s+", " ", value) if isinstance(value, str) else value


def _checkpointer() -> Any:
    import orbax.checkpoint as ocp  # slow to import, and only needed here

    # One of several processes saves or loads without waiting for the others.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"pgjax{jax.process_index()}",
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }
