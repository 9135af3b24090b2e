"""MuJoCo on the host: pgjax's presets beside Stable-Baselines3's PPO, in return and in speed.

Every seed of each system is a process of its own, `host_trainers.py`: a million steps of
HalfCheetah, Hopper and Swimmer, then 20 episodes with sampled actions and 20 with the mode.
pgjax has its presets, with the environments in two processes; Stable-Baselines3 the settings of RL
Baselines3 Zoo, on one core, and so with one environment, as these settings say. Its speed counts
twice: the machine has two cores, and two such processes would use both.

Speed is measured apart, on a quiet machine: five short processes of each system in turn.

It runs for hours, and may be interrupted: what is there with the same settings is kept.

    pip install -e '.[mujoco,benchmarks]' && python benchmarks/host.py [--env …] [--only speed]
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, parser, results_folder, significant, write
from host_trainers import SYSTEMS, ZOO
from matplotlib.figure import Figure

import pgjax
from pgjax.core.distribution import versions
from pgjax.runs import config_json

STEPS, EPISODES, SEEDS = 10**6, 20, 3
SPEED_STEPS, REPEATS = 20_480, 5
PARTS = ("returns", "speed")
LABELS = {"pgjax": "pgjax", "sb3": "Stable-Baselines3"}
PUBLISHED = {"HalfCheetah-v5": 5819, "Hopper-v5": 2410, "Swimmer-v5": 282}
HEADER = (
    *("environment", "system", "return", "each seed", "mode", "each seed", "Zoo, v3, mode"),
    *("steps/s", "range", "beside 2 × SB3"),
)
CAPTION = (
    f"{SEEDS} seeds of a million steps, each evaluated on {EPISODES} fresh episodes: mean return "
    "with sampled actions, and with the policy's mode. Zoo: what RL Baselines3 Zoo publishes, one "
    "run of version 3 of the environment. Steps/s: training alone, median of "
    f"{REPEATS} processes in turn; beside 2 × SB3: pgjax's, which uses both cores, over twice that "
    "of Stable-Baselines3, which uses one. Command: `python benchmarks/host.py`.\n"
)


def main() -> None:
    """Runs the processes, prints a table, writes host.json, host.md and host.png."""
    flags = parser(__doc__.splitlines()[0])
    flags.add_argument("--env", nargs="+", choices=ZOO, default=list(ZOO), help="these only")
    flags.add_argument("--only", choices=PARTS, help="this part only")
    flags = flags.parse_args()
    folder = results_folder(flags)
    known = stored(folder)
    for task in tasks(flags):
        if find(known, task) is None:
            result = {**task, **process(task)}
            known.append(result)
            print(json.dumps({k: v for k, v in result.items() if k != "settings"}), flush=True)
            save(folder, flags.quick, known)
    print("\n" + (folder / "host.md").read_text() + f"\nwritten to {folder}")


def tasks(flags: Any) -> list[dict[str, Any]]:
    """What each process is asked; systems alternate."""
    every_task = []
    systems = ("pgjax",) if flags.quick else tuple(SYSTEMS)
    for part in PARTS if flags.only is None else (flags.only,):
        long = part == "returns"
        steps, episodes = (STEPS, EPISODES) if long else (SPEED_STEPS, 1)
        steps, episodes = (4096, 1) if flags.quick else (steps, episodes)
        for env in flags.env[:1] if flags.quick else flags.env:
            for seed in range(1 if flags.quick else SEEDS if long else REPEATS):
                about = {"part": part, "env": env, "seed": seed}
                size = {"ask_steps": steps, "episodes": episodes}
                every_task += [
                    {"system": name, **about, **size, "settings": settings(name, env)}
                    for name in systems
                ]
    return every_task


def settings(system: str, env: str) -> dict[str, Any]:
    """What a result is kept for."""
    if system == "sb3":
        return ZOO[env]
    return json.loads(json.dumps(config_json.to_dict(pgjax.preset(f"gymnasium/{env}"))))


def find(known: list[dict[str, Any]], task: dict[str, Any]) -> dict[str, Any] | None:
    """The known result of the same task."""
    return next((result for result in known if task.items() <= result.items()), None)


def process(task: dict[str, Any]) -> dict[str, Any]:
    """The result of one process."""
    script = Path(__file__).with_name("host_trainers.py")
    options = {
        "--env": task["env"],
        "--seed": task["seed"],
        "--steps": task["ask_steps"],
        "--episodes": task["episodes"],
    }
    words = [str(word) for option in options.items() for word in option]
    command = [sys.executable, str(script), task["system"], *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def stored(folder: Path) -> list[dict[str, Any]]:
    """The results in the folder's file."""
    path = folder / "host.json"
    return json.loads(path.read_text())["processes"] if path.is_file() else []


