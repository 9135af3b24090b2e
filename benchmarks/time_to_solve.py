"""From process start to a solved CartPole-v1: pgjax, Stable-Baselines3, plain PyTorch, rejax.

Solved is a mean return of 475 over 128 fresh episodes with sampled actions. Every seed of every
system is a new process, one after another. Each second from its start until that evaluation has
passed belongs to one part:

  import    the interpreter and the system's packages;
  compile   JAX's tracing and compiling, the initialisation of parameters among it;
  run       training;
  evaluate  the episodes of the evaluations;
  other     making PyTorch's environments, networks and optimizers, the first of which imports
            PyTorch's own compiler.

An evaluation takes place once the latest training episodes have that mean return, too: the 64 of an
update in pgjax, the last 20 otherwise; rejax, which does not keep them, is evaluated every 2500
steps. "Not reached" means more than 120 s, or, for Stable-Baselines3's PPO, more steps than its
learning rate's schedule. The hyperparameters are pgjax's defaults, those that RL
Baselines3 Zoo and rejax have for CartPole, and PyTorch's in `torch_reinforce.py`. PyTorch runs on
one thread.

Cold is an empty compilation cache, as a new user has it; warm is JAX's persistent cache the second
time. Before the seeds of each system an uncounted process, without time for training, reads its
packages from the disk.

    pip install -e '.[benchmarks]' && python benchmarks/time_to_solve.py
"""

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from common import markdown, parser, results_folder, significant, write
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from solvers import PARTS

from pgjax.core.distribution import versions

THRESHOLD = 475.0
BUDGET = 120.0  # seconds from process start, for a seed
PGJAX_SEEDS = 10
OTHER_SEEDS = 3
HEADER = ("system", "solved", "seconds, median (range)", *PARTS, "env steps")
COLORS = dict(zip(PARTS, ("0.7", "C0", "C1", "C2", "0.88"), strict=True))
INSTALL = "pip install -e '.[benchmarks]'"


class System(NamedTuple):
    """A system to compare with.

    Attributes:
      solver: its name in solvers.py.
      label: its name in the table.
      packages: those that it needs.
    """

    solver: str
    label: str
    packages: tuple[str, ...]


OTHERS = (
    System("sb3_ppo", "Stable-Baselines3 PPO", ("stable_baselines3", "gymnasium", "torch")),
    System("sb3_a2c", "Stable-Baselines3 A2C", ("stable_baselines3", "gymnasium", "torch")),
    System("torch_reinforce", "PyTorch REINFORCE", ("torch", "gymnasium")),
    System("rejax_ppo", "rejax PPO", ("rejax", "gymnax")),
)


def main() -> None:
    """Runs the processes, prints a table, writes time_to_solve.json, .md and .png."""
    flags = parser(__doc__.splitlines()[0]).parse_args()
    folder = results_folder(flags)
    threshold = 40.0 if flags.quick else THRESHOLD
    systems = measure_pgjax(1 if flags.quick else PGJAX_SEEDS, threshold, warm_up=not flags.quick)
    if not flags.quick:
        systems += [measure(system, OTHER_SEEDS, threshold) for system in OTHERS]
    table = markdown(HEADER, map(line, systems))
    settings = {"quick": flags.quick, "threshold": threshold, "budget_seconds": BUDGET}
    write(folder, "time_to_solve", {**settings, "systems": systems})
    (folder / "time_to_solve.md").write_text(table)
    draw(systems, threshold, folder / "time_to_solve.png")
    print(f"\n{table}\nwritten to {folder}")


def measure_pgjax(num_seeds: int, threshold: float, warm_up: bool) -> list[dict[str, Any]]:
    """Measures each seed twice: with an empty compilation cache, then with the filled one."""
    if warm_up:
        process("pgjax", 0, threshold, budget=0)
    pairs = []
    for seed in range(num_seeds):
        with tempfile.TemporaryDirectory() as cache:
            pairs.append([process("pgjax", seed, threshold, cache=cache) for _ in range(2)])
    errors = [row["error"] for pair in pairs for row in pair if "error" in row]
    if errors:  # for other systems a result, for pgjax a broken benchmark
        raise RuntimeError(f"pgjax did not run: {errors[0]}")
    labels = ("pgjax, cold cache", "pgjax, warm cache")
    return [
        summary(label, ("pgjax", "jax"), list(rows))
        for label, rows in zip(labels, zip(*pairs, strict=True), strict=True)
    ]


def measure(system: System, num_seeds: int, threshold: float) -> dict[str, Any]:
    """The seeds of another system, or the reason that it has none."""
    missing = [name for name in system.packages if importlib.util.find_spec(name) is None]
    if missing:
        return absent(system, f"not installed: {INSTALL}")
    warm_up = process(system.solver, 0, threshold, budget=0)
    if "error" in warm_up:
        first, *others = versions(system.packages).items()
        beside = ", ".join(" ".join(package) for package in others)
        status = f"{' '.join(first)} does not run with {beside}: {warm_up['error']}"
        return absent(system, status)
    rows = [process(system.solver, seed, threshold) for seed in range(num_seeds)]
    return summary(system.label, system.packages, rows)


