"""Learning curves of runs: seeds of one config together, with an interval."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pgjax.core.names import shortened, shown, unknown
from pgjax.environments.wrappers import saved
from pgjax.estimators.estimator import Estimator
from pgjax.pictures.records import Record
from pgjax.training import registry

RETURN = "episode_return"
AXES = {"env_steps": "environment steps", "seconds": "seconds of running", "update": "updates"}
_POINTS = 200
_NUM_RESAMPLES = 2000
_PERCENTILES = (2.5, 97.5)
_SHOWN_DIFFERENCES = 3
_DECISIVE = ("estimator", "objective", "ascent")
_ALGORITHMS = {
    ("ClippedRatio", "Passes"): "PPO",
    ("ImportanceRatio", "TrustRegion"): "natural policy gradient",
}


class Evaluated(NamedTuple):
    """Evaluations of runs that differ in the seed only.

    Attributes:
      x: float[points].
      middle: float[points]; a single run's mean return; of several the interquartile mean over
        seeds.
      low, high: float[points]; the 95 % bootstrap interval of `middle`: over a single run's
        episodes, or over seeds.
    """

    x: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Curve(NamedTuple):
    """Runs that differ in the seed only.

    Attributes:
      environment: its name.
      label: the differences of its config from those of the environment's other curves.
      x: float[points]; from the first x at which all seeds have a value to the first at which a
        seed ends.
      middle: float[points]; interquartile mean over seeds of the metric, by default the mean
        episode return.
      low, high: float[points]; the 95 % bootstrap interval of `middle`; None for a single seed.
      seeds: x and value of each seed.
      repeated: folders of runs left out, since another run has the same config and seed.
      evaluated: evaluations during the runs; None: not all were evaluated, or of another metric.
      metric: its name, a column of metrics.csv.
    """

    environment: str
    label: str
    x: np.ndarray
    middle: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    seeds: list[tuple[np.ndarray, np.ndarray]]
    repeated: list[Path]
    evaluated: Evaluated | None = None
    metric: str = RETURN


def curves(records: Sequence[Record], axis: str = "env_steps", metric: str = RETURN) -> list[Curve]:
    """One curve for each config among the records, ordered by environment.

    Args:
      records: from `folders.read_all`.
      axis: "env_steps", "seconds" or "update".
      metric: a column of metrics.csv.

    Raises:
      ValueError: an axis or a metric that a record does not have; a run without a value of the
        metric, as one in which no episode ended.
    """
    if axis not in AXES:
        raise ValueError(unknown(f"axis {shown(axis)}", axis, AXES))
    for record in records:
        for name in (axis, metric):
            if name not in record.metrics:
                message = unknown(f"metric {shown(name)}", name, record.metrics)
                raise ValueError(f"{record.path}: {message}")
    result = []
    for environment in dict.fromkeys(map(environment_of, records)):
        groups: dict[str, list[Record]] = {}
        for record in records:
            if environment_of(record) == environment:
                groups.setdefault(config_of(record), []).append(record)
        labels = differences([group[0].setting() for group in groups.values()])
        for label, group in zip(labels, groups.values(), strict=True):
            result.append(_curve(environment, label, group, axis, metric))
    return result


def config_of(record: Record) -> str:
    """The text that the records of one config and one kind of start share."""
    return json.dumps(record.setting(), sort_keys=True)


def environment_of(record: Record) -> str:
    """The environment in a record's config, inside of wrappers: an id, or the description of an
    object."""
    env = saved.core_of(record.config["env"])
    return env if isinstance(env, str) else str(env.get("custom", env))


def algorithm_of(record: Record) -> str:
    """The usual name of a record's config, "PPO" for instance; else those of objective and
    ascent."""
    components = [record.config[name] for name in _DECISIVE]
    names = [component.get("type", component.get("custom")) for component in components]
    estimator, objective, ascent = names
    if (objective, ascent) == ("ScoreFunction", "GradientStep"):
        cls = registry.COMPONENTS["estimator"].get(estimator, Estimator)
        return "actor-critic" if cls.bootstraps else "REINFORCE"
    step = "" if ascent == "GradientStep" else f" by {ascent}"
    return _ALGORITHMS.get((objective, ascent), f"{objective}{step}")


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half along the last axis, values at its edges counted in part.

    Source: Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical
      precipice.

    >>> import numpy as np
    >>> float(interquartile_mean(np.array([0.0, 1.0, 3.0, 100.0])))
    2.0
    """
    n = values.shape[-1]
    rank = np.arange(n)
    weights = np.clip(np.minimum(rank + 1, 0.75 * n) - np.maximum(rank, 0.25 * n), 0.0, 1.0)
    return np.sort(values, axis=-1) @ weights / weights.sum()


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % bootstrap percentile interval of the interquartile mean along the last axis.

    Source: Efron & Tibshirani (1993), section 13.3.
    """
    n = values.shape[-1]
    draws = np.random.default_rng(0).integers(n, size=(_NUM_RESAMPLES, n))
    means = np.stack([interquartile_mean(values[..., draw]) for draw in draws])
    low, high = np.percentile(means, _PERCENTILES, axis=0)
    return low, high


def thinned(
    x: np.ndarray, values: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A curve in at most 200 points: x at the end of equal parts, and the mean value in each.

    Args:
      x: float[updates].
      values: float[updates]; for returns the mean of the episodes that ended, NaN where none did.
      weights: float[updates]; ≥ 0; for returns how many episodes ended.

    Returns:
      x and value, float[points]; a part without any weight has no point.
    """
    starts = np.arange(0, len(x), -(-len(x) // _POINTS))
    total = np.add.reduceat(np.where(weights > 0, values, 0.0) * weights, starts)
    weight = np.add.reduceat(weights, starts)
    ends = np.append(starts[1:], len(x)) - 1
    nonempty = weight > 0
    return x[ends][nonempty], total[nonempty] / weight[nonempty]


def _distinct(group: list[Record]) -> tuple[list[Record], list[Path]]:
    """The longest record of each seed, and the folders of the others."""
    longest: dict[tuple, Record] = {}
    for record in sorted(group, key=lambda record: -len(record.metrics["update"])):
        # Seed 0 of one sweep is another than seed 0 of another sweep.
        longest.setdefault((record.sweep, record.seed), record)
    kept = {id(record) for record in longest.values()}
    repeated = [record.path for record in group if id(record) not in kept]
    return [record for record in group if id(record) in kept], list(dict.fromkeys(repeated))


def _curve(environment: str, label: str, group: list[Record], axis: str, metric: str) -> Curve:
    group, repeated = _distinct(group)
    seeds = [_points(record, axis, metric) for record in group]
    evaluated = _evaluated(group, axis) if metric == RETURN else None
    if len(seeds) == 1:
        return Curve(environment, label, *seeds[0], None, None, seeds, repeated, evaluated, metric)
    x, values = _shared(seeds)
    middle, band = interquartile_mean(values), interval(values)
    return Curve(environment, label, x, middle, *band, seeds, repeated, evaluated, metric)


def _points(record: Record, axis: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """x and value of one run, float[points].

    Raises:
      ValueError: no update has a value.
    """
    columns = record.metrics
    values = columns[metric]
    weights = columns["num_episodes"] if metric == RETURN else np.isfinite(values).astype(float)
    x, values = thinned(columns[axis], values, weights)
    if not len(x):
        reason = "no episode has ended" if metric == RETURN else f"no update has a {metric}"
        raise ValueError(f"{record.path}: {reason} in this run")
    return x, values


def _shared(seeds: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """x at which all seeds have a value, float[points], and their values, float[points, seeds]."""
    first, last = max(x[0] for x, _ in seeds), min(x[-1] for x, _ in seeds)
    if first >= last:  # one seed ends before another begins: its last return is extended
        last = max(x[-1] for x, _ in seeds)
    x = np.linspace(first, last, _POINTS)
    return x, np.stack([np.interp(x, *seed) for seed in seeds], axis=-1)


def _evaluated(group: list[Record], axis: str) -> Evaluated | None:
    """The evaluations of runs of one config, if all have some."""
    tables = [record.evaluations for record in group]
    if not all(len(table.get("update", ())) for table in tables):
        return None
    if len(tables) == 1:
        return Evaluated(*(tables[0][name] for name in (axis, "return", "low", "high")))
    number = min(len(table["update"]) for table in tables)
    x = np.mean([table[axis][:number] for table in tables], axis=0)
    values = np.stack([table["return"][:number] for table in tables], axis=-1)
    return Evaluated(x, interquartile_mean(values), *interval(values))


def differences(configs: list[dict[str, Any]]) -> list[str]:
    """Texts that tell configs apart: their differing fields with values; no two texts are equal.

    Args:
      configs: as JSON types.
    """
    flat = [dict(_leaves(config)) for config in configs]
    paths = list(dict.fromkeys(path for leaves in flat for path in leaves))
    differing = [p for p in paths if len({json.dumps(leaves.get(p)) for leaves in flat}) > 1]
    # A component's type first: its fields differ with it.
    differing.sort(key=lambda path: not path.endswith(".type"))
    words = shortened(path.removesuffix(".type") for path in differing)
    for number in range(_SHOWN_DIFFERENCES, len(differing) + 1):
        if len(set(labels := _with_differences(flat, differing[:number], words))) == len(flat):
            return labels
    return _with_differences(flat, differing, words)


def _with_differences(
    flat: list[dict[str, Any]], paths: list[str], words: dict[str, str]
) -> list[str]:
    texts = ([_difference(p, leaves[p], words) for p in paths if p in leaves] for leaves in flat)
    return list(map(", ".join, texts))


def _difference(path: str, value: Any, words: dict[str, str]) -> str:
    component = path.removesuffix(".type")
    if component != path and "." not in component:
        return str(value)  # a class's name says what kind of component it is
    text = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
    return f"{words[component]} {text}"


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, f"{path}.{name}" if path else name)
    else:
        yield path, node
