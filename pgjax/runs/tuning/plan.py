"""The plan of a tuning: its options, and the programs that its trials share."""

import functools
import itertools
import json
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from pgjax.core.components import check_int
from pgjax.core.types import Array
from pgjax.runs import config_json, sources
from pgjax.runs.run_program import Program, block_size, varying
from pgjax.runs.sweep_plan import program_key
from pgjax.runs.tuning import schedulers
from pgjax.runs.tuning.scheduler import Scheduler
from pgjax.runs.tuning.space import Axis, Point
from pgjax.study import memory_estimate
from pgjax.training import presets, transfer
from pgjax.training.config import Config, check_on_device, checked

_MOST_PROGRAMS = 64


class Options(NamedTuple):
    """The numbers of a tuning, see `tune`."""

    num_trials: int
    budget: int | None
    num_seeds: int

    def check(self, scheduler: Scheduler) -> None:
        """Raises for a number that cannot be."""
        check_int("num_trials", self.num_trials, scheduler.least_trials)
        check_int("num_seeds", self.num_seeds, 1)
        if self.budget is not None:
            check_int("budget", self.budget, 1)


class Plan:
    """A tuning before it is run.

    Attributes:
      key, config, axes, options, scheduler, mesh, source: as for `tune`; the source is read.
      programs: one for each combination of values that are part of the program.
    """

    def __init__(
        self,
        key: Array,
        config: Config,
        axes: Sequence[Axis],
        options: Options,
        scheduler: Scheduler,
        mesh: Mesh | None,
        start_from: str | os.PathLike | None = None,
        parts: Sequence[str] = transfer.DEFAULT,
    ) -> None:
        self.key, self.config, self.axes = key, config, tuple(axes)
        self.options, self.scheduler, self.mesh = options, scheduler, mesh
        options.check(scheduler)
        scheduler.check_axes(self.axes)
        self._examples: dict[Any, list[Config]] = {}
        for point in _corners(self.axes):
            example = checked(self.config_at(point))
            self._examples.setdefault(program_key(example), []).append(example)
        check_on_device(
            self._firsts[0], "no tuning trains it; call run, or `pgjax train`, for each"
        )
        for example in self._firsts:
            scheduler.check_length(example.num_updates)
        self._numbers = {key: number for number, key in enumerate(self._examples)}
        self.source = sources.read_for(start_from, parts, self._firsts)
        groups = self._examples.values()
        self.programs = [Program(varying(group), mesh, self.source) for group in groups]

    @property
    def _firsts(self) -> list[Config]:
        return [group[0] for group in self._examples.values()]

    def setting(self, point: Point) -> dict[str, Any]:
        """A point's values by path."""
        pairs = zip(self.axes, point, strict=True)
        return {axis.path: axis.value(coordinate) for axis, coordinate in pairs}

    def config_at(self, point: Point) -> Config:
        """A point's config, as long as the budget says."""
        config = self.config.replace(**self.setting(point))
        budget = self.options.budget
        return config if budget is None else presets.with_total_steps(config, budget)

    def program_number(self, config: Config) -> int:
        """The index of the program that runs a checked config."""
        return self._numbers[program_key(config)]

    def round_updates(self, num_updates: int) -> int:
        """Updates of a round, where a trial has so many: the last round may be shorter."""
        return self.scheduler.round_updates(num_updates)

    @property
    def batch(self) -> int:
        """Trials side by side."""
        return self.scheduler.batch_size(self.options.num_trials)

    def keys(self, numbers: Sequence[int]) -> Array:
        """key[len(numbers) · num_seeds]; those of trials, seed after seed of each."""
        return self._keys[np.array(numbers)].ravel()

    @functools.cached_property
    def _keys(self) -> Array:
        options = self.options
        return self.scheduler.keys(self.key, options.num_trials, options.num_seeds)

    def seed(self, number: int) -> int:
        """The seed of the proposals that begin at this trial, or of what follows this round."""
        data = np.asarray(jax.random.key_data(self.key)).ravel().tolist()
        return int(np.random.SeedSequence([*data, number]).generate_state(1)[0])

    def block_sizes(self, memory_limit: int | None) -> list[int]:
        """The number of runs of each program that are trained side by side."""
        share = math.ceil(self.batch / len(self.programs)) * self.options.num_seeds
        fitting = [memory_estimate.seeds_that_fit(first, memory_limit) for first in self._firsts]
        return [block_size(share, min(share, most), self.mesh) for most in fitting]

    def facts(self) -> dict[str, Any]:
        """All that tells this tuning from others, as JSON types."""
        base = config_json.to_dict(self.config)
        facts = {
            "config": base,
            "space": [[axis.path, axis.low, axis.high, axis.log] for axis in self.axes],
            "choices": [
                [config_json.to_dict(self.config.replace(**{axis.path: v})) for v in axis.values]
                for axis in self.axes
            ],
            "options": self.options._asdict(),
            "scheduler": schedulers.to_dict(self.scheduler),
            "key": np.asarray(jax.random.key_data(self.key)).tolist(),
            "key_impl": str(jax.random.key_impl(self.key)),
        }
        if self.source is not None:
            facts["started_from"] = self.source.facts()
        return json.loads(json.dumps(facts))


def _corners(axes: Sequence[Axis]) -> list[Point]:
    """Each combination of choices, with all ranges at their low and at their high ends.

    Raises:
      ValueError: too many.
    """
    combinations = math.prod(len(axis.values) or 1 for axis in axes)
    if combinations > _MOST_PROGRAMS:
        raise ValueError(
            f"space has {combinations} combinations of choices, each perhaps a program; "
            f"{_MOST_PROGRAMS} are allowed: give ranges, Uniform(low, high), or fewer values"
        )
    low, high = (
        [range(len(axis.values)) if axis.values else (end,) for axis, end in ends]
        for ends in (
            [(axis, axis.low) for axis in axes],
            [(axis, axis.high) for axis in axes],
        )
    )
    return [*itertools.product(*low), *itertools.product(*high)]