def save(folder: Path, quick: bool, known: list[dict[str, Any]]) -> None:
    """host.json, host.md and host.png of all results so far."""
    of_both = versions(("stable_baselines3", "torch", "gymnasium", "mujoco"))
    write(folder, "host", {"quick": quick, "beside": of_both, "processes": known})
    rows = [
        row(env, system, known)
        for env in ZOO
        for system in SYSTEMS
        if returns(known, env, system) or speeds(known, env, system)
    ]
    (folder / "host.md").write_text(CAPTION + "\n" + markdown(HEADER, rows))
    picture(known, folder / "host.png")


def returns(known: list[dict[str, Any]], env: str, system: str) -> list[dict[str, Any]]:
    """The long results of a system."""
    about = {"part": "returns", "env": env, "system": system}
    return [result for result in known if about.items() <= result.items()]


def row(env: str, system: str, known: list[dict[str, Any]]) -> tuple[str, ...]:
    """One line of the table."""
    seeds = returns(known, env, system)
    cells = [env, LABELS[system]]
    for name in ("return", "mode"):
        each = [result[name] for result in seeds]
        mean = f"{statistics.mean(each):.5g}" if each else "—"
        cells += [mean, ", ".join(f"{x:.5g}" for x in each) or "—"]
    cells.append(f"{PUBLISHED[env]}" if system == "sb3" else "—")
    own, other = speeds(known, env, system), speeds(known, env, "sb3")
    if not own:
        return (*cells, "—", "—", "—")
    ratio = "—"
    if system == "pgjax" and other:
        ratio = f"{statistics.median(own) / statistics.median(other) / 2:.2f}"
    span = f"{min(own):,.0f} … {max(own):,.0f}"
    return (*cells, f"{statistics.median(own):,.0f}", span, ratio)


def speeds(known: list[dict[str, Any]], env: str, system: str) -> list[float]:
    """Steps a second of the short processes of a system."""
    about = {"part": "speed", "env": env, "system": system}
    short = (result for result in known if about.items() <= result.items())
    return [significant(result["steps"] / result["seconds"]) for result in short]


def picture(known: list[dict[str, Any]], path: Path) -> None:
    """Each seed's return, with sampled actions and with the mode."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots(1, len(ZOO))
    for panel, env in zip(np.ravel(axes), ZOO, strict=True):
        for place, system in enumerate(SYSTEMS):
            for shift, name, face in ((-0.12, "return", f"C{place}"), (0.12, "mode", "none")):
                each = [result[name] for result in returns(known, env, system)]
                at = [place + shift] * len(each)
                panel.scatter(at, each, facecolors=face, edgecolors=f"C{place}")
        panel.axhline(PUBLISHED[env], color="0.6", linestyle=":", linewidth=1)
        panel.set(title=env, xlim=(-0.5, len(SYSTEMS) - 0.5))
        panel.set_ylim(0, 1.1 * panel.get_ylim()[1])
        panel.set_xticks(range(len(SYSTEMS)), LABELS.values(), fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    np.ravel(axes)[0].set_ylabel("return")
    figure.supxlabel("filled: sampled actions; open: the mode; dotted: Zoo, v3", fontsize=8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
