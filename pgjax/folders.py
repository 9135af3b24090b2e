"""Run folders: config.json, metrics.csv, checkpoint/ and learning_curve.png; made, continued, read.

A folder appears with its config and the checkpoint of update 0 in it. Metrics are written before
the checkpoint that counts them, so that what is beyond the checkpoint can be dropped and made anew.
"""

import csv
import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pgjax import checkpoints, disk, serialization, sweep_folders
from pgjax.config import Config
from pgjax.types import Metrics, TrainState

_CONFIG, _METRICS = "config.json", "metrics.csv"


@dataclasses.dataclass(frozen=True)
class Record:
    """What a run folder says of its run, without its parameters.

    Attributes:
      path: the folder.
      config: as JSON types, see `serialization.to_dict`.
      seed: of the run's key.
      stop_at_return: reward units; infinite: none.
      metrics: columns of metrics.csv, float64 each: "update", "seconds" of running, and the
        metrics by name.
      dropped: lines of metrics.csv that were not whole.
    """

    path: Path
    config: dict[str, Any]
    seed: int
    stop_at_return: float
    metrics: dict[str, np.ndarray]
    dropped: int


class Writer:
    """A run folder that is being written."""

    def __init__(self, path: Path, every: int = 1) -> None:
        self.path, self.every = path, every

    def append(self, first: int, metrics: Metrics, seconds: np.ndarray) -> None:
        """Metrics of updates `first`, `first + 1`, …; and seconds of running at the end of each."""
        columns = {"seconds": seconds, **serialization.columns(metrics)}
        numbers = range(first, first + len(seconds))
        rows = zip(numbers, *(column.tolist() for column in columns.values()), strict=True)
        file = self.path / _METRICS
        if not file.exists():
            checkpoints.write_text(file, ",".join(("update", *columns)) + "\n")
        _append(file, (row for row in rows if row[0] % self.every == 0))

    def checkpoint(self, state: TrainState, config: Config, notes: dict[str, Any]) -> None:
        """Replaces the checkpoint."""
        checkpoints.save(self.path / checkpoints.IN_RUN, state, config, notes)

    def keep(self, num_updates: int) -> None:
        """Drops the metrics of later updates, and lines that are not whole."""
        file = self.path / _METRICS
        if file.exists():
            header, rows, _ = _lines(file)
            kept = [",".join(row) for row in rows if int(row[0]) <= num_updates]
            checkpoints.write_text(file, "\n".join((",".join(header), *kept)) + "\n")


def create(
    path: Path, config: Config, facts: dict[str, Any], state: TrainState, notes: dict[str, Any]
) -> None:
    """Makes a run folder: in one step, with the state before the first update.

    Args:
      facts: JSON types, for config.json.
      notes: for the checkpoint.

    Raises:
      ValueError: it exists.
    """
    check_free(path)
    try:
        with disk.appearing(path) as unfinished:
            write_config(unfinished, config, facts)
            Writer(unfinished).checkpoint(state, config, notes)
    except FileExistsError:
        check_free(path)
        raise


def check_free(path: Path) -> None:
    """Raises ValueError where a run folder cannot be made."""
    if path.exists():
        raise ValueError(
            f"the run folder {path} exists; give another, remove it, or go on with `pgjax resume`"
        )


def write_config(path: Path, config: Config, facts: dict[str, Any]) -> None:
    """Makes or replaces config.json."""
    made = {"config": serialization.to_dict(config), "versions": checkpoints.versions()}
    contents = {**facts, **made}
    checkpoints.write_text(path / _CONFIG, json.dumps(contents, indent=2) + "\n")


def read_facts(path: Path) -> dict[str, Any]:
    """What config.json holds.

    Raises:
      ValueError: no run folder, or its config.json cannot be read.
    """
    file = path / _CONFIG
    if not file.is_file():
        what = f"is no run folder (no {_CONFIG})" if path.exists() else "does not exist"
        raise ValueError(f"{path} {what}")
    try:
        facts = json.loads(file.read_text())
        seed, target = facts["seed"], facts["stop_at_return"]
        if not isinstance(facts["config"], dict) or not isinstance(seed, int):
            raise ValueError("its config or seed is none")
        target = float("inf") if target is None else float(target)
        every = max(1, int(facts.get("metrics_every", 1)))
        return {**facts, "stop_at_return": target, "metrics_every": every}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} cannot be read ({error!r})") from error


def read(path: str | os.PathLike) -> Record:
    """A run folder's record; metrics that are not whole are left out and counted.

    Raises:
      ValueError: no run folder, or without the metrics of a single update.
    """
    path = Path(path)
    facts, file = read_facts(path), path / _METRICS
    header, rows, dropped = _lines(file) if file.is_file() else ([], [], 0)
    if not rows:
        state = "has no whole line" if file.is_file() else "does not exist"
        raise ValueError(f"{file} {state}: no update has ended in this run")
    columns = np.array([[_number(cell) for cell in row] for row in rows]).T
    return Record(
        path=path,
        config=facts["config"],
        seed=facts["seed"],
        stop_at_return=facts["stop_at_return"],
        metrics=dict(zip(header, columns, strict=True)),
        dropped=dropped,
    )


def read_all(path: str | os.PathLike) -> list[Record]:
    """The record of a run folder, or those of all runs of a sweep's folder.

    Each run of a sweep has the sweep's path, its setting's config, and for a seed its index among
    the sweep's seeds.

    Raises:
      ValueError: neither, or without the metrics of a single update.
    """
    path = Path(path)
    if not sweep_folders.is_sweep(path):
        return [read(path)]
    records = [
        Record(path=path, dropped=0, **member._asdict()) for member in sweep_folders.members(path)
    ]
    if not records:
        raise ValueError(f"{path}: no update of this sweep has been saved yet")
    return records


def _append(file: Path, rows: Iterable[tuple]) -> None:
    with open(file, "a", newline="") as opened:
        csv.writer(opened, lineterminator="\n").writerows(rows)


def _lines(file: Path) -> tuple[list[str], list[list[str]], int]:
    """The header, the whole rows, and the number of others."""
    text = file.read_text(errors="replace")
    # A line is whole when its end was written.
    lines, rest = text.split("\n")[:-1], text.split("\n")[-1]
    if not lines:
        return [], [], int(bool(rest))
    header = lines[0].split(",")
    rows = [line.split(",") for line in lines[1:]]
    whole = [row for row in rows if len(row) == len(header) and all(map(_is_number, row))]
    return header, whole, len(rows) - len(whole) + bool(rest)


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _number(cell: str) -> float:
    return {"True": 1.0, "False": 0.0}[cell] if cell in ("True", "False") else float(cell)
