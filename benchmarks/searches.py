"""`pgjax.tune` measured: its time beside vmapped seeds; what it finds, beside a grid and a preset.

Time: 64 PPO trials on CartPole-v1, 200 000 steps each, beside 64 vmapped seeds of one config with
as many. Each line in turn, and all again, compiled programs forgotten in between; median. Running
is all but compiling the programs that train: Optuna and the work between two rounds are in it.
Seconds are also given as the process's own, of all its threads, without the work of others.

Quality: about as many environment steps for each search of the settings of PPO, which otherwise has
its defaults. What each finds is trained anew, with seeds that no search has seen, and evaluated on
fresh episodes with sampled actions; beside it the environment's preset after as many steps. What a
population finds is a schedule, which is trained anew as one, and its last setting alone.

It may be interrupted: parts in searches.json of the same sizes are kept, the others are run.

    python benchmarks/searches.py [--part time Pendulum-v1 ...]
"""

# ruff: noqa: E402

import functools
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from pgjax.core import parallel

parallel.use_cores()  # before gymnax, which starts JAX's devices when it is imported

import numpy as np
import returns
import tune
from common import (
    compile_ahead,
    environment_facts,
    markdown,
    parser,
    results_folder,
    significant,
    write,
)
from matplotlib.figure import Figure

import pgjax
from pgjax.runs import config_json
from pgjax.runs.tuning import proposals
from pgjax.training import presets
from pgjax.training.config import bind

NAME = "searches"
SEARCH_KEY, FRESH_KEY = 0, 3_000_000
RATE, CRITIC_RATE = "optimizer.learning_rate", "critic.learning_rate"
DISCOUNT = "estimator.discount"


class Times(NamedTuple):
    """Sizes of the comparison of times.

    Attributes:
      config: of all lines, as long as a seed or a whole trial.
      num_trials: also the number of seeds.
      repeats: of each line.
    """

    config: pgjax.Config
    num_trials: int
    repeats: int


class Quality(NamedTuple):
    """Sizes of the comparison of searches on one environment.

    Attributes:
      config: what no search sets, as long as a run that is trained to the end.
      preset: the tuned config beside it, as long.
      num_trials: of successive halving, with its 3 seeds each.
      num_members: of the population.
      grid: path -> values.
      grid_seeds: of each setting of the grid.
      fresh_seeds: of a found config.
      num_episodes: of an evaluation.
    """

    config: pgjax.Config
    preset: pgjax.Config
    num_trials: int
    num_members: int
    grid: dict[str, list[float]]
    grid_seeds: int
    fresh_seeds: int = 5
    num_episodes: int = 128


def sizes_of(env: str, steps: int, **sizes: Any) -> Quality:
    """The sizes of one environment, with so many environment steps in each run."""
    configs = pgjax.ppo(env), pgjax.preset(env)
    return Quality(*(presets.with_total_steps(config, steps) for config in configs), **sizes)


TIMES = Times(presets.with_total_steps(pgjax.ppo("CartPole-v1"), 200_000), 64, repeats=3)
QUALITY = {
    "Pendulum-v1": sizes_of(
        *("Pendulum-v1", 200_000),
        num_trials=30,
        num_members=24,
        grid={RATE: [7e-4, 2e-3, 6e-3], DISCOUNT: [0.95, 0.99]},
        grid_seeds=4,
    ),
    "Breakout-MinAtar": sizes_of(
        *("Breakout-MinAtar", 150_000),
        num_trials=18,
        num_members=16,
        grid={RATE: [1e-3, 5e-3], CRITIC_RATE: [1e-3, 5e-3]},
        grid_seeds=4,
    ),
}
# Three runs at once in every tuning, which therefore share a program.
_TINY = pgjax.reinforce(
    "Catch-bsuite",
    network=pgjax.MLP(()),
    num_updates=9,
    **{"sampler.num_trajectories": 4, "sampler.horizon": 9},
)
QUICK_TIMES = Times(_TINY, num_trials=3, repeats=1)
QUICK_QUALITY = {
    _TINY.env: Quality(
        *(_TINY, _TINY),
        num_trials=3,
        num_members=3,
        grid={RATE: [1e-3, 2e-3]},
        grid_seeds=2,
        fresh_seeds=2,
        num_episodes=4,
    )
}


