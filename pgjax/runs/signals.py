"""Ctrl-C and SIGTERM: noted while updates are in flight, so that these are finished and saved."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


class Interrupted(KeyboardInterrupt):
    """Raised after Ctrl-C or SIGTERM, once finished updates are saved, if there is a folder.

    Attributes:
      signal: SIGINT or SIGTERM.
    """

    def __init__(self, directory: str | os.PathLike | None, signal: int) -> None:
        super().__init__("interrupted" if directory is None else interrupted_text(directory))
        self.signal = signal


def interrupted_text(directory: str | os.PathLike) -> str:
    """The message about an interrupted run or sweep that has a folder."""
    return f"interrupted: saved what was done; pgjax resume {directory} goes on"


class Signals:
    """The signals that a process received.

    Attributes:
      caught: the first one's number; 0: none.
    """

    caught = 0


@contextlib.contextmanager
def noted_signals() -> Iterator[Signals]:
    """Notes the first Ctrl-C or SIGTERM, so that a block in flight is finished and kept. A second
    one ends the process at once."""
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Jobs in the background are started to ignore signals; these stay ignored.
    handlers = {n: handler for n, handler in handlers.items() if handler is not signal.SIG_IGN}

    def note(number, frame):
        signals.caught = number
        signal.signal(number, handlers[number])

    for number in handlers:
        signal.signal(number, note)
    try:
        yield signals
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
