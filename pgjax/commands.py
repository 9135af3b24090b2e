"""The commands: arguments in, an exit code out."""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pgjax import (
    checkpoints,
    diagnosis,
    distributed,
    environments,
    evaluation,
    flags,
    policies,
    runs,
    startup,
)
from pgjax.components import check_int
from pgjax.config import Config, checked
from pgjax.environments import Environment, spaces
from pgjax.startup import Parser
from pgjax.types import TrainState

_LINES_WITHOUT_TERMINAL = 10
# Far from the small numbers that `jax.random.split` of the same seed's key is made of.
_EVALUATION = 0x5EED


def train(arguments: list[str]) -> int:
    """Trains a policy, evaluates it, leaves a run folder."""
    options, make_config = flags.read(arguments, _train_parser())
    _check_options(options)
    config = make_config()
    checked(config)
    mesh = startup.mesh(options, config.sampler)
    directory = options.directory or _new_directory(config, options.seed)
    if not distributed.is_first():
        runs.run(config, options.seed, directory, None, mesh, options.stop_at_return)
        return 0
    print(f"{config.env}, seed {options.seed}, on {diagnosis.device_line(mesh.size)}")
    with _progress(config.num_updates) as show:
        result = runs.run(config, options.seed, directory, show, mesh, options.stop_at_return)
    rows = _run_rows(result, config)
    if not result.interrupted:
        rows = _evaluation_rows(result.state, config, options) | rows
    _print_rows(rows)
    if result.interrupted:
        print("interrupted: saved what was done", file=sys.stderr)
    return 130 if result.interrupted else 0


def evaluate(arguments: list[str]) -> int:
    """Evaluates the policy of a run folder or checkpoint."""
    parser = startup.parser_for("evaluate")
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder or a checkpoint")
    _add_options(parser)
    startup.add_cache_option(parser)
    options = parser.parse(arguments)
    _check_options(options)
    state, config = checkpoints.load(options.run)
    print(f"{config.env}, {int(state.num_updates)} updates, on {diagnosis.device_line()}")
    _print_rows(_evaluation_rows(state, config, options))
    return 0


def envs(arguments: list[str]) -> int:
    """Lists every environment: spaces, time limit, the policy head it gets."""
    startup.parser_for("envs").parse(arguments)
    print(f"{'environment':26s}{'observation':22s}{'actions':13s}{'limit':>5s}  policy head")
    for name in environments.ids():
        try:
            environment = environments.bind(name)
        except ValueError:
            print(f"{name:26s}cannot be made here: it loads data from the network")
            continue
        observation = _space(environment.observation_space)
        actions = _space(environment.action_space).removesuffix(" float32")
        limit, head = str(environment.limit), _head(environment)
        print(f"{name:26s}{observation:22s}{actions:13s}{limit:>5s}  {head}")
    return 0


def doctor(arguments: list[str]) -> int:
    """Versions, devices, what is slow here and why."""
    startup.parser_for("doctor").parse(arguments)
    for line in diagnosis.report():
        print(line)
    return 0


def _train_parser() -> Parser:
    parser = startup.parser_for("train")
    parser.add_argument("env", metavar="ENV", help="a gymnax id; `pgjax envs` lists them")
    parser.add_argument(
        "--directory", type=Path, help="the run folder (default: runs/ENV-seed-time)"
    )
    parser.add_argument(
        "--stop-at-return",
        type=float,
        default=math.inf,
        metavar="R",
        help="end when the mean return of an update's episodes reaches it",
    )
    _add_options(parser)
    startup.add_options(parser)
    return parser


def _add_options(parser: Parser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument(
        "--eval-episodes", type=int, default=128, help="episodes in an evaluation (default: 128)"
    )


def _check_options(options: argparse.Namespace) -> None:
    check_int("--seed", options.seed, 0)
    check_int("--eval-episodes", options.eval_episodes, 1)


def _new_directory(config: Config, seed: int) -> Path:
    return Path("runs") / f"{config.env}-{seed}-{datetime.now():%Y%m%d-%H%M%S}"


def _run_rows(result: runs.Run, config: Config) -> dict[str, str]:
    steps, seconds = int(result.metrics.env_steps[-1]), result.run_seconds
    rows = {}
    if result.solved:
        rows["stopped at return"] = f"{result.metrics.episode_return[-1]:.2f}"
    return rows | {
        "updates": f"{len(result.metrics.env_steps)} of {config.num_updates}",
        "environment steps": f"{steps:,}",
        "running time": f"{seconds:.2f} s ({steps / seconds:,.0f} steps/s)",
        "compile time": f"{result.compile_seconds:.2f} s",
        "run folder": str(result.directory),
    }


def _evaluation_rows(
    state: TrainState, config: Config, options: argparse.Namespace
) -> dict[str, str]:
    key = jax.random.fold_in(jax.random.key(options.seed), _EVALUATION)
    rows = {}
    for kind, deterministic in (("stochastic", False), ("deterministic", True)):
        result = evaluation.evaluate(key, state, config, options.eval_episodes, deterministic)
        low, high = map(float, result.interval)
        rows[f"return, {kind}"] = (
            f"{float(result.mean):.2f}  (95 % interval {low:.2f} to {high:.2f})"
        )
    return rows | {"episodes evaluated": f"{options.eval_episodes} each"}


def _print_rows(rows: dict[str, str]) -> None:
    for name, text in rows.items():
        print(f"  {name:22s}{text}")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[runs.Progress], None]]:
    """What to call after each block: a live bar on a terminal, a few plain lines elsewhere."""
    console = Console()
    if not console.is_terminal:
        yield _plain_lines(total)
        return
    columns = (
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("return {task.fields[value]:>9}  {task.fields[speed]:>7} steps/s"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=total, value="compiling", speed="")
        yield lambda block: bar.update(
            task, completed=block.num_updates, value=_last_return(block), speed=_speed(block)
        )


def _plain_lines(total: int) -> Callable[[runs.Progress], None]:
    every, due = max(1, total // _LINES_WITHOUT_TERMINAL), [0]

    def show(block: runs.Progress) -> None:
        if block.num_updates >= due[0] or block.num_updates == total:
            due[0] = block.num_updates + every
            print(
                f"  update {block.num_updates}/{total}  return {_last_return(block)}  "
                f"{_speed(block)} steps/s",
                flush=True,
            )

    return show


def _last_return(block: runs.Progress) -> str:
    return f"{block.metrics.episode_return[-1]:.2f}"


def _speed(block: runs.Progress) -> str:
    speed = block.metrics.env_steps[-1] / block.run_seconds
    return f"{speed / 1e6:.2f} M" if speed >= 1e6 else f"{speed / 1e3:.0f} k"


def _space(space) -> str:
    if isinstance(space, spaces.Discrete):
        return f"Discrete({space.n})"
    if isinstance(space, spaces.Box):
        return f"Box({','.join(map(str, space.shape))}) {jax.numpy.dtype(space.dtype).name}"
    return type(space).__name__


def _head(environment: Environment) -> str:
    try:
        return policies.head_name(environment)
    except TypeError:
        return "none"
