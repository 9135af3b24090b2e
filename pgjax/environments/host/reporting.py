"""Exceptions of environments in a worker process, on their way to the process that trains.

Imports no JAX. Gymnasium's own way loses an exception's traceback, and waits without end for one
that cannot be pickled.
"""

import traceback
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import gymnasium

from pgjax.environments.host.bundle import Bundle

_REPORT = "report"
_loads = ForkingPickler.loads  # pyright: ignore[reportAttributeAccessIssue]


class Reporting(gymnasium.Wrapper):
    """A bundle whose exceptions are in the info, beside blank observations."""

    env: Bundle

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The bundle's reset."""
        return self._reported(lambda: self.env.reset(options=options), ())

    def step(self, action: Any) -> Any:
        """The bundle's step."""
        return self._reported(lambda: self.env.step(action), (0.0, False, False))

    def _reported(self, call: Callable[[], Any], rest: tuple) -> Any:
        try:
            return call()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the environment's own code may raise any
            return self.env.blank(), *rest, {_REPORT: _report(error)}


def reporting(make: Callable[[], Bundle]) -> gymnasium.Env:
    """What a function makes, reporting its exceptions."""
    return Reporting(make())


def raise_reported(info: dict[str, Any]) -> None:
    """Raises the first exception that a worker has reported, its traceback as a note."""
    report = next((report for report in info.get(_REPORT, ()) if report is not None), None)
    if report is not None:
        raise report


def _report(error: BaseException) -> BaseException:
    """An exception or, where the pipe between the processes cannot carry it, its text."""
    lines = "".join(traceback.format_exception(error))
    error.add_note(lines)
    try:
        _loads(ForkingPickler.dumps(error))
    except Exception:
        substitute = RuntimeError(f"{type(error).__name__}: {error}")
        substitute.add_note(lines)
        return substitute
    return error
