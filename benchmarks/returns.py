"""Returns that plain REINFORCE reaches, over seeds: no critic, no tricks beyond SETTINGS.

Each seed is trained by `pgjax.train` and then evaluated on fresh episodes, with sampled actions and
with the policy's mode. Intervals are 95 % bootstrap intervals of the mean over seeds.

    python benchmarks/returns.py [--env CartPole-v1 ...]
"""

import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import compile_ahead, markdown, parser, results_folder, significant, write
from matplotlib.figure import Figure

import pgjax
from pgjax import serialization
from pgjax.evaluation import bootstrap_interval

SETTINGS: dict[str, dict[str, Any]] = {
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
EVALUATION_SEED = 1_000_000
MAX_BYTES = 2**30  # of trajectories, for all seeds that train side by side
HEADER = (
    "environment",
    "updates",
    "env steps",
    "return",
    "95 % interval",
    "worst seed",
    "deterministic",
    "seconds",
    "compile",
)


def main() -> None:
    """Trains, evaluates, prints a table, writes returns.json, returns.md and returns.png."""
    flags = parser(__doc__.splitlines()[0])
    flags.add_argument("--env", nargs="+", choices=list(SETTINGS), help="these only")
    flags = flags.parse_args()
    folder = results_folder(flags)
    num_seeds, num_episodes = (2, 16) if flags.quick else (10, 128)
    results = []
    for name in flags.env or (QUICK if flags.quick else SETTINGS):
        config = pgjax.Config(env=name).replace(**SETTINGS[name])
        config = config.replace(num_updates=5) if flags.quick else config
        results.append(run(config, num_seeds, num_episodes))
        print(f"{name}: {results[-1]['stochastic']['mean']}", flush=True)
    table = markdown(HEADER, map(row, results))
    print("\n" + table)
    (folder / "returns.md").write_text(caption(num_seeds, num_episodes) + "\n" + table)
    write(folder, "returns", {"quick": flags.quick, "environments": results})
    picture(results, folder / "returns.png")
    print(f"written to {folder}")


def run(config: pgjax.Config, num_seeds: int, num_episodes: int) -> dict[str, Any]:
    """Trains and evaluates the seeds 0, 1, … of one config."""
    keys = jax.vmap(jax.random.key)(jnp.arange(num_seeds))
    (states, metrics), seconds, compile_seconds = train_seeds(keys, config)
    evaluations = {
        name: evaluate_seeds(num_seeds, states, config, num_episodes, name == "deterministic")
        for name in ("stochastic", "deterministic")
    }
    return {
        "env": config.env,
        "config": serialization.to_dict(config),
        "num_seeds": num_seeds,
        "env_steps": float(np.mean(metrics.env_steps[:, -1])),
        **{name: summary(returns) for name, returns in evaluations.items()},
        "seconds": significant(seconds, 3),
        "compile_seconds": significant(compile_seconds, 3),
        "finite": bool(np.all(metrics.finite)),
        "curves": {
            "env_steps": np.round(metrics.env_steps).tolist(),
            "episode_return": [[significant(x) for x in seed] for seed in metrics.episode_return],
        },
    }


def train_seeds(keys: jax.Array, config: pgjax.Config) -> tuple[pgjax.TrainResult, float, float]:
    """All seeds, in equal groups of `vmap`ped ones; running time and time to compile, seconds."""
    size = group_size(len(keys), config)
    groups = keys.reshape(-1, size)
    program = jax.jit(jax.vmap(pgjax.train, in_axes=(0, None)))
    compiled, compile_seconds = compile_ahead(program, groups[0], config)
    start = time.perf_counter()
    results = [jax.block_until_ready(compiled(group, config)) for group in groups]
    seconds = time.perf_counter() - start
    states, metrics = jax.tree.map(lambda *parts: jnp.concatenate(parts), *results)
    return pgjax.TrainResult(states, jax.tree.map(np.asarray, metrics)), seconds, compile_seconds


def group_size(num_seeds: int, config: pgjax.Config) -> int:
    """The most seeds, a divisor of all, whose trajectories fit into MAX_BYTES together."""
    state = jax.eval_shape(pgjax.init, jax.random.key(0), config)
    shapes = jax.eval_shape(pgjax.sample_trajectories, jax.random.key(0), state, config)
    needed = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    fits = [n for n in range(1, num_seeds + 1) if num_seeds % n == 0 and n * needed <= MAX_BYTES]
    return max(fits, default=1)


def evaluate_seeds(
    num_seeds: int, states: Any, config: pgjax.Config, num_episodes: int, deterministic: bool
) -> np.ndarray:
    """The mean evaluation return of each seed: float[seeds], reward units."""

    def mean(key, state):
        return pgjax.evaluate(key, state, config, num_episodes, deterministic).mean

    # Not `fold_in(key, 1)`, which is `split(key)[1]`: the key that the seed was trained with.
    root = jax.random.key(EVALUATION_SEED + deterministic)
    return np.asarray(jax.jit(jax.vmap(mean))(jax.random.split(root, num_seeds), states))


def summary(returns: np.ndarray) -> dict[str, Any]:
    """Mean over seeds, its interval, the worst seed, and all of them."""
    interval = bootstrap_interval(jax.random.key(0), jnp.asarray(returns))
    return {
        "mean": significant(returns.mean()),
        "interval": [significant(bound) for bound in interval],
        "worst": significant(returns.min()),
        "seeds": [significant(x) for x in returns],
    }


def caption(num_seeds: int, num_episodes: int) -> str:
    """What the table shows, in one paragraph."""
    return (
        f"Mean over {num_seeds} seeds of the mean return of {num_episodes} evaluation episodes "
        "with sampled actions, its 95 % bootstrap interval over seeds, the worst seed, and the "
        "mean with the policy's mode. Environment steps: per seed. Seconds: training all seeds, "
        "after compilation; compile: seconds before that. "
        "Command: `python benchmarks/returns.py`.\n"
    )


def row(result: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    stochastic = result["stochastic"]
    low, high = stochastic["interval"]
    return (
        result["env"],
        str(result["config"]["num_updates"]),
        f"{result['env_steps']:,.0f}",
        f"{stochastic['mean']:g}",
        f"{low:g} … {high:g}",
        f"{stochastic['worst']:g}",
        f"{result['deterministic']['mean']:g}",
        f"{result['seconds']:g}",
        f"{result['compile_seconds']:g}",
    )


def picture(results: list[dict[str, Any]], path: Path) -> None:
    """Return of the training episodes against environment steps: thin each seed, thick the mean."""
    columns = min(3, len(results))
    rows = math.ceil(len(results) / columns)
    figure = Figure(figsize=(1.0 + 3.4 * columns, 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(results) :]:
        panel.remove()
    for panel, result in zip(panels, results, strict=False):
        steps, returns = (np.array(curve) for curve in result["curves"].values())
        # Seeds take different numbers of steps per update; the mean is over seeds at equal steps.
        grid = np.linspace(steps[:, 0].max(), steps[:, -1].min(), 200)
        mean = np.mean([np.interp(grid, *seed) for seed in zip(steps, returns, strict=True)], 0)
        panel.plot(steps.T, returns.T, color="C0", alpha=0.3, linewidth=0.7)
        panel.plot(grid, mean, color="C0", linewidth=2.0)
        panel.set(title=result["env"], xlabel="environment steps", ylabel="return")
        panel.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