class Store:
    """The parts that are done, in searches.json.

    Attributes:
      folder, quick: where the results go, and whether they are of small sizes.
      parts: by name; each with its sizes, the date, the machine and the versions.
    """

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder, self.quick = folder, quick
        path = folder / f"{NAME}.json"
        self.parts: dict[str, Any] = json.loads(path.read_text())["parts"] if path.exists() else {}

    def part(self, name: str, sizes: NamedTuple, make: Callable[[], dict[str, Any]]) -> Any:
        """A part of these sizes: the one that is there, or a new one, which is saved."""
        described = json.loads(json.dumps(sizes._asdict(), default=config_json.to_dict))
        known = self.parts.get(name)
        if known is None or known["sizes"] != described:
            self.parts[name] = {"sizes": described, "facts": environment_facts(), **make()}
            write(self.folder, NAME, {"quick": self.quick, "parts": self.parts})
            print(f"{name}: done", flush=True)
        return self.parts[name]


def main() -> None:
    """Measures, prints tables, writes searches.json, .md and .png."""
    flags = parser(__doc__.splitlines()[0])
    flags.add_argument("--part", nargs="+", metavar="NAME", help="time, Pendulum-v1, …; else all")
    flags = flags.parse_args()
    store = Store(results_folder(flags), flags.quick)
    times, qualities = (QUICK_TIMES, QUICK_QUALITY) if flags.quick else (TIMES, QUALITY)
    wanted = flags.part or ["time", *qualities]
    if "time" in wanted:
        proposals.optuna()  # imports it
        for repeat in range(times.repeats):
            store.part(f"time {repeat}", times, lambda: measured_times(times))
    for env, sizes in qualities.items():
        if env in wanted:
            measure_quality(store, env, sizes)
    tables = text(store.parts, times, qualities)
    (store.folder / f"{NAME}.md").write_text(tables)
    picture(store.parts, qualities, store.folder / f"{NAME}.png")
    print(f"\n{tables}\nwritten to {store.folder}")


def measured_times(sizes: Times) -> dict[str, Any]:
    """Each line once, as in a new process."""
    jax.clear_caches()
    return {"lines": {name: line(sizes) for name, line in LINES.items()}}


