"""Returns that pgjax reaches on other projects' environments, over seeds.

As `returns.py` for gymnax: each seed is trained, then evaluated on fresh episodes, with sampled
actions and with the policy's mode. Beside it the return of the untrained policy, and what others
have published.

It runs for hours, and may be interrupted: results of the same config and seeds are kept. It needs
the suites: `pip install "pgjax-rl[suites]"`.

    python benchmarks/suite_returns.py [--env navix/Navix-Empty-5x5-v0 ...]
"""

# ruff: noqa: E402

import json
from pathlib import Path
from typing import Any

import jax

from pgjax.core import parallel

parallel.use_cores()  # before gymnax, which starts JAX's devices when it is imported

import returns
from common import markdown, parser, results_folder, significant, write

import pgjax
from pgjax.training import presets

NUM_SEEDS = 5
NAME = "suite_returns"
# What others say of the same task; the budget is theirs.
PUBLISHED = {
    "navix/Navix-Empty-5x5-v0": "1 is the maximum",
    "navix/Navix-Empty-8x8-v0": "1 is the maximum",
    "navix/Navix-DoorKey-5x5-v0": "1 is the maximum",
    "navix/Navix-DoorKey-8x8-v0?limit=640": "1 is the maximum",
    "jumanji/Snake-v1?size=6": "35 is the maximum",
    "brax/inverted_pendulum": "1000 is the maximum",
}
HEADER = (
    *("environment", "config", "env steps", "untrained", "return", "IQM", "95 % interval"),
    *("worst seed", "mode", "beside it", "seconds", "compile"),
)
CAPTION = (
    f"{NUM_SEEDS} seeds, each the mean of 128 evaluation episodes with sampled actions. "
    "Untrained: the same policy before its first update. Return: mean over seeds; IQM: "
    "interquartile mean over seeds, with its 95 % bootstrap interval; mode: mean over seeds, "
    "actions the policy's mode. Environment steps: per seed. Seconds: training all seeds, after "
    "compilation; compile: seconds before that; the machine did other work at the same time. "
    "Command: `python benchmarks/suite_returns.py`.\n"
)


def main() -> None:
    """Trains, evaluates, prints a table, writes suite_returns.json, .md and .png."""
    flags = parser(__doc__.splitlines()[0])
    flags.add_argument("--env", nargs="+", metavar="ENV", help="these only")
    flags = flags.parse_args()
    folder = results_folder(flags)
    num_seeds, num_episodes = (2, 16) if flags.quick else (NUM_SEEDS, 128)
    names = flags.env or presets.suites_tuned()
    for env in names[:1] if flags.quick else names:
        config = pgjax.preset(env, **({"num_updates": 3} if flags.quick else {}))
        known = returns.stored(folder, NAME)
        label = presets.algorithm(env)
        if returns.kept(known, label, config, num_seeds) is None:
            result = returns.run(label, config, num_seeds, num_episodes)
            result["untrained"] = untrained(config, num_seeds, num_episodes)
            print(f"{env}: {result['untrained']} -> {result['stochastic']['mean']}", flush=True)
            save(folder, flags.quick, {r["env"]: r for r in (*known, result)})
    print("\n" + (folder / f"{NAME}.md").read_text() + f"\nwritten to {folder}")


def untrained(config: pgjax.Config, num_seeds: int, num_episodes: int) -> float:
    """The mean return of so many policies before their first update."""
    keys = jax.random.split(jax.random.key(0), num_seeds)
    states = jax.jit(jax.vmap(lambda key: pgjax.init(key, config)))(keys)
    return significant(
        returns.evaluate_seeds(num_seeds, states, config, num_episodes, False).mean()
    )


def save(folder: Path, quick: bool, results: dict[str, dict[str, Any]]) -> None:
    """suite_returns.json, .md and .png of all results so far, in the order of the presets."""
    rows = [results[env] for env in presets.suites_tuned() if env in results]
    (folder / f"{NAME}.md").write_text(CAPTION + "\n" + markdown(HEADER, map(row, rows)))
    write(folder, NAME, {"quick": quick, "environments": json.loads(json.dumps(rows))})
    returns.picture(rows, folder / f"{NAME}.png")


def row(result: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    env, label, steps, *figures, seconds, compiling = returns.row(result)
    beside = PUBLISHED.get(env, "—")
    return (env, label, steps, f"{result['untrained']:g}", *figures, beside, seconds, compiling)


if __name__ == "__main__":
    main()
