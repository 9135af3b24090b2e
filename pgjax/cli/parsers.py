"""The options of each command."""

import argparse
import math
from pathlib import Path

from pgjax.cli import startup
from pgjax.cli.startup import Parser, integer, seed


def train() -> Parser:
    """The parser of `pgjax train`, without the config's flags."""
    parser = startup.parser_for("train")
    _add_env(parser)
    _add_folder(parser, "runs")
    _add_target(parser)
    _add_loop_options(parser)
    parser.add_argument(
        "--metrics-every",
        type=integer,
        default=1,
        metavar="N",
        help="write every N-th update's metrics (default: 1)",
    )
    _add_seed(parser)
    _add_eval_episodes(parser)
    _add_start(parser)
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the config in full, as --config takes it, and stop",
    )
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="DIR",
        help="compile the program, time its parts and a few updates, print them, write a trace of "
        "an update to DIR, and stop",
    )
    startup.add_options(parser)
    return parser


def resume() -> Parser:
    """The parser of `pgjax resume`."""
    parser = startup.parser_for("resume")
    _add_run(parser, "a run folder, a sweep's or a tuning's")
    parser.epilog = (
        "Flags of the config's floats, and --num-updates, change the run from here on; config.json "
        "keeps what changed, and when. Sizes, names and switches cannot change: train --from RUN "
        "starts another run from what this one has learned."
    )
    _add_target(parser, None, "; inf: none (default: as the run has it)")
    _add_loop_options(parser, resuming=True)
    parser.add_argument(
        "--metrics-every",
        type=integer,
        metavar="N",
        help="write every N-th update's metrics (default: as the run has it)",
    )
    parser.add_argument(
        "--discard-metrics",
        action="store_true",
        help="set a damaged metrics.csv aside and begin another",
    )
    _add_eval_episodes(parser, resuming=True)
    startup.add_options(parser)
    return parser


def evaluate() -> Parser:
    """The parser of `pgjax evaluate`."""
    parser = startup.parser_for("evaluate")
    _add_run(parser, _POLICY)
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the policy's mode only (default: sampled actions, then the mode)",
    )
    _add_json(parser)
    parser.add_argument(
        "--episodes-csv", type=Path, metavar="FILE", help="write each episode's return and length"
    )
    _add_seed(parser)
    _add_eval_episodes(parser)
    startup.add_cache_option(parser)
    return parser


def list_runs() -> Parser:
    """The parser of `pgjax list`."""
    parser = startup.parser_for("list")
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        type=Path,
        nargs="?",
        default=Path("runs"),
        help="a folder of run folders and sweeps, at any depth (default: runs)",
    )
    _add_json(parser)
    return parser


def compare() -> Parser:
    """The parser of `pgjax compare`."""
    parser = startup.parser_for("compare")
    for name in ("a", "b"):
        parser.add_argument(
            name,
            metavar=name.upper(),
            type=Path,
            help="a run folder, a sweep's, or a folder of runs; of several configs the one with "
            "the best mean return",
        )
    parser.add_argument(
        "--updates",
        type=integer,
        default=5,
        metavar="N",
        help="a run's return is the mean over its last N updates (default: 5)",
    )
    _add_json(parser)
    return parser


def render() -> Parser:
    """The parser of `pgjax render`."""
    parser = startup.parser_for("render")
    _add_run(parser, _POLICY)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="a .gif (default: RUN/episodes.gif; of zoo/NAME, NAME-episodes.gif)",
    )
    parser.add_argument(
        "--episodes", type=integer, default=1, metavar="N", help="side by side (default: 1)"
    )
    parser.add_argument("--deterministic", action="store_true", help="the policy's mode")
    parser.add_argument(
        "--max-steps", type=integer, default=1000, metavar="N", help="of an episode (default: 1000)"
    )
    _add_seed(parser)
    startup.add_cache_option(parser)
    return parser


def export() -> Parser:
    """The parser of `pgjax export`."""
    parser = startup.parser_for("export")
    _add_run(parser, _POLICY)
    parser.add_argument(
        "--format",
        required=True,
        metavar="FORMAT",
        help="numpy (a module that needs NumPy alone), onnx, or stablehlo (a program of JAX)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="the folder to make (default: RUN/FORMAT; of zoo/NAME, NAME-FORMAT)",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the policy's mode; without it samples, from noise that is an input",
    )
    _add_seed(parser)
    _add_eval_episodes(parser)
    startup.add_cache_option(parser)
    return parser


def plot() -> Parser:
    """The parser of `pgjax plot`."""
    parser = startup.parser_for("plot")
    parser.add_argument(
        "runs", metavar="RUN", type=Path, nargs="+", help="run folders, or a sweep's"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        default=Path("learning_curves.png"),
        help="a .png or .svg (default: learning_curves.png)",
    )
    parser.add_argument(
        "--x",
        default="env_steps",
        metavar="AXIS",
        help="env_steps, seconds or update (default: env_steps)",
    )
    parser.add_argument(
        "--y",
        nargs="+",
        default=["episode_return"],
        metavar="METRIC",
        help="columns of metrics.csv, a panel each (default: episode_return)",
    )
    parser.add_argument("--title", default="", help="a line above all (default: none)")
    return parser


