"""The trials that are trained at the moment, side by side."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.keys import on_host, wrap_keys
from pgjax.core.parallel import local
from pgjax.core.types import PyTree, TrainState
from pgjax.runs import run_blocks
from pgjax.runs.run_blocks import RunBlock
from pgjax.runs.run_program import Program
from pgjax.runs.signals import Interrupted, Signals
from pgjax.runs.tuning.plan import Plan
from pgjax.runs.tuning.trials import Trial
from pgjax.training.config import Config, checked

WINDOW = 5  # updates whose mean return is a seed's


class _Run(NamedTuple):
    """A trial with its checked config."""

    trial: Trial
    config: Config


class Population:
    """The states of trials, which it advances by a round.

    Attributes:
      states: for each trial, by number, those of its seeds, [num_seeds, …]; NumPy arrays, and the
        data of keys.
      recent: for each trial, by number, float[num_seeds, WINDOW], the returns of its last updates;
        NaN where no episode ended, and before its first update.
      compile_seconds, run_seconds: so far.
    """

    def __init__(self, plan: Plan, sizes: list[int]) -> None:
        self._plan, self._sizes = plan, sizes
        self.states: dict[int, PyTree] = {}
        self._likes: dict[int, TrainState] = {}
        self.recent: dict[int, np.ndarray] = {}
        self.compile_seconds = self.run_seconds = 0.0

    def restore(self, trial: Trial, arrays: dict[str, np.ndarray], recent: np.ndarray) -> None:
        """Takes what a folder holds of a trial.

        Raises:
          ValueError: the arrays are not those of its states.
        """
        self.states[trial.number] = on_host(run_blocks.restored(arrays, self._like(trial)))
        self.recent[trial.number] = recent

    def trained(self, trial: Trial) -> TrainState:
        """The states of a trial's seeds, [num_seeds, …]."""
        return wrap_keys(_on_device(self.states[trial.number]), self._like(trial))

    def _like(self, trial: Trial) -> TrainState:
        """Shapes and dtypes of a trial's states."""
        config = checked(self._plan.config_at(trial.point))
        number = self._plan.program_number(config)
        if number not in self._likes:
            program, keys = self._plan.programs[number], self._plan.keys([trial.number])
            self._likes[number] = program.shapes(keys, program.stacked([config], len(keys)))
        return self._likes[number]

    def advance(self, trials: Sequence[Trial], signals: Signals) -> list[Trial]:
        """The trials after one more round, in another order.

        Raises:
          Interrupted: after a signal; `states` are those before the round for some trials.
        """
        groups: dict[tuple[int, int, int], list[_Run]] = {}
        for trial in trials:
            config = checked(self._plan.config_at(trial.point))
            whole = self._plan.round_updates(config.num_updates)
            number = min(whole, config.num_updates - whole * trial.rounds)
            # The last round may be shorter, but its score is of as many updates as of the others.
            key = (self._plan.program_number(config), number, min(WINDOW, whole))
            groups.setdefault(key, []).append(_Run(trial, config))
        advanced = []
        for (program, number, window), runs in groups.items():
            self._begin(program, [run for run in runs if run.trial.number not in self.states])
            advanced += self._after_round(program, number, window, runs, signals)
        return advanced

    def hand_over(self, sources: Mapping[int, int]) -> None:
        """Gives trials the states of others, but for the keys, and the returns that led there.

        Args:
          sources: by the number of a trial, that of the other.
        """
        before, recent = dict(self.states), dict(self.recent)
        for number, source in sources.items():
            self.states[number] = before[source].replace(key=before[number].key)
            self.recent[number] = recent[source]

    def keep(self, numbers: set[int]) -> None:
        """Drops the states of all other trials."""
        self.states = {n: state for n, state in self.states.items() if n in numbers}
        self.recent = {n: returns for n, returns in self.recent.items() if n in numbers}

    def _blocks(self, program: int, runs: list[_Run]) -> Iterator[tuple[np.ndarray, int, Config]]:
        """Indices of a block's runs, seed after seed of each trial, how many of them are no
        repetition of the last, and their configs."""
        engine, seeds = self._plan.programs[program], self._plan.options.num_seeds
        configs = engine.stacked([run.config for run in runs], seeds)
        total, size = len(runs) * seeds, self._sizes[program]
        for first in range(0, total, size):
            index = np.minimum(np.arange(first, first + size), total - 1)
            yield index, min(size, total - first), engine.rows(configs, index)

    def _begin(self, program: int, runs: list[_Run]) -> None:
        """Makes the states of trials before their first update."""
        if not runs:
            return
        engine, parts = self._plan.programs[program], []
        keys = self._plan.keys([run.trial.number for run in runs])
        for index, count, config in self._blocks(program, runs):
            block = engine.begun(*engine.replicated(keys[index], config), 0)
            self.compile_seconds += block.compile_seconds
            parts.append(_rows(on_host(block.state), slice(count)))
        never = np.full((len(runs) * self._plan.options.num_seeds, WINDOW), np.nan)
        self._store(runs, parts, never)

    def _after_round(
        self, program: int, number: int, window: int, runs: list[_Run], signals: Signals
    ) -> list[Trial]:
        """The trials of one program after so many more updates, with their mean returns over the
        last `window`."""
        engine, parts, returns, finite = self._plan.programs[program], [], [], []
        states = _joined([self.states[run.trial.number] for run in runs])
        like = self._like(runs[0].trial)
        for index, count, config in self._blocks(program, runs):
            state = wrap_keys(_on_device(_rows(states, index)), like)
            ended = np.arange(len(index)) >= count
            _, config = engine.replicated(self._plan.key, config)
            block = _advanced(engine, engine.block(state, ended, number), config, signals)
            self.compile_seconds += block.compile_seconds
            self.run_seconds += block.run_seconds
            parts.append(_rows(on_host(local(block.state)), slice(count)))
            returns.append(block.metrics["episode_return"][:count].astype(float))
            finite.append(block.metrics["finite"][:count, -1].astype(bool))
        before = np.concatenate([self.recent[run.trial.number] for run in runs])
        recent = np.hstack([before, np.concatenate(returns)])[:, -WINDOW:]
        self._store(runs, parts, recent)
        means = np.where(np.concatenate(finite), _finite_means(recent[:, -window:]), np.nan)
        rows = means.reshape(len(runs), 1, -1)
        return [
            run.trial._replace(returns=np.concatenate([run.trial.returns, row]))
            for run, row in zip(runs, rows, strict=True)
        ]

    def _store(self, runs: list[_Run], parts: list[TrainState], recent: np.ndarray) -> None:
        states, seeds = _joined(parts), self._plan.options.num_seeds
        for position, run in enumerate(runs):
            rows = slice(position * seeds, (position + 1) * seeds)
            # Copies: a view would keep the states of the trials that are dropped.
            self.states[run.trial.number] = jax.tree.map(np.copy, _rows(states, rows))
            self.recent[run.trial.number] = recent[rows]


def _advanced(engine: Program, start: RunBlock, config: Config, signals: Signals) -> RunBlock:
    """A block after all of its updates.

    Raises:
      Interrupted: after a signal.
    """
    block = start
    for advanced in engine.after_updates(start, config, math.inf):
        block = advanced
        if signals.caught:
            raise Interrupted(None, signals.caught)
    return block


def _finite_means(returns: np.ndarray) -> np.ndarray:
    """float[n]; the mean of the finite numbers of each row; NaN where there are none."""
    finite = np.isfinite(returns)
    count = finite.sum(-1)
    mean = np.where(finite, returns, 0.0).sum(-1) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


def _rows(states: PyTree, index: slice | np.ndarray) -> PyTree:
    return jax.tree.map(lambda x: x[index], states)


def _joined(states: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *parts: np.concatenate(parts), *states)


def _on_device(states: PyTree) -> PyTree:
    # Copies: the program that they are given to takes their memory.
    return jax.tree.map(jnp.array, states)
