"""Many seeds under one `vmap`: trained environment steps per second and memory, all seeds together.

For 1, 4, … 1024 seeds of CartPole-v1 with m = 16 trajectories each, and beside them one run of the
same size, m = 16 · seeds. The seeds are `jax.vmap` of a scan of `pgjax.update`, jitted; the ratio
of their speed to that of the one run is the price of many policies instead of one.

As in throughput.py, the policy is a trained one, the learning rate is 0 during the measurement, and
only valid steps count: episodes are equally long in all lines. Each seed has its own copy of the
parameters and its own key.

Each figure is from a new process. Its memory is the highest resident memory while the compiled
program runs, less that before the first call, plus the states that are its arguments; compiling is
not in it where Linux lets a process reset its peak. On an accelerator it is the device's own
figure, compiling included.

    python benchmarks/seeds.py
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import (
    compile_ahead,
    markdown,
    measure,
    parser,
    per_second,
    results_folder,
    significant,
    write,
)
from flax import serialization
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from throughput import train_block, trajectory_bytes

import pgjax
from pgjax.training.config import bind

ENVIRONMENT = "CartPole-v1"
TRAJECTORIES = 16  # of each seed
SEEDS = (1, 4, 16, 64, 256, 1024)
HEADLINE = 64  # seeds, beside one run with m = 1024
TARGET_RATIO = 0.8
STEPS = 2**18  # per measured call, about
MAX_UPDATES = 8
MAX_BYTES = 2**32  # of trajectories
LINES = {"seeds": f"seeds, m = {TRAJECTORIES} each", "one_run": "one run of the same size"}
HEADER = (
    "seeds",
    "M steps/s",
    "lowest … highest",
    "MiB",
    "estimate",
    "one run, m",
    "M steps/s",
    "lowest … highest",
    "MiB",
    "estimate",
    "ratio",
)


def main() -> None:
    """Measures, prints a table, writes seeds.json, seeds.md and seeds.png."""
    flags = parser(__doc__.splitlines()[0])
    flags.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    flags = flags.parse_args()
    # Processes share an accelerator's memory; none may take most of it at its start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if flags.worker is not None:
        print(json.dumps(measure_line(**flags.worker)))
        return
    folder = results_folder(flags)
    sizes, target = ((4,), 2**14) if flags.quick else (SEEDS, STEPS)
    with tempfile.TemporaryDirectory() as scratch:
        params = Path(scratch) / "params.msgpack"
        write_params(params, flags.quick)
        points = []
        for num_seeds in sizes:
            points.append(measure_point(num_seeds, target, params))
            print(markdown(HEADER, [row(points[-1])]).splitlines()[-1], flush=True)
    table = markdown(HEADER, map(row, points))
    text = f"{caption()}\n{table}\n{verdict(points)}"
    write(folder, "seeds", {"quick": flags.quick, "points": points})
    (folder / "seeds.md").write_text(text)
    picture(points, folder / "seeds.png")
    print(f"\n{text}\nwritten to {folder}")


def measure_point(num_seeds: int, target: int, params: Path) -> dict[str, Any]:
    """Measures both lines at one size, each in a process of its own, and their ratio."""
    shapes = {"seeds": (num_seeds, TRAJECTORIES), "one_run": (1, num_seeds * TRAJECTORIES)}
    point: dict[str, Any] = {"num_seeds": num_seeds}
    for line, (seeds, m) in shapes.items():
        task = {"num_seeds": seeds, "m": m, "vmapped": line == "seeds", "target": target}
        task["params"] = str(params)
        command = [sys.executable, __file__, "--worker", json.dumps(task)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        point[line] = json.loads(done.stdout.splitlines()[-1])
    if all("steps_per_second" in point[line] for line in LINES):
        seeds, one_run = (point[line]["steps_per_second"] for line in LINES)
        point["ratio"] = significant(seeds / one_run, 3)
    return point


def measure_line(num_seeds: int, m: int, vmapped: bool, target: int, params: str) -> dict[str, Any]:
    """Measures speed and memory of one program in this process."""
    config = frozen(m)
    state = with_params(config, Path(params))
    needed = num_seeds * trajectory_bytes(config, state)
    line: dict[str, Any] = {"num_seeds": num_seeds, "m": m, "trajectory_bytes": needed}
    line["memory_estimate"] = int(pgjax.memory_estimate(config, num_seeds).total)
    if needed > MAX_BYTES:
        return {**line, "skipped": f"{needed / 2**30:.1f} GiB of trajectories"}
    steps = num_seeds * m * bind(config, 0).horizon()
    num_updates = max(1, min(round(target / steps), MAX_UPDATES))
    program = partial(train_block, num_updates=num_updates)
    if vmapped:
        keys = jax.random.split(state.key, num_seeds)
        state = jax.jit(jax.vmap(lambda key: state.replace(key=key)))(keys)
        program = jax.vmap(program, in_axes=(0, None))
    compiled, compile_seconds = compile_ahead(jax.jit(program), state, config)
    forget_peak()
    before, _ = memory()
    num_steps = steps_between(state, compiled(state, config).state)
    seconds = measure(partial(compiled, state, config))
    return {
        **line,
        "num_updates": num_updates,
        **per_second(num_steps, seconds),
        "episode_length": significant(num_steps / (num_seeds * m * num_updates)),
        "compile_seconds": significant(compile_seconds, 3),
        "memory_bytes": memory()[1] - before + state_bytes(state),
        "memory_before_bytes": before,
    }


def frozen(m: int) -> pgjax.Config:
    """The default config with m trajectories, and a learning rate of 0."""
    changes = {"sampler.num_trajectories": m, "optimizer.learning_rate": 0.0}
    return pgjax.Config(env=ENVIRONMENT).replace(**changes)


def write_params(path: Path, quick: bool) -> None:
    """Writes the parameters of a trained policy; of an untrained one if `quick`."""
    start = pgjax.init if quick else lambda *args: pgjax.train(*args).state
    state = start(jax.random.key(0), pgjax.Config(env=ENVIRONMENT))
    path.write_bytes(serialization.to_bytes(state.params))


def with_params(config: pgjax.Config, params: Path) -> pgjax.TrainState:
    """A fresh state with the parameters that were written to a file."""
    state = pgjax.init(jax.random.key(1), config)
    return state.replace(params=serialization.from_bytes(state.params, params.read_bytes()))


def steps_between(before: pgjax.TrainState, after: pgjax.TrainState) -> int:
    """Valid steps of all seeds; each seed's counter is modulo 2³²."""
    steps = np.asarray(after.env_steps) - np.asarray(before.env_steps)
    return int(np.sum(steps, dtype=np.int64))