def sweep() -> Parser:
    """The parser of `pgjax sweep`, without the config's flags."""
    parser = startup.parser_for("sweep")
    _add_env(parser)
    parser.add_argument(
        "--grid",
        nargs="+",
        action="extend",
        required=True,
        metavar="PATH=A,B",
        help="values of a setting, for instance optimizer.learning_rate=1e-3,1e-2",
    )
    parser.add_argument(
        "--num-seeds", type=integer, default=8, metavar="N", help="of each setting (default: 8)"
    )
    _add_folder(parser, "sweeps")
    _add_target(parser)
    _add_seed(parser)
    _add_start(parser)
    parser.add_argument(
        "--devices", type=integer, metavar="N", help="divide the runs over so many (default: all)"
    )
    _add_checkpoint_seconds(parser)
    startup.add_cache_option(parser)
    return parser


def tune() -> Parser:
    """The parser of `pgjax tune`, without the config's flags."""
    parser = startup.parser_for("tune")
    _add_env(parser)
    parser.add_argument(
        "--space",
        nargs="+",
        action="extend",
        metavar="PATH=RANGE",
        help="what to search: optimizer.learning_rate=LogUniform:1e-4:1e-2, "
        "estimator.discount=Uniform:0.9:1, sampler.length=8,16 (default: the ranges of the "
        "config's components)",
    )
    _add_numbers(
        parser,
        {
            "--trials": (64, "settings to try"),
            "--budget": (None, "environment steps of each seed of a full trial; as --total-steps"),
            "--num-seeds": (None, "of each trial (default: 3; with pbt, 1)"),
        },
    )
    _add_schedulers(parser)
    _add_folder(parser, "tunings")
    _add_seed(parser)
    _add_start(parser)
    parser.add_argument(
        "--devices", type=integer, metavar="N", help="divide the runs over so many (default: all)"
    )
    startup.add_cache_option(parser)
    return parser


def _add_schedulers(parser: Parser) -> None:
    """Adds the choice of a scheduler, and the fields of each, which are None if not given."""
    parser.add_argument(
        "--scheduler",
        default="halving",
        metavar="NAME",
        help="halving: the best setting; pbt: a population whose worst members copy the best, and "
        "change their floats while they train (default: halving)",
    )
    parser.add_argument(
        "--search", metavar="NAME", help="tpe or random (default: tpe); of halving, as the next 3"
    )
    _add_numbers(
        parser,
        {
            "--batch": (None, "trials side by side (default: a quarter of them)"),
            "--reduction": (
                None,
                "of N trials that have come as far, one goes on (default: 3)",
            ),
            "--halvings": (None, "how often that is decided in a trial's course (default: 2)"),
            "--interval": (
                None,
                "updates after which members copy and change (default: a twentieth of all); of "
                "pbt, as the next 3",
            ),
        },
    )
    _add_population(parser)


def _add_population(parser: Parser) -> None:
    """Adds the fields of `PopulationBased` that are no integers."""
    parser.add_argument(
        "--fraction",
        type=float,
        metavar="X",
        help="how many copy, and how many are copied, from 0 to 0.5 (default: 0.25)",
    )
    parser.add_argument(
        "--factors",
        type=startup.numbers,
        metavar="X,…",
        help="a float is multiplied by one of them after a copy (default: 0.8,1.25)",
    )
    parser.add_argument(
        "--resample",
        type=float,
        metavar="P",
        help="the probability that it is drawn anew from its range instead (default: 0.1)",
    )


def _add_numbers(parser: Parser, options: dict[str, tuple[int | None, str]]) -> None:
    """Adds options that take a whole number: flag -> default and text."""
    for flag, (default, text) in options.items():
        shown = "" if default is None else f" (default: {default})"
        parser.add_argument(flag, type=integer, default=default, metavar="N", help=text + shown)


def envs() -> Parser:
    """The parser of `pgjax envs`."""
    parser = startup.parser_for("envs")
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="a suite, whose names to list, or an environment to describe (default: list all)",
    )
    _add_import(parser)
    return parser


def zoo() -> Parser:
    """The parser of `pgjax zoo`."""
    parser = startup.parser_for("zoo")
    parser.add_argument(
        "policy",
        metavar="NAME",
        nargs="?",
        help="the policy whose card to print, zoo/CartPole-v1 or CartPole-v1 (default: list all)",
    )
    _add_json(parser)
    return parser


def completion() -> Parser:
    """The parser of `pgjax completion`."""
    parser = startup.parser_for("completion")
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    return parser


_POLICY = "a run folder, a checkpoint, or zoo/NAME (`pgjax zoo` lists them)"
SHELLS = ("bash", "zsh", "tcsh")
CONFIGURED = ("train", "sweep", "tune")  # the commands that take a config's flags


