"""Learning curves and heat maps. Matplotlib is imported when the first is drawn."""

import math
import os
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pgjax.pictures.curves import (
    AXES,
    RETURN,
    Curve,
    Evaluated,
    algorithm_of,
    curves,
    environment_of,
)
from pgjax.pictures.records import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Distinct with any colour vision; the first is the package's.
COLORS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#666666")
# Each style is used with all colours before the next one.
_STYLES = ("-", "--", ":", "-.")
FORMATS = (".png", ".svg")
_QUANTITIES = {RETURN: "mean episode return", "env_steps": AXES["env_steps"]}
_MARKED_POINTS = 40
_LEGEND_WIDTH = 48  # characters
_WIDEST_TICK = 10  # characters of a heat map's column label; longer ones are rotated


def check_format(path: Path) -> None:
    """Raises ValueError unless a picture can be written under this name."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"a picture's name must end in {' or '.join(FORMATS)}, got {path.name!r}")
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} of the picture {path.name} does not exist")


def learning_curves(
    records: Sequence[Record],
    path: str | os.PathLike,
    axis: str = "env_steps",
    title: str = "",
    metrics: Sequence[str] = (RETURN,),
) -> list[Curve]:
    """Draws `curves_figure`, and saves it as a PNG or SVG.

    Args:
      path: ends in .png or .svg.

    Returns:
      The curves that were drawn.

    Raises:
      ValueError: another format; as for `curves`.
    """
    check_format(Path(path))
    figure, drawn = curves_figure(records, axis, title, metrics)
    figure.savefig(path)
    return drawn


def curves_figure(
    records: Sequence[Record],
    axis: str = "env_steps",
    title: str = "",
    metrics: Sequence[str] = (RETURN,),
) -> tuple["Figure", list[Curve]]:
    """Draws metrics of runs, one curve for each config.

    Each environment and metric has a panel: returns of two environments have no scale in common.

    Args:
      records: from `folders.read_all`.
      axis: the horizontal axis: "env_steps", "seconds" or "update".
      title: a line above all panels. Each panel names its environment and, if all of its runs have
        the same, the algorithm.
      metrics: columns of metrics.csv; by default the mean episode return.

    Returns:
      A matplotlib figure, and its curves.

    Raises:
      ValueError: as for `curves`.
    """
    drawn = [curve for metric in metrics for curve in curves(records, axis, metric)]
    environments = list(dict.fromkeys(curve.environment for curve in drawn))
    panels = [(environment, metric) for environment in environments for metric in metrics]
    labels = list(dict.fromkeys(curve.label for curve in drawn))
    # A row for each environment, if there are several of both.
    table = len(environments) > 1 and len(metrics) > 1
    columns = len(metrics) if table else math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    size = (6.4, 4.0) if len(panels) == 1 else (4.6 * columns, 3.3 * rows)
    figure, grid = _figure(size, rows, columns)
    for axes, (environment, metric) in zip(grid, panels, strict=False):
        in_panel = [
            curve for curve in drawn if (curve.environment, curve.metric) == (environment, metric)
        ]
        for curve in in_panel:
            _draw(axes, curve, labels.index(curve.label))
        _format_x(axes, axis)
        axes.set(xlabel=AXES[axis], ylabel=_QUANTITIES.get(metric, metric.replace("_", " ")))
        axes.set_title(_panel_title(records, environment), fontsize=10)
        if len(in_panel) > 1 or in_panel[0].evaluated is not None:
            axes.legend(frameon=False, fontsize=8)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    has_interval = any(len(curve.seeds) > 1 for curve in drawn)
    explanation = "interquartile mean over seeds, 95 % interval" if has_interval else ""
    figure.suptitle(": ".join(filter(None, (title, explanation))), fontsize=10)
    return figure, drawn


def _panel_title(records: Sequence[Record], environment: str) -> str:
    """The environment and, if all of its runs have the same, the algorithm."""
    in_panel = [record for record in records if environment_of(record) == environment]
    algorithms = {algorithm_of(record) for record in in_panel}
    return ", ".join((environment, *algorithms)) if len(algorithms) == 1 else environment


def heat_map(
    values: np.ndarray,
    names: Sequence[str],
    ticks: Sequence[Sequence[Any]],
    path: Path,
    title: str,
    quantity: str = "mean return",
) -> None:
    """Draws a grid of numbers, each written in its cell, with a bar of their colours.

    Args:
      values: float[rows, columns].
      names: labels of the vertical and of the horizontal axis.
      ticks: labels of the rows, and of the columns.
      path: ends in .png or .svg.
      title: a line above the grid.
      quantity: the bar's label.
    """
    check_format(path)
    size = (3.0 + 0.9 * values.shape[1], 1.6 + 0.5 * values.shape[0])
    figure, (axes,) = _figure((max(size[0], 5.5), max(size[1], 2.6)))
    image = axes.imshow(values, cmap="viridis", aspect="auto")
    figure.colorbar(image, label=quantity).outline.set_visible(False)
    for (row, column), value in np.ndenumerate(values):
        dark = image.norm(value) < 0.6 if np.isfinite(value) else False
        color = "white" if dark else "black"
        axes.text(column, row, f"{value:.4g}", ha="center", va="center", color=color, fontsize=9)
    row_labels, column_labels = ([str(tick) for tick in labels] for labels in ticks)
    axes.set_yticks(range(values.shape[0]), row_labels)
    axes.set_xticks(range(values.shape[1]), column_labels)
    if max(map(len, column_labels)) > _WIDEST_TICK:
        axes.tick_params(axis="x", labelrotation=30)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set(ylabel=names[0], xlabel=names[1])
    axes.set_title(title, fontsize=10)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    figure.savefig(path)


def bars(values: dict[str, float], path: Path, title: str, quantity: str) -> None:
    """Draws numbers in [0, 1] as horizontal bars, the first one at the top.

    Args:
      values: by name, at least one.
      path: ends in .png or .svg.
      title: a line above the bars.
      quantity: the horizontal axis's label.
    """
    check_format(path)
    figure, (axes,) = _figure((6.4, 1.4 + 0.3 * len(values)))
    axes.barh(list(values), list(values.values()), color=COLORS[0])
    axes.invert_yaxis()
    axes.set(xlabel=quantity, xlim=(0.0, 1.0))
    axes.set_title(title, fontsize=10)
    figure.savefig(path)


Staircase = tuple[np.ndarray, np.ndarray]  # edges [n + 1], and the values between them, [n]


def staircases(
    members: dict[str, Sequence[Staircase]],
    best: dict[str, Staircase],
    logarithmic: Collection[str],
    path: Path,
    title: str,
) -> None:
    """Draws settings over updates, a panel each: a line for every member, and the best schedule.

    Args:
      members: by the name of a setting, one staircase for each member, in an order that all have.
      best: by the same names, the staircase to stand out.
      logarithmic: the names whose axis is logarithmic.
      path: ends in .png or .svg.
      title: a line above all panels.
    """
    check_format(path)
    rows = len(members)
    figure, panels = _figure((6.4, 1.4 + 2.0 * rows), rows)
    for axes, (name, lines) in zip(panels, members.items(), strict=True):
        for number, (edges, values) in enumerate(lines):
            line = {"color": COLORS[1 + number % (len(COLORS) - 1)], "linewidth": 1.0}
            axes.stairs(values, edges, baseline=None, alpha=0.6, **line)
        edges, values = best[name]
        axes.stairs(values, edges, baseline=None, color=COLORS[0], linewidth=2.4, label="best")
        axes.set(ylabel=name, yscale="log" if name in logarithmic else "linear")
        _format_x(axes, "update")
    panels[-1].set_xlabel(AXES["update"])
    panels[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def _format_x(axes: Any, axis: str) -> None:
    """Writes thousands as k, but seconds as plain numbers: "50m" would read as minutes."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    if axis != "seconds":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        integers = {"integer": True, "min_n_ticks": 1}  # also where the run has a single update
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], **integers))


