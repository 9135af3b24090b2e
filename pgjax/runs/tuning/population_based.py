"""Population-based training: the worst members copy the best, and go on with other floats."""

import math
from collections.abc import Sequence

import jax
import numpy as np

from pgjax.core.components import component, option
from pgjax.core.types import Array
from pgjax.runs.tuning.scheduler import Scheduler
from pgjax.runs.tuning.space import Axis, Point
from pgjax.runs.tuning.trials import Handover, Trial, ranked

_ROUNDS = 20  # where no interval is given


@component
class PopulationBased(Scheduler):
    """All trials are members of one population, which exploits and explores after each interval.

    Exploit: of n members, the ⌊fraction · n⌋ with the worst scores, at least one, each copy a
    member drawn evenly from as many of the best: its whole state but the key. One whose draw has
    no better score than its own stays as it is. Explore: of what was copied, each float x in
    [low, high] becomes

        clip(x · f)                     in a `LogUniform` range
        clip(x + (f − 1) (high − low))  in a `Uniform` range

    with f drawn evenly from `factors`; or, with probability `resample`, a new draw from its range.
    Nothing is copied after the last interval. Member k's seed s begins as `train` with the key
    `jax.random.split(key, num_trials · num_seeds)[k · num_seeds + s]`; a member has one seed by
    default, and with more its score is their mean, and all are copied together.

    Attributes:
      interval: updates from one decision to the next, ≥ 1 and below a member's; None: a twentieth
        of them.
      fraction: in [0, 0.5]; 0: nothing is copied.
      factors: positive numbers.
      resample: a probability.

    Source: Jaderberg et al. (2017), sections 3 and 4.1: truncation selection, perturb and resample.
    """

    interval: int | None = option(None, low=1)
    fraction: float = option(0.25, low=0.0, high=0.5)
    factors: tuple[float, ...] = (0.8, 1.25)
    resample: float = option(0.1, low=0.0, high=1.0)

    default_seeds, least_trials, changes_points = 1, 2, True

    def check(self, path: str) -> None:
        """Raises unless the numbers are allowed."""
        super().check(path)
        if not self.factors or min(self.factors) <= 0:
            raise ValueError(
                f"{path}.factors must be positive numbers, as (0.8, 1.25), got {self.factors}"
            )

    def check_axes(self, axes: Sequence[Axis]) -> None:
        """Raises ValueError for a list of values: only numbers in a range change during a run."""
        for axis in axes:
            if axis.values:
                raise ValueError(
                    f"space[{axis.path!r}] is a list of values, and PopulationBased changes floats "
                    "within a range: give Uniform(low, high) or LogUniform(low, high), or set it "
                    "in the config"
                )

    def check_length(self, num_updates: int) -> None:
        """Raises ValueError unless a decision comes before the last update."""
        interval = self.round_updates(num_updates)
        if interval >= num_updates:
            raise ValueError(
                f"scheduler.interval must be below a member's {num_updates} updates, got "
                f"{interval}: give a larger budget or a shorter interval"
            )

    def batch_size(self, num_trials: int) -> int:
        """All of them."""
        return num_trials

    def round_updates(self, num_updates: int) -> int:
        """The interval."""
        return math.ceil(num_updates / _ROUNDS) if self.interval is None else self.interval

    def keys(self, key: Array, num_trials: int, num_seeds: int) -> Array:
        """key[num_trials, num_seeds], all different: a copy must not repeat its source's draws."""
        keys = jax.random.split(key, num_trials * num_seeds)
        return keys.reshape(num_trials, num_seeds)

    def proposals(
        self, axes: Sequence[Axis], trials: Sequence[Trial], number: int, seed: int
    ) -> list[Point]:
        """Points drawn evenly, in the logarithm where the range says so."""
        generator = np.random.default_rng(seed)
        return [tuple(_drawn(axis, generator) for axis in axes) for _ in range(number)]

    def decided(self, axes: Sequence[Axis], trials: Sequence[Trial], seed: int) -> list[Trial]:
        """The members after exploiting and exploring, each with a handover."""
        if all(trial.status == "done" for trial in trials):
            return list(trials)
        generator = np.random.default_rng(seed)
        members = []
        for trial, source in zip(trials, self.sources(trials, generator), strict=True):
            point = trial.point
            if source != trial.number:
                point = self.explored(axes, trials[source].point, generator)
            handovers = (*trial.handovers, Handover(trial.point, source))
            members.append(trial._replace(point=point, handovers=handovers))
        return members

    def sources(self, trials: Sequence[Trial], generator: np.random.Generator) -> list[int]:
        """The member that each one copies; its own number where it copies none."""
        count = max(1, math.floor(self.fraction * len(trials))) if self.fraction else 0
        order = ranked(list(trials))
        best, worst = order[:count], {trial.number for trial in order[len(order) - count :]}
        sources = []
        for trial in trials:
            drawn = best[generator.integers(count)] if trial.number in worst else trial
            sources.append(drawn.number if drawn.score() > trial.score() else trial.number)
        return sources

    def explored(self, axes: Sequence[Axis], point: Point, generator: np.random.Generator) -> Point:
        """A point near another, or with some of its coordinates drawn anew."""
        return tuple(
            _drawn(axis, generator)
            if generator.random() < self.resample
            else _perturbed(axis, x, float(generator.choice(self.factors)))
            for axis, x in zip(axes, point, strict=True)
        )


def _drawn(axis: Axis, generator: np.random.Generator) -> float:
    """A coordinate drawn evenly from a range, or from its logarithm."""
    if not axis.log:
        return float(generator.uniform(axis.low, axis.high))
    logarithm = generator.uniform(math.log(axis.low), math.log(axis.high))
    return _clipped(axis, math.exp(logarithm))


def _perturbed(axis: Axis, x: float, factor: float) -> float:
    """A coordinate times a factor, or as far along the range as the factor is from 1."""
    width = axis.high - axis.low
    return _clipped(axis, x * factor if axis.log else x + (factor - 1.0) * width)


def _clipped(axis: Axis, x: float) -> float:
    return min(max(x, axis.low), axis.high)
