"""The result of a tuning."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from pgjax.core.types import TrainState
from pgjax.runs.tuning.halving import Trial, importance
from pgjax.runs.tuning.plan import Plan
from pgjax.training.config import Config


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The trials of a tuning, and the best one.

    Attributes:
      trials: by number.
      compile_seconds, run_seconds: wall-clock time of this call; the one is not in the other.
    """

    trials: tuple[Trial, ...]
    compile_seconds: float
    run_seconds: float
    _plan: Plan = dataclasses.field(repr=False)
    _states: TrainState = dataclasses.field(repr=False)

    @property
    def best(self) -> Trial:
        """The trial with the best mean return over seeds, of those trained to the end."""
        return best_of(self.trials)

    @property
    def best_config(self) -> Config:
        """The best trial's config."""
        return self.config(self.best)

    @property
    def best_state(self) -> TrainState:
        """The final state of the best trial's best seed."""
        seed = int(np.argmax(np.nan_to_num(self.best.returns[-1], nan=-np.inf)))
        return jax.tree.map(lambda x: x[seed], self._states)

    def config(self, trial: Trial) -> Config:
        """A trial's config."""
        return self._plan.config_at(trial.point)

    def setting(self, trial: Trial) -> dict[str, Any]:
        """A trial's values by path."""
        return self._plan.setting(trial.point)

    def num_updates(self, trial: Trial) -> int:
        """Updates that each seed of a trial made."""
        total = self.config(trial).num_updates
        return min(total, trial.rounds * self._plan.round_updates(total))

    def importances(self) -> dict[str, float]:
        """The share of the scores' variance that each path explains alone, in [0, 1], the largest
        first; from the scores after the first round, which every trial has. See
        `halving.importance`."""
        scores = np.array([trial.score(1) for trial in self.trials])
        points = np.array([trial.point for trial in self.trials])
        shares = {
            axis.path: importance(points[:, column], scores, bool(axis.values))
            for column, axis in enumerate(self._plan.axes)
        }
        return dict(sorted(shares.items(), key=lambda pair: -pair[1]))

    def ranked(self) -> list[Trial]:
        """The trials, those trained longest first, and of these the best first."""
        return sorted(self.trials, key=lambda trial: (-self.num_updates(trial), *_order(trial)))


def best_of(trials: Any) -> Trial:
    """The best of the trials that are done."""
    return min((trial for trial in trials if trial.status == "done"), key=_order)


def _order(trial: Trial) -> tuple[float, int]:
    score = trial.score()
    return (-score if math.isfinite(score) else math.inf, trial.number)
