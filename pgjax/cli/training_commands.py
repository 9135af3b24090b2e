"""The commands that train: `train`, `resume` and `sweep`."""

import argparse
import contextlib
import functools
import math
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from pgjax.cli import (
    diagnosis,
    evaluating,
    flags,
    parsers,
    printing,
    run_options,
    startup,
    tuning_commands,
)
from pgjax.core import parallel, processes, schedules
from pgjax.core.components import check_int, check_seed
from pgjax.runs import (
    checkpoints,
    config_files,
    folders,
    host_loop,
    loggers,
    profiling,
    sweep_folders,
    sweeps,
)
from pgjax.runs.progress import Progress
from pgjax.runs.signals import Interrupted, interrupted_text
from pgjax.runs.tuning import folders as tuning_folders
from pgjax.study import memory_estimate
from pgjax.training.config import Config, checked

NOT_FINITE = 4  # exit code


def train(arguments: list[str]) -> int:
    """Trains a policy, evaluates it, leaves a run folder."""
    options, make_config = flags.read(arguments, parsers.train())
    check_options(options)
    config = make_config()
    arrays = checked(config)
    if options.print_config:
        print(config_files.text(config))
        return 0
    start = run_options.start(options)
    memory_estimate.check_episodes("--eval-episodes", arrays, options.eval_episodes)
    mesh = startup.mesh(options, config)
    if options.profile is not None:
        return _profile(config, options, mesh)
    directory = options.directory or run_options.new_directory("runs", config, options)
    folders.check_free(directory)
    run = functools.partial(
        host_loop.run,
        config,
        options.seed,
        directory,
        mesh=mesh,
        stop_at_return=options.stop_at_return,
        checkpoint_seconds=options.checkpoint_seconds,
        metrics_every=options.metrics_every,
        evaluate_every=options.evaluate_every,
        eval_episodes=options.eval_episodes,
        keep=options.keep,
        nan=options.nan,
        **start,
    )

    def first_line(num_updates: int) -> str:
        return f"{config.env}, seed {options.seed}, on {diagnosis.device_line(mesh.size)}"

    return _run_and_print(run, first_line, config, options, directory, options.seed)


def _profile(config: Config, options: argparse.Namespace, mesh: Mesh) -> int:
    """Prints where the time of the config's program goes, and traces an update of it."""
    result = profiling.profile(config, options.profile, options.seed, mesh)
    if processes.is_first():
        print(f"{config.env}, on {diagnosis.device_line(mesh.size)}")
        printing.print_rows(result.rows())
        printing.print_paragraphs(result.sentences())
    return 0


def resume(arguments: list[str]) -> int:
    """Goes on with a run from its latest checkpoint."""
    options, change = flags.read_changes(arguments, parsers.resume())
    flags.import_modules(options.imports)
    if sweep_folders.is_sweep(options.run):
        run_options.check_resuming(options.run, arguments, "sweep", ("--checkpoint-seconds",))
        return _resume_sweep(options)
    if tuning_folders.is_tuning(options.run):
        return tuning_commands.resume(options, arguments)
    if options.metrics_every is not None:
        check_int("--metrics-every", options.metrics_every, 1)
    facts = folders.read_facts(options.run)
    # TensorBoard events need the number, too.
    options.metrics_every = options.metrics_every or facts["metrics_every"]
    if options.eval_episodes is None:
        options.eval_episodes = facts["eval_episodes"]
    if options.evaluate_every is None:
        options.evaluate_every = facts["evaluate_every"]
    check_options(options)
    config = change(checkpoints.load_config(options.run, env=options.env))
    memory_estimate.check_episodes("--eval-episodes", checked(config), options.eval_episodes)
    mesh = startup.mesh(options, config)
    run = functools.partial(
        host_loop.resume,
        options.run,
        mesh=mesh,
        config=config,
        stop_at_return=options.stop_at_return,
        metrics_every=options.metrics_every,
        evaluate_every=options.evaluate_every,
        eval_episodes=options.eval_episodes if options.evaluate_every else None,
        keep=options.keep,
        checkpoint_seconds=options.checkpoint_seconds,
        nan=options.nan,
        discard_metrics=options.discard_metrics,
    )

    where = f"on {diagnosis.device_line(mesh.size)}"
    first_line = functools.partial(_resumed_line, config.env, where, options.stop_at_return, facts)
    return _run_and_print(run, first_line, config, options, options.run, facts["seed"])


def _resumed_line(
    env: Any, where: str, target: float | None, facts: dict[str, Any], num_updates: int
) -> str:
    """What a resumed run goes on with, and its end, unless another target was given."""
    line = f"{env}, seed {facts['seed']}, from update {num_updates}, {where}"
    begun = facts["stop_at_return"]
    if target is not None or math.isinf(begun):
        return line
    end = f"until a return of {begun:g}, as begun; --stop-at-return inf: to the last update"
    return f"{line}\n{end}"


