"""Pictures. Matplotlib is imported when the first one is drawn."""

from pathlib import Path

import numpy as np

from pgjax.types import Metrics

COLORS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3")


def learning_curve(metrics: Metrics, path: Path, title: str = "") -> None:
    """Mean episode return of each update's trajectories against environment steps, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps, returns = np.asarray(metrics.env_steps), np.asarray(metrics.episode_return)
    marker = "o" if np.sum(np.isfinite(returns)) < 40 else None
    axes.plot(steps, returns, color=COLORS[0], linewidth=1.8, marker=marker, markersize=3.5)
    axes.set_xlabel("environment steps")
    axes.set_ylabel("mean episode return")
    axes.set_title(title, fontsize=11)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.25, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
