"""The search for a preset: a sweep over settings of one algorithm on one environment.

Each setting is run with the same seeds, and ranked by the mean over seeds of the mean return of
fresh evaluation episodes with the final policy. Prints a table, best first.

    python benchmarks/tune.py Acrobot-v1 ppo --set num_updates=100 \\
        --grid optimizer.learning_rate=1e-3,3e-3 estimator.gae_lambda=0.9,0.95
"""

# ruff: noqa: E402

import argparse
import itertools
from typing import Any

import jax

from pgjax.core import parallel

parallel.use_cores()  # before gymnax, which starts JAX's devices when it is imported

import numpy as np
import optax
from common import markdown, significant

import pgjax
from pgjax.training import presets

EVALUATION_SEED = 2_000_000


def main() -> None:
    """Runs the sweep, prints a table."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("env")
    flags.add_argument("algorithm", choices=[*presets.ALGORITHMS, "preset"])
    flags.add_argument("--set", nargs="*", default=[], metavar="PATH=VALUE")
    flags.add_argument("--grid", nargs="+", required=True, metavar="PATH=A,B,…")
    flags.add_argument("--num-seeds", type=int, default=4)
    flags.add_argument("--episodes", type=int, default=64)
    options = flags.parse_args()
    fixed = {path: value for path, (value,) in map(parsed, options.set)}
    grid = dict(map(parsed, options.grid))
    make_config = {**presets.ALGORITHMS, "preset": presets.preset}[options.algorithm]
    config = make_config(options.env, **fixed)
    sweep = pgjax.sweep(jax.random.key(0), config, grid, options.num_seeds, pgjax.make_mesh())
    print(f"{options.env}, {options.algorithm}, {fixed}: {options.num_seeds} seeds, ", end="")
    steps = int(np.max(sweep.metrics.env_steps))
    print(f"{steps:,} steps, {sweep.run_seconds:.0f} s running, {sweep.compile_seconds:.0f} s more")
    rows = [row(sweep, index, options.episodes) for index in settings(sweep)]
    print(markdown((*grid, "return", "worst", "mode"), sorted(rows, key=lambda r: -r[-3])))


class _Names(dict):
    """The names in a value: `pgjax` and `optax` are the modules, any other name is a string."""

    def __missing__(self, name: str) -> str:
        return name


def parsed(text: str) -> tuple[str, list[Any]]:
    """`path=a,b` as the path and its values: numbers, names, or calls like pgjax.MLP((64,))."""
    path, _, values = text.partition("=")
    return path, eval(f"[{values}]", _Names(pgjax=pgjax, optax=optax))


def settings(sweep: pgjax.Sweep) -> Any:
    """Indices of all settings."""
    return itertools.product(*map(range, sweep.shape[:-1]))


def row(sweep: pgjax.Sweep, index: tuple[int, ...], episodes: int) -> tuple:
    """A setting's values; mean over seeds of sampled returns, the worst seed, mean with modes."""
    members = [sweep.at(*index, seed) for seed in range(sweep.num_seeds)]
    means = {}
    for deterministic in (False, True):
        key = jax.random.key(EVALUATION_SEED + deterministic)
        config = members[0].config
        means[deterministic] = [
            float(pgjax.evaluate(key, m.state, config, episodes, deterministic).mean)
            for m in members
        ]
    sampled = means[False]
    scores = (np.mean(sampled), np.min(sampled), np.mean(means[True]))
    return (*members[0].setting.values(), *map(significant, scores))


if __name__ == "__main__":
    main()
