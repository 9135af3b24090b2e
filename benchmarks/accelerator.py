"""Trained environment steps per second on an accelerator and on the machine's CPU.

  REINFORCE  whole episodes of CartPole (500 steps each) and Breakout, m side by side;
  seeds      so many of them under one `vmap`, m = 16 each;
  PPO        segments of 128 steps, four passes of four minibatches; on Breakout with the CNN, with
             two networks and with one for policy and value.

As in throughput.py: a trained policy, a learning rate of 0 during the measurement, only valid steps
count, compilation is measured apart. The CPU's figures are from a second process, which uses all
cores, one device each; seeds stay on one. Each program runs twice on the same input: "same bits"
says whether all numbers agree. Left out are programs that need more than a quarter of the memory,
or more than `--seconds` for a call.

    python benchmarks/accelerator.py
    python benchmarks/accelerator.py --draw    # table and picture from accelerator.json alone
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

# Processes share an accelerator's memory; none may take most of it at its start.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax

from pgjax.core import parallel

if os.environ.get("JAX_PLATFORMS") == "cpu":
    parallel.use_cores()  # before gymnax, which starts JAX's devices when it is imported

import numpy as np
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
from matplotlib.patches import Patch
from seeds import steps_between
from throughput import train_block, trained

import pgjax

UPDATES = 2
# Environment variables of a process on each.
PLATFORMS = {"accelerator": {}, "cpu": {"JAX_PLATFORMS": "cpu"}}
HEADER = (
    "environment",
    "algorithm",
    "side by side",
    "accelerator, M steps/s",
    "compile, s",
    "CPU, M steps/s",
    "compile, s",
    "ratio",
    "same bits",
)


def main() -> None:
    """Measures on both, prints a table, writes accelerator.json, .md and .png."""
    flags = parser(__doc__.splitlines()[0])
    flags.add_argument("--seconds", type=float, default=20.0, help="the longest call on either")
    flags.add_argument(
        "--draw", action="store_true", help="from accelerator.json, without measuring"
    )
    flags.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    flags = flags.parse_args()
    if flags.worker is not None:
        measure_all(flags.quick, flags.seconds, flags.worker)
        return
    folder = results_folder(flags)
    if not flags.draw:
        platforms = {name: measured_on(name, folder, flags) for name in PLATFORMS}
        write(folder, "accelerator", {"quick": flags.quick, **platforms})
    results = json.loads((folder / "accelerator.json").read_text())
    pairs = list(zip(*(results[name]["points"] for name in PLATFORMS), strict=True))
    table = markdown(HEADER, (row(*pair) for pair in pairs))
    (folder / "accelerator.md").write_text(table)
    picture(pairs, folder / "accelerator.png")
    print(f"\n{table}\nwritten to {folder}")


def measured_on(platform: str, folder: Path, flags: argparse.Namespace) -> dict[str, Any]:
    """Facts and points of a process of its own; should it fail, its file keeps what it measured."""
    file = folder / f"accelerator-{platform}.json"
    command = [sys.executable, __file__, "--worker", str(file), "--seconds", str(flags.seconds)]
    command += ["--quick"] * flags.quick
    subprocess.run(command, check=True, env=os.environ | PLATFORMS[platform])
    result = json.loads(file.read_text())
    file.unlink()
    return result


def measure_all(quick: bool, seconds: float, file: Path) -> None:
    """Measures every case on this process's devices; writes the file after each."""
    points = []
    print(f"{jax.device_count()} × {jax.devices()[0].device_kind}", flush=True)
    for case in quick_cases() if quick else cases():
        points.append(measured(case, seconds))
        print(json.dumps(points[-1]), flush=True)
        file.write_text(json.dumps({"facts": environment_facts(), "points": points}))


def cases() -> Iterator[dict[str, Any]]:
    """The lines of the table, see `case`."""
    for env, sizes in (("CartPole-v1", (64, 1024, 16384)), ("Breakout-MinAtar", (64, 1024, 4096))):
        for m in sizes:
            yield case("REINFORCE", pgjax.Config(env), {"sampler.num_trajectories": m}, m)
    for seeds in (64, 1024):
        small = {"sampler.num_trajectories": 16}
        yield case(f"{seeds} seeds", pgjax.Config("CartPole-v1"), small, 16 * seeds, seeds)
    for width in (256, 4096):
        yield case("PPO", pgjax.ppo("CartPole-v1"), {"sampler.num_envs": width}, width)
    network = {"network": pgjax.CNN()}
    for name, changes in (
        ("two networks", network),
        ("one network", network | {"critic": pgjax.SharedCritic()}),
    ):
        for width in (256, 4096):
            config = pgjax.ppo("Breakout-MinAtar").replace(**changes)
            yield case(f"PPO, CNN, {name}", config, {"sampler.num_envs": width}, width)


def quick_cases() -> Iterator[dict[str, Any]]:
    """One small case."""
    small = {"sampler.num_trajectories": 4}
    yield case("2 seeds", pgjax.Config("Catch-bsuite"), small, 8, 2)


