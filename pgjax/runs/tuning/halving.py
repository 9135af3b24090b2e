"""Successive halving: a trial goes on only while it is among the best that came as far."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pgjax.core.components import component, option
from pgjax.runs.tuning import proposals
from pgjax.runs.tuning.scheduler import Scheduler
from pgjax.runs.tuning.space import Axis, Point
from pgjax.runs.tuning.trials import Trial

Search = str | Callable[[int], Any]


@component
class SuccessiveHalving(Scheduler):
    """A trial goes on after η⁰, η¹, … rounds only if it is among the best n / η of the n trials
    that have come as far; the search puts the next trial in its place.

    A round is 1 / η^halvings of a trial. All trials have the same seeds, 3 by default.

    Attributes:
      batch: trials side by side, ≥ 1; None: a quarter of them all.
      search: "tpe" (Optuna's tree-structured Parzen estimator), "random", or a function from a seed
        to a sampler of Optuna's that decides from the study's trials alone.
      reduction: η ≥ 2.
      halvings: how often a trial is compared before its end, ≥ 0.

    Source: Li et al. (2020), asynchronous successive halving; Bergstra et al. (2011), TPE.
    """

    batch: int | None = option(None, low=1)
    search: Search = "tpe"
    reduction: int = option(3, low=2)
    halvings: int = option(2, low=0)

    default_seeds = 3

    def check(self, path: str) -> None:
        """Raises unless the numbers and the search are allowed."""
        proposals.check_search(self.search)
        super().check(path)

    def check_extra(self) -> None:
        """Raises `MissingExtra` unless Optuna is installed."""
        proposals.optuna()

    def check_length(self, num_updates: int) -> None:
        """Raises ValueError unless each round has an update."""
        least = self.reduction**self.halvings
        if num_updates < least:
            raise ValueError(
                f"a trial has {num_updates} updates, and {self.halvings} halvings by "
                f"{self.reduction} need {least}; give a larger budget or fewer halvings"
            )

    def batch_size(self, num_trials: int) -> int:
        """A quarter of the trials, unless `batch` says how many."""
        return math.ceil(num_trials / 4) if self.batch is None else self.batch

    def round_updates(self, num_updates: int) -> int:
        """num_updates / η^halvings, rounded up."""
        return math.ceil(num_updates / self.reduction**self.halvings)

    def proposals(
        self, axes: Sequence[Axis], trials: Sequence[Trial], number: int, seed: int
    ) -> list[Point]:
        """The search's next points."""
        return proposals.proposals(axes, trials, number, self.search, seed)

    def decided(self, axes: Sequence[Axis], trials: Sequence[Trial], seed: int) -> list[Trial]:
        """The trials, with those that `stopping` names stopped."""
        ended = stopping(trials, self.reduction, self.halvings)
        return [
            trial._replace(status="stopped") if trial.number in ended else trial for trial in trials
        ]


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
