"""The contract of loggers: observers of a run that write its numbers elsewhere."""

import abc
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pgjax.core import distribution
from pgjax.core.components import check_int
from pgjax.runs import config_json
from pgjax.runs.progress import Progress
from pgjax.training.config import Config


class Logger(abc.ABC):
    """An observer of a run that writes metrics and evaluations against environment steps.

    `with TensorBoard("runs/a") as log: pgjax.run(config, directory="runs/a", on_block=log)`. One of
    your own has three methods: `open`, `log`, `close`.

    Attributes:
      project: the module that it needs, imported before the run; "": none.
      extra: pgjax's extra that installs it.
      feature: what it writes, in the plural, for the message where the extra is missing.
      directory: the run folder. It may not exist before the first block.
      config: of the run, as JSON types; empty if none was given.
      interval: the metrics of every so many updates are written.
    """

    project: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    feature: ClassVar[str] = ""

    def __init__(
        self, directory: str | os.PathLike, config: Config | None = None, interval: int = 1
    ) -> None:
        check_int("interval", interval, 1)
        self.directory, self.interval = Path(directory), interval
        self.config = {} if config is None else config_json.to_dict(config)
        self._is_open = False
        try:
            self.imported: Any = importlib.import_module(self.project) if self.project else None
        except ImportError as error:
            message = distribution.missing(self.feature, self.extra, error)
            raise distribution.MissingExtra(message) from None

    @abc.abstractmethod
    def open(self) -> None:
        """Begins to write; called before the first `log`, once the run folder exists."""

    @abc.abstractmethod
    def log(self, step: int, values: dict[str, float]) -> None:
        """Writes numbers.

        Args:
          step: environment steps taken so far.
          values: finite numbers by name: metrics of an update, or "evaluation/return" with
            "evaluation/low" and "evaluation/high".
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Writes what is left; called at the end if `open` was."""

    def __call__(self, progress: Progress) -> None:
        """Writes a block's metrics, and its evaluation if it has one: for `run`'s `on_block`."""
        if not self._is_open:
            self.open()
            self._is_open = True
        for step, values in _rows(progress, self.interval):
            self.log(step, values)

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._is_open:
            self._is_open = False
            self.close()


def _rows(progress: Progress, interval: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Environment steps and finite numbers of a block's updates, then of its evaluation."""
    columns = config_json.columns(progress.metrics)
    steps = columns.pop("env_steps")
    first = progress.num_updates - len(steps) + 1
    for row, step in enumerate(steps):
        if (first + row) % interval == 0:
            values = {name: float(column[row]) for name, column in columns.items()}
            # NaN: no episode ended.
            yield int(step), {name: x for name, x in values.items() if np.isfinite(x)}
    if progress.evaluation is not None:
        low, high = map(float, progress.evaluation.interval)
        values = {"return": float(progress.evaluation.mean), "low": low, "high": high}
        yield progress.env_steps, {f"evaluation/{name}": x for name, x in values.items()}
