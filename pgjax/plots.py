"""Pictures. Matplotlib is imported when the first one is drawn."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pgjax.curves import AXES, Curve, curves
from pgjax.folders import Record

# Told apart with any colour vision; the first is the package's.
COLORS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#666666")
FORMATS = (".png", ".svg")
_MARKED_POINTS = 40


def check_format(path: Path) -> None:
    """Raises ValueError unless a picture can be written under this name."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"a picture's name must end in {' or '.join(FORMATS)}, got {path.name!r}")


def learning_curves(
    records: Sequence[Record], path: str | os.PathLike, axis: str = "env_steps", title: str = ""
) -> list[Curve]:
    """Mean episode return of runs, those of one config as one curve, as a PNG or SVG.

    Args:
      records: from `folders.read`.
      path: ends in .png or .svg.
      axis: what to draw against: "env_steps", "seconds" or "update".
      title: of the picture; by default, the run folder's or the environment's name.

    Returns:
      The curves that were drawn.

    Raises:
      ValueError: another format; as for `curves`.
    """
    check_format(Path(path))
    found = curves(records, axis)
    figure, axes = _figure()
    for number, curve in enumerate(found):
        _draw(axes, curve, COLORS[number % len(COLORS)])
    env = records[0].config["env"]
    title = title or (records[0].path.name if len(records) == 1 else str(env))
    several = any(len(curve.seeds) > 1 for curve in found)
    middle = "interquartile mean over seeds, 95 % interval" if several else "mean episode return"
    axes.set(xlabel=AXES[axis], ylabel="mean episode return")
    axes.set_title(f"{title}: {middle}" if several else title, fontsize=11)
    if len(found) > 1:
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)
    return found


def heat_map(
    values: np.ndarray, names: Sequence[str], ticks: Sequence[Sequence[Any]], path: Path, title: str
) -> None:
    """A grid of numbers, each written in its cell.

    Args:
      values: float[rows, columns].
      names, ticks: of the rows, then of the columns.
      path: ends in .png or .svg.
    """
    check_format(path)
    size = (1.8 + 0.9 * values.shape[1], 1.6 + 0.5 * values.shape[0])
    figure, axes = _figure(size=(max(size[0], 4.5), size[1]))
    image = axes.imshow(values, cmap="viridis", aspect="auto")
    for place, value in np.ndenumerate(values):
        dark = image.norm(value) < 0.6 if np.isfinite(value) else False
        color = "white" if dark else "black"
        axes.text(*place[::-1], f"{value:.4g}", ha="center", va="center", color=color, fontsize=9)
    axes.set_yticks(range(values.shape[0]), [str(tick) for tick in ticks[0]])
    axes.set_xticks(range(values.shape[1]), [str(tick) for tick in ticks[1]])
    axes.set(ylabel=names[0], xlabel=names[1])
    axes.set_title(title, fontsize=10)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    figure.savefig(path)


def _draw(axes: Any, curve: Curve, color: str) -> None:
    if len(curve.seeds) > 1:
        axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.2, linewidth=0)
        for x, returns in curve.seeds:
            axes.plot(x, returns, color=color, alpha=0.25, linewidth=0.6)
    few = len(curve.seeds) == 1 and len(curve.x) < _MARKED_POINTS
    number = f" ({len(curve.seeds)} seeds)" if len(curve.seeds) > 1 else ""
    label = (curve.label + number).strip() or "all"
    marker = {"marker": "o" if few else None, "markersize": 3.5}
    axes.plot(curve.x, curve.middle, color=color, linewidth=1.8, label=label, **marker)


def _figure(size: tuple[float, float] = (6.4, 4.0)) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.25, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
