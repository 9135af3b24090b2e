"""Sweeps: many settings and seeds, one compiled program for all that differ only in floats.

A sweep's runs go block after block, and each block a few updates at a time, so that a sweep with a
folder is saved as it goes: begun again, it goes on from there.
"""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgjax.core.components import check_int, parts
from pgjax.core.parallel import check_mesh
from pgjax.core.types import Array
from pgjax.environments.wrappers import saved as saved_envs
from pgjax.runs import checkpoints, config_json, disk, host_loop, sources, sweep_folders
from pgjax.runs.run_blocks import BlockStore
from pgjax.runs.signals import noted_signals
from pgjax.runs.sweep_plan import Plan, check_same, checked_grid
from pgjax.runs.sweep_result import Sweep, same_names
from pgjax.training import training, transfer
from pgjax.training.config import Config, check_key


def sweep(
    key: Array,
    config: Config,
    grid: Mapping[str, Sequence[Any]],
    num_seeds: int,
    mesh: Mesh | None = None,
    stop_at_return: float = math.inf,
    memory_limit: int | None = None,
    *,
    directory: str | os.PathLike | None = None,
    checkpoint_seconds: float = 60.0,
    start_from: str | os.PathLike | None = None,
    parts: Sequence[str] = transfer.DEFAULT,
    on_start: Callable[[int], Any] | None = None,
) -> Sweep:
    """`train` for every combination of the grid's values, with the same seeds for each.

    Run [i, …, s] is `train(jax.random.split(key, num_seeds)[s], config.replace(…))`. What differs
    in floats only is one compiled program; sizes, networks and estimators are one each.

    Args:
      key: one `jax.random.key`.
      config: what the grid does not set.
      grid: dotted path -> values, for instance {"optimizer.learning_rate": [1e-3, 1e-2]}.
      num_seeds: ≥ 1.
      mesh: from `make_mesh`; runs are divided over its devices.
      stop_at_return: a run that reaches this mean return of finished episodes stays as it is; its
        metrics repeat. The others go on without waiting for its episodes.
      memory_limit: bytes for the runs at once; None: half of what is available. More of them run
        block after block.
      directory: a folder to make, for sweep.json, parts/ and the best seed's checkpoint/; None
        writes nothing. The same call again goes on with what is there, to the same bits on as many
        devices; a sweep that is done is read.
      checkpoint_seconds: between two savings of a block, ≥ 0.
      start_from, parts: as for `run`: what every run starts from, alike for all seeds.
      on_start: called with the number of runs, once nothing is refused any more, before anything is
        compiled.

    Raises:
      ValueError, TypeError: before compilation, for an empty grid, a value that cannot be or that
        the grid has twice; a source that a setting does not fit; a folder of another sweep, one
        that is damaged, or one that another process writes in.
      runs.signals.Interrupted: after Ctrl-C or SIGTERM, with a directory.

    >>> import jax, pgjax
    >>> config = pgjax.Config(env="Catch-bsuite", num_updates=3)
    >>> grid = {"optimizer.learning_rate": [0.01, 0.1]}
    >>> result = pgjax.sweep(jax.random.key(0), config, grid, num_seeds=4)
    >>> result.axes, result.metrics.episode_return.shape
    (('optimizer.learning_rate', 'seed'), (2, 4, 3))
    """
    check_key(key)
    check_int("num_seeds", num_seeds, 1)
    training.check_target(stop_at_return)
    host_loop.check_seconds(checkpoint_seconds)
    given = key, config, checked_grid(grid), num_seeds, float(stop_at_return), mesh
    plan = Plan(*given, start_from, parts)
    check_mesh(mesh, "the mesh's size", 0)
    announce = on_start or (lambda number: None)
    if directory is None:
        sizes = plan.block_sizes(memory_limit)
        announce(plan.num_runs)
        return _trained(plan, sizes, None)
    path = Path(directory)
    with noted_signals() as signals, _held(plan, path, memory_limit) as sizes:
        announce(plan.num_runs)
        result = _trained(plan, sizes, BlockStore(path, checkpoint_seconds, signals))
        best = result.best()
        checkpoints.save(path / checkpoints.IN_RUN, best.state, best.config)
        return result


@contextlib.contextmanager
def _held(plan: Plan, path: Path, memory_limit: int | None) -> Iterator[list[int]]:
    """Makes a sweep's folder, or checks one that was begun, and keeps others from it; yields its
    block sizes."""
    if not path.exists():
        with disk.appearing(path) as unfinished:
            facts = {**plan.facts(), "block_sizes": plan.block_sizes(memory_limit)}
            num_devices = 1 if plan.mesh is None else plan.mesh.size
            sweep_folders.write_facts(unfinished, {**facts, "devices": num_devices})
    facts = sweep_folders.read_facts(path)
    check_same(path, facts, plan)
    for size in facts["block_sizes"]:
        check_mesh(plan.mesh, f"{path} was begun in blocks of runs, whose number", size)
    with disk.held(path):
        sweep_folders.check_parts(path)
        yield facts["block_sizes"]


