"""The output of commands: rows, tables and JSON of results."""

import itertools
import json
import math
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pgjax.core.names import shortened
from pgjax.pictures import plots
from pgjax.pictures.curves import interquartile_mean, interval
from pgjax.runs import schema, sweep_labels, tables
from pgjax.runs.host_loop import Run
from pgjax.runs.sweep_result import Sweep
from pgjax.training.config import Config

_WIDTH = 80
_NAME_WIDTH = 23


def run_rows(result: Run, config: Config) -> dict[str, str]:
    """Names and values: the updates and steps that a run made, and its speed."""
    steps, seconds = int(result.metrics.env_steps[-1]), result.run_seconds
    rows = {}
    if result.solved:
        rows["stopped at return"] = f"{result.metrics.episode_return[-1]:.2f}"
    return rows | {
        "updates": f"{int(result.state.num_updates)} of {config.num_updates}",
        "environment steps": f"{steps:,}",
        "running time": f"{seconds:.2f} s ({steps / seconds:,.0f} steps/s)",
        "compile time": f"{result.compile_seconds:.2f} s",
        "run folder": str(result.directory),
    }


def sweep_table(sweep: Sweep) -> tuple[list[str], list[list[Any]]]:
    """Header and rows: each setting's final returns over seeds, the best setting first."""
    returns, labels = sweep.final_returns(), sweep_labels.value_labels(sweep.config, sweep.grid)
    statistics = ("mean", "IQM", "low", "high", "worst seed")
    rows = []
    for index in np.ndindex(*sweep.shape[:-1]):
        seeds = returns[index]
        low, high = interval(seeds) if len(seeds) > 1 else (seeds[0], seeds[0])
        values = [texts[i] for texts, i in zip(labels.values(), index, strict=True)]
        numbers = (seeds.mean(), interquartile_mean(seeds), low, high, seeds.min())
        rows.append([*values, *(float(f"{x:.5g}") for x in numbers)])
    mean = len(sweep.grid)  # the column
    rows.sort(key=lambda row: -np.nan_to_num(row[mean], nan=-np.inf))
    return [*sweep.grid, *statistics], rows


def write_sweep(directory: Path, sweep: Sweep, header: list[str], rows: list[list[Any]]) -> None:
    """Makes or replaces summary.csv, returns.csv and heat_map.png in a sweep's folder."""
    returns, labels = sweep.final_returns(), sweep_labels.value_labels(sweep.config, sweep.grid)
    tables.write_csv(directory / "summary.csv", header, rows)
    settings = list(itertools.product(*labels.values()))
    seeds = [
        [*setting, seed, float(value)]
        for setting, values in zip(settings, returns.reshape(-1, sweep.num_seeds), strict=True)
        for seed, value in enumerate(values)
    ]
    tables.write_csv(directory / "returns.csv", [*sweep.grid, "seed", "return"], seeds)
    (first, ticks), *others = labels.items()
    columns = itertools.product(*(values for _, values in others))
    plots.heat_map(
        returns.mean(-1).reshape(len(ticks), -1),
        (first, ", ".join(path for path, _ in others)),
        (ticks, [", ".join(column) for column in columns]),
        directory / "heat_map.png",
        f"{sweep.config.env}: mean return, {sweep.num_seeds} seeds",
    )


def print_table(header: list[str], rows: list[list[Any]]) -> None:
    """Prints columns of equal width; paths are shortened where the line would be too long."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    if sum(max(map(len, column)) + 2 for column in zip(*cells, strict=True)) > _WIDTH:
        cells[0] = list(shortened(cells[0]).values())
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  " + line)


def print_json(data: dict[str, Any]) -> None:
    """Prints an object on one line; a number that is not finite is null."""
    print(json.dumps(_finite(schema.printable(data)), ensure_ascii=False, allow_nan=False))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, list):
        return list(map(_finite, data))
    return None if isinstance(data, float) and not math.isfinite(data) else data


def print_rows(rows: dict[str, str]) -> None:
    """Prints names in one column, values in another; a long name has a line of its own."""
    for name, text in schema.printable(rows).items():
        if len(name) > _NAME_WIDTH - 2:
            for line in textwrap.wrap(name, _WIDTH - 2):
                print(f"  {line}")
            name = ""
        print(f"  {name:{_NAME_WIDTH}s}{text}")


def print_paragraphs(texts: Iterable[str]) -> None:
    """Prints texts, each broken into lines of at most 80 columns."""
    for text in texts:
        print(textwrap.fill(text, _WIDTH))


def short(number: float) -> str:
    """A count in three digits.

    >>> short(999), short(1234), short(2.5e6), short(1e9)
    ('999', '1.23 k', '2.5 M', '1 G')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"