def state_bytes(state: pgjax.TrainState) -> int:
    """Bytes of the states without their keys."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state.replace(key=None)))


def memory() -> tuple[int, int]:
    """Bytes in use, and their peak: of the device if it counts them, else of this process."""
    stats = jax.devices()[0].memory_stats()
    if stats:
        return stats["bytes_in_use"], stats["peak_bytes_in_use"]
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return peak, peak
    kilobytes = (re.search(rf"{name}:\s+(\d+) kB", status)[1] for name in ("VmRSS", "VmHWM"))
    in_use, peak = (1024 * int(number) for number in kilobytes)
    return in_use, peak


def forget_peak() -> None:
    """Resets the process's peak of memory, where Linux can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def row(point: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    ratio = f"{point['ratio']:.2f}" if "ratio" in point else "—"
    first, *seeds = cells(point["seeds"], "num_seeds")
    return first, *seeds, *cells(point["one_run"], "m"), ratio


def cells(line: dict[str, Any], size: str) -> tuple[str, ...]:
    """One measured program in the table."""
    estimate = mebibytes(line["memory_estimate"]) if "memory_estimate" in line else "—"
    if "skipped" in line:
        return str(line[size]), "—", line["skipped"], "—", estimate
    speeds = (line[name] / 1e6 for name in ("steps_per_second", "lowest", "highest"))
    median, lowest, highest = (f"{speed:.2f}" for speed in speeds)
    spread = f"{lowest} … {highest}"
    return str(line[size]), median, spread, mebibytes(line["memory_bytes"]), estimate