def repeats_of(parts: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of each repeat that is there."""
    return [part["lines"] for name, part in parts.items() if name.startswith("time ")]


def medians(parts: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The medians of each line over the repeats that are there, by column."""
    repeats = repeats_of(parts)
    return {
        name: {
            column: statistics.median(lines[name][column] for lines in repeats)
            for column in repeats[0][name]
        }
        for name in (LINES if repeats else ())
    }


def timed_seeds(sizes: Times) -> dict[str, float]:
    """Vmapped seeds of one config."""
    config, number = sizes.config, sizes.num_trials
    keys = jax.random.split(jax.random.key(SEARCH_KEY), number)
    clock = Clock()
    train = jax.jit(jax.vmap(pgjax.train, in_axes=(0, None)))
    compiled, compile_seconds = compile_ahead(train, keys, config)
    jax.block_until_ready(compiled(keys, config))
    return clock.read(compile_seconds, number * steps_of(config))


def timed_tune(sizes: Times) -> dict[str, float]:
    """A tuning of the default space by successive halving."""
    key, clock = jax.random.key(SEARCH_KEY), Clock()
    tuning = pgjax.tune(key, sizes.config, num_trials=sizes.num_trials)
    return clock.read(tuning.compile_seconds, num_steps(tuning))


def num_steps(tuning: pgjax.Tuning) -> int:
    """Environment steps of all trials and seeds."""
    updates = sum(tuning.num_updates(trial) * trial.returns.shape[1] for trial in tuning.trials)
    return updates * update_steps(tuning.best_config)


def update_steps(config: pgjax.Config) -> int:
    """Environment steps of an update; of whole episodes, the most."""
    return config.sampler.num_steps or bind(config, 0).horizon() * config.sampler.width


# Named in the table; each trains the same config.
LINES = {
    "vmapped seeds": timed_seeds,
    "tune": timed_tune,
}
RATIOS = ("seconds", "running_seconds", "process_seconds")


class Clock:
    """Counts seconds from now on: of the wall, and of this process."""

    def __init__(self) -> None:
        self._wall, self._process = time.perf_counter(), time.process_time()

    def read(self, compile_seconds: float, env_steps: int) -> dict[str, float]:
        """The seconds so far, those without compilation, and what was trained in them."""
        wall, process = time.perf_counter() - self._wall, time.process_time() - self._process
        return {
            "seconds": significant(wall),
            "compile_seconds": significant(compile_seconds),
            "running_seconds": significant(wall - compile_seconds),
            "process_seconds": significant(process),
            "env_steps": env_steps,
        }


def measure_quality(store: Store, env: str, sizes: Quality) -> None:
    """The searches on one environment, what each found trained anew, and the preset."""

    def anew(label: str, config: pgjax.Config, stages: list[dict[str, Any]]) -> None:
        make = functools.partial(trained_anew, sizes, config, stages)
        store.part(f"{env}, {label}, anew", sizes, make)

    for name, search in SEARCHES.items():
        stages = store.part(f"{env}, {name}", sizes, functools.partial(search, sizes))["stages"]
        anew(name, sizes.config, stages)
        if len(stages) > 1:
            anew(f"{name}, {LAST}", sizes.config, [{**stages[-1], "first": 1}])
    whole = {"first": 1, "last": sizes.preset.num_updates, "setting": {}}
    anew("preset", sizes.preset, [whole])


def search_by_halving(sizes: Quality) -> dict[str, Any]:
    """What `tune` finds by default."""
    return searched(sizes, num_trials=sizes.num_trials)


def search_by_population(sizes: Quality) -> dict[str, Any]:
    """What a population finds."""
    scheduler = pgjax.PopulationBased()
    return searched(sizes, num_trials=sizes.num_members, scheduler=scheduler)


def searched(sizes: Quality, **options: Any) -> dict[str, Any]:
    """The settings that a tuning found, by updates, and what it took."""
    tuning = pgjax.tune(jax.random.key(SEARCH_KEY), sizes.config, **options)
    return {
        "stages": [
            {"first": stage.first, "last": stage.last, "setting": stage.setting}
            for stage in tuning.schedule()
        ],
        "score": significant(tuning.best.score()),
        "env_steps": num_steps(tuning),
        "seconds": significant(tuning.run_seconds),
        "compile_seconds": significant(tuning.compile_seconds),
    }


def search_by_grid(sizes: Quality) -> dict[str, Any]:
    """The setting of a grid whose policies have the best mean return, as tune.py ranks them."""
    key = jax.random.key(SEARCH_KEY)
    sweep = pgjax.sweep(key, sizes.config, sizes.grid, sizes.grid_seeds)
    rows = [tune.row(sweep, index, sizes.num_episodes) for index in tune.settings(sweep)]
    *values, score, _, _ = max(rows, key=lambda row: row[-3])
    setting = dict(zip(sizes.grid, values, strict=True))
    return {
        "stages": [{"first": 1, "last": sizes.config.num_updates, "setting": setting}],
        "score": score,
        "env_steps": math.prod(sweep.metrics.env_steps.shape) * update_steps(sizes.config),
        "seconds": significant(sweep.run_seconds),
        "compile_seconds": significant(sweep.compile_seconds),
    }


SEARCHES = {
    "successive halving": search_by_halving,
    "population": search_by_population,
    "grid": search_by_grid,
}
LAST = "last setting"


def trained_anew(
    sizes: Quality, config: pgjax.Config, stages: list[dict[str, Any]]
) -> dict[str, Any]:
    """The returns of fresh seeds that are trained with a setting, or a schedule of them.

    Args:
      config: without the settings.
      stages: the first and the last update of each setting, from 1, inclusive.
    """
    states = fresh_states(fresh_keys(sizes), by_update(config, stages))
    evaluated = sizes.fresh_seeds, states, config, sizes.num_episodes
    return returns.summary(returns.evaluate_seeds(*evaluated, False))


def fresh_keys(sizes: Quality) -> jax.Array:
    """key[fresh_seeds], of no search."""
    return jax.random.split(jax.random.key(FRESH_KEY), sizes.fresh_seeds)


def by_update(config: pgjax.Config, stages: list[dict[str, Any]]) -> pgjax.Config:
    """The config of each update: leaves are [updates, …]."""
    configs = [
        config.replace(**stage["setting"])
        for stage in stages
        for _ in range(stage["first"], stage["last"] + 1)
    ]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *configs)


@jax.jit
def fresh_states(keys: jax.Array, configs: pgjax.Config) -> pgjax.TrainState:
    """The final states of runs, one for each key, that have a config of their own in each update.

    Args:
      keys: key[n].
      configs: from `by_update`.
    """

    def state_of(key):
        first = jax.tree.map(lambda x: x[0], configs)
        step = lambda state, config: (pgjax.update(state, config)[0], None)
        return jax.lax.scan(step, pgjax.init(key, first), configs)[0]

    return jax.vmap(state_of)(keys)


def steps_of(config: pgjax.Config) -> int:
    """Environment steps of a whole run."""
    return config.num_updates * update_steps(config)


