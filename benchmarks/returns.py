"""Returns that pgjax reaches, over seeds: the preset of every environment, and plain REINFORCE.

Each seed is trained and then evaluated on fresh episodes, with sampled actions and with the
policy's mode. The interquartile mean is that of the middle half of the seeds; intervals are its
95 % bootstrap intervals over seeds.

It runs for hours, and may be interrupted: results in returns.json of the same config and seeds are
kept, and only the others are run.

    python benchmarks/returns.py [--env CartPole-v1 ...]
"""

# ruff: noqa: E402

import functools
import json
import math
from pathlib import Path
from typing import Any

import jax

from pgjax.core import parallel

parallel.use_cores()  # before gymnax, which starts JAX's devices when it is imported

import numpy as np
from common import environment_facts, markdown, parser, results_folder, significant, write
from matplotlib.figure import Figure

import pgjax
from pgjax.pictures.curves import interquartile_mean
from pgjax.runs import config_json
from pgjax.training import presets

# The lecture's estimator: whole episodes and no critic.
REINFORCE: dict[str, dict[str, Any]] = {
    "CartPole-v1": {},
    "Catch-bsuite": {"num_updates": 200, "optimizer.learning_rate": 3e-3},
    "Acrobot-v1": {
        "num_updates": 100,
        "sampler.num_trajectories": 128,
        "optimizer.learning_rate": 5e-3,
    },
    "PointRobot-misc": {
        "num_updates": 500,
        "sampler.num_trajectories": 256,
        "optimizer.learning_rate": 3e-3,
        "estimator.discount": 0.9,
        "distribution": "normal",
    },
    "Pendulum-v1": {
        "num_updates": 600,
        "sampler.num_trajectories": 128,
        "optimizer.learning_rate": 3e-3,
        "estimator.discount": 0.95,
        "distribution": "normal",
    },
}
QUICK = ("Catch-bsuite",)
NUM_SEEDS, NUM_SEEDS_GRIDS, NUM_SEEDS_SEAQUEST = 10, 6, 3
EVALUATION_SEED = 1_000_000
NUM_RESAMPLES = 10_000
CURVE_POINTS = 200  # the most that are stored for each seed
HEADER = (
    "environment",
    "config",
    "env steps",
    "return",
    "IQM",
    "95 % interval",
    "worst seed",
    "mode",
    "seconds",
    "compile",
)


def main() -> None:
    """Trains, evaluates, prints a table, writes returns.json, returns.md and returns.png."""
    flags = parser(__doc__.splitlines()[0])
    flags.add_argument("--env", nargs="+", metavar="ENV", help="these only")
    flags = flags.parse_args()
    folder = results_folder(flags)
    known = stored(folder, "returns")
    results = []
    for label, config in cases(flags.env, flags.quick):
        num_seeds = number_of_seeds(config.env, flags.quick)
        result = kept(known, label, config, num_seeds)
        if result is None:
            result = run(label, config, num_seeds, 16 if flags.quick else 128)
            print(f"{config.env}, {label}: {result['stochastic']['mean']}", flush=True)
        results.append(result)
        # Stored results of the cases that are not asked for stay.
        save(folder, flags.quick, merged(known, results))
    print("\n" + (folder / "returns.md").read_text() + f"\nwritten to {folder}")


def cases(names: list[str] | None, quick: bool) -> list[tuple[str, pgjax.Config]]:
    """The labels and configs to train, environment by environment.

    Args:
      names: of environments; None: all.
      quick: one case, of five updates.
    """
    every_case = []
    for env in presets.tuned():
        preset, plain = pgjax.preset(env), pgjax.reinforce(env, **REINFORCE.get(env, {}))
        every_case.append((presets.algorithm(env), preset))
        if env in REINFORCE and plain != preset:
            every_case.append(("plain reinforce", plain))
    names = names or (QUICK if quick else presets.tuned())
    chosen = [(label, config) for label, config in every_case if config.env in names]
    if quick:
        label, config = chosen[0]
        return [(label, config.replace(num_updates=5))]
    return chosen