def mebibytes(number: int) -> str:
    """Bytes for a table, in MiB."""
    return f"{number / 2**20:,.0f}"


def caption() -> str:
    """A paragraph that explains the table."""
    return (
        f"{ENVIRONMENT} with a trained policy. Left: seeds under one `vmap`, m = {TRAJECTORIES} "
        "trajectories each, figures for all of them together. Right: one run with as many "
        "trajectories in total. Million valid environment steps per second, median and spread; "
        "memory of the states and of running, measured and as `pgjax.memory_estimate` has "
        "it; ratio of the two speeds. A new process for each figure. "
        "Command: `python benchmarks/seeds.py`.\n"
    )


def verdict(points: list[dict[str, Any]]) -> str:
    """A line about the ratio at `HEADLINE` seeds."""
    chosen = next((p for p in points if p["num_seeds"] == HEADLINE), points[-1])
    num_seeds = chosen["num_seeds"]
    return (
        f"{num_seeds} seeds with m = {TRAJECTORIES} against one run with "
        f"m = {num_seeds * TRAJECTORIES}: {chosen.get('ratio', '—')} of its speed "
        f"(wanted: at least {TARGET_RATIO}).\n"
    )


def picture(points: list[dict[str, Any]], path: Path) -> None:
    """Speed and memory against seeds, log-log; bars from lowest to highest."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    speed, memory_panel = figure.subplots(1, 2)
    for (line, label), color in zip(LINES.items(), ("C1", "C0"), strict=True):
        pairs = [(p["num_seeds"], p[line]) for p in points if "steps_per_second" in p[line]]
        sizes, lines = [size for size, _ in pairs], [measured for _, measured in pairs]
        middle = [x["steps_per_second"] / 1e6 for x in lines]
        spread = [
            [(x["steps_per_second"] - x["lowest"]) / 1e6 for x in lines],
            [(x["highest"] - x["steps_per_second"]) / 1e6 for x in lines],
        ]
        speed.errorbar(sizes, middle, spread, label=label, color=color, marker="o", ms=3.5)
        used = [x["memory_bytes"] / 2**20 for x in lines]
        memory_panel.plot(sizes, used, color=color, marker="o", ms=3.5)
        estimates = [(size, x["memory_estimate"] / 2**20) for size, x in pairs if estimated(x)]
        if estimates:
            name = "memory_estimate" if line == "seeds" else None
            memory_panel.plot(*zip(*estimates, strict=True), "--", color="0.5", label=name)
    speed.set(title="million environment steps/s, all seeds", ylim=(0, None))
    memory_panel.set(title="memory, MiB", yscale="log")
    for panel in (speed, memory_panel):
        format_x(panel, [p["num_seeds"] for p in points])
    handles = [panel.get_legend_handles_labels() for panel in (speed, memory_panel)]
    joined = [first + second for first, second in zip(*handles, strict=True)]
    figure.legend(*joined, loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    figure.savefig(path, dpi=150)


def estimated(line: dict[str, Any]) -> bool:
    """Whether pgjax had an estimate of the memory."""
    return "memory_estimate" in line


def format_x(panel: Any, sizes: list[int]) -> None:
    """Formats the horizontal axis, which is the same in both panels."""
    panel.set(xscale="log", xlabel=f"seeds (one run: m / {TRAJECTORIES})")
    panel.set_xticks(sizes)
    panel.set_xticklabels(sizes)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.grid(alpha=0.3)


if __name__ == "__main__":
    main()
