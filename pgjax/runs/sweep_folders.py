"""A sweep's folder: sweep.json holds the plan, parts/ the runs so far.

A part is a block of runs that are trained side by side: one .npz file with their states and all of
their metrics, replaced in one step. Nothing else is needed to go on, or to draw curves.
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pgjax.core import distribution
from pgjax.runs import blocks, checkpoints, schema

FORMAT = 1
_PARTS, _DIGEST = "parts", "sha256"
METRICS = "metrics/"  # before the names of a part's metrics, [runs, updates]
# The run that all runs started from, see `sources.Source.facts`.
SOURCE = {
    "folder": str,
    "run": str | None,
    "update": schema.Number(int, 0),
    "parts": list[str],
}
_ID_DIGITS = 8  # of a run's id, in labels
_FACTS = {
    "format": schema.Number(int, FORMAT, FORMAT),
    "versions": dict[str, str],
    "config": dict,
    "settings": list[dict],
    "grid": list[list],
    "num_seeds": schema.Number(int, 1),
    "key": list[int],
    "key_impl": str,
    "stop_at_return": float | None,
    "block_sizes": list[int],
    "devices": schema.Number(int, 1),
    "started_from": schema.Optional(SOURCE),
    "seal": schema.HEX,
}
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class Member(NamedTuple):
    """One run of a sweep, without its parameters.

    Attributes:
      config: as JSON types, see `config_json.to_dict`.
      seed: its index among the sweep's seeds.
      stop_at_return: reward units; infinite: none.
      metrics: float64[updates made] by name, "update" and "seconds" among them.
      start, source: as for `Record`.
    """

    config: dict[str, Any]
    seed: int
    stop_at_return: float
    metrics: dict[str, np.ndarray]
    start: str
    source: str


def is_sweep(path: Path) -> bool:
    """Whether a folder is a sweep's."""
    return os.path.lexists(path / checkpoints.SWEEP)


def is_done(path: Path) -> bool:
    """Whether a sweep has made all of its runs."""
    return os.path.lexists(path / checkpoints.IN_RUN)


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """Makes sweep.json."""
    contents = {"format": FORMAT, "versions": distribution.versions(), **facts}
    text = json.dumps(checkpoints.sealed(contents), indent=1)
    checkpoints.write_text(path / checkpoints.SWEEP, text + "\n")


def read_facts(path: Path) -> dict[str, Any]:
    """The contents of sweep.json.

    Raises:
      ValueError: no sweep's folder; sweep.json is damaged, or of another format.
    """
    file = path / checkpoints.SWEEP
    if not os.path.lexists(file):
        problem = (
            f"is no sweep's folder (no {checkpoints.SWEEP})" if path.exists() else "does not exist"
        )
        raise ValueError(f"{path} {problem}")
    return checkpoints.read_sealed(file, _FACTS)


def write_part(path: Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Makes or replaces a part."""
    (path / _PARTS).mkdir(exist_ok=True)
    # Any: NumPy's types take one of these names for savez's own allow_pickle.
    contents: dict[str, Any] = {**arrays, _DIGEST: np.array(_digest(arrays))}
    checkpoints.write(path / _PARTS / f"{name}.npz", lambda file: np.savez(file, **contents))


def read_part(path: Path, name: str) -> dict[str, np.ndarray] | None:
    """A part's arrays by name; None: it has not been begun.

    Raises:
      ValueError: damaged.
    """
    file = path / _PARTS / f"{name}.npz"
    if not os.path.lexists(file):
        return None
    schema.check_regular(file)
    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if str(arrays.pop(_DIGEST)) != _digest(arrays):
            raise ValueError("its digest differs")
    except _UNREADABLE as error:
        raise ValueError(
            f"{file} is damaged ({error}); remove it to train these runs anew"
        ) from error
    return arrays


def check_parts(path: Path) -> None:
    """Raises ValueError where a part of a sweep is damaged."""
    for file in _part_files(path):
        read_part(path, file.stem)


def _part_files(path: Path) -> list[Path]:
    return sorted((path / _PARTS).glob("*.npz"))


def members(path: Path) -> Iterator[Member]:
    """The runs of a sweep that have made at least one update, done or not.

    Raises:
      ValueError: as for `read_facts` and `read_part`.
    """
    facts = read_facts(path)
    for file in _part_files(path):
        part = read_part(path, file.stem)
        if part is None:  # removed in the meantime
            continue
        runs, rows = np.unique(part["runs"], return_index=True)  # a block may repeat its last run
        for run, row in zip(runs.tolist(), rows.tolist(), strict=True):
            if part["num_updates"][row]:
                yield _member(facts, part, run, row)


def _member(facts: dict[str, Any], part: dict[str, np.ndarray], run: int, row: int) -> Member:
    """The run with this index in the sweep, in this row of the part's arrays."""
    setting, seed = divmod(run, facts["num_seeds"])
    updates = int(part["num_updates"][row])
    columns = {
        name.removeprefix(METRICS): array[row, :updates]
        for name, array in part.items()
        if name.startswith(METRICS)
    }
    columns["env_steps"] = blocks.cumulative_steps(columns["env_steps"])
    columns = {"update": 1 + np.arange(updates), "seconds": part["seconds"][:updates], **columns}
    start, source = start_of(facts.get("started_from"))
    return Member(
        config=facts["settings"][setting],
        seed=seed,
        stop_at_return=facts["stop_at_return"],
        metrics={name: np.asarray(column, np.float64) for name, column in columns.items()},
        start=start,
        source=source,
    )


def start_of(source: dict[str, Any] | None) -> tuple[str, str]:
    """`start` and `source` of a `Record` whose run started from a source with these facts; None:
    from fresh parameters."""
    if source is None:
        return "fresh", ""
    folder, run = source["folder"], source["run"]
    name = folder if run is None else f"{Path(folder).name} {run[:_ID_DIGITS]}"
    return f"from {', '.join(source['parts'])}", f"{name} at update {source['update']}"


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.shape} {array.itemsize}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
