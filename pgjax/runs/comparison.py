"""Comparison of two sets of runs by their final returns."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pgjax.core.components import check_int
from pgjax.pictures.curves import algorithm_of, environment_of, interquartile_mean
from pgjax.pictures.records import Record
from pgjax.runs import checkpoints, folders, overview, sweep_folders

_NUM_RESAMPLES = 2000
_PERCENTILES = (2.5, 97.5)


class Side(NamedTuple):
    """The runs of one config that are compared with others.

    Attributes:
      path: the folder that was given.
      environment, algorithm: names.
      config: as JSON types.
      num_configs: in the folder; of several, this is the one with the best mean return, which is
        biased: the best of many is better by luck, too.
      returns: float[n]; the final return of each seed, reward units.
      env_steps: environment steps of each seed, on average.
    """

    path: Path
    environment: str
    algorithm: str
    config: dict
    num_configs: int
    returns: np.ndarray
    env_steps: float


class Comparison(NamedTuple):
    """Two sides, and how much better the first is.

    Attributes:
      a, b: the sides.
      difference: IQM of a's returns less that of b's, reward units.
      difference_interval: low and high, 95 %; None where a side has a single seed.
      probability: P(a > b), in [0, 1].
      probability_interval: low and high, 95 %; None where a side has a single seed.
    """

    a: Side
    b: Side
    difference: float
    difference_interval: tuple[float, float] | None
    probability: float
    probability_interval: tuple[float, float] | None


def compare(a: str | os.PathLike, b: str | os.PathLike, updates: int = 5) -> Comparison:
    """The difference between the final returns of two sets of runs, with 95 % intervals.

        difference = IQM(x_1 … x_n) − IQM(y_1 … y_m)
        P(a > b) = 1/(n m) Σ_i Σ_j S(x_i, y_j),   S(x, y) = 1 if x > y, ½ if x = y, else 0

    x and y are the seeds' returns of a and b. The intervals are bootstrap percentiles: the seeds
    of each side are drawn anew, with replacement and without regard to the other side's.

    Args:
      a, b: a run folder, a sweep's, or a folder of runs each. Where one holds several configs, the
        config with the best mean return is compared.
      updates: a seed's final return is the mean episode return of so many last updates, ≥ 1.

    Raises:
      ValueError: no runs, runs of different environments, a run in whose last updates no episode
        ended.

    Source: Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical
      precipice, sections 4.2 and 4.3; Mann & Whitney (1947), for P.
    """
    check_int("updates", updates, 1)
    first, second = _side(Path(a), updates), _side(Path(b), updates)
    if first.environment != second.environment:
        raise ValueError(
            f"{a} is of {first.environment}, {b} of {second.environment}: returns of two "
            "environments have no scale in common"
        )
    return Comparison(first, second, *_statistics(first.returns, second.returns))


def _statistics(x: np.ndarray, y: np.ndarray) -> tuple:
    """The fields of a comparison after its sides."""
    difference = float(interquartile_mean(x) - interquartile_mean(y))
    scores = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    if min(len(x), len(y)) < 2:
        return difference, None, float(scores.mean()), None
    generator = np.random.default_rng(0)
    draws, others = (
        generator.integers(len(side), size=(_NUM_RESAMPLES, len(side))) for side in (x, y)
    )
    differences = interquartile_mean(x[draws]) - interquartile_mean(y[others])
    # A resample's mean score is weighted by how often each seed is in it.
    probabilities = np.sum((_shares(draws) @ scores) * _shares(others), axis=1)
    return difference, _interval(differences), float(scores.mean()), _interval(probabilities)


def _shares(draws: np.ndarray) -> np.ndarray:
    """float[resamples, n]; the share of each seed in each resample."""
    n = draws.shape[1]
    return np.stack([np.bincount(draw, minlength=n) for draw in draws]) / n


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, _PERCENTILES)
    return float(low), float(high)


def _side(path: Path, updates: int) -> Side:
    """The runs at or below a folder that are of its best config."""
    if (path / checkpoints.SWEEP).exists() and not sweep_folders.is_done(path):
        raise ValueError(checkpoints.undone(path))
    paths = list(overview.run_folders(path))
    if not paths:
        raise ValueError(f"{path} holds no run folder and no sweep")
    records = [record for inner in paths for record in folders.read_all(inner)]
    environments = sorted({environment_of(record) for record in records})
    if len(environments) > 1:
        raise ValueError(f"{path} holds runs of {', '.join(environments)}; give those of one")
    for record in records:
        if np.isnan(record.final_return(updates)):
            raise ValueError(
                f"{record.path}, seed {record.seed}: no episode ended in the last {updates} "
                "updates; give more of them (--updates)"
            )
    groups = list(overview.by_config(records).values())
    best = max(groups, key=lambda group: overview.mean_return(group, updates))
    return _of_records(path, best, len(groups), updates)


def _of_records(path: Path, records: list[Record], num_configs: int, updates: int) -> Side:
    return Side(
        path=path,
        environment=environment_of(records[0]),
        algorithm=algorithm_of(records[0]),
        config=records[0].config,
        num_configs=num_configs,
        returns=np.array([record.final_return(updates) for record in records]),
        env_steps=float(np.mean([record.metrics["env_steps"][-1] for record in records])),
    )
