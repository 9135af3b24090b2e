"""`tune`: a search for the config with the best return, its trials trained side by side."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgjax.core.parallel import check_mesh
from pgjax.core.types import Array
from pgjax.runs import config_json, disk, sources, sweep_folders
from pgjax.runs.signals import Interrupted, Signals, noted_signals
from pgjax.runs.sweeps import at_path, devices_for, replace_env
from pgjax.runs.tuning import folders, schedulers
from pgjax.runs.tuning.default_spaces import default_space
from pgjax.runs.tuning.halving import Search, SuccessiveHalving
from pgjax.runs.tuning.plan import Options, Plan
from pgjax.runs.tuning.population import Population
from pgjax.runs.tuning.result import Tuning, best_of
from pgjax.runs.tuning.scheduler import Scheduler
from pgjax.runs.tuning.space import Axis, checked_axes
from pgjax.runs.tuning.trials import Trial
from pgjax.training import transfer
from pgjax.training.config import Config, check_key


def tune(
    key: Array,
    config: Config,
    space: Mapping[str, Any] | None = None,
    *,
    num_trials: int = 64,
    budget: int | None = None,
    num_seeds: int | None = None,
    scheduler: Scheduler | None = None,
    batch: int | None = None,
    search: Search | None = None,
    reduction: int | None = None,
    halvings: int | None = None,
    mesh: Mesh | None = None,
    memory_limit: int | None = None,
    directory: str | os.PathLike | None = None,
    start_from: str | os.PathLike | None = None,
    parts: Sequence[str] = transfer.DEFAULT,
    on_start: Callable[[Plan], Any] | None = None,
    on_round: Callable[[Sequence[Trial]], Any] | None = None,
) -> Tuning:
    """Searches a space of settings for the best mean return over seeds.

    Trials are trained side by side, in one compiled program for all that differ in floats; each
    value that is part of the program (a size, a network) has one more. The scheduler decides which
    of them go on after each round, and with what: `SuccessiveHalving` looks for one setting,
    `PopulationBased` for a schedule of them.

    Args:
      key: one `jax.random.key`.
      config: what the space does not set.
      space: dotted path -> `Uniform(low, high)`, `LogUniform(low, high)` or a list of values; None:
        the ranges of the config's components, `default_spaces.RANGES`.
      num_trials: ≥ 1; ≥ 2 for a population.
      budget: environment steps of each seed of a trial that is trained to the end, ≥ 1, for
        `Segments`; the last update is whole. None: the config's `num_updates`.
      num_seeds: of each trial, ≥ 1; None: 3 with `SuccessiveHalving`, 1 with `PopulationBased`.
      scheduler: `SuccessiveHalving(…)` or `PopulationBased(…)`; None: the former.
      batch, search, reduction, halvings: fields of `SuccessiveHalving`, where no scheduler is
        given; None: its defaults.
      mesh: from `make_mesh`; runs are divided over its devices.
      memory_limit: bytes for the runs at once; None: half of what is available.
      directory: a folder to make, saved after each round; None writes nothing. The same call again
        goes on with what is there, to the same trials on as many devices.
      start_from, parts: as for `run`: what every trial starts from, alike for all seeds.
      on_start: called with the plan once nothing is refused any more, before anything is compiled.
      on_round: called with all trials after each round.

    Raises:
      ValueError, TypeError: before compilation, for a path that does not exist, wrong bounds, a
        budget too small for the scheduler, a source that a choice does not fit, a folder of another
        tuning.
      core.distribution.MissingExtra: Optuna is not installed.
      runs.signals.Interrupted: after Ctrl-C or SIGTERM, with a directory.
    """
    check_key(key)
    fields = {"batch": batch, "search": search, "reduction": reduction, "halvings": halvings}
    scheduler = _scheduler(scheduler, fields)
    num_seeds = scheduler.default_seeds if num_seeds is None else num_seeds
    options = Options(num_trials, budget, num_seeds)
    options.check(scheduler)
    space = default_space(config) if space is None else space
    axes = checked_axes(space, config)
    plan = Plan(key, config, axes, options, scheduler, mesh, start_from, parts)
    check_mesh(mesh, "the mesh's size", 0)
    scheduler.check_extra()
    announce, watch = on_start or _ignore, on_round or _ignore
    if directory is None:
        population = Population(plan, plan.block_sizes(memory_limit))
        announce(plan)
        return _tuned(plan, [], population, watch, None, Signals())
    path = Path(directory)
    with noted_signals() as signals, _held(plan, path, memory_limit) as sizes:
        population = Population(plan, sizes)
        trials = folders.load(path, population)
        announce(plan)
        tuning = _tuned(plan, trials, population, watch, path, signals)
        folders.write_results(path, tuning)
        return tuning


def _scheduler(scheduler: Scheduler | None, fields: Mapping[str, Any]) -> Scheduler:
    """The scheduler of `tune`'s arguments, checked."""
    given = {name: value for name, value in fields.items() if value is not None}
    if scheduler is None:
        return schedulers.check(SuccessiveHalving(**given))
    if given:
        name = next(iter(given))
        raise ValueError(
            f"{name} is a field of SuccessiveHalving: give it there, "
            f"scheduler=SuccessiveHalving({name}=…), or leave scheduler out"
        )
    return schedulers.check(scheduler)


def _ignore(_: Any) -> None:
    """Does nothing."""