def number_of_seeds(env: str, quick: bool) -> int:
    """The number of seeds: six where observations are grids, whose steps take long; of Seaquest's,
    which take three times as long as other games', three."""
    if quick:
        return 2
    if env == "Seaquest-MinAtar":
        return NUM_SEEDS_SEAQUEST
    return NUM_SEEDS_GRIDS if env.endswith("MinAtar") or env == "Pong-misc" else NUM_SEEDS


def stored(folder: Path, name: str) -> list[dict[str, Any]]:
    """The results in a file of the folder."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text())["environments"] if path.is_file() else []


def kept(
    known: list[dict[str, Any]], label: str, config: pgjax.Config, num_seeds: int
) -> dict[str, Any] | None:
    """The known result of the same config and number of seeds; None: none."""
    settings = json.loads(json.dumps(config_json.to_dict(config)))
    same = (r for r in known if (r["config"], r["num_seeds"]) == (settings, num_seeds))
    return next(({**result, "label": label} for result in same), None)


def merged(known: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The new results, and the known ones of other cases, in the order of `cases`."""
    results = {(r["env"], r["label"]): r for r in (*known, *new)}
    order = [(config.env, label) for label, config in cases(None, False)]
    order += [name for name in results if name not in order]
    return [results[name] for name in order if name in results]


def run(label: str, config: pgjax.Config, num_seeds: int, num_episodes: int) -> dict[str, Any]:
    """Trains and evaluates so many seeds of one config, divided over all devices."""
    rate = {"optimizer.learning_rate": [config.optimizer.learning_rate]}
    mesh = pgjax.make_mesh()
    sweep = pgjax.sweep(jax.random.key(0), config, rate, num_seeds, mesh)
    states, metrics = (jax.tree.map(lambda x: x[0], part) for part in sweep)
    evaluations = {
        name: evaluate_seeds(num_seeds, states, config, num_episodes, name == "deterministic")
        for name in ("stochastic", "deterministic")
    }
    return {
        "env": config.env,
        "label": label,
        "config": config_json.to_dict(config),
        "facts": environment_facts(),
        "num_seeds": num_seeds,
        "num_episodes": num_episodes,
        "env_steps": float(np.mean(metrics.env_steps[:, -1])),
        **{name: summary(returns) for name, returns in evaluations.items()},
        "seconds": significant(sweep.run_seconds, 3),
        "compile_seconds": significant(sweep.compile_seconds, 3),
        "finite": bool(np.all(metrics.finite)),
        "curves": curves(metrics),
    }


def curves(metrics: pgjax.Metrics) -> dict[str, Any]:
    """Steps and mean return of the episodes that ended, of each seed, in equal parts of the run."""
    num_updates = metrics.env_steps.shape[1]
    size = math.ceil(num_updates / CURVE_POINTS)
    used = num_updates // size * size  # updates in full parts
    parts = lambda x: np.asarray(x)[:, :used].reshape(len(x), -1, size)
    count = parts(metrics.num_episodes)
    total = np.where(count > 0, np.nan_to_num(parts(metrics.episode_return)) * count, 0.0)
    mean = total.sum(-1) / np.maximum(count.sum(-1), 1)
    returns = np.where(count.sum(-1) > 0, mean, np.nan)
    return {
        "env_steps": parts(metrics.env_steps)[..., -1].tolist(),
        "episode_return": [
            [None if math.isnan(x) else significant(x) for x in seed] for seed in returns
        ],
    }


def evaluate_seeds(
    num_seeds: int, states: Any, config: pgjax.Config, num_episodes: int, deterministic: bool
) -> np.ndarray:
    """The mean evaluation return of each seed: float[seeds], reward units."""
    # A root of its own: `fold_in(key, 1)` is `split(key)[1]`, the key that a seed was trained with.
    root = jax.random.key(EVALUATION_SEED + deterministic)
    keys = jax.random.split(root, num_seeds)
    return np.asarray(mean_returns(keys, states, config, num_episodes, deterministic))


