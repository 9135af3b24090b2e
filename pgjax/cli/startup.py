"""Settings that come before any use of JAX's devices: cores, processes, the compilation cache.

JAX is imported by the functions that need it, so that a wrong command or flag does not wait for it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import typing
from pathlib import Path

from pgjax.core import compilation
from pgjax.core.names import unknown

if typing.TYPE_CHECKING:
    from jax.sharding import Mesh

COMMANDS = {
    "train": "train a policy, evaluate it, leave a run folder",
    "resume": "go on with a run or a sweep from its latest checkpoint",
    "evaluate": "evaluate the policy of a run folder, a checkpoint or the zoo",
    "zoo": "list the trained policies that come with pgjax, or print one's card",
    "list": "a table of run folders and sweeps: environment, steps, return, age",
    "compare": "the difference in return of two runs or sweeps, with its interval",
    "render": "draw episodes of a run's policy as a GIF",
    "export": "write a run's policy as another kind of program, with a card",
    "plot": "draw the learning curves of runs, seeds of one config together",
    "sweep": "train every setting of a grid with the same seeds",
    "tune": "search a config's settings, trials side by side, for the best return",
    "envs": "list environments and suites, the names of a suite, or what one environment is",
    "doctor": "versions, devices, what is slow here and why",
    "completion": "print a script that completes commands and options in a shell",
}
_ON_DEVICES = ("train", "resume", "sweep", "tune")
_MOST_DEVICES = 4096  # of one process
_MOST_SECONDS = 31 * 24 * 3600  # a month


class Finished(SystemExit):
    """A parser has printed what was asked for, and nothing is left to do."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are exceptions, for the caller to print in one line."""

    def exit(self, status: int = 0, message: str | None = None) -> typing.NoReturn:
        """Raises Finished, after `--help`."""
        raise Finished(status)

    def error(self, message: str) -> typing.NoReturn:
        """Raises ValueError."""
        raise ValueError(message)

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """`parse_args`, but the message about an unknown option names the nearest known one."""
        options, unparsed = self.parse_known_args(arguments)
        if unparsed and unparsed[0].startswith("-"):
            flag = unparsed[0].partition("=")[0]
            self.error(unknown(f"option {flag!r}", flag, flags_of(self), f"`{self.prog} --help`"))
        if unparsed:
            self.error(f"unexpected argument {unparsed[0]!r}; --help lists all options")
        return options


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """Every flag that a parser takes."""
    return [flag for action in parser._actions for flag in action.option_strings]


def integer(text: str) -> int:
    """An int, from "1000" or "1e3" alike; for `type=` of an option.

    Raises:
      argparse.ArgumentTypeError: no whole number.
    """
    for read in (int, float):
        try:
            if (number := read(text)) == int(number):
                return int(number)
        except (ValueError, OverflowError):
            continue
    raise argparse.ArgumentTypeError(f"expected a whole number, 1000 or 1e3, got {text!r}")


def numbers(text: str) -> tuple[float, ...]:
    """Numbers, from "0.8,1.25"; for `type=` of an option.

    Raises:
      argparse.ArgumentTypeError: no numbers.
    """
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers, 0.8,1.25, got {text!r}") from None


def seed(text: str) -> int:
    """An int, for `--seed`.

    Raises:
      argparse.ArgumentTypeError: no whole number; says how several seeds are given.
    """
    try:
        return integer(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(
            f"{error}; for several seeds: pgjax sweep --num-seeds N"
        ) from None


def parser_for(command: str) -> Parser:
    """A parser that has no options yet."""
    return Parser(prog=f"pgjax {command}", description=COMMANDS[command], allow_abbrev=False)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--devices`, the options of several processes, and the cache's."""
    parser.add_argument(
        "--devices",
        type=integer,
        metavar="N",
        help="divide the trajectories over so many devices of this process (default: all that "
        "they divide over evenly, 16 or more on each; on a CPU each core is one)",
    )
    group = parser.add_argument_group(
        "several processes",
        "One command for each, all alike but for the id. Under SLURM, Open MPI, Kubernetes or on "
        "a TPU slice --distributed alone will do.",
    )
    group.add_argument("--distributed", action="store_true", help="be one of several processes")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    group.add_argument("--num-processes", type=integer, metavar="N", help="how many there are")
    group.add_argument("--process-id", type=integer, metavar="I", help="which this is, from 0")
    group.add_argument(
        "--timeout", type=integer, default=60, help="seconds to wait for the others (default: 60)"
    )
    add_cache_option(parser)


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--compilation-cache` and `--no-compilation-cache`."""
    parser.add_argument(
        "--compilation-cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep compiled programs in $XDG_CACHE_HOME/pgjax or ~/.cache/pgjax; where that cannot "
        "be written, among temporary files (default: on)",
    )


def prepare(command: str, arguments: list[str]) -> None:
    """Carries out the options of `add_options`, before anything uses JAX's devices.

    Args:
      command: a key of `COMMANDS`.
      arguments: all of the command's; others than these options are ignored.

    Raises:
      ValueError: options out of range, or that need others.
      TimeoutError, ConnectionError: a process that does not appear or is given another number of
        processes, a port in use.
    """
    from pgjax.core import parallel, processes
    from pgjax.core.components import check_int

    parser = Parser(add_help=False, allow_abbrev=False)
    add_options(parser)
    options, _ = parser.parse_known_args(arguments)
    _use_cache(options.compilation_cache)
    if command not in _ON_DEVICES or {"-h", "--help"} & set(arguments):
        return
    if options.devices is not None:
        check_int("--devices", options.devices, 1, _MOST_DEVICES)
    check_int("--timeout", options.timeout, 1, _MOST_SECONDS)
    process_options = (options.coordinator, options.num_processes, options.process_id)
    if options.distributed:
        # The processes on one machine share its cores: one device each by default.
        parallel.use_cores(options.devices or 1)
        processes.start(*process_options, timeout=options.timeout)
    elif any(value is not None for value in process_options):
        raise ValueError("--coordinator, --num-processes and --process-id need --distributed")
    else:
        parallel.use_cores(options.devices)


def mesh(options: argparse.Namespace, config: typing.Any) -> Mesh:
    """The mesh of the devices that `--devices` gives; with `--distributed`, of all devices of all
    processes; else of as many as the trajectories divide over, of one if the environment runs on
    the host.

    Raises:
      ValueError: more devices than exist, trajectories that do not divide evenly.
    """
    from pgjax.core import parallel
    from pgjax.environments import interface

    number, sampler = options.devices, config.sampler
    if options.distributed:
        number = None
    elif number is None:
        on_host = interface.bind(config.env, config.env_params).on_host
        number = 1 if on_host else parallel.fitting(sampler.width)
    devices = parallel.make_mesh(number)
    flag = f"--sampler.{sampler.width_field.replace('_', '-')}"
    parallel.check_mesh(devices, flag, sampler.width)
    return devices


def _use_cache(enabled: bool) -> None:
    """Keeps compiled programs where they can be kept, unless the user does not want it."""
    import jax

    folder = compilation.cache_folder()
    if folder is not None and folder.parent == Path(tempfile.gettempdir()):
        # Matplotlib's default folder cannot be made either; without this it warns at each start.
        os.environ.setdefault("MPLCONFIGDIR", str(folder))
    if not enabled:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    with contextlib.suppress(ValueError):  # nothing can be written here
        compilation.cache_compilation()
