"""One run on several devices: trained environment steps per second against their number.

`pgjax.update(state, config, mesh=pgjax.make_mesh(n))` on CartPole-v1, scanned over,

  strong  m = 256 trajectories in total, divided over n devices;
  weak    m = 64 trajectories on each of n devices,

with a trained policy and a learning rate of 0 during the measurement; only valid steps count, as in
throughput.py. Speed-up is relative to one device and no mesh; efficiency is speed-up / n. Each n
has a new process.

And the price of more processes: strong scaling with two processes of one device each, joined by
`jax.distributed`, each bound to a core of its own as SLURM and MPI bind theirs, beside one process
with two devices.

On a CPU the devices are JAX's: threads on the machine's cores, whose number the results state. More
devices than cores share them, and a line shows the cost of sharing, not the gain of more hardware.
One device is not one core either: XLA runs some of its operations on several. On another backend
the first n real devices are used, as many as exist, and the two processes are left out.

    python benchmarks/scaling.py
"""

# ruff: noqa: E402
import json
import os
import sys

import jax

# Devices and processes must be set before anything computes, and gymnax computes when imported: a
# worker, `--worker TASK`, sets its own before the other imports.
TASK = json.loads(sys.argv[2]) if sys.argv[1:2] == ["--worker"] else None
if TASK is not None:
    jax.config.update("jax_num_cpu_devices", TASK["local_devices"])
    if "processes" in TASK:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[TASK["core"]]})
        jax.distributed.initialize(**TASK["processes"])

import socket
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from common import (
    compile_ahead,
    environment_facts,
    markdown,
    measure,
    parser,
    per_second,
    results_folder,
    significant,
    write,
)
from matplotlib.figure import Figure
from seeds import ENVIRONMENT, frozen, steps_between, with_params, write_params
from throughput import train_block

import pgjax
from pgjax.core import parallel

DEVICES = (1, 2, 4, 8)
STRONG = 256  # trajectories in total
WEAK = 64  # trajectories on each device
NUM_UPDATES = 4  # per measured call
TARGET_RATIO = 0.8  # of one process with two devices, by two with one each
PATIENCE = 900  # seconds for two processes that wait for each other
TITLES = {"strong": "strong: m = {} in total", "weak": "weak: m = {} per device"}
HEADER = (
    "devices",
    "processes",
    "scaling",
    "m",
    "M steps/s",
    "lowest … highest",
    "speed-up",
    "efficiency",
)


def main() -> None:
    """Measures, prints a table, writes scaling.json, scaling.md and scaling.png."""
    flags = parser(__doc__.splitlines()[0]).parse_args()
    # Processes share an accelerator's memory; none may take most of it at its start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    folder = results_folder(flags)
    strong, weak = (16, 8) if flags.quick else (STRONG, WEAK)
    facts = environment_facts()
    with tempfile.TemporaryDirectory() as scratch:
        params = Path(scratch) / "params.msgpack"
        write_params(params, flags.quick)
        task = {"params": str(params), "repeats": 3 if flags.quick else 10}
        points = []
        for n in numbers(facts, flags.quick):
            sizes = {"strong": strong, "weak": weak * n}
            points += worker({**task, "local_devices": n, "sizes": sizes})
            print(f"{n} devices measured", flush=True)
        if facts["platform"] == "cpu" and any(point["devices"] == 2 for point in points):
            points += two_processes({**task, "local_devices": 1, "sizes": {"strong": strong}})
    relate(points)
    table = markdown(HEADER, map(row, points))
    ratio = process_ratio(points)
    text = f"{caption(facts)}\n{table}\n{verdict(ratio)}"
    result = {"quick": flags.quick, "strong": strong, "weak": weak, "points": points}
    write(folder, "scaling", {**result, "two_processes": ratio})
    (folder / "scaling.md").write_text(text)
    picture(result, facts, folder / "scaling.png")
    print(f"\n{text}\nwritten to {folder}")


def numbers(facts: dict[str, Any], quick: bool) -> list[int]:
    """The numbers of devices to measure; on a CPU any number can be made."""
    most = DEVICES[-1] if facts["platform"] == "cpu" else facts["num_devices"]
    return [n for n in (DEVICES[:2] if quick else DEVICES) if n <= most]