def _trained(plan: Plan, sizes: list[int], store: BlockStore | None) -> Sweep:
    """The results of all runs, group after group, in blocks of these sizes."""
    results, seconds = {}, np.zeros(2)
    groups = zip(plan.programs, plan.groups(), sizes, strict=True)
    for number, (indices, group, size) in enumerate(groups):
        runs = np.add.outer(np.array(indices) * plan.num_seeds, np.arange(plan.num_seeds)).ravel()
        trained, spent = group.train(plan.stop_at_return, size, store, f"{number:04d}", runs)
        results |= dict(zip(indices, trained, strict=True))
        seconds += spent
    states, metrics = zip(*(results[index] for index in range(len(plan.configs))), strict=True)
    shape = (*map(len, plan.grid.values()), plan.num_seeds, plan.config.num_updates)
    metrics = jax.tree.map(lambda *rows: np.stack(rows).reshape(shape), *same_names(metrics))
    return Sweep(
        config=plan.config,
        grid=plan.grid,
        num_seeds=plan.num_seeds,
        metrics=metrics,
        compile_seconds=float(seconds[0]),
        run_seconds=float(seconds[1]),
        num_programs=len(plan.programs),
        _states=states,
    )


def resume_sweep(
    directory: str | os.PathLike,
    mesh: Mesh | None = None,
    *,
    env: str | None = None,
    checkpoint_seconds: float = 60.0,
    on_start: Callable[[int], Any] | None = None,
) -> Sweep:
    """Goes on with a sweep, from its folder alone, to the same bits as without interruption.

    Args:
      directory: from `sweep`.
      env: `module:factory`, to import for an environment of the user's own.
      mesh, checkpoint_seconds, on_start: as for `sweep`.

    Raises:
      ValueError: no sweep's folder; one whose configs hold other objects of the user's own: call
        `sweep` again as it was called, which goes on.
    """
    path = Path(directory)
    facts = sweep_folders.read_facts(path)
    saved = [facts["config"], *facts["settings"]]
    if env is not None:
        replace_env(path, saved, env)
    try:
        base, *settings = map(config_json.from_dict, saved)
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}; pass env='module:factory' (--env) for an environment, or begin the "
            "sweep as before, which goes on"
        ) from error
    key_data = jnp.asarray(np.array(facts["key"], np.uint32))
    return sweep(
        jax.random.wrap_key_data(key_data, impl=facts["key_impl"]),
        base,
        _grid_of(facts["grid"], settings),
        facts["num_seeds"],
        mesh,
        facts["stop_at_return"],
        directory=path,
        checkpoint_seconds=checkpoint_seconds,
        on_start=on_start,
        **sources.arguments(facts.get("started_from")),
    )


def replace_env(path: Path, saved: list[dict[str, Any]], name: str) -> None:
    """Replaces the environment of saved configs by the one that the user names: where it is of the
    user's own or has that name; in all, so that the first is refused, where none does."""
    cores = [saved_envs.core_of(config["env"]) for config in saved]
    pairs = zip(saved, cores, strict=True)
    own = [config for config, core in pairs if core == name or isinstance(core, dict)]
    for config in own or saved:
        config["env"] = checkpoints.named_env(path, config["env"], name)


def devices(directory: str | os.PathLike) -> int:
    """The number of devices on which a sweep goes on, see `devices_for`."""
    return devices_for(sweep_folders.read_facts(Path(directory)))


def devices_for(facts: dict[str, Any]) -> int:
    """The number of devices to go on with: as many as before, if this machine has them, else the
    most that the blocks of a sweep's or tuning's facts divide over."""
    most = min(facts["devices"], jax.device_count())
    sizes = facts["block_sizes"]
    return next(n for n in range(most, 0, -1) if all(size % n == 0 for size in sizes))


def _grid_of(axes: list[list], settings: list[Config]) -> dict[str, list[Any]]:
    """The grid of which these are all settings, the last axis first to change.

    Args:
      axes: path and number of values of each.
      settings: configs.
    """
    lengths, grid = [length for _, length in axes], {}
    for axis, (path, length) in enumerate(axes):
        stride = math.prod(lengths[axis + 1 :])
        grid[path] = [at_path(settings[index * stride], path) for index in range(length)]
    return grid


def at_path(config: Config, path: str) -> Any:
    """What a config has at a dotted path."""
    return functools.reduce(lambda node, name: parts(node)[name], path.split("."), config)