def _tuned(
    plan: Plan,
    trials: list[Trial],
    population: Population,
    watch: Callable[[Sequence[Trial]], Any],
    path: Path | None,
    signals: Signals,
) -> Tuning:
    """Round after round, until every trial has ended."""
    while True:
        trials = trials + _refill(plan, trials)
        running = [trial for trial in trials if trial.status == "running"]
        if not running:
            break
        trials = _after_round(plan, trials, population, running, path, signals)
        watch(trials)
    best = population.trained(best_of(trials))
    seconds = population.compile_seconds, population.run_seconds
    return Tuning(tuple(trials), *seconds, plan, best)


def _refill(plan: Plan, trials: list[Trial]) -> list[Trial]:
    """New trials in the places that are free, while there are some to begin."""
    running = sum(trial.status == "running" for trial in trials)
    number = min(plan.batch - running, plan.options.num_trials - len(trials))
    if number < 1:
        return []
    first = len(trials)
    points = plan.scheduler.proposals(plan.axes, trials, number, plan.seed(first))
    untrained = np.empty((0, plan.options.num_seeds))
    return [Trial(first + index, point, untrained) for index, point in enumerate(points)]


def _after_round(
    plan: Plan,
    trials: list[Trial],
    population: Population,
    running: list[Trial],
    path: Path | None,
    signals: Signals,
) -> list[Trial]:
    """All trials after a round of the running ones, saved."""
    try:
        advanced = {trial.number: trial for trial in population.advance(running, signals)}
    except Interrupted as interruption:
        raise Interrupted(path, interruption.signal) from None
    trials = [_judged(plan, advanced.get(trial.number, trial)) for trial in trials]
    seed = plan.seed(max(trial.rounds for trial in trials))
    trials = plan.scheduler.decided(plan.axes, trials, seed)
    population.hand_over(_sources(trials))
    done = [trial for trial in trials if trial.status == "done"]
    kept = {trial.number for trial in trials if trial.status == "running"}
    population.keep(kept | ({best_of(done).number} if done else set()))
    if path is not None:
        folders.save(path, trials, population)
    return trials


def _sources(trials: list[Trial]) -> dict[int, int]:
    """The trials that go on from another one's state, and that one's number."""
    return {
        trial.number: trial.handovers[-1].source
        for trial in trials
        if len(trial.handovers) == trial.rounds > 0 and trial.handovers[-1].source != trial.number
    }


def _judged(plan: Plan, trial: Trial) -> Trial:
    """A trial after a round, done where that was its last."""
    if trial.status != "running":
        return trial
    total = plan.config_at(trial.point).num_updates
    done = trial.rounds * plan.round_updates(total) >= total
    return trial._replace(status="done") if done else trial


@contextlib.contextmanager
def _held(plan: Plan, path: Path, memory_limit: int | None) -> Iterator[list[int]]:
    """Makes a tuning's folder, or checks one that was begun, and keeps others from it; yields its
    block sizes."""
    given = plan.facts()
    if not path.exists():
        with disk.appearing(path) as unfinished:
            devices = 1 if plan.mesh is None else plan.mesh.size
            sizes = {"block_sizes": plan.block_sizes(memory_limit), "devices": devices}
            folders.write_facts(unfinished, {**given, **sizes})
    facts = folders.read_facts(path)
    for name in dict.fromkeys((*given, "started_from")):
        if facts.get(name) != given.get(name):
            raise ValueError(
                f"{path} is the folder of another tuning: its {name.replace('_', ' ')} differs; "
                "give another folder, or go on with that one by `pgjax resume`"
            )
    for size in facts["block_sizes"]:
        check_mesh(plan.mesh, f"{path} was begun in blocks of runs, whose number", size)
    with disk.held(path):
        sweep_folders.check_parts(path)
        yield facts["block_sizes"]


def resume_tune(
    directory: str | os.PathLike,
    mesh: Mesh | None = None,
    *,
    env: str | None = None,
    on_start: Callable[[Plan], Any] | None = None,
    on_round: Callable[[Sequence[Trial]], Any] | None = None,
) -> Tuning:
    """Goes on with a tuning, from its folder alone, to the same trials as without interruption.

    Args:
      directory: from `tune`.
      env: `module:factory`, to import for an environment of the user's own.
      mesh, on_start, on_round: as for `tune`.

    Raises:
      ValueError: no tuning's folder; one whose configs hold other objects of the user's own, or
        whose search is a function: call `tune` again as it was called, which goes on.
    """
    path = Path(directory)
    facts = folders.read_facts(path)
    if facts["scheduler"].get("search", "") is None:
        raise ValueError(f"{path}: its search is a function: call tune as before, which goes on")
    saved = [facts["config"], *(config for configs in facts["choices"] for config in configs)]
    if env is not None:
        replace_env(path, saved, env)
    try:
        config = config_json.from_dict(facts["config"])
        space = {axis.path: axis for axis in _axes(facts)}
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}; pass env='module:factory' (--env) for an environment, or begin the "
            "tuning as before, which goes on"
        ) from error
    key_data = jnp.asarray(np.array(facts["key"], np.uint32))
    return tune(
        jax.random.wrap_key_data(key_data, impl=facts["key_impl"]),
        config,
        space,
        scheduler=schedulers.from_dict(facts["scheduler"]),
        mesh=mesh,
        directory=path,
        on_start=on_start,
        on_round=on_round,
        **facts["options"],
        **sources.arguments(facts.get("started_from")),
    )


def _axes(facts: dict[str, Any]) -> Iterator[Axis]:
    """The axes that facts describe."""
    for (path, low, high, log), configs in zip(facts["space"], facts["choices"], strict=True):
        values = tuple(at_path(config_json.from_dict(config), path) for config in configs)
        yield Axis(path, low, high, log, values)


def devices(directory: str | os.PathLike) -> int:
    """The number of devices on which a tuning goes on, see `sweeps.devices_for`."""
    return devices_for(folders.read_facts(Path(directory)))
