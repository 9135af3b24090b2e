"""The commands: arguments in, an exit code out."""

import argparse
import contextlib
import functools
import math
import re
import secrets
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import jax
import shtab

from pgjax.cli import diagnosis, flags, parsers, printing, startup
from pgjax.core import parallel, processes, schedules
from pgjax.core.components import check_int, check_seed
from pgjax.environments import interface
from pgjax.environments.interface import Environment, spaces
from pgjax.pictures import plots, rendering
from pgjax.policies import heads
from pgjax.runs import checkpoints, folders, host_loop, sweep_folders, sweeps, tensorboard
from pgjax.study import memory_estimate
from pgjax.training.config import Config, checked

NOT_FINITE = 4  # exit code
_RESUMING_SWEEPS = (
    "--devices",
    "--env",
    "--checkpoint-seconds",
    "--compilation-cache",
    "--no-compilation-cache",
)


def train(arguments: list[str]) -> int:
    """Trains a policy, evaluates it, leaves a run folder."""
    options, make_config = flags.read(arguments, parsers.train())
    _check_options(options)
    config = make_config()
    memory_estimate.check_episodes("--eval-episodes", checked(config), options.eval_episodes)
    mesh = startup.mesh(options, config.sampler)
    directory = options.directory or _new_directory("runs", config.env, options)
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
        nan=options.nan,
    )

    def said(made: int) -> str:
        return f"{config.env}, seed {options.seed}, on {diagnosis.device_line(mesh.size)}"

    return _followed(run, said, config, options, directory, options.seed)


def resume(arguments: list[str]) -> int:
    """Goes on with a run from its latest checkpoint."""
    options, change = flags.read_changes(arguments, parsers.resume())
    if sweep_folders.is_sweep(options.run):
        return _resume_sweep(options, arguments)
    if options.metrics_every is not None:
        check_int("--metrics-every", options.metrics_every, 1)
    facts = folders.read_facts(options.run)
    options.metrics_every = options.metrics_every or facts["metrics_every"]  # of the events, too
    _check_options(options)
    config = change(checkpoints.load_config(options.run, env=options.env))
    memory_estimate.check_episodes("--eval-episodes", checked(config), options.eval_episodes)
    mesh = startup.mesh(options, config.sampler)
    run = functools.partial(
        host_loop.resume,
        options.run,
        mesh=mesh,
        config=config,
        stop_at_return=options.stop_at_return,
        metrics_every=options.metrics_every,
        checkpoint_seconds=options.checkpoint_seconds,
        nan=options.nan,
        discard_metrics=options.discard_metrics,
    )

    def said(made: int) -> str:
        where, target = diagnosis.device_line(mesh.size), facts["stop_at_return"]
        line = f"{config.env}, seed {facts['seed']}, from update {made}, on {where}"
        if options.stop_at_return is not None or math.isinf(target):
            return line
        until = f"until a return of {target:g}, as begun; --stop-at-return inf: to the last update"
        return f"{line}\n{until}"

    return _followed(run, said, config, options, options.run, facts["seed"])


def _followed(
    run: Callable,
    said: Callable[[int], str],
    config: Config,
    options: argparse.Namespace,
    directory: Path,
    seed: int,
) -> int:
    """A run with its progress shown and its result printed; `said` once it starts."""
    if not processes.is_first():
        run()
        return 0

    def on_start(made: int) -> None:
        print(said(made))
        ended = schedules.ended_text(config)
        if ended:
            print(f"pgjax: {ended}", file=sys.stderr)

    with _observers(config, options, directory) as on_block, warnings.catch_warnings():
        warnings.simplefilter("ignore", host_loop.EndedSchedule)  # said above, in one line
        try:
            result = run(on_block=on_block, on_start=on_start)
        except host_loop.Interrupted as stopped:  # before its first update
            print(stopped, file=sys.stderr)
            return 128 + stopped.signal
        except KeyboardInterrupt:
            if not directory.exists():
                raise
            print(_interrupted(directory), file=sys.stderr)
            return 128 + signal.SIGINT
    rows = printing.run_rows(result, config)
    if not result.interrupted:
        found = printing.evaluation_rows(result.state, config, seed, options.eval_episodes)
        rows = found | rows
    printing.print_rows(rows)
    if result.interrupted:
        print(_interrupted(directory), file=sys.stderr)
        return 128 + result.interrupted
    if result.bad_update is not None:
        print(f"pgjax: {host_loop.not_finite(result.bad_update)}", file=sys.stderr)
    stopped = result.bad_update is not None and options.nan == "stop"
    return NOT_FINITE if stopped else 0


