"""What the run folders and sweeps below a folder hold, a line each."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pgjax.pictures.curves import algorithm_of, config_of, environment_of
from pgjax.pictures.records import Record
from pgjax.runs import folders, sweep_folders
from pgjax.runs.zoo import entries as zoo


class Entry(NamedTuple):
    """A run folder or a sweep's, in short.

    Attributes:
      path: the folder.
      environment, algorithm: names; "" where nothing can be read.
      runs: how many have made an update: 1, or a sweep's.
      env_steps: environment steps taken, of all runs.
      final_return: mean episode return of the last updates; of a sweep, the mean over seeds of its
        best setting; NaN where no episode has ended.
      age: seconds since it was last written.
      problem: why nothing can be read, or ""
    """

    path: Path
    environment: str
    algorithm: str
    runs: int
    env_steps: int
    final_return: float
    age: float
    problem: str


def run_folders(folder: Path) -> Iterator[Path]:
    """The run folders and sweeps at or below a folder, by name; links are not followed.

    Raises:
      ValueError: the folder does not exist.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder" if folder.exists() else zoo.absent(folder))
    for path, inner, _ in os.walk(folder):
        if folders.is_run(Path(path)) or sweep_folders.is_sweep(Path(path)):
            yield Path(path)
            inner.clear()
        inner.sort()


def entries(folder: Path) -> list[Entry]:
    """The entry of each run folder and sweep at or below a folder, the last written first.

    Raises:
      ValueError: the folder does not exist.
    """
    return sorted(map(_entry, run_folders(folder)), key=lambda entry: entry.age)


def _entry(path: Path) -> Entry:
    age = max(0.0, time.time() - max(file.stat().st_mtime for file in (path, *path.iterdir())))
    try:
        records = folders.read_all(path)
    except ValueError as error:
        return Entry(path, "", "", 0, 0, np.nan, age, str(error))
    environments, algorithms = (
        ", ".join(dict.fromkeys(map(name_of, records)))
        for name_of in (environment_of, algorithm_of)
    )
    steps = sum(int(record.metrics["env_steps"][-1]) for record in records)
    groups = by_config(records).values()
    best = max(
        (mean_return(group) for group in groups), key=lambda x: np.nan_to_num(x, nan=-np.inf)
    )
    return Entry(path, environments, algorithms, len(records), steps, best, age, "")


def by_config(records: list[Record]) -> dict[str, list[Record]]:
    """The records of each config."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(config_of(record), []).append(record)
    return groups


def mean_return(records: list[Record], updates: int = 5) -> float:
    """The mean of the records' final returns; NaN where one of them has none."""
    return float(np.mean([record.final_return(updates) for record in records]))
