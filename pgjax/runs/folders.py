"""Run folders: config.json, metrics.csv, checkpoint/ and learning_curve.png; made, continued, read.

A folder appears with its config and the checkpoint of update 0 in it. The checkpoint vouches for
the rest: it holds the run's facts, of which config.json is a copy to be read, and the length and
digest of metrics.csv as it was then. Metrics are written before the checkpoint that counts them, so
that metrics beyond the checkpoint can be dropped and their updates made again.
"""

import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pgjax.core import distribution
from pgjax.core.names import unknown, without_addresses
from pgjax.core.types import Metrics, TrainState
from pgjax.pictures.records import Record
from pgjax.runs import (
    checkpoints,
    config_json,
    disk,
    evaluations,
    kept,
    resumed_changes,
    schema,
    sweep_folders,
)
from pgjax.runs.zoo import entries
from pgjax.training.config import Config

_CONFIG, _METRICS = "config.json", "metrics.csv"
# Facts that folders of earlier versions do not have: their least value, and the one they had.
_NEWER = {"evaluate_every": (0, 0), "eval_episodes": (1, 128), "keep": (1, 1)}
# What a run may change when it goes on, beside its floats.
SETTINGS = ("num_updates", "stop_at_return", "metrics_every", *_NEWER)
_RUN_FACTS = {
    "run": re.compile("[0-9a-f]{32}"),
    "seed": schema.Number(int, 0, 2**32 - 1),
    "stop_at_return": float | None,
    "metrics_every": schema.Number(int, 1, 2**31),
    "history": list[dict],
    **{name: schema.Optional(schema.Number(int, low, 2**31)) for name, (low, _) in _NEWER.items()},
}
_FACTS = {**_RUN_FACTS, "config": dict, "versions": dict[str, str], "seal": schema.HEX}
_NOTES = {
    "env_steps": schema.Number(int, 0, 2**62),
    "compile_seconds": schema.Number(float, 0),
    "run_seconds": schema.Number(float, 0),
    "facts": _RUN_FACTS,
    "metrics": {"bytes": schema.Number(int, 0, 2**62), "sha256": schema.HEX},
}


class Writer:
    """A run folder that is being written.

    Attributes:
      path: the folder.
      facts: JSON types: the run's identity, seed, settings of `run` that a resumed run keeps,
        history.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path, self.facts = path, facts
        self._size, self._digest = 0, hashlib.sha256()

    def append(self, first: int, metrics: Metrics, seconds: np.ndarray) -> None:
        """Appends metrics of updates `first`, `first + 1`, …, and seconds of running at the end of
        each, to metrics.csv."""
        columns = {"seconds": seconds, **config_json.columns(metrics)}
        numbers = range(first, first + len(seconds))
        rows = zip(numbers, *(column.tolist() for column in columns.values()), strict=True)
        text, interval = io.StringIO(), self.facts["metrics_every"]
        writer = csv.writer(text, lineterminator="\n")
        if not self._size:
            writer.writerow(("update", *columns))
        writer.writerows(row for row in rows if row[0] % interval == 0)
        data = text.getvalue().encode()
        _append(self.path / _METRICS, data)
        self._size += len(data)
        self._digest.update(data)

    def checkpoint(self, state: TrainState, config: Config, notes: dict[str, Any]) -> None:
        """Replaces the checkpoint, which vouches for the metrics so far."""
        file = self.path / _METRICS
        if self._size:  # on the disk before what counts them
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())
        metrics = {"bytes": self._size, "sha256": self._digest.hexdigest()}
        notes = {**notes, "facts": self.facts, "metrics": metrics}
        checkpoints.save(self.path / checkpoints.IN_RUN, state, config, notes)
        if self.facts["keep"] > 1:
            kept.keep(self.path, int(state.num_updates), self.facts["keep"])

    def go_on(self, notes: dict[str, Any], discard_metrics: bool = False) -> None:
        """Goes on after the metrics that the checkpoint with these notes vouches for; drops later
        ones.

        Args:
          notes: from `read_notes`.
          discard_metrics: sets metrics.csv aside instead, and begins another.

        Raises:
          ValueError: these metrics are missing or changed.
        """
        file, vouched = self.path / _METRICS, notes["metrics"]
        if discard_metrics:
            set_aside(file)
            return
        self._digest, self._size = _vouched(file, vouched), vouched["bytes"]
        if file.exists():
            os.truncate(file, self._size)


def set_aside(file: Path) -> None:
    """Renames a file, or a folder of that name, to the first free of FILE.old, FILE.old2, …"""
    number = 1
    while os.path.lexists(file):
        other = file.with_name(f"{file.name}.old{number if number > 1 else ''}")
        if not os.path.lexists(other):
            file.rename(other)
        number += 1


def create(
    path: Path, config: Config, facts: dict[str, Any], state: TrainState, notes: dict[str, Any]
) -> Writer:
    """Makes a run folder: in one step, with the state before the first update.

    Args:
      facts: "seed", "stop_at_return", "metrics_every", "evaluate_every", "eval_episodes" and
        "keep", and perhaps a "history", as JSON types.
      notes: for the checkpoint.

    Raises:
      ValueError: it exists.
    """
    facts = {"run": uuid.uuid4().hex, "history": [], **_with_newer(facts)}
    check_free(path)
    try:
        with disk.appearing(path) as unfinished:
            write_config(unfinished, config, facts)
            Writer(unfinished, facts).checkpoint(state, config, notes)
    except FileExistsError:
        check_free(path)
        raise
    return Writer(path, facts)


def check_free(path: Path) -> None:
    """Raises ValueError where a run folder cannot be made."""
    if path.exists():
        raise ValueError(
            f"the run folder {path} exists; give another, remove it, or go on with `pgjax resume`"
        )


def write_config(path: Path, config: Config, facts: dict[str, Any]) -> None:
    """Makes or replaces config.json."""
    described = schema.printable(config_json.to_dict(config))
    contents = {**facts, "config": described, "versions": distribution.versions()}
    text = json.dumps(checkpoints.sealed(contents), indent=2)
    checkpoints.write_text(path / _CONFIG, text + "\n")


def is_run(path: Path) -> bool:
    """Whether a folder is a run's."""
    return os.path.lexists(path / _CONFIG)


