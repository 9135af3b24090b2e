"""The result of a tuning."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from pgjax.core.types import TrainState
from pgjax.runs.tuning.halving import importance
from pgjax.runs.tuning.plan import Plan
from pgjax.runs.tuning.space import Axis
from pgjax.runs.tuning.trials import Trial
from pgjax.training.config import Config


class Stage(NamedTuple):
    """Updates of a trial with one setting.

    Attributes:
      first, last: the updates, from 1, inclusive.
      trial: its number.
      source: the trial whose state it began with; its own number: no other's.
      setting: values by path.
      score: reward units, after the last of the updates.
    """

    first: int
    last: int
    trial: int
    source: int
    setting: dict[str, Any]
    score: float


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
    def has_schedules(self) -> bool:
        """Whether a trial's setting may have changed while it was trained."""
        return self._plan.scheduler.changes_points

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The space that was searched."""
        return self._plan.axes

    @property
    def best(self) -> Trial:
        """The trial with the best mean return over seeds, of those trained to the end."""
        return best_of(self.trials)

    @property
    def best_config(self) -> Config:
        """The best trial's config; with `PopulationBased`, its last one, see `schedule`."""
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

    def stages(self, trial: Trial) -> list[Stage]:
        """A trial's rounds."""
        total = self.config(trial).num_updates
        length = self._plan.round_updates(total)
        points = [*(handover.point for handover in trial.handovers), trial.point]
        sources = [trial.number, *(handover.source for handover in trial.handovers)]
        if len(points) < trial.rounds:  # nothing was ever handed over
            points, sources = points * trial.rounds, sources * trial.rounds
        return [
            Stage(
                first=index * length + 1,
                last=min((index + 1) * length, total),
                trial=trial.number,
                source=source,
                setting=self._plan.setting(point),
                score=trial.score(index + 1),
            )
            for index, (point, source) in enumerate(zip(points, sources, strict=True))
        ]

    def schedule(self) -> list[Stage]:
        """The settings that led to the best trial's final state, in their order.

        A stage is as long as one trial's setting stays. Where the state was copied, the stages
        before are those of the trial that it was copied from. With `SuccessiveHalving` the schedule
        is one stage.
        """
        stages: list[Stage] = []
        number = self.best.number
        for index in reversed(range(self.best.rounds)):
            stage = self.stages(self.trials[number])[index]
            number = stage.source
            if stages and (stage.trial, stage.setting) == (stages[0].trial, stages[0].setting):
                later = stages.pop(0)
                stage = stage._replace(last=later.last, score=later.score)
            stages.insert(0, stage)
        return stages

    def importances(self) -> dict[str, float]:
        """The share of the scores' variance that each path explains alone, in [0, 1], the largest
        first; from the scores after the first round, which every trial has. See
        `halving.importance`."""
        scores = np.array([trial.score(1) for trial in self.trials])
        points = np.array([trial.first_point for trial in self.trials])
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
