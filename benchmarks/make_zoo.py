"""The policies of `pgjax/runs/zoo`: trains presets, evaluates them, writes their folders.

Each seed is a run folder, as `pgjax train ENV --algorithm preset --seed SEED --devices 1` leaves
it. Of several seeds the best in episodes of its own is kept; the returns on its card are those of
other episodes, and `pgjax evaluate zoo/ENV --seed 1000000 --eval-episodes 512` gives them again. A
policy whose return is below that of the worst seed in results/returns.json is not written.

It may be interrupted: runs go on from their checkpoints, and policies of the same config are kept,
unless other seeds are asked for. At the end it writes the table of docs/guides/zoo.md.

    python benchmarks/make_zoo.py [--env CartPole-v1 ...] [--seed 0 1 2] [--runs runs/zoo]
"""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import RESULTS, parser, results_folder, significant

import pgjax
from pgjax.runs import config_json
from pgjax.runs.zoo import entries
from pgjax.study.evaluation import evaluation_key
from pgjax.training import presets

QUICK = ("Catch-bsuite",)
SELECTION_SEED, EVALUATION_SEED = 2_000_000, 1_000_000
NUM_EPISODES = 512
PAGE = Path(__file__).resolve().parents[1] / "docs" / "guides" / "zoo.md"


def main() -> None:
    """Trains, evaluates, and writes a folder for each policy."""
    flags = parser(__doc__.splitlines()[0])
    flags.add_argument("--env", nargs="+", metavar="ENV", help="these only")
    flags.add_argument("--seed", nargs="+", type=int, help="the seeds to train: 0")
    flags.add_argument("--runs", type=Path, help="folder of the run folders")
    flags = flags.parse_args()
    shipped = flags.out is None and not flags.quick
    folder = entries.FOLDER if shipped else results_folder(flags)
    runs = flags.runs or (Path("runs/zoo") if shipped else folder / "runs")
    for env in flags.env or (QUICK if flags.quick else presets.tuned()):
        config = pgjax.preset(env)
        config = config.replace(num_updates=5) if flags.quick else config
        if is_kept(folder / env, config, flags.seed):
            continue
        number = 16 if flags.quick else NUM_EPISODES
        state, card = best(config, flags.seed or [0], runs, number)
        worst = -np.inf if flags.quick else worst_return(env)
        print(f"{env}: {card.stochastic}, worst seed before {worst}", flush=True)
        if card.stochastic.interval[1] < worst:
            print(f"{env}: not written, its return is below the worst seed's", flush=True)
            continue
        shutil.rmtree(folder / env, ignore_errors=True)
        entries.write(folder / env, state, config, card)
    if shipped:
        before, _, rest = PAGE.read_text().partition("<!-- zoo -->\n")
        after = rest.partition("<!-- end of zoo -->")[2]
        text = f"{before}<!-- zoo -->\n{table(entries.zoo())}<!-- end of zoo -->{after}"
        PAGE.write_text(text)
    print(f"written to {folder}")


def is_kept(folder: Path, config: pgjax.Config, seeds: list[int] | None) -> bool:
    """Whether a folder has the policy of the same config and, if they are given, seeds."""
    if not folder.is_dir():
        return False
    card, saved = (json.loads((folder / f"{name}.json").read_text()) for name in ("card", "config"))
    same = saved == json.loads(json.dumps(config_json.to_dict(config)))
    return same and seeds in (None, card["seeds"])


def best(
    config: pgjax.Config, seeds: list[int], runs: Path, num_episodes: int
) -> tuple[pgjax.TrainState, entries.ZooPolicy]:
    """The best of several seeds: its state and its card."""
    folders = [run(config, seed, runs / f"{config.env}-{seed}") for seed in seeds]
    states = [pgjax.load_policy(folder)[0] for folder in folders]
    key = evaluation_key(SELECTION_SEED)
    means = [
        float(pgjax.evaluate(key, state, config, num_episodes).mean)
        for state in (states if len(states) > 1 else [])
    ]
    index = int(np.argmax(means)) if means else 0
    state, seed = states[index], seeds[index]
    facts = json.loads((folders[index] / "config.json").read_text())
    written = datetime.fromtimestamp((folders[index] / "config.json").stat().st_mtime, UTC)
    card = entries.ZooPolicy(
        name=f"{entries.PREFIX}/{config.env}",
        environment=config.env,
        algorithm=presets.algorithm(config.env),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        num_updates=int(state.num_updates),
        env_steps=int(state.env_steps),
        stochastic=measured(state, config, num_episodes, False),
        deterministic=measured(state, config, num_episodes, True),
        seed=seed,
        seeds=tuple(seeds),
        command=f"pgjax train {config.env} --algorithm preset --seed {seed} --devices 1",
        versions=facts["versions"],
        date=written.date().isoformat(),
    )
    return state, card


def run(config: pgjax.Config, seed: int, folder: Path) -> Path:
    """The run folder of a seed that has been trained to the end."""
    if not folder.exists():
        pgjax.run(config, seed, folder)
    elif int(pgjax.load_policy(folder)[0].num_updates) < config.num_updates:
        pgjax.resume(folder)
    return folder


def measured(
    state: pgjax.TrainState, config: pgjax.Config, num_episodes: int, deterministic: bool
) -> entries.ZooReturn:
    """The return of a policy, in as many episodes."""
    key = evaluation_key(EVALUATION_SEED)
    result = pgjax.evaluate(key, state, config, num_episodes, deterministic)
    interval = tuple(significant(bound, 6) for bound in result.interval)
    deviation = significant(np.std(result.returns), 6)
    return entries.ZooReturn(significant(result.mean, 6), interval, deviation, num_episodes)


def worst_return(env: str) -> float:
    """The return of the worst seed of an environment's preset in results/returns.json."""
    results: list[dict[str, Any]] = json.loads((RESULTS / "returns.json").read_text())[
        "environments"
    ]
    chosen = (r for r in results if (r["env"], r["label"]) == (env, presets.algorithm(env)))
    return next(chosen)["stochastic"]["worst"]


def table(cards: tuple[entries.ZooPolicy, ...]) -> str:
    """The table of the page about the zoo."""
    header = ("policy", "algorithm", "parameters", "env steps", "return (95 % interval)", "mode")
    rows = [header, ["---"] * len(header), *map(row, cards)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def row(card: entries.ZooPolicy) -> tuple[str, ...]:
    """The cells of a policy in the table of the page."""
    low, high = card.stochastic.interval
    best_of = f", seed {card.seed} of {len(card.seeds)}" if len(card.seeds) > 1 else ""
    cells = (
        f"{card.algorithm}{best_of}",
        f"{card.parameters:,}",
        f"{card.env_steps / 1e6:.2f} M",
        f"{card.stochastic.mean:.4g} ({low:.4g} to {high:.4g})".replace("-", "−"),
        f"{card.deterministic.mean:.4g}".replace("-", "−"),
    )
    return f"`{card.name}`", *cells


if __name__ == "__main__":
    main()
