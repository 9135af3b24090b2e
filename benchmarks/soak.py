"""A long run with checkpoints: growth of memory and open files, and loss of speed.

`pgjax train` in a process of its own, with a checkpoint every ten seconds; from outside, every few
seconds, its resident memory and open files are read, and the speed from its metrics.csv.

    python benchmarks/soak.py --minutes 60
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import parser, results_folder, significant, write
from matplotlib.figure import Figure

from pgjax.runs import folders

INTERVAL = 5.0  # seconds between two samples
FLAGS = ("--num-updates", "100000000", "--checkpoint-seconds", "10", "--metrics-every", "10")
WARM_UP = 60.0  # seconds that are left out: compilation, the first checkpoints


def main() -> None:
    """Runs, watches, writes soak.json and soak.png."""
    flags = parser(__doc__.splitlines()[0])
    flags.add_argument("--minutes", type=float, default=60.0)
    flags = flags.parse_args()
    folder = results_folder(flags)
    seconds = 12.0 if flags.quick else 60.0 * flags.minutes
    with tempfile.TemporaryDirectory() as root:
        samples = watched(Path(root) / "run", seconds, 1.0 if flags.quick else INTERVAL)
        speeds = speed(Path(root) / "run", 2.0 if flags.quick else 60.0)
    result = {"quick": flags.quick, "minutes": seconds / 60, "flags": FLAGS, **samples}
    result |= {"speeds": speeds, **summary(samples, speeds, 3.0 if flags.quick else WARM_UP)}
    write(folder, "soak", result)
    picture(samples, speeds, folder / "soak.png")
    shown = ("memory_growth_mib", "memory_growth_percent", "speed_last_by_first", "files_growth")
    print("\n".join(f"{name}: {result[name]}" for name in shown) + f"\nwritten to {folder}")


def watched(run: Path, seconds: float, interval: float) -> dict[str, list[float]]:
    """Samples of time, resident memory and open files of a training process, ended by SIGTERM."""
    command = [sys.executable, "-m", "pgjax.cli", "train", "CartPole-v1", *FLAGS]
    process = subprocess.Popen([*command, "--directory", str(run)], stdout=subprocess.DEVNULL)
    while not (run / "metrics.csv").exists() and process.poll() is None:
        time.sleep(0.1)
    samples: dict[str, list[float]] = {"seconds": [], "memory_mib": [], "open_files": []}
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        samples["seconds"].append(round(time.monotonic() - started, 1))
        samples["memory_mib"].append(resident_mib(process.pid))
        samples["open_files"].append(len(os.listdir(f"/proc/{process.pid}/fd")))
        time.sleep(interval)
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=120)
    if code != 128 + signal.SIGTERM:
        raise RuntimeError(f"the run ended with {code}")
    return samples


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def speed(run: Path, window: float) -> list[float]:
    """Environment steps per second of running, window after window."""
    metrics = folders.read(run).metrics
    seconds, steps = metrics["seconds"], metrics["env_steps"]
    edges = np.searchsorted(seconds, np.arange(seconds[0], seconds[-1], window))
    edges = np.unique(edges)  # a window in which nothing was written is part of the next
    return [significant(x) for x in np.diff(steps[edges]) / np.diff(seconds[edges])]


def summary(samples: dict[str, list[float]], speeds: list[float], warm_up: float) -> dict[str, Any]:
    """Growth after the warm-up: of memory, along a straight line fitted to it; of open files, from
    the first sample to the last; and the speed of the last tenth of the windows by the first's."""
    seconds, memory = (np.array(samples[name]) for name in ("seconds", "memory_mib"))
    warm = seconds >= warm_up
    slope, level = np.polyfit(seconds[warm], memory[warm], 1)
    growth = slope * (seconds[warm][-1] - seconds[warm][0])
    warm_speeds, tenth = speeds[1:], max(1, len(speeds) // 10)
    files = np.array(samples["open_files"])[warm]
    return {
        "memory_growth_mib": significant(growth, 3),
        "memory_growth_percent": significant(100 * growth / level, 3),
        "speed_last_by_first": significant(
            np.mean(warm_speeds[-tenth:]) / np.mean(warm_speeds[:tenth]), 3
        ),
        "files_growth": int(files[-1] - files[0]),
    }


def picture(samples: dict[str, list[float]], speeds: list[float], path: Path) -> None:
    """Memory, speed and open files against time."""
    figure = Figure(figsize=(7.5, 5.0), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    minutes = np.array(samples["seconds"]) / 60
    panels[0].plot(minutes, samples["memory_mib"])
    panels[0].set(ylabel="resident MiB")
    ends = np.linspace(0, minutes[-1], len(speeds) + 1)[1:]
    panels[1].plot(ends, np.array(speeds) / 1e6, marker=".")
    panels[1].set(ylabel="M steps/s")
    panels[2].plot(minutes, samples["open_files"])
    panels[2].set(ylabel="open files", xlabel="minutes")
    for panel in panels:
        panel.set_ylim(0, 1.1 * panel.dataLim.ymax)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