def _run_and_print(
    run: Callable[..., host_loop.Run],
    first_line: Callable[[int], str],
    config: Config,
    options: argparse.Namespace,
    directory: Path,
    seed: int,
) -> int:
    """Runs, prints progress and results, and returns the exit code.

    Args:
      run: `host_loop.run` or `resume`, without its callbacks.
      first_line: what to print at the start, given the number of updates made before.
      config, options: of the run.
      directory: its folder.
      seed: its seed, for the evaluation at the end.
    """
    if not processes.is_first():
        run()
        return 0

    def on_start(num_updates: int) -> None:
        print(first_line(num_updates))
        warning = schedules.ended_text(config)
        if warning:
            print(f"pgjax: {warning}", file=sys.stderr)

    with _observers(config, options, directory) as on_block, warnings.catch_warnings():
        warnings.simplefilter("ignore", host_loop.EndedSchedule)  # `on_start` prints it in a line
        try:
            result = run(on_block=on_block, on_start=on_start, progress=True)
        except Interrupted as interruption:  # before its first update
            print(interruption, file=sys.stderr)
            return 128 + interruption.signal
        except KeyboardInterrupt:
            if not directory.exists():
                raise
            print(interrupted_text(directory), file=sys.stderr)
            return 128 + signal.SIGINT
    rows = printing.run_rows(result, config)
    if not result.interrupted:
        results = evaluating.evaluations(result.state, config, seed, options.eval_episodes)
        rows = evaluating.rows(results) | rows
    printing.print_rows(rows)
    return _exit_code(result, directory, options.nan)


def _exit_code(result: host_loop.Run, directory: Path, nan: str) -> int:
    """The exit code after a run, whose cause is printed."""
    if result.interrupted:
        print(interrupted_text(directory), file=sys.stderr)
        return 128 + result.interrupted
    if result.bad_update is not None:
        print(f"pgjax: {host_loop.not_finite(result.bad_update)}", file=sys.stderr)
    return NOT_FINITE if result.bad_update is not None and nan == "stop" else 0


@contextmanager
def _observers(
    config: Config, options: argparse.Namespace, directory: Path
) -> Iterator[Callable[[Progress], None]]:
    """Yields the function that a run calls after each block: it logs the progress."""
    with contextlib.ExitStack() as stack:
        observers = []
        for logger in loggers.named(options.logger):
            log = logger(directory, config, options.metrics_every)
            observers.append(stack.enter_context(log))

        def on_block(progress):
            for observe in observers:
                observe(progress)

        yield on_block


def sweep(arguments: list[str]) -> int:
    """Trains every setting of a grid with the same seeds."""
    options, make_config = flags.read(arguments, parsers.sweep())
    check_seed("--seed", options.seed)
    check_int("--num-seeds", options.num_seeds, 1)
    config = make_config()
    grid = flags.grid(options.grid, config)
    directory = options.directory or run_options.new_directory("sweeps", config, options)
    if sweep_folders.is_sweep(directory):
        devices = options.devices or sweeps.devices(directory)
    else:
        folders.check_free(directory)
        devices = options.devices
    mesh = parallel.make_mesh(devices)
    run = functools.partial(
        sweeps.sweep,
        jax.random.key(options.seed),
        config,
        grid,
        options.num_seeds,
        mesh,
        options.stop_at_return,
        directory=directory,
        checkpoint_seconds=options.checkpoint_seconds,
        **run_options.start(options),
    )

    def on_start(num_runs: int) -> None:
        devices = diagnosis.device_line(mesh.size)
        print(f"{config.env}, {num_runs} runs, on {devices}", flush=True)

    return _sweep_and_print(run, on_start, directory)


def _resume_sweep(options: argparse.Namespace) -> int:
    mesh = parallel.make_mesh(options.devices or sweeps.devices(options.run))
    run = functools.partial(
        sweeps.resume_sweep,
        options.run,
        mesh,
        env=options.env,
        checkpoint_seconds=options.checkpoint_seconds,
    )

    def on_start(num_runs: int) -> None:
        print(f"sweep {options.run}, on {diagnosis.device_line(mesh.size)}", flush=True)

    return _sweep_and_print(run, on_start, options.run)


def _sweep_and_print(
    run: Callable[..., sweeps.Sweep], on_start: Callable[[int], None], directory: Path
) -> int:
    """Runs a sweep, writes and prints its results, and returns the exit code.

    Args:
      run: `sweeps.sweep` or `resume_sweep`, without `on_start`.
      on_start: called with the number of runs.
      directory: the sweep's folder.
    """
    try:
        result = run(on_start=on_start)
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return 128 + interruption.signal
    header, rows = printing.sweep_table(result)
    programs = f"{result.num_programs} program{'s' * (result.num_programs > 1)}"
    printing.write_sweep(directory, result, header, rows)
    printing.print_table(header, rows)
    printing.print_rows(
        {
            "running time": f"{result.run_seconds:.1f} s",
            "compile time": f"{result.compile_seconds:.1f} s, {programs}",
            "best seed's policy": str(directory / checkpoints.IN_RUN),
            "folder": str(directory),
        }
    )
    return 0


def check_options(options: argparse.Namespace) -> None:
    """Raises for a seed or a number of episodes or updates that cannot be."""
    check_seed("--seed", getattr(options, "seed", 0))
    check_int("--eval-episodes", options.eval_episodes, 1)
    check_int("--metrics-every", getattr(options, "metrics_every", 1), 1)
