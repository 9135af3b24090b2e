"""A trial of a tuning: its points in the space, and its returns round by round."""

import math
from typing import NamedTuple

import numpy as np

from pgjax.runs.tuning.space import Point


class Handover(NamedTuple):
    """A trial between two rounds.

    Attributes:
      point: the coordinates of the round before.
      source: the trial whose state the next round begins with; its own number: no other's.
    """

    point: Point
    source: int


class Trial(NamedTuple):
    """One setting, trained with every seed.

    Attributes:
      number: trials are numbered as they begin, from 0.
      point: its coordinates in the space, in the latest round.
      returns: float[rounds, num_seeds], reward units; each seed's mean return over the last updates
        of a round; NaN where no episode ended.
      status: "running", "stopped" or "done".
      handovers: those between its rounds; (): its point never changed, nor its state.
    """

    number: int
    point: Point
    returns: np.ndarray
    status: str = "running"
    handovers: tuple[Handover, ...] = ()

    @property
    def rounds(self) -> int:
        """Rounds trained."""
        return len(self.returns)

    @property
    def first_point(self) -> Point:
        """Its coordinates in the first round."""
        return self.handovers[0].point if self.handovers else self.point

    def score(self, rounds: int | None = None) -> float:
        """The mean over seeds after so many rounds, by default all; −∞ where one is not a number.

        >>> Trial(0, (), np.array([[1.0, 2.0], [3.0, 5.0]])).score()
        4.0
        """
        if not self.rounds:
            return -math.inf
        mean = float(np.mean(self.returns[(rounds or self.rounds) - 1]))
        return mean if math.isfinite(mean) else -math.inf


def ranked(trials: list[Trial]) -> list[Trial]:
    """The best score first; of equal scores the earlier trial's."""
    return sorted(trials, key=lambda trial: (-trial.score(), trial.number))