def process(
    solver: str, seed: int, threshold: float, budget: float = BUDGET, cache: str | None = None
) -> dict[str, Any]:
    """The report of one process; {"error": reason} if it has none."""
    command = [sys.executable, str(Path(__file__).with_name("solvers.py")), solver]
    command += ["--seed", str(seed), "--threshold", str(threshold), "--budget", str(budget)]
    command += [] if cache is None else ["--cache", cache]
    # Without the user's own cache, which would be warm.
    env = {name: x for name, x in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    command += ["--started", repr(time.time())]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    try:
        row = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        row = {"error": f"exit status {done.returncode}: {done.stderr.strip()[-500:]}"}
    row = {name: significant(x) if isinstance(x, float) else x for name, x in row.items()}
    if budget:
        print(solver, *(f"{name} {x}" for name, x in row.items()), flush=True)
    return row


def summary(label: str, packages: tuple[str, ...], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The seeds of a system and their medians; the seconds' is None if it was not reached."""
    failed = [row for row in rows if "error" in row]
    if failed:
        return {"system": label, "status": failed[0]["error"], "rows": [], "packages": {}}
    medians = {
        name: significant(statistics.median(row[name] for row in rows))
        for name in (*PARTS, "steps", "return")
    }
    total = statistics.median(map(seconds, rows))
    return {
        "system": label,
        "status": "measured",
        "packages": versions(packages),
        "reached": sum(row["reached"] for row in rows),
        "medians": {"seconds": significant(total) if math.isfinite(total) else None, **medians},
        "rows": rows,
    }


def absent(system: System, status: str) -> dict[str, Any]:
    """A system without figures."""
    return {"system": system.label, "status": status, "packages": versions(system.packages)}


def seconds(row: dict[str, Any]) -> float:
    """Seconds from process start to solved; infinity if that was not reached."""
    return row["seconds"] if row["reached"] else math.inf


def line(system: dict[str, Any]) -> list[str]:
    """A row of the table."""
    if system["status"] != "measured":
        return [system["system"], "", system["status"], *[""] * (len(HEADER) - 3)]
    rows, medians = system["rows"], system["medians"]
    parts = (f"{medians[name]:.2f}" for name in PARTS)
    steps = f"{medians['steps'] / 1000:.0f} k"
    return [system["system"], f"{system['reached']} of {len(rows)}", spread(rows), *parts, steps]


def spread(rows: list[dict[str, Any]]) -> str:
    """Median and range of the seconds to solved."""
    times = [seconds(row) for row in rows]
    low, middle, high = map(shown, (min(times), statistics.median(times), max(times)))
    return f"{middle} ({low} to {high})" if len(times) > 1 else middle


def shown(x: float) -> str:
    """Seconds as text."""
    return f"{x:.1f}" if math.isfinite(x) else "not reached"


def draw(systems: list[dict[str, Any]], threshold: float, path: Path) -> None:
    """Draws the median seconds of each part: all systems, and pgjax once more at its own scale."""
    ours = [system for system in systems if system["system"].startswith("pgjax")]
    rows = (len(systems), len(ours)) if len(systems) > len(ours) else (len(ours),)
    figure = Figure(figsize=(8, 1.5 + 0.42 * sum(rows)), dpi=120, layout="constrained")
    panels = figure.subplots(len(rows), squeeze=False, height_ratios=rows)[:, 0]
    bars(panels[0], systems, [words(system) for system in systems])
    if len(rows) > 1:
        bars(panels[1], ours, [f"{system['medians']['run']:.2f} running" for system in ours])
    label_parts(panels[-1], ours)
    panels[-1].set_xlabel(f"seconds from process start to a mean return of {threshold:g}, medians")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=len(PARTS), frameon=False)
    figure.savefig(path)


def words(system: dict[str, Any]) -> str:
    """Median and range, or the reason that there are none."""
    return spread(system["rows"]) if "medians" in system else system["status"].partition(":")[0]


def bars(axes: Axes, systems: list[dict[str, Any]], texts: list[str]) -> None:
    """Draws one stacked bar for each system, the first at the top, and a text beside it."""
    measured = [system.get("medians", dict.fromkeys(PARTS, 0.0)) for system in systems]
    left = [0.0] * len(systems)
    for name in PARTS:
        widths = [medians[name] for medians in measured]
        axes.barh(range(len(systems)), widths, 0.66, left, color=COLORS[name], label=name)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for y, (text, end) in enumerate(zip(texts, left, strict=True)):
        axes.annotate(text, (end, y), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(systems)), [system["system"] for system in systems])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(left))  # room for the words
    axes.spines[["top", "right"]].set_visible(False)


def label_parts(axes: Axes, systems: list[dict[str, Any]]) -> None:
    """Writes the seconds of each part into the bars that are wide enough."""
    least_width = 0.03 * axes.get_xlim()[1]
    for y, system in enumerate(systems):
        left = 0.0
        for name in PARTS:
            width = system["medians"][name]
            if width > least_width:
                color = "white" if name == "compile" else "black"
                middle = {"ha": "center", "va": "center"}
                axes.text(left + width / 2, y, f"{width:.1f}", color=color, fontsize=8, **middle)
            left += width


if __name__ == "__main__":
    main()
