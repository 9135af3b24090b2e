"""Evaluations of a run's policy: as rows, as JSON, as a table of episodes."""

from pathlib import Path
from typing import Any

from pgjax.core.types import Evaluation, TrainState
from pgjax.runs import tables
from pgjax.study import evaluation
from pgjax.training.config import Config


def evaluations(
    state: TrainState, config: Config, seed: int, num_episodes: int, mode_only: bool = False
) -> dict[str, Evaluation]:
    """Evaluations with sampled actions, unless `mode_only`, and with the policy's mode, by name."""
    key = evaluation.evaluation_key(seed)
    kinds = {"stochastic": False, "deterministic": True}
    return {
        name: evaluation.evaluate(key, state, config, num_episodes, deterministic)
        for name, deterministic in kinds.items()
        if deterministic or not mode_only
    }


def rows(results: dict[str, Evaluation]) -> dict[str, str]:
    """Names and values to print: each mean return with its interval."""
    texts = {}
    for name, result in results.items():
        low, high = map(float, result.interval)
        texts[f"return, {name}"] = (
            f"{float(result.mean):.2f}  (95 % interval {low:.2f} to {high:.2f})"
        )
    number = len(next(iter(results.values())).returns)
    return texts | {"episodes evaluated": f"{number} each" if len(results) > 1 else str(number)}


def as_json(results: dict[str, Evaluation], seed: int) -> dict[str, Any]:
    """The same as JSON types."""
    return {"seed": seed} | {
        name: {
            "return": float(result.mean),
            "interval": list(map(float, result.interval)),
            "length": float(result.lengths.mean()),
            "episodes": len(result.returns),
        }
        for name, result in results.items()
    }


def check_episodes_file(path: Path | None) -> None:
    """Raises ValueError where a table of episodes cannot be written."""
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} of the table {path.name} does not exist")


def write_episodes(path: Path, results: dict[str, Evaluation]) -> None:
    """Makes or replaces a CSV file with each episode's actions, number, return and length."""
    episodes = [
        [name, number, *episode]
        for name, result in results.items()
        for number, episode in enumerate(
            zip(result.returns.tolist(), result.lengths.tolist(), strict=True)
        )
    ]
    tables.write_csv(path, ["actions", "episode", "return", "length"], episodes)
