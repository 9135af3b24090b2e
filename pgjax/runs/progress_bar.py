"""The progress of a run for its reader: a bar on a terminal or in a notebook, else a few lines."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as TerminalBar

from pgjax.runs.progress import Progress

_LINES_WITHOUT_TERMINAL = 10
_PATIENCE_SECONDS = 30.0

OnBlock = Callable[[Progress], Any]


@contextmanager
def beside(on_block: OnBlock | None, total: int) -> Iterator[OnBlock]:
    """Yields a function that shows each block's progress, then gives what `on_block` gives.

    Args:
      on_block: as for `run`.
      total: the run's number of updates.
    """
    with displayed(total) as show:

        def both(block: Progress) -> Any:
            show(block)
            return None if on_block is None else on_block(block)

        yield both


def displayed(total: int) -> contextlib.AbstractContextManager[OnBlock]:
    """Yields a function that shows each block's progress: a live bar on a terminal or in a
    notebook, a few plain lines elsewhere."""
    console = Console()
    if console.is_jupyter:
        return _notebook(total)
    return _terminal(total, console) if console.is_terminal else _lines(total)


@contextmanager
def _terminal(total: int, console: Console) -> Iterator[OnBlock]:
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("return {task.fields[value]:>9}  {task.fields[speed]:>7} steps/s"),
        TimeRemainingColumn(compact=True),
    )
    with TerminalBar(*columns, console=console) as bar:
        task = bar.add_task("", total=total, value="compiling", speed="")
        yield lambda block: bar.update(
            task, completed=block.num_updates, value=_last_return(block), speed=_speed(block)
        )


class _NotebookBar:
    """A bar of HTML with a line of text, for IPython's `display`."""

    def __init__(self, done: int, total: int, text: str) -> None:
        self.done, self.total, self.text = done, total, text

    def __repr__(self) -> str:
        return f"{self.done}/{self.total} updates, {self.text}"

    def _repr_html_(self) -> str:
        return f'<progress value="{self.done}" max="{self.total}"></progress> {self}'


@contextmanager
def _notebook(total: int) -> Iterator[OnBlock]:
    """Shows a bar by IPython's own display: rich's needs ipywidgets in a notebook."""
    from IPython.display import display  # a notebook's kernel has it

    handle: Any = display(_NotebookBar(0, total, "compiling"), display_id=True)

    def show(block: Progress) -> None:
        text = f"return {_last_return(block)}, {_speed(block)} steps/s"
        handle.update(_NotebookBar(block.num_updates, total, text))

    yield show


@contextmanager
def _lines(total: int) -> Iterator[OnBlock]:
    with _waiting_lines() as note_block:
        show = _plain_lines(total)
        yield lambda block: (note_block(block), show(block))


@contextmanager
def _waiting_lines() -> Iterator[Callable[[Progress], None]]:
    """Prints a line whenever no block has ended for a while; yields the function to call with each
    block."""
    ended, updates, started = threading.Event(), queue.Queue(), time.monotonic()

    def watch():
        activity = "compiling, or in the first update"
        while not ended.is_set():
            try:
                activity = f"update {updates.get(timeout=_PATIENCE_SECONDS) + 1} takes long"
            except queue.Empty:
                seconds = time.monotonic() - started
                print(f"  {activity}: {seconds:.0f} s since the start", flush=True)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda block: updates.put(block.num_updates)
    finally:
        ended.set()
        updates.put(0)
        watcher.join()


def _plain_lines(total: int) -> Callable[[Progress], None]:
    """A function that prints about ten lines over the run, one after each so many updates."""
    interval = max(1, total // _LINES_WITHOUT_TERMINAL)
    next_line = 0

    def show(block: Progress) -> None:
        nonlocal next_line
        if block.num_updates >= next_line or block.num_updates == total:
            next_line = block.num_updates + interval
            print(
                f"  update {block.num_updates}/{total}  return {_last_return(block)}  "
                f"{_speed(block)} steps/s",
                flush=True,
            )

    return show


def _last_return(block: Progress) -> str:
    return f"{block.metrics.episode_return[-1]:.2f}"


def _speed(block: Progress) -> str:
    speed = block.env_steps / block.run_seconds
    return f"{speed / 1e6:.2f} M" if speed >= 1e6 else f"{speed / 1e3:.0f} k"