def worker(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The points that a new process with devices of its own measures."""
    done = subprocess.run(command(task), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def two_processes(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The points that two new processes measure together, reported by the first."""
    shared = {"coordinator_address": f"127.0.0.1:{free_port()}", "num_processes": 2}
    tasks = ({**task, "core": i, "processes": {**shared, "process_id": i}} for i in range(2))
    processes = [
        subprocess.Popen(command(task), stdout=subprocess.PIPE, text=True) for task in tasks
    ]
    try:
        outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise RuntimeError("a process failed; its error is above")
    return json.loads(outputs[0].splitlines()[-1])


def command(task: dict[str, Any]) -> list[str]:
    """The command line of a worker."""
    return [sys.executable, __file__, "--worker", json.dumps(task)]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def measure_task(task: dict[str, Any]) -> list[dict[str, Any]]:
    """A point for "strong" and for "weak", as far as the task has them; for a worker."""
    # All devices of all processes; a machine may have more accelerators than the task takes.
    num_devices = task["local_devices"] * jax.process_count()
    mesh = pgjax.make_mesh(num_devices) if num_devices > 1 else None
    hardware = {"devices": num_devices, "processes": jax.process_count()}
    params, sizes = Path(task["params"]), task["sizes"]
    # Strong and weak may have the same size; sorted, since processes must agree on the order.
    speeds = {m: speed(m, mesh, params, task["repeats"]) for m in sorted(set(sizes.values()))}
    return [{**hardware, "scaling": name, "m": m, **speeds[m]} for name, m in sizes.items()]


def speed(m: int, mesh: Any, params: Path, repeats: int) -> dict[str, Any]:
    """Steps per second of updates with m trajectories in total."""
    config = frozen(m)
    args = parallel.replicated((with_params(config, params), config), mesh)
    program = partial(train_block, num_updates=NUM_UPDATES, mesh=mesh)
    compiled, compile_seconds = compile_ahead(jax.jit(program), *args)
    num_steps = steps_between(args[0], compiled(*args).state)
    # Without a limit of time: processes that make unequal numbers of calls would wait for ever.
    seconds = measure(partial(compiled, *args), repeats, seconds=1e9)
    return {
        **per_second(num_steps, seconds),
        "episode_length": significant(num_steps / (m * NUM_UPDATES)),
        "compile_seconds": significant(compile_seconds, 3),
    }


def relate(points: list[dict[str, Any]]) -> None:
    """Gives each point its speed-up over one device, and its efficiency."""
    alone = {p["scaling"]: p["steps_per_second"] for p in points if p["devices"] == 1}
    for point in points:
        speed_up = point["steps_per_second"] / alone[point["scaling"]]
        point["speed_up"] = significant(speed_up, 3)
        point["efficiency"] = significant(speed_up / point["devices"], 3)


def process_ratio(points: list[dict[str, Any]]) -> float | None:
    """The speed of two processes relative to one with as many devices; None: not measured."""
    speeds = {
        p["processes"]: p["steps_per_second"]
        for p in points
        if p["devices"] == 2 and p["scaling"] == "strong"
    }
    return significant(speeds[2] / speeds[1], 3) if len(speeds) == 2 else None


def row(point: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    return (
        str(point["devices"]),
        str(point["processes"]),
        point["scaling"],
        str(point["m"]),
        f"{point['steps_per_second'] / 1e6:.2f}",
        f"{point['lowest'] / 1e6:.2f} … {point['highest'] / 1e6:.2f}",
        f"{point['speed_up']:.2f}",
        f"{point['efficiency']:.2f}",
    )


def caption(facts: dict[str, Any]) -> str:
    """A paragraph that explains the table and its limits."""
    text = (
        f"{ENVIRONMENT} with a trained policy, m trajectories per update in total. Million valid "
        "environment steps per second, median and spread; speed-up over one device; efficiency is "
        "speed-up by devices. "
    )
    if facts["platform"] == "cpu":
        text += (
            f"Measured on CPU devices of a machine with {facts['num_cores']} cores: beyond "
            f"{facts['num_cores']} devices they share cores, and the figures show what that "
            "costs, not how more hardware would scale. "
        )
    return text + "Command: `python benchmarks/scaling.py`.\n"


def verdict(ratio: float | None) -> str:
    """A line about two processes against one with the same devices."""
    if ratio is None:
        return "Two processes were not measured: that is done with CPU devices.\n"
    return (
        f"Two processes with one device each reach {ratio} of the speed of one process with two "
        f"devices (wanted: at least {TARGET_RATIO}).\n"
    )


def picture(result: dict[str, Any], facts: dict[str, Any], path: Path) -> None:
    """Speed against devices, strong and weak, with the ideal as far as there is hardware."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    cpu = facts["platform"] == "cpu"
    hardware = facts["num_cores"] if cpu else facts["num_devices"]
    for panel, (scaling, title) in zip(panels, TITLES.items(), strict=True):
        points = [p for p in result["points"] if p["scaling"] == scaling]
        draw(panel, [p for p in points if p["processes"] == 1], "C1", "o", "one process")
        several = [p for p in points if p["processes"] > 1]
        if several:
            draw(panel, several, "C0", "D", "two processes, a device each")
        most = max(p["devices"] for p in points)
        ideal = [1, min(hardware, most)]
        alone = next(p["steps_per_second"] for p in points if p["devices"] == 1)
        label = f"ideal, up to {hardware} {'cores' if cpu else 'devices'}"
        panel.plot(ideal, [n * alone / 1e6 for n in ideal], "--", color="0.5", label=label)
        if most > hardware:
            panel.axvspan(hardware, most * 1.06, color="0.93", zorder=0)
            middle = (hardware + most) / 2
            panel.text(middle, 0.06, "devices share cores", ha="center", color="0.4", fontsize=9)
        panel.set(title=title.format(result[scaling]), xlabel="devices", xlim=(0, most * 1.06))
        panel.set_xticks(sorted({p["devices"] for p in points}))
        panel.set_ylim(0, None)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("million environment steps/s")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    figure.savefig(path, dpi=150)


def draw(panel: Any, points: list[dict[str, Any]], color: str, marker: str, label: str) -> None:
    """Draws a line of medians, with bars from lowest to highest."""
    numbers = [p["devices"] for p in points]
    middle, lowest, highest = (
        [p[name] / 1e6 for p in points] for name in ("steps_per_second", "lowest", "highest")
    )
    spread = [
        [y - low for y, low in zip(middle, lowest, strict=True)],
        [high - y for y, high in zip(middle, highest, strict=True)],
    ]
    panel.errorbar(numbers, middle, spread, color=color, marker=marker, ms=4.5, label=label)


if __name__ == "__main__":
    if TASK is None:
        main()
    else:
        measured_points = measure_task(TASK)
        if jax.process_index() == 0:
            print(json.dumps(measured_points))
