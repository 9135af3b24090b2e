"""What an environment on the host raises, in place of JAX's error about a callback."""

import collections
import contextlib
import logging
import re
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax

from pgjax.core.names import told
from pgjax.environments.host import contract

# JAX keeps an exception's text alone: these are looked up by theirs.
_RAISED: collections.deque["EnvironmentFailure"] = collections.deque(maxlen=8)
# The environments on the host that there are in this process.
HOSTS: weakref.WeakSet[Any] = weakref.WeakSet()
_LOGGER = logging.getLogger("jax._src.callback")


class EnvironmentFailure(RuntimeError):
    """An environment on the host raised an exception, which is the `__cause__`, or gave what cannot
    be: a reward that is not finite, an observation that is none of its space.

    The message has the environment, and the exception's type and message, in one line. An exception
    of any type counts, `SystemExit` too; only `KeyboardInterrupt` stays what it is.
    """


def of(name: str, error: BaseException) -> EnvironmentFailure:
    """The failure of an environment with this name, for a callback to raise from the error."""
    text = f": {error}" if isinstance(error, contract.FAULTS) else f" raised {told(error)}"
    failure = EnvironmentFailure(name + text)
    _RAISED.append(failure)
    return failure


def call(function: Callable[..., Any], *args: Any) -> Any:
    """The result of a compiled program, once an environment on the host can no longer fail in it.

    Raises:
      EnvironmentFailure: an environment raised an exception.
      KeyboardInterrupt: Ctrl-C while Python ran an environment.
    """
    with _named():
        result = function(*args)
        return jax.block_until_ready(result) if HOSTS else result


@contextlib.contextmanager
def _named() -> Iterator[None]:
    _LOGGER.addFilter(_is_of_others)
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        text = str(error)
        if re.search(r"^KeyboardInterrupt\b", text, re.MULTILINE):
            raise KeyboardInterrupt from error
        failure = next((failure for failure in _RAISED if str(failure) in text), None)
        if failure is None:
            raise
        _RAISED.remove(failure)
        raise failure from failure.__cause__
    finally:
        _LOGGER.removeFilter(_is_of_others)


def _is_of_others(record: logging.LogRecord) -> bool:
    """Whether a record is about anything but what is raised anyway, and needs no log."""
    raised = (EnvironmentFailure, KeyboardInterrupt)
    return not (record.exc_info and isinstance(record.exc_info[1], raised))