def _interrupted(directory: Path) -> str:
    return f"interrupted: saved what was done; pgjax resume {directory} goes on"


@contextmanager
def _observers(
    config: Config, options: argparse.Namespace, directory: Path
) -> Iterator[Callable[[host_loop.Progress], None]]:
    """What a run calls after each block."""
    with contextlib.ExitStack() as stack:
        observers = [stack.enter_context(printing.progress(config.num_updates))]
        if options.tensorboard:
            folder = directory / "tensorboard"
            observers.append(stack.enter_context(tensorboard.writer(folder, options.metrics_every)))

        def on_block(progress):
            for observe in observers:
                observe(progress)

        yield on_block


def evaluate(arguments: list[str]) -> int:
    """Evaluates the policy of a run folder or checkpoint."""
    options = parsers.evaluate().parse(arguments)
    _check_options(options)
    state, config = checkpoints.load_policy(options.run, env=options.env)
    memory_estimate.check_episodes("--eval-episodes", checked(config), options.eval_episodes)
    print(f"{config.env}, {int(state.num_updates)} updates, on {diagnosis.device_line()}")
    rows = printing.evaluation_rows(state, config, options.seed, options.eval_episodes)
    printing.print_rows(rows)
    return 0


def render(arguments: list[str]) -> int:
    """Draws episodes of a run's policy as a GIF."""
    options = parsers.render().parse(arguments)
    check_seed("--seed", options.seed)
    check_int("--episodes", options.episodes, 1, rendering.MAX_EPISODES)
    check_int("--max-steps", options.max_steps, 1)
    state, config = checkpoints.load_policy(options.run, env=options.env)
    output = options.output or options.run / "episodes.gif"
    returns = rendering.render(
        printing.evaluation_key(options.seed),
        state,
        config,
        output,
        options.episodes,
        options.deterministic,
        options.max_steps,
    )
    print(f"{config.env}, {int(state.num_updates)} updates")
    shown = ", ".join(f"{x:.5g}" for x in returns[:5]) + (", …" if len(returns) > 5 else "")
    printing.print_rows({"returns shown": shown, "picture": str(output)})
    return 0


def plot(arguments: list[str]) -> int:
    """Draws the learning curves of runs."""
    options = parsers.plot().parse(arguments)
    plots.check_format(options.output)
    records = [record for path in options.runs for record in folders.read_all(path)]
    found = plots.learning_curves(records, options.output, options.x, options.title)
    for path in options.runs:
        if sweep_folders.is_sweep(path) and not sweep_folders.is_done(path):
            print(checkpoints.undone(path))
    for record in records:
        if record.dropped:
            print(f"{record.path}: {record.dropped} lines of metrics.csv are not whole, left out")
    several = len({curve.environment for curve in found}) > 1
    for curve in found:
        for path in curve.repeated:
            print(f"{path}: the config and the seed of another of these runs, counted once")
        last = f"at the end {curve.middle[-1]:.5g}"
        if curve.low is not None and curve.high is not None:
            last += f" (95 %: {curve.low[-1]:.5g} to {curve.high[-1]:.5g})"
        seeds = f"{len(curve.seeds)} seed{'s' * (len(curve.seeds) > 1)}"
        name = ", ".join(filter(None, (several * curve.environment, curve.label))) or "runs"
        printing.print_rows({name: f"{seeds}, {last}"})
    printing.print_rows({"picture": str(options.output)})
    return 0


