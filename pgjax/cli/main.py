"""The command line: `pgjax COMMAND`; `startup.COMMANDS` lists the commands."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

import pgjax
from pgjax.cli import flag_names, parsers, startup
from pgjax.core.names import told, unknown
from pgjax.runs import schema

_INTERRUPTED = (130, 143)  # exit codes after Ctrl-C and SIGTERM
_PATIENCE = 2.0  # seconds


def entry() -> NoReturn:
    """`main` as a process of its own."""
    code = 130
    try:
        with _insistent_interrupts():
            code = main()
    except KeyboardInterrupt:  # while importing
        print("pgjax: interrupted", file=sys.stderr)
    if code in _INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        # An orderly exit would end Python while threads of the interrupted work still run.
        os._exit(code)
    _leave_at_interrupt(code)
    sys.exit(code)


def _leave_at_interrupt(code: int) -> None:
    """Lets Ctrl-C end the process with its exit code: what is left is to close environments on the
    host, which may take long."""

    def leave(number, frame):
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code)

    with contextlib.suppress(ValueError):  # not the main thread
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, leave)


@contextlib.contextmanager
def _insistent_interrupts() -> Iterator[None]:
    """Repeats Ctrl-C after two seconds without effect: Python drops exceptions that are raised in
    JAX's callbacks from the garbage collector."""
    if not hasattr(signal, "setitimer") or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return

    def interrupt(number, frame):
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGALRM, lambda number, frame: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command.

    Returns:
      The exit code: 0; 1 for an export that differs from its original or an environment on the
      host that raised an exception, 2 for bad input, 3 for a process that is lost, missing or
      counts differently, 4 where a number was not finite, 130 after Ctrl-C, 143 after SIGTERM.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments in (["--version"], ["-V"], ["version"]):
        print(f"pgjax {pgjax.__version__}")
        return 0
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:12s}{text}" for name, text in startup.COMMANDS.items())
        print(f"usage: pgjax COMMAND [--help | options]; pgjax --version\n\n{lines}")
        return 0 if arguments else 2
    try:
        _check_words(*arguments)
    except ValueError as error:
        print(f"pgjax: {error}", file=sys.stderr)
        return 2
    return _run(*arguments)


def _check_words(command: str, *arguments: str) -> None:
    """Refuses a wrong command or flag before JAX is imported, which takes seconds.

    Raises:
      ValueError: an unknown command or flag; the message names the nearest that exists.
    """
    if command not in startup.COMMANDS:
        raise ValueError(unknown(f"command {command!r}", command, startup.COMMANDS))
    options = startup.flags_of(parsers.of_command(command))
    if command in parsers.CONFIGURED:
        options += flag_names.config_flags()
    if command == "resume":
        options += flag_names.changing_flags()
    flag_names.check(command, arguments, options)


def _run(command: str, *arguments: str) -> int:
    import jax

    from pgjax.core import distribution, processes
    from pgjax.environments.host.failure import EnvironmentFailure

    try:
        startup.prepare(command, list(arguments))
        # Imported here: gymnax starts JAX's devices, which `prepare` must have configured before.
        from pgjax.cli import commands

        # A function named `list` would hide Python's.
        name = "list_runs" if command == "list" else command
        return getattr(commands, name)(list(arguments))
    except BrokenPipeError:
        # The reader, `head` for instance, has closed the pipe; Python must not flush to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (TimeoutError, ConnectionError) as error:
        return _fail(str(error), 3)
    except distribution.MissingExtra as error:
        return _fail(str(error), 2)
    except (ValueError, TypeError, OSError, jax.errors.JaxRuntimeError) as error:
        if processes.is_loss(error):
            return _fail(f"{processes.loss_message()} ({str(error).splitlines()[0]})", 3)
        if isinstance(error, jax.errors.JaxRuntimeError):
            raise
        return _fail(" ".join(str(error).split()), 2)
    except EnvironmentFailure as error:
        return _fail(str(error), 1)
    except FloatingPointError as error:
        return _fail(str(error), 4)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except startup.Finished:
        raise
    except SystemExit as error:  # a component of the user's own, while it is traced
        return _fail(f"code that pgjax called would end the program: {told(error)}", 2)


def _fail(message: str, code: int) -> int:
    from pgjax.core import processes

    # Control characters from a file or an object must not reach the terminal.
    print(f"pgjax: {schema.printable(message)}", file=sys.stderr, flush=True)
    processes.leave(code)
    return code


if __name__ == "__main__":
    entry()
