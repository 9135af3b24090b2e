"""The lineage of a population: who copied whom when, and every member's floats over time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pgjax.core.names import shortened
from pgjax.pictures import plots
from pgjax.runs import tables
from pgjax.runs.tuning.result import Stage, Tuning

LINEAGE, SCHEDULE, PICTURE = "lineage.csv", "schedule.csv", "floats.png"
NOTE = (
    f"These floats are the last stage of a schedule, {SCHEDULE}: a training that begins with them "
    "is another one."
)


def write(path: Path, tuning: Tuning) -> None:
    """Makes or replaces lineage.csv, schedule.csv and floats.png in a tuning's folder."""
    paths = [axis.path for axis in tuning.axes]
    members = [tuning.stages(trial) for trial in tuning.trials]
    header = ["first_update", "last_update", "trial", "source", "score", *paths]
    in_time = sorted((stage for stages in members for stage in stages), key=_time)
    tables.write_csv(path / LINEAGE, header, _rows(in_time))
    tables.write_csv(path / SCHEDULE, header, _rows(tuning.schedule()))
    names = shortened(paths)
    plots.staircases(
        {
            names[axis.path]: [_staircase(stages, axis.path) for stages in members]
            for axis in tuning.axes
        },
        {names[axis.path]: _staircase(tuning.schedule(), axis.path) for axis in tuning.axes},
        {names[axis.path] for axis in tuning.axes if axis.log},
        path / PICTURE,
        f"{tuning.best_config.env}: {len(tuning.trials)} members",
    )


def _time(stage: Stage) -> tuple[int, int]:
    return stage.first, stage.trial


def _rows(stages: Iterable[Stage]) -> Iterator[list[Any]]:
    for stage in stages:
        first, last, trial, source, setting, score = stage
        yield [first, last, trial, source, score, *setting.values()]


def _staircase(stages: list[Stage], path: str) -> tuple[np.ndarray, np.ndarray]:
    """The ends of stages in updates, [n + 1], and the values between them, [n]."""
    edges = np.array([0, *(stage.last for stage in stages)])
    return edges, np.array([stage.setting[path] for stage in stages])