def sweep(arguments: list[str]) -> int:
    """Trains every setting of a grid with the same seeds."""
    options, make_config = flags.read(arguments, parsers.sweep())
    check_seed("--seed", options.seed)
    check_int("--num-seeds", options.num_seeds, 1)
    config = make_config()
    grid = flags.grid(options.grid, config)
    directory = options.directory or _new_directory("sweeps", config.env, options)
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
    )

    def on_start(number: int) -> None:
        where = diagnosis.device_line(mesh.size)
        print(f"{config.env}, {number} runs, on {where}", flush=True)

    return _swept(run, on_start, directory)


def _resume_sweep(options: argparse.Namespace, arguments: list[str]) -> int:
    given = [text.partition("=")[0] for text in arguments if text.startswith("-")]
    other = [flag for flag in given if flag not in _RESUMING_SWEEPS]
    if other:
        raise ValueError(
            f"{options.run} is a sweep's folder, and {other[0]} cannot change a sweep; "
            f"{', '.join(_RESUMING_SWEEPS)} can be given"
        )
    mesh = parallel.make_mesh(options.devices or sweeps.devices(options.run))
    run = functools.partial(
        sweeps.resume_sweep,
        options.run,
        mesh,
        env=options.env,
        checkpoint_seconds=options.checkpoint_seconds,
    )

    def on_start(number: int) -> None:
        print(f"sweep {options.run}, on {diagnosis.device_line(mesh.size)}", flush=True)

    return _swept(run, on_start, options.run)


def _swept(
    run: Callable[..., sweeps.Sweep], on_start: Callable[[int], None], directory: Path
) -> int:
    """A sweep with its results written and printed."""
    try:
        found = run(on_start=on_start)
    except host_loop.Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 128 + stopped.signal
    header, rows = printing.sweep_table(found)
    programs = f"{found.num_programs} program{'s' * (found.num_programs > 1)}"
    printing.write_sweep(directory, found, header, rows)
    printing.print_table(header, rows)
    printing.print_rows(
        {
            "running time": f"{found.run_seconds:.1f} s",
            "compile time": f"{found.compile_seconds:.1f} s, {programs}",
            "best seed's policy": str(directory / checkpoints.IN_RUN),
            "folder": str(directory),
        }
    )
    return 0


def envs(arguments: list[str]) -> int:
    """Lists every environment: spaces, time limit, the policy head it gets."""
    startup.parser_for("envs").parse(arguments)
    print(f"{'environment':26s}{'observation':22s}{'actions':13s}{'limit':>5s}  policy head")
    for name in interface.ids():
        try:
            environment = interface.bind(name)
        except ValueError:
            print(f"{name:26s}cannot be made here: it loads data from the network")
            continue
        observation, limit = spaces.text(environment.observation_space), str(environment.limit)
        actions, head = _actions(environment)
        print(f"{name:26s}{observation:22s}{actions:13s}{limit:>5s}  {head}")
    return 0


def doctor(arguments: list[str]) -> int:
    """Versions, devices, what is slow here and why."""
    startup.parser_for("doctor").parse(arguments)
    for line in diagnosis.report():
        print(line)
    return 0


def completion(arguments: list[str]) -> int:
    """Prints a script that completes commands and options in a shell."""
    options = parsers.completion().parse(arguments)
    print(shtab.complete(parsers.everything(), options.shell))
    return 0


def _check_options(options: argparse.Namespace) -> None:
    check_seed("--seed", getattr(options, "seed", 0))
    check_int("--eval-episodes", options.eval_episodes, 1)
    check_int("--metrics-every", getattr(options, "metrics_every", 1), 1)


def _new_directory(kind: str, env: str, options: argparse.Namespace) -> Path:
    if options.name is None:
        # With some random digits: many jobs start in the same second.
        time = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        return Path(kind) / f"{re.sub('[/?&]', '-', env)}-{options.seed}-{time}"
    if options.name in ("", ".", "..") or set(options.name) & set("/\\\0"):
        raise ValueError(
            f"--name must be the name of a folder in {kind}/, got {options.name!r}; --directory "
            "takes any path"
        )
    return Path(kind) / options.name


def _actions(environment: Environment) -> tuple[str, str]:
    """The action space and its distribution, in short."""
    try:
        head = heads.of(environment)
    except TypeError:
        return spaces.text(environment.action_space), "none"
    return str(head), head.family
