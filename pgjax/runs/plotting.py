"""Pictures of runs and sweeps, of their folders or as `run` and `sweep` return them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pgjax.pictures import plots
from pgjax.pictures.records import Record
from pgjax.runs import config_json, folders
from pgjax.runs.host_loop import Run
from pgjax.runs.sweep_result import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Runs = str | os.PathLike | Run | Sweep


def plot(
    runs: Runs | Sequence[Runs],
    path: str | os.PathLike | None = None,
    *,
    x: str = "env_steps",
    y: str | Sequence[str] = "episode_return",
    title: str = "",
) -> "Figure":
    """Draws learning curves: seeds of one config together, an interval around their middle.

    A curve is the interquartile mean over seeds with its 95 % bootstrap interval; every environment
    and every metric has a panel. A run of the same config and seed as another counts once.

    Args:
      runs: one or several of: a run folder, a sweep's folder, what `run` returned with a directory,
        what `sweep` returned.
      path: ends in .png or .svg; None saves nothing.
      x: the horizontal axis: "env_steps", "update" or, for folders, "seconds" of running.
      y: one or several columns of metrics.csv, as "entropy".
      title: a line above all panels.

    Returns:
      A matplotlib figure; a notebook shows it.

    Raises:
      ValueError: no run; an unknown axis or metric; a run without a value of it; another ending.
      TypeError: what is no run.

    Source: Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical
      precipice.
    """
    several = list(runs) if isinstance(runs, Sequence) and not isinstance(runs, str) else [runs]
    if not several:
        raise ValueError("plot needs at least one run, got none")
    if path is not None:
        plots.check_format(Path(path))
    metrics = [y] if isinstance(y, str) else list(y)
    if not metrics:
        raise ValueError("y needs at least one metric, as 'episode_return', got none")
    records = [record for number, run in enumerate(several) for record in _records(run, number)]
    figure, _ = plots.curves_figure(records, x, title, metrics)
    if path is not None:
        figure.savefig(path)
    return figure


def _records(run: Runs, number: int) -> list[Record]:
    """The records of what `plot` takes, of this number among them."""
    if isinstance(run, Sweep):
        return list(_of_sweep(run, Path(f"sweep {number}")))
    if not isinstance(run, Run):
        if not isinstance(run, str | os.PathLike):
            raise TypeError(
                f"plot takes folders, Runs and Sweeps, got {type(run).__name__}: give the folder, "
                "or the Run itself"
            )
        return folders.read_all(run)
    if run.directory is None:
        raise ValueError("plot reads a run's folder, and this Run has none: give run a directory")
    return folders.read_all(run.directory)


def _of_sweep(sweep: Sweep, label: Path) -> Iterator[Record]:
    for index in np.ndindex(*sweep.shape):
        member = sweep.at(*index)
        metrics = {"update": 1.0 + np.arange(member.metrics.finite.size)}
        for name, array in config_json.columns(member.metrics).items():
            metrics[name] = np.asarray(array, float)
        config = config_json.to_dict(member.config)
        yield Record(label, label, config, member.seed, np.inf, metrics, 0)
