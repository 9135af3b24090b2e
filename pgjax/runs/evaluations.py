"""Evaluations during a run: evaluation.csv, and the checkpoint of the best policy."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pgjax.core import processes
from pgjax.core.types import Evaluation
from pgjax.runs import checkpoints, schema, tables
from pgjax.runs.progress import Progress
from pgjax.study import evaluation
from pgjax.training.config import Config

FILE = "evaluation.csv"
BEST = "checkpoint_best"  # their names in a run folder
COLUMNS = ("update", "env_steps", "seconds", "return", "low", "high", "episodes")
_NOTES = {"evaluation": dict}


class Evaluator:
    """Evaluates a run's policy after every so many updates, by a key that training does not use.

    Attributes:
      config: of the run.
      facts: "seed"; "evaluate_every", the number of updates, 0 for never; "eval_episodes".
      path: the run folder; None: nothing is written.
      best: the mean return of the best evaluation so far; -inf before the first.
    """

    def __init__(self, config: Config, facts: dict[str, Any], path: Path | None) -> None:
        self.config, self.facts, self.path, self.best = config, facts, path, -math.inf
        self._rows: list[list[float]] = []

    def go_on(self, num_updates: int) -> None:
        """Takes up the evaluations of a run that has made so many updates; drops later ones.

        Raises:
          ValueError: the best checkpoint cannot be read.
        """
        if self.path is None:
            return
        rows = read(self.path)
        self._rows = [
            list(row) for row in zip(*rows.values(), strict=True) if row[0] <= num_updates
        ]
        if os.path.lexists(self.path / BEST):
            notes = checkpoints.notes(self.path / BEST)
            schema.check(self.path / BEST, notes, _NOTES, "notes")
            self.best = float(notes["evaluation"]["return"])

    def after(self, progress: Progress) -> tuple[Progress, bool]:
        """The progress with its evaluation, if one is due, and whether it is the best so far, whose
        policy is saved then."""
        interval = self.facts["evaluate_every"]
        if not interval or progress.num_updates % interval:
            return progress, False
        state = progress.state  # of several processes, all must ask
        if not processes.is_first():
            return progress, False
        key = evaluation.evaluation_key(self.facts["seed"])
        key = jax.random.fold_in(key, progress.num_updates)
        result = evaluation.evaluate(key, state, self.config, self.facts["eval_episodes"])
        progress = dataclasses.replace(progress, evaluation=result)
        better = float(result.mean) > self.best
        self.best = max(self.best, float(result.mean))
        if self.path is not None:
            row = _row(progress, result)
            self._rows.append(row)
            tables.write_csv(self.path / FILE, COLUMNS, [[*map(_plain, row)] for row in self._rows])
            if better:
                notes = {"evaluation": dict(zip(COLUMNS, row, strict=True))}
                checkpoints.save(self.path / BEST, state, self.config, notes)
        return progress, better


def _row(progress: Progress, result: Evaluation) -> list[float]:
    """The numbers of `COLUMNS`."""
    low, high = map(float, result.interval)
    counts = (progress.num_updates, progress.env_steps, progress.run_seconds)
    return [*counts, float(result.mean), low, high, len(result.returns)]


def _plain(number: float) -> float:
    """A whole number without its decimal point."""
    return int(number) if number == math.floor(number) else number


def read(path: Path) -> dict[str, np.ndarray]:
    """The columns of a run folder's evaluation.csv, float64[evaluations] each; empty without one.

    Raises:
      ValueError: another header, or a cell that is no number.
    """
    file = path / FILE
    if not os.path.lexists(file):
        return {name: np.zeros(0) for name in COLUMNS}
    schema.check_regular(file)
    header, *lines = file.read_text(errors="replace").splitlines() or [""]
    try:
        rows = np.array([[float(cell) for cell in line.split(",")] for line in lines])
        if header != ",".join(COLUMNS):
            raise ValueError(f"its header is not {','.join(COLUMNS)}")
        columns = rows.reshape(len(lines), len(COLUMNS)).T
    except ValueError as error:
        raise ValueError(f"{file} cannot be read ({error}); it can be removed") from None
    return dict(zip(COLUMNS, columns, strict=True))
