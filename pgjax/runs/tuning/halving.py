"""Successive halving: a trial goes on only while it is among the best that came as far."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pgjax.runs.tuning.space import Point


class Trial(NamedTuple):
    """One setting, trained with every seed.

    Attributes:
      number: trials are numbered as they begin, from 0.
      point: its coordinates in the space.
      returns: float[rounds, num_seeds], reward units; each seed's mean return over the last updates
        of a round; NaN where no episode ended.
      status: "running", "stopped" or "done".
    """

    number: int
    point: Point
    returns: np.ndarray
    status: str = "running"

    @property
    def rounds(self) -> int:
        """Rounds trained."""
        return len(self.returns)

    def score(self, rounds: int | None = None) -> float:
        """The mean over seeds after so many rounds, by default all; −∞ where one is not a number.

        >>> Trial(0, (), np.array([[1.0, 2.0], [3.0, 5.0]])).score()
        4.0
        """
        if not self.rounds:
            return -math.inf
        mean = float(np.mean(self.returns[(rounds or self.rounds) - 1]))
        return mean if math.isfinite(mean) else -math.inf


def rungs(reduction: int, halvings: int) -> list[int]:
    """The rounds after which trials are compared: 1, η, η², …

    >>> rungs(3, 2)
    [1, 3]
    """
    return [reduction**rung for rung in range(halvings)]


def stopping(trials: Sequence[Trial], reduction: int, halvings: int) -> set[int]:
    """The numbers of the running trials that end here.

    A trial at a rung goes on if its score is among the best ⌊n / η⌋, at least one, of the n trials
    that have reached the rung so far; of equal scores the earlier trial's counts as better.

    Args:
      trials: all so far.
      reduction: η ≥ 2.
      halvings: the number of rungs before the end.

    Source: Li et al. (2020), ASHA, with trials that end where they are not promoted at once.
    """
    ended: set[int] = set()
    for rung in rungs(reduction, halvings):
        reached = [trial for trial in trials if trial.rounds >= rung]
        ranked = sorted(reached, key=lambda trial: (-trial.score(rung), trial.number))
        below = ranked[max(1, len(reached) // reduction) :]
        arriving = [trial for trial in below if trial.rounds == rung]
        ended |= {trial.number for trial in arriving if trial.status == "running"}
    return ended


def importance(coordinates: np.ndarray, scores: np.ndarray, choice: bool) -> float:
    """The share of the variance of the scores' ranks that one axis explains, in [0, 1].

        1 − (1 − η²) (n − 1) / (n − k),    η² = Σ_g n_g (r̄_g − r̄)² / Σ_i (r_i − r̄)²

    with k groups: the values of a choice, or the quartiles of a range; below 0 it is 0.

    Args:
      coordinates: float[n].
      scores: float[n], reward units.
      choice: whether the coordinates are indices.

    Source: Kelley (1935), the unbiased correlation ratio.
    """
    number = len(scores)
    groups = coordinates if choice else (4 * _ranks(coordinates) / max(number, 1)) // 1
    ranks, labels = _ranks(scores), np.unique(groups)
    total = np.sum((ranks - ranks.mean()) ** 2) if number else 0.0
    if number <= len(labels) or total == 0:
        return 0.0
    means = np.array([ranks[groups == label].mean() for label in labels])
    sizes = np.array([np.sum(groups == label) for label in labels])
    ratio = np.sum(sizes * (means - ranks.mean()) ** 2) / total
    return float(max(0.0, 1 - (1 - ratio) * (number - 1) / (number - len(labels))))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    return (last - (counts - 1) / 2)[inverse]
