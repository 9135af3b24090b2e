"""The main job as a user has it: `pgjax train CartPole-v1` with its defaults, seed after seed.

Each seed is a new process, measured from start to end: wall-clock time, and inside it, as the
command reports them, compiling, running, and the mean return of 128 stochastic episodes.

    python benchmarks/first_run.py
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import markdown, parser, results_folder, significant, write
from matplotlib.figure import Figure

HEADER = ("seed", "return", "deterministic", "running s", "compiling s", "process s", "steps/s")
THRESHOLD = 475.0
PATTERNS = {
    "stochastic": r"return, stochastic\s+(\S+)",
    "deterministic": r"return, deterministic\s+(\S+)",
    "run_seconds": r"running time\s+(\S+)",
    "compile_seconds": r"compile time\s+(\S+)",
    "steps_per_second": r"\((\S+) steps/s\)",
}


def main() -> None:
    """Runs the seeds, prints a table, writes first_run.json, first_run.md and first_run.png."""
    flags = parser(__doc__.splitlines()[0]).parse_args()
    folder = results_folder(flags)
    options = ["--num-updates", "2", "--eval-episodes", "4"] if flags.quick else []
    rows = []
    for seed in range(2 if flags.quick else 10):
        rows.append(run(seed, options))
        print(markdown(HEADER, [line(rows[-1])]).splitlines()[-1], flush=True)
    table = markdown(HEADER, map(line, rows))
    solved = sum(row["stochastic"] >= THRESHOLD for row in rows)
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    write(folder, "first_run", {"rows": rows, "medians": medians, "solved": solved})
    (folder / "first_run.md").write_text(table)
    draw(rows, folder / "first_run.png")
    print(f"\n{table}\n{solved} of {len(rows)} seeds reach {THRESHOLD:g}")


def run(seed: int, options: list[str]) -> dict[str, float]:
    """The figures of one process."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pgjax.cli", "train", "CartPole-v1", "--seed", str(seed)]
        command += ["--directory", str(Path(scratch) / "run"), *options]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
    texts = {name: re.search(pattern, done.stdout)[1] for name, pattern in PATTERNS.items()}
    figures = {name: float(text.replace(",", "")) for name, text in texts.items()}
    return {"seed": seed, "process_seconds": significant(seconds), **figures}


def line(row: dict[str, float]) -> list[str]:
    """A row of the table."""
    return [
        str(row["seed"]),
        f"{row['stochastic']:.1f}",
        f"{row['deterministic']:.1f}",
        f"{row['run_seconds']:.2f}",
        f"{row['compile_seconds']:.2f}",
        f"{row['process_seconds']:.2f}",
        f"{row['steps_per_second'] / 1e6:.2f} M",
    ]


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Draws the seconds of each process by their parts."""
    figure = Figure(figsize=(6.4, 3.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    seeds = [row["seed"] for row in rows]
    left = [0.0] * len(rows)
    parts = {"compiling the training": "compile_seconds", "running": "run_seconds"}
    for label, name in parts.items():
        widths = [row[name] for row in rows]
        axes.barh(seeds, widths, left=left, label=label, height=0.7)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    others = [row["process_seconds"] - a for row, a in zip(rows, left, strict=True)]
    label = "imports, evaluation, files"
    axes.barh(seeds, others, left=left, label=label, height=0.7, color="0.8")
    axes.set_xlabel("seconds from process start to end")
    axes.set_ylabel("seed")
    axes.set_yticks(seeds)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