def case(
    name: str, config: pgjax.Config, changes: dict[str, Any], width: int, num_seeds: int = 1
) -> dict[str, Any]:
    """One line of the table.

    Args:
      name: the algorithm's, in the table.
      config: its config.
      changes: to the config.
      width: trajectories or environments side by side, of all seeds together.
      num_seeds: under one `vmap`.
    """
    rate = {"optimizer.learning_rate": 0.0}
    config = config.replace(**changes, **rate, num_updates=UPDATES)
    return {"name": name, "width": width, "config": config, "num_seeds": num_seeds}


def measured(case: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Measures the speed of a case's program, and whether it gives the same bits twice."""
    config, num_seeds = case["config"], case["num_seeds"]
    point = {"env": config.env, "name": case["name"], "width": case["width"]}
    needed = pgjax.memory_estimate(config, num_seeds).total
    if needed > memory_bytes() / 4:
        return {**point, "skipped": f"{needed / 2**30:.0f} GiB"}
    state = start(config)
    mesh = pgjax.make_mesh() if jax.device_count() > 1 and num_seeds == 1 else None
    program = partial(train_block, num_updates=UPDATES, mesh=mesh)
    if num_seeds > 1:
        keys = jax.random.split(state.key, num_seeds)
        state = jax.jit(jax.vmap(lambda key: state.replace(key=key)))(keys)
        program = jax.vmap(program, in_axes=(0, None))
    compiled, compile_seconds = compile_ahead(jax.jit(program), state, config)
    point["compile_seconds"] = significant(compile_seconds, 3)
    call = partial(compiled, state, config)
    first, once = timed(call)
    if once > seconds:
        return {**point, "skipped": f"{once:.0f} s a call"}
    num_steps = steps_between(state, first.state)
    point |= per_second(num_steps, measure(call, repeats=5, seconds=5.0))
    return {**point, "same_bits": same_bits(first, call())}


def start(config: pgjax.Config) -> pgjax.TrainState:
    """A state with a trained policy for whole episodes, whose length depends on it; else a fresh
    state."""
    state = pgjax.init(jax.random.key(1), config)
    if not isinstance(config.sampler, pgjax.Episodes):
        return state
    if config.env not in _LEARNED:
        overrides = {"num_updates": 60} if config.env == "CartPole-v1" else {}
        _LEARNED[config.env] = trained(config.env, overrides)[1].params
    return state.replace(params=_LEARNED[config.env])


_LEARNED: dict[str, Any] = {}


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """A call's result, and its seconds."""
    begin = time.perf_counter()
    result = jax.block_until_ready(call())
    return result, time.perf_counter() - begin


def same_bits(first: pgjax.TrainResult, second: pgjax.TrainResult) -> bool:
    """Whether two results agree in every bit of parameters and metrics."""
    pairs = zip(
        jax.tree.leaves((first.state.params, first.metrics)),
        jax.tree.leaves((second.state.params, second.metrics)),
        strict=True,
    )
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def memory_bytes() -> int:
    """The memory of the device or, without its own, of the machine."""
    stats = jax.devices()[0].memory_stats()
    return (
        stats["bytes_limit"] if stats else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
    )


def row(accelerator: dict[str, Any], cpu: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    cells = []
    for point in (accelerator, cpu):
        speed = point.get("steps_per_second")
        cells.append(f"{speed / 1e6:.3g}" if speed else f"left out: {point['skipped']}")
        cells.append(f"{point.get('compile_seconds', 0):.1f}")
    speed_ratio = ratio(accelerator, cpu)
    bits = [{True: "yes", False: "no"}.get(p.get("same_bits"), "—") for p in (accelerator, cpu)]
    return (
        accelerator["env"],
        accelerator["name"],
        str(accelerator["width"]),
        *cells,
        f"{speed_ratio:.2g}" if speed_ratio else "—",
        ", ".join(bits),
    )


def ratio(accelerator: dict[str, Any], cpu: dict[str, Any]) -> float | None:
    """The accelerator's speed by the CPU's; None if one of them was left out."""
    speeds = [point.get("steps_per_second") for point in (accelerator, cpu)]
    return speeds[0] / speeds[1] if all(speeds) else None


def picture(pairs: list[tuple[dict[str, Any], dict[str, Any]]], path: Path) -> None:
    """Draws the steps/s of each case as two bars."""
    figure = Figure(figsize=(7.5, 0.8 + 0.34 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    for index, pair in enumerate(pairs):
        for offset, color, point in zip((-0.2, 0.2), ("C1", "C0"), pair, strict=True):
            speed = point.get("steps_per_second")
            if speed:
                axes.barh(index + offset, speed, 0.38, color=color)
                axes.text(speed * 1.1, index + offset, f"{speed / 1e6:.3g} M", va="center", size=7)
    labels = [f"{p['env'].partition('-')[0]}, {p['name']}, {p['width']}" for p, _ in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set(
        xscale="log", xlabel="trained environment steps/s; the number is how many side by side"
    )
    axes.margins(x=0.12)
    axes.legend(
        [Patch(color="C1"), Patch(color="C0")],
        ["accelerator", "CPU, all cores; seeds: one"],
        fontsize=8,
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
