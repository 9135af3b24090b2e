"""A tuning's folder: tuning.json holds the plan, parts/ the trials so far and their states.

Once it is done it has trials.csv, importances.png, best.json, a config that `config_json` reads,
and the checkpoint of the best trial's best seed.
"""

import csv
import io
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pgjax.core import distribution
from pgjax.pictures import plots
from pgjax.runs import checkpoints, config_json, run_blocks, schema, sweep_folders
from pgjax.runs.tuning import lineage
from pgjax.runs.tuning.population import Population
from pgjax.runs.tuning.result import Tuning
from pgjax.runs.tuning.trials import Handover, Trial

FORMAT = 3
BEST = "best.json"
_PART, _STATE = "population", "state/"
_STATUSES = ("running", "stopped", "done")
_FACTS = {
    "format": schema.Number(int, FORMAT, FORMAT),
    "versions": dict[str, str],
    "config": dict,
    "space": list[list],
    "choices": list[list],
    "options": dict,
    "scheduler": dict,
    "key": list[int],
    "key_impl": str,
    "block_sizes": list[int],
    "devices": schema.Number(int, 1),
    "started_from": schema.Optional(sweep_folders.SOURCE),
    "seal": schema.HEX,
}


def is_tuning(path: Path) -> bool:
    """Whether a folder is a tuning's."""
    return os.path.lexists(path / checkpoints.TUNING)


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """Makes tuning.json."""
    contents = {"format": FORMAT, "versions": distribution.versions(), **facts}
    text = json.dumps(checkpoints.sealed(contents), indent=1)
    checkpoints.write_text(path / checkpoints.TUNING, text + "\n")


def read_facts(path: Path) -> dict[str, Any]:
    """The contents of tuning.json.

    Raises:
      ValueError: no tuning's folder; tuning.json is damaged, or of another format.
    """
    if not is_tuning(path):
        missing = f"is no tuning's folder (no {checkpoints.TUNING})"
        raise ValueError(f"{path} {missing if path.exists() else 'does not exist'}")
    return checkpoints.read_sealed(path / checkpoints.TUNING, _FACTS)


def save(path: Path, trials: list[Trial], population: Population) -> None:
    """Saves the trials, and the population's states and last returns, in one step."""
    handovers = [trial.handovers for trial in trials]
    arrays = {
        "points": np.array([trial.point for trial in trials]),
        "returns": _padded([trial.returns for trial in trials]),
        "handover_points": _padded([np.array([h.point for h in row]) for row in handovers]),
        "handover_sources": _padded([np.array([h.source for h in row]) for row in handovers]),
        "rounds": np.array([trial.rounds for trial in trials]),
        "statuses": np.array([_STATUSES.index(trial.status) for trial in trials]),
        "states": np.array(sorted(population.states), int),
        "recent": np.array([population.recent[number] for number in sorted(population.states)]),
    }
    for number, state in population.states.items():
        leaves = checkpoints.to_arrays(state).items()
        arrays |= {f"{_STATE}{number}/{name}": np.asarray(leaf) for name, leaf in leaves}
    sweep_folders.write_part(path, _PART, arrays)


def load(path: Path, population: Population) -> list[Trial]:
    """The trials so far, by number; fills the population's states.

    Raises:
      ValueError: damaged.
    """
    arrays = sweep_folders.read_part(path, _PART)
    if arrays is None:
        return []
    names = ("points", "returns", "rounds", "statuses", "handover_points", "handover_sources")
    columns = zip(*(arrays[name] for name in names), strict=True)
    trials = [
        Trial(
            number,
            tuple(map(float, point)),
            returns[:rounds],
            _STATUSES[status],
            tuple(_handovers(points, sources)),
        )
        for number, (point, returns, rounds, status, points, sources) in enumerate(columns)
    ]
    for number, recent in zip(arrays["states"].tolist(), arrays["recent"], strict=True):
        leaves = run_blocks.below(f"{_STATE}{number}/", arrays)
        population.restore(trials[number], leaves, recent)
    return trials


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """float[len(rows), …]; the rows, the shorter ones with NaN at their ends."""
    shape = max((row.shape for row in rows), key=len)
    padded = np.full((len(rows), max(map(len, rows)), *shape[1:]), np.nan)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded


def _handovers(points: np.ndarray, sources: np.ndarray) -> Iterator[Handover]:
    """The handovers of one trial's padded rows."""
    for point, source in zip(points, sources, strict=True):
        if not math.isnan(source):
            yield Handover(tuple(map(float, point)), int(source))


def write_results(path: Path, tuning: Tuning) -> None:
    """Makes or replaces trials.csv, importances.png, best.json and the checkpoint; and the files of
    `lineage`, where settings changed."""
    checkpoints.write_text(path / "trials.csv", _csv(tuning))
    best = config_json.to_dict(tuning.best_config)
    if tuning.has_schedules:
        lineage.write(path, tuning)
        best = {"note": lineage.NOTE, "config": best}
    checkpoints.write_text(path / BEST, json.dumps(best, indent=2) + "\n")
    plots.bars(
        tuning.importances(),
        path / "importances.png",
        f"{tuning.best_config.env}: {len(tuning.trials)} trials",
        "share of the variance of the first round's scores",
    )
    checkpoints.save(path / checkpoints.IN_RUN, tuning.best_state, tuning.best_config)


def _csv(tuning: Tuning) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    paths = list(tuning.setting(tuning.trials[0]))
    writer.writerow(["trial", "status", "updates", "score", *paths])
    for trial in tuning.trials:
        values = tuning.setting(trial).values()
        updates = tuning.num_updates(trial)
        writer.writerow([trial.number, trial.status, updates, trial.score(), *values])
    return text.getvalue()