def text(parts: dict[str, Any], times: Times, qualities: dict[str, Quality]) -> str:
    """The tables of the parts that are there."""
    tables = []
    if rows := time_rows(medians(parts)):
        steps, repeats = steps_of(times.config), len(repeats_of(parts))
        caption = TIME_CAPTION.format(number=times.num_trials, steps=steps, repeats=repeats)
        tables.append(caption + "\n" + markdown(TIME_HEADER, rows))
    for env, sizes in qualities.items():
        if rows := quality_rows(parts, env):
            settings, steps = math.prod(map(len, sizes.grid.values())), steps_of(sizes.config)
            caption = QUALITY_CAPTION.format(env=env, sizes=sizes, settings=settings, steps=steps)
            tables.append(caption + "\n" + markdown(QUALITY_HEADER, rows))
    return "\n".join(tables)


TIME_CAPTION = (
    "{number} trials of PPO on CartPole-v1, each of {steps:,} environment steps, beside as "
    "many vmapped seeds of one config; one device, line after line, median of {repeats}. "
    "Successive halving has 3 seeds for each trial, and most trials stop early. Running: without "
    "compiling the programs that train. CPU: the process's own seconds, compilation in it. Ratios: "
    "of medians, to the seeds. Command: `python benchmarks/searches.py`.\n"
)
TIME_HEADER = (
    *("line", "M env steps", "seconds", "compile", "running", "CPU s"),
    *("ratio", "ratio running", "ratio CPU"),
)


def time_rows(lines: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    """The lines of the comparison of times, from their medians."""
    columns = ("seconds", "compile_seconds", "running_seconds", "process_seconds")
    return [
        (
            name,
            f"{row['env_steps'] / 1e6:.2f}",
            *(f"{row[column]:.1f}" for column in columns),
            *(f"{row[column] / lines['vmapped seeds'][column]:.2f}" for column in RATIOS),
        )
        for name, row in lines.items()
    ]


QUALITY_CAPTION = (
    "{env}, PPO, {steps:,} environment steps a run: {sizes.num_trials} trials with successive "
    "halving (3 seeds each), a population of {sizes.num_members}, a grid of {settings} settings "
    "({sizes.grid_seeds} seeds each, ranked by evaluations that are not counted here). M env "
    "steps: of the search, all runs together. Score: the best in the search, by its own measure. "
    "Return, IQM with its 95 % bootstrap interval, and worst seed: of {sizes.fresh_seeds} fresh "
    "seeds that were trained anew, {sizes.num_episodes} evaluation episodes each, sampled "
    "actions.\n"
)
QUALITY_HEADER = (
    *("search", "M env steps", "seconds", "compile", "score"),
    *("return", "IQM", "95 % interval", "worst seed"),
)


def quality_rows(parts: dict[str, Any], env: str) -> list[tuple[str, ...]]:
    """The lines of one environment: what was trained anew, with its search where it had one."""
    rows = []
    for label, part in trained_parts(parts, env).items():
        found = parts.get(f"{env}, {label}")
        low, high = part["interval"]
        spent = ("", "", "", "")
        if found:
            columns = (found["seconds"], found["compile_seconds"], found["score"])
            spent = (f"{found['env_steps'] / 1e6:.2f}", *(f"{x:.4g}" for x in columns))
        numbers = (f"{part['mean']:g}", f"{part['iqm']:g}", f"{low:g} … {high:g}")
        rows.append((label, *spent, *numbers, f"{part['worst']:g}"))
    return rows


def trained_parts(parts: dict[str, Any], env: str) -> dict[str, Any]:
    """The parts of one environment that were trained anew, by what found their settings."""
    names = [*SEARCHES, f"population, {LAST}", "preset"]
    found = {name: parts.get(f"{env}, {name}, anew") for name in names}
    return {name: part for name, part in found.items() if part}


def picture(parts: dict[str, Any], qualities: dict[str, Quality], path: Path) -> None:
    """Draws the returns of all fresh seeds, by search, an environment a panel."""
    names = [env for env in qualities if trained_parts(parts, env)] or list(qualities)
    figure = Figure(figsize=(3 + 3 * len(names), 2.4), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True).ravel()
    for panel, env in zip(panels, names, strict=True):
        for label, part in trained_parts(parts, env).items():
            seeds = part["seeds"]
            panel.plot(seeds, [label] * len(seeds), "o", color="C0", alpha=0.5)
            panel.plot([part["mean"]], [label], "|", color="black", markersize=14)
        panel.set(title=env, xlabel="return, fresh seeds")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
