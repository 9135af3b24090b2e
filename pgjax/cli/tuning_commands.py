"""The command `tune`, and `resume` of its folders."""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from pgjax.cli import diagnosis, flags, parsers, printing, run_options
from pgjax.core import parallel
from pgjax.core.components import check_seed
from pgjax.runs import checkpoints, sweep_labels
from pgjax.runs import folders as run_folders
from pgjax.runs.signals import Interrupted
from pgjax.runs.tuning import folders, lineage, schedulers
from pgjax.runs.tuning import tune as tuning
from pgjax.runs.tuning.plan import Plan
from pgjax.runs.tuning.result import Tuning
from pgjax.runs.tuning.trials import Trial

_SHOWN = 10  # trials in the table


def tune(arguments: list[str]) -> int:
    """Searches a config's settings."""
    options, make_config = flags.read(arguments, parsers.tune())
    check_seed("--seed", options.seed)
    lengths = ("--num-updates", "--total-steps")
    length = next((text for text in arguments if text.partition("=")[0] in lengths), None)
    if options.budget is not None and length is not None:
        raise ValueError(f"--budget is a trial's length, too: give it or {length}")
    names = schedulers.fields_of(*schedulers.SCHEDULERS)
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    scheduler = schedulers.named(options.scheduler, given)
    config = make_config()
    space = flags.space(options.space, config)
    directory = options.directory or run_options.new_directory("tunings", config, options)
    devices = options.devices
    if folders.is_tuning(directory):
        devices = devices or tuning.devices(directory)
    else:
        run_folders.check_free(directory)
    mesh = parallel.make_mesh(devices)
    run = functools.partial(
        tuning.tune,
        jax.random.key(options.seed),
        config,
        space,
        num_trials=options.trials,
        budget=options.budget,
        num_seeds=options.num_seeds,
        scheduler=scheduler,
        mesh=mesh,
        directory=directory,
        **run_options.start(options),
    )
    return _run_and_print(run, mesh.size, directory)


def resume(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Goes on with a tuning's folder."""
    run_options.check_resuming(options.run, arguments, "tuning")
    mesh = parallel.make_mesh(options.devices or tuning.devices(options.run))
    run = functools.partial(tuning.resume_tune, options.run, mesh, env=options.env)
    return _run_and_print(run, mesh.size, options.run)


def _run_and_print(run: Callable[..., Tuning], devices: int, directory: Path) -> int:
    """Runs a tuning, prints its rounds and results, and returns the exit code.

    Args:
      run: `tune` or `resume_tune`, without `on_start` and `on_round`.
      devices: how many there are.
      directory: the tuning's folder.
    """

    def on_start(plan: Plan) -> None:
        options = plan.options
        print(
            f"{plan.config.env}, {options.num_trials} trials of {options.num_seeds} seeds, "
            f"{plan.batch} side by side, on {diagnosis.device_line(devices)}\n"
            f"searches {', '.join(axis.path for axis in plan.axes)}",
            flush=True,
        )

    try:
        result = run(on_start=on_start, on_round=_print_round)
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return 128 + interruption.signal
    printing.print_table(*_table(result))
    if result.has_schedules:
        print(f"the schedule of trial {result.best.number}'s policy:")
        printing.print_table(*_schedule_table(result))
    shares = [f"{path} {share:.0%}" for path, share in result.importances().items()]
    printing.print_rows(
        {
            "importance": ", ".join(shares[:4]),
            "running time": f"{result.run_seconds:.1f} s",
            "compile time": f"{result.compile_seconds:.1f} s",
            **_results(result, directory),
            "best seed's policy": str(directory / checkpoints.IN_RUN),
            "folder": str(directory),
        }
    )
    return 0


def _results(result: Tuning, directory: Path) -> dict[str, str]:
    """Names and paths of what a tuning found."""
    best = str(directory / folders.BEST)
    if not result.has_schedules:
        return {"best config": best}
    return {
        "best schedule": str(directory / lineage.SCHEDULE),
        "its last config": best,
        "floats over time": str(directory / lineage.PICTURE),
    }


def _print_round(trials: Sequence[Trial]) -> None:
    running = sum(trial.status == "running" for trial in trials)
    done = sum(trial.status == "done" for trial in trials)
    best = max(trials, key=Trial.score)
    print(
        f"  {len(trials)} trials begun, {done} done, {running} go on; "
        f"best {best.score():.5g}, trial {best.number}",
        flush=True,
    )


def _table(result: Tuning) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the best trials."""
    header, rows = ["trial", "updates", "score"], []
    for trial in result.ranked()[:_SHOWN]:
        values = map(sweep_labels.plain, result.setting(trial).values())
        row = (trial.number, result.num_updates(trial), f"{trial.score():.5g}", *values)
        rows.append(list(map(str, row)))
    return [*header, *result.setting(result.best)], rows


def _schedule_table(result: Tuning) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the settings that led to the best trial's policy, in their order."""
    rows = []
    for stage in result.schedule():
        updates = f"{stage.first}-{stage.last}"
        values = map(sweep_labels.plain, stage.setting.values())
        rows.append([updates, str(stage.trial), f"{stage.score:.5g}", *values])
    return ["updates", "trial", "score", *result.setting(result.best)], rows