@functools.partial(jax.jit, static_argnames=("num_episodes", "deterministic"))
def mean_returns(
    keys: jax.Array, states: Any, config: pgjax.Config, num_episodes: int, deterministic: bool
) -> jax.Array:
    """float[seeds]; see `evaluate_seeds`."""

    def mean(key, state):
        return pgjax.evaluate(key, state, config, num_episodes, deterministic).mean

    return jax.vmap(mean)(keys, states)


def summary(returns: np.ndarray) -> dict[str, Any]:
    """Mean over seeds, interquartile mean and its interval, the worst seed, and all of them."""
    draws = np.random.default_rng(0).integers(len(returns), size=(NUM_RESAMPLES, len(returns)))
    interval = np.percentile(interquartile_mean(returns[draws]), (2.5, 97.5))
    return {
        "mean": significant(returns.mean()),
        "iqm": significant(interquartile_mean(returns)),
        "interval": [significant(bound) for bound in interval],
        "worst": significant(returns.min()),
        "seeds": [significant(x) for x in returns],
    }


def save(folder: Path, quick: bool, results: list[dict[str, Any]]) -> None:
    """returns.json, .md and .png of all results so far."""
    (folder / "returns.md").write_text(CAPTION + "\n" + markdown(HEADER, map(row, results)))
    write(folder, "returns", {"quick": quick, "environments": results})
    picture(results, folder / "returns.png")


CAPTION = (
    f"{NUM_SEEDS} seeds, {NUM_SEEDS_GRIDS} of MinAtar and Pong, {NUM_SEEDS_SEAQUEST} of Seaquest, "
    "each the mean of 128 evaluation episodes with sampled actions. Return: mean over seeds; IQM: "
    "interquartile mean over seeds, with its 95 % bootstrap interval; mode: mean over seeds, "
    "actions the policy's mode. Environment steps: per seed. Seconds: training all seeds, after "
    "compilation; compile: seconds before that. Command: `python benchmarks/returns.py`.\n"
)


def row(result: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    stochastic = result["stochastic"]
    low, high = stochastic["interval"]
    return (
        result["env"],
        result["label"],
        f"{result['env_steps']:,.0f}",
        f"{stochastic['mean']:g}",
        f"{stochastic['iqm']:g}",
        f"{low:g} … {high:g}",
        f"{stochastic['worst']:g}",
        f"{result['deterministic']['mean']:g}",
        f"{result['seconds']:g}",
        f"{result['compile_seconds']:g}",
    )


def picture(results: list[dict[str, Any]], path: Path) -> None:
    """Return of the training episodes against environment steps: thin each seed, thick the mean."""
    names = list(dict.fromkeys(result["env"] for result in results))
    columns = min(5, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(1.0 + 2.7 * columns, 0.4 + 2.1 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(names) :]:
        panel.remove()
    for panel, name in zip(panels, names, strict=False):
        for result in (r for r in results if r["env"] == name):
            plain = result["label"] == "plain reinforce"
            curve(panel, result["curves"], "0.5" if plain else "C0")
        panel.set_title(name.rsplit("/", 1)[-1].rsplit("-", 1)[0], fontsize=9)
        panel.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
        panel.tick_params(labelsize=7)
        panel.xaxis.get_offset_text().set_fontsize(7)
        panel.grid(alpha=0.3)
    figure.supxlabel("environment steps", fontsize=9)
    figure.supylabel("return of training episodes", fontsize=9)
    figure.savefig(path, dpi=150)


def curve(panel: Any, curves: dict[str, Any], color: str) -> None:
    """One case: each seed, and the mean over seeds at equal steps."""
    steps, returns = (np.array(curve, float) for curve in curves.values())
    ended = np.isfinite(returns)
    for s, r, e in zip(steps, returns, ended, strict=True):
        panel.plot(s[e], r[e], color=color, alpha=0.25, linewidth=0.6)
    first, last = max(s[e][0] for s, e in zip(steps, ended, strict=True)), steps[:, -1].min()
    grid = np.linspace(first, last, 200)
    seeds = zip(steps, returns, ended, strict=True)
    mean = np.mean([np.interp(grid, s[e], r[e]) for s, r, e in seeds], axis=0)
    panel.plot(grid, mean, color=color, linewidth=1.8)


if __name__ == "__main__":
    main()