def _draw(axes: Any, curve: Curve, number: int) -> None:
    """Draws a curve, its seeds and their interval in the colour and style of this number."""
    color, style = COLORS[number % len(COLORS)], _STYLES[number // len(COLORS) % len(_STYLES)]
    if len(curve.seeds) > 1:
        axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.2, linewidth=0)
        for x, returns in curve.seeds:
            axes.plot(x, returns, color=color, alpha=0.25, linewidth=0.6)
    marked = len(curve.seeds) == 1 and len(curve.x) < _MARKED_POINTS
    seeds = f" ({len(curve.seeds)} seeds)" if len(curve.seeds) > 1 else ""
    name = curve.label if curve.label or curve.evaluated is None else "training"
    label = textwrap.fill((name + seeds).strip() or "all", _LEGEND_WIDTH)
    marker = {"marker": "o" if marked else None, "markersize": 3.5}
    line = {"color": color, "linestyle": style, "linewidth": 1.8}
    axes.plot(curve.x, curve.middle, label=label, **line, **marker)
    if curve.evaluated is not None:
        _draw_evaluated(axes, curve.evaluated, f"{curve.label}, evaluated".strip(", "), color)


def _draw_evaluated(axes: Any, evaluated: Evaluated, label: str, color: str) -> None:
    """Draws evaluations as points with their intervals; as a line with a band if they are many."""
    x, middle, low, high = evaluated
    if len(x) > _MARKED_POINTS:
        axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(x, middle, label=label, color=color, linestyle="--", linewidth=1.2)
        return
    errors = (np.maximum(middle - low, 0.0), np.maximum(high - middle, 0.0))
    style = {"fmt": "D", "markersize": 4.5, "markerfacecolor": "white", "capsize": 2.5}
    axes.errorbar(x, middle, errors, label=label, color=color, linewidth=1.2, zorder=3, **style)


def _figure(size: tuple[float, float], rows: int = 1, columns: int = 1) -> tuple[Any, np.ndarray]:
    """A figure and the axes of its panels, row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.grid(alpha=0.25, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, grid