def of_command(name: str) -> Parser:
    """A command's parser, without a config's flags."""
    make = {
        "train": train,
        "resume": resume,
        "evaluate": evaluate,
        "zoo": zoo,
        "list": list_runs,
        "compare": compare,
        "render": render,
        "export": export,
        "plot": plot,
        "sweep": sweep,
        "tune": tune,
        "envs": envs,
        "completion": completion,
    }.get(name)
    return startup.parser_for(name) if make is None else make()


def everything() -> argparse.ArgumentParser:
    """One parser of all commands, for shells to complete."""
    from pgjax.cli import flags
    from pgjax.environments import interface
    from pgjax.environments.suites import table

    combined = argparse.ArgumentParser(prog="pgjax")
    commands = combined.add_subparsers()
    for name, text in startup.COMMANDS.items():
        parser = of_command(name)
        if name in CONFIGURED:
            flags.add_flags(parser)
        if name == "resume":
            flags.add_settings(parser, resuming=True)
        for action in parser._actions:
            if action.dest == "env" or (name, action.dest) == ("envs", "name"):
                action.choices = [*interface.ids(), *table.SUITES]
        commands.add_parser(name, parents=[parser], add_help=False, help=text)
    return combined


def _add_env(parser: Parser) -> None:
    parser.add_argument(
        "env",
        metavar="ENV",
        nargs="?",
        help="an id: gymnax's (`pgjax envs` lists them), SUITE/NAME of another suite "
        "(`pgjax envs SUITE`), or MODULE:FACTORY of your own (default: that of --config)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="a .toml or .json with fields of the config, a run's config.json, or a tuning's "
        "best.json; flags change it",
    )
    parser.add_argument(
        "--wrap",
        action="append",
        default=[],
        metavar="NAME:OPTION=VALUE,…",
        help="a wrapper around the environment: FrameStack:frames=4, StickyActions, "
        "Randomized:gravity=Uniform:5:15, …; the first one is innermost",
    )
    _add_import(parser)


def _add_run(parser: Parser, text: str) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help=text)
    parser.add_argument(
        "--env",
        metavar="MODULE:FACTORY",
        help="import this for the run's environment, where that is your own; without it no code "
        "that a folder names is run",
    )
    _add_import(parser)


def _add_import(parser: Parser) -> None:
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module of your own, which may register ids with gymnax; what it defines may "
        "be a folder's environment",
    )


def _add_folder(parser: Parser, parent: str) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--directory", type=Path, help=f"the folder to make (default: {parent}/ENV-seed-time)"
    )
    group.add_argument("--name", help=f"the folder is {parent}/NAME")


def _add_start(parser: Parser) -> None:
    parser.add_argument(
        "--from",
        dest="start_from",
        type=Path,
        metavar="RUN",
        help="start from what a run, a checkpoint or a policy of the zoo has learned (default: "
        "fresh parameters)",
    )
    parser.add_argument(
        "--from-parts",
        dest="parts",
        type=lambda text: text.split(","),
        metavar="PART,…",
        help="what to start from: policy, critic, normalizer, optimizer (default: the first three)",
    )


def _add_target(parser: Parser, default: float | None = math.inf, text: str = "") -> None:
    parser.add_argument(
        "--stop-at-return",
        type=float,
        default=default,
        metavar="R",
        help="end when the mean return of an update's episodes reaches it" + text,
    )


def _add_checkpoint_seconds(parser: Parser) -> None:
    parser.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="between two checkpoints (default: 60)",
    )


def _add_loop_options(parser: Parser, resuming: bool = False) -> None:
    _add_checkpoint_seconds(parser)
    parser.add_argument(
        "--nan",
        default="stop",
        metavar="WHAT",
        help="at a number that is not finite: stop, skip the update, or raise (default: stop)",
    )
    parser.add_argument(
        "--logger",
        action="extend",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAME,…",
        help="also write to tensorboard, wandb (offline) or mlflow, in the run folder",
    )
    parser.add_argument(
        "--tensorboard",
        action="append_const",
        const="tensorboard",
        dest="logger",
        help="the same as --logger tensorboard",
    )
    begun = "as the run has it" if resuming else None
    parser.add_argument(
        "--evaluate-every",
        type=integer,
        default=None if resuming else 0,
        metavar="N",
        help="evaluate after every N updates, write evaluation.csv, keep the best policy in "
        f"checkpoint_best (default: {begun or '0, at the end only'})",
    )
    parser.add_argument(
        "--keep",
        type=integer,
        default=None if resuming else 1,
        metavar="N",
        help=f"keep copies of so many latest checkpoints (default: {begun or '1, no copies'})",
    )


def _add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")


def _add_seed(parser: Parser) -> None:
    parser.add_argument("--seed", type=seed, default=0, help="of all random numbers (default: 0)")


def _add_eval_episodes(parser: Parser, resuming: bool = False) -> None:
    parser.add_argument(
        "--eval-episodes",
        type=integer,
        default=None if resuming else 128,
        help=f"episodes in an evaluation (default: {'as the run has it' if resuming else 128})",
    )