def read_facts(path: Path) -> dict[str, Any]:
    """The contents of config.json; "stop_at_return" a number, infinite for none.

    Raises:
      ValueError: no run folder, or its config.json cannot be read.
    """
    file = path / _CONFIG
    if not os.path.lexists(file):
        if sweep_folders.is_sweep(path):
            raise ValueError(
                f"{path} is a sweep's folder; pgjax.resume_sweep and `pgjax resume` go on with it"
            )
        if not path.exists():
            raise ValueError(entries.absent(path))
        raise ValueError(f"{path} is no run folder (no {_CONFIG})")
    return _with_newer(checkpoints.read_sealed(file, _FACTS, "; `pgjax resume` takes changes"))


def _with_newer(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts with those that an earlier version did not write."""
    return {name: value for name, (_, value) in _NEWER.items()} | facts


def read_notes(path: Path) -> dict[str, Any]:
    """The notes of a run folder's checkpoint: counters, facts, length and digest of metrics.csv.

    Raises:
      ValueError: no checkpoint of a run, or of another run than config.json.
    """
    facts, notes = read_facts(path), checkpoints.notes(path)
    checkpoint = path / checkpoints.IN_RUN
    schema.check(checkpoint, notes, _NOTES, "notes")
    if notes["facts"]["run"] != facts["run"]:
        raise ValueError(
            f"{path / _CONFIG} is another run's than {checkpoint}: restore the right one"
        )
    return {**notes, "facts": _with_newer(notes["facts"])}


def changes(
    old: dict[str, Any], config: Config, facts: dict[str, Any], new_facts: dict[str, Any]
) -> dict[str, list]:
    """The differences between a saved config with its run's facts and others: path -> [old, new].

    Args:
      old: JSON types.
      config: to compare it with.
      facts, new_facts: of the saved run, and of the run that goes on.
    """
    described = schema.printable(config_json.to_dict(config))
    new = json.loads(json.dumps(described))
    if (old["env_params"] is None) != (new["env_params"] is None):
        old, new = resumed_changes.filled(config, old, new)
    old_leaves = dict(_leaves({**old, **_settings(facts)}))
    new_leaves = dict(_leaves({**new, **_settings(new_facts)}))
    paths = dict.fromkeys((*old_leaves, *new_leaves))
    pairs = {path: [old_leaves.get(path), new_leaves.get(path)] for path in paths}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def _settings(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in SETTINGS if name in facts}


def _leaves(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            # An object's address differs between two processes.
            text = without_addresses(value) if isinstance(value, str) else value
            yield prefix + name, text


def read(path: str | os.PathLike) -> Record:
    """A run folder's record. Metrics that its checkpoint vouches for must be as they were written;
    later lines that are incomplete, as a kill leaves one, are left out and counted.

    Raises:
      ValueError: no run folder, one without the metrics of a single update, or with another run's.
    """
    path = Path(path)
    facts, file = read_facts(path), path / _METRICS
    if (path / checkpoints.IN_RUN).exists():  # before the rows: the file only grows
        _vouched(file, read_notes(path)["metrics"])
    header, rows, dropped = _lines(file) if os.path.lexists(file) else ([], [], 0)
    if not rows:
        problem = "has no whole line" if file.is_file() else "does not exist"
        raise ValueError(f"{file} {problem}: no update has ended in this run")
    for name in ("update", "seconds", *(field.name for field in dataclasses.fields(Metrics))):
        if name not in header and name != "extra":
            raise ValueError(
                f"{file}, row 1: {unknown(f'column; {name!r} is missing', name, header)}"
            )
    columns = np.array([[_number(cell) for cell in row] for row in rows]).T
    start, source = sweep_folders.start_of(_source(facts["history"]))
    return Record(
        path=path,
        sweep=None,
        config=facts["config"],
        seed=facts["seed"],
        stop_at_return=facts["stop_at_return"],
        metrics=dict(zip(header, columns, strict=True)),
        dropped=dropped,
        evaluations=evaluations.read(path),
        start=start,
        source=source,
    )


def _source(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The facts of the source that a run with this history started from."""
    return next((entry["started_from"] for entry in history if "started_from" in entry), None)


def read_all(path: str | os.PathLike) -> list[Record]:
    """The record of a run folder, or those of all runs of a sweep's folder.

    Each run of a sweep has the sweep's path, its setting's config, and for a seed its index among
    the sweep's seeds.

    Raises:
      ValueError: another folder, or one without the metrics of a single update.
    """
    path = Path(path)
    if not sweep_folders.is_sweep(path):
        return [read(path)]
    records = [
        Record(path=path, sweep=path.resolve(), dropped=0, **member._asdict())
        for member in sweep_folders.members(path)
    ]
    if not records:
        raise ValueError(f"{checkpoints.undone(path)}; no update of it has been saved yet")
    return records


def _append(file: Path, data: bytes) -> None:
    with open(file, "ab") as opened:
        opened.write(data)


def _vouched(file: Path, vouched: dict[str, Any]) -> Any:
    """The digest of the part of metrics.csv that a checkpoint vouches for.

    Args:
      file: metrics.csv.
      vouched: length and digest of that part, from the checkpoint's notes.

    Raises:
      ValueError: it is shorter or another.
    """
    digest, unread = hashlib.sha256(), vouched["bytes"]
    if not unread and not os.path.lexists(file):
        return digest
    schema.check_regular(file)
    with open(file, "rb") as opened:
        while unread and (data := opened.read(min(unread, 2**20))):
            digest.update(data)
            unread -= len(data)
    if not unread and digest.hexdigest() == vouched["sha256"]:
        return digest
    problem = "it was changed, or is another's"
    if unread:
        problem = f"{unread} bytes are missing at its end"
    problem = next(_bad_cells(file), problem)
    raise ValueError(
        f"{file} is not what its checkpoint vouches for ({problem}): restore it; resume with "
        "discard_metrics=True (--discard-metrics) sets it aside and begins another"
    )


def _bad_cells(file: Path) -> Iterator[str]:
    """Messages about rows of another length than the header, and cells that are no numbers."""
    with open(file, errors="replace") as opened:
        header = opened.readline().rstrip("\n").split(",")
        for number, line in enumerate(opened, 2):
            cells = line.rstrip("\n").split(",")
            if len(cells) != len(header):
                yield f"row {number} has {len(cells)} cells, not {len(header)}"
            for name, cell in zip(header, cells, strict=False):
                if not _is_number(cell):
                    yield f"row {number}, {name!r}: {cell[:40]!r} is no number"


def _lines(file: Path) -> tuple[list[str], list[list[str]], int]:
    """The header, the complete rows, and the number of other lines."""
    schema.check_regular(file)
    text = file.read_text(errors="replace")
    # A line is complete once its end is written.
    *lines, remainder = text.split("\n")
    if not lines:
        return [], [], int(bool(remainder))
    header = lines[0].split(",")
    rows = [line.split(",") for line in lines[1:]]
    complete = [row for row in rows if len(row) == len(header) and all(map(_is_number, row))]
    return header, complete, len(rows) - len(complete) + bool(remainder)


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _number(cell: str) -> float:
    return {"True": 1.0, "False": 0.0}[cell] if cell in ("True", "False") else float(cell)
