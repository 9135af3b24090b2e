"""Microseconds of one call of `Agent.act`: one observation and a batch of 64, mode and sample.

CartPole's PPO policy, untrained: the arithmetic does not depend on training. Observations are of
NumPy, as in a loop over Gymnasium, and so are the actions: each call waits for its result.

    python benchmarks/act.py
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import markdown, parser, results_folder, significant, write
from matplotlib.figure import Figure

import pgjax

BATCHES = {"one observation": (), "batch of 64": (64,)}
HEADER = ("observations", "action", "median µs", "lowest", "95 % below", "first call, s")


def measured(agent: pgjax.Agent, batch: tuple[int, ...], sampled: bool, calls: int) -> dict:
    """The times of calls after the first, and of the first, which compiles."""
    obs = np.ones((*batch, 4), np.float32)
    key = jax.random.key(0) if sampled else None
    first = elapsed(lambda: agent.act(obs, key=key))
    times = [1e6 * elapsed(lambda: agent.act(obs, key=key)) for _ in range(calls)]
    return {
        "action": "sample" if sampled else "mode",
        "median_us": significant(statistics.median(times)),
        "lowest_us": significant(min(times)),
        "p95_us": significant(np.percentile(times, 95)),
        "first_seconds": significant(first),
        "calls": calls,
    }


def elapsed(function: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def row(point: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    numbers = (point[name] for name in ("median_us", "lowest_us", "p95_us"))
    return (
        *(point["observations"], point["action"]),
        *(f"{number:.1f}" for number in numbers),
        f"{point['first_seconds']:.2f}",
    )


def picture(points: list[dict[str, Any]], path: Path) -> None:
    """Draws the median times as bars."""
    figure = Figure(figsize=(5, 2), layout="constrained")
    axes = figure.subplots()
    names = [f"{point['observations']}, {point['action']}" for point in points]
    axes.barh(names, [point["median_us"] for point in points], height=0.6)
    axes.invert_yaxis()
    axes.set(xlabel="µs a call, median")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measures, prints a table, writes act.json, .md and .png."""
    flags = parser(__doc__.splitlines()[0]).parse_args()
    folder, calls = results_folder(flags), 20 if flags.quick else 5000
    config = pgjax.ppo("CartPole-v1")
    agent = pgjax.Agent(pgjax.init(jax.random.key(0), config), config)
    points = [
        {"observations": name, **measured(agent, batch, sampled, calls)}
        for name, batch in BATCHES.items()
        for sampled in (False, True)
    ]
    table = markdown(HEADER, map(row, points))
    (folder / "act.md").write_text(table)
    write(folder, "act", {"quick": flags.quick, "points": points})
    picture(points, folder / "act.png")
    print(f"{table}\nwritten to {folder}")


if __name__ == "__main__":
    main()
