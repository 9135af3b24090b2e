"""The results of a sweep: states and metrics over a grid of settings and seeds."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.types import Metrics, TrainResult, TrainState
from pgjax.runs import config_json, frames, sweep_labels
from pgjax.training.config import Config

if TYPE_CHECKING:
    import pandas


class Member(NamedTuple):
    """One run of a sweep.

    Attributes:
      setting: its value of each path of the grid.
      seed: its index among the seeds.
      config: the config with that setting.
      state, metrics: as `train` would have returned them; see `Sweep.metrics`.
    """

    setting: dict[str, Any]
    seed: int
    config: Config
    state: TrainState
    metrics: Metrics


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The results of a sweep. They unpack like `train`'s: `state, metrics = sweep(…)`.

    Attributes:
      config: the config without the grid's settings.
      grid: path -> values; one leading axis of the results each, in this order.
      num_seeds: the length of the axis after those.
      metrics: NumPy metrics, [*grid, num_seeds, num_updates]; NaN in what is reported by other
        settings only.
      compile_seconds, run_seconds: wall-clock time; the one is not in the other.
      num_programs: how many programs were compiled.
    """

    config: Config
    grid: dict[str, tuple]
    num_seeds: int
    metrics: Metrics
    compile_seconds: float
    run_seconds: float
    num_programs: int
    _states: tuple[TrainState, ...] = dataclasses.field(repr=False)

    def __iter__(self) -> Iterator[Any]:
        return iter(TrainResult(self.state, self.metrics))

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the results' leading axes: the grid's paths, then "seed"."""
        return (*self.grid, "seed")

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of those axes."""
        return (*map(len, self.grid.values()), self.num_seeds)

    @property
    def state(self) -> TrainState:
        """The final states, [*grid, num_seeds, …].

        Raises:
          ValueError: the parameters of the settings differ in shape; `at` gives one run's.
        """
        shapes = {str(jax.tree.map(jnp.shape, state)) for state in self._states}
        if len(shapes) > 1:
            raise ValueError("parameters differ in shape over the grid; take runs out with .at()")
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *self._states)
        return jax.tree.map(lambda x: x.reshape(*self.shape, *x.shape[2:]), stacked)

    def at(self, *index: int) -> Member:
        """One run, by its index along each of `axes`.

        Raises:
          IndexError: not one index for each axis, or one beyond its end.
        """
        if len(index) != len(self.shape):
            raise IndexError(f"one index for each of {', '.join(self.axes)}; got {index}")
        run = np.arange(math.prod(self.shape)).reshape(self.shape)[index]
        cell, seed = divmod(int(run), self.num_seeds)
        values = list(itertools.product(*self.grid.values()))[cell]
        setting = dict(zip(self.grid, values, strict=True))
        return Member(
            setting=setting,
            seed=seed,
            config=self.config.replace(**setting),
            state=jax.tree.map(lambda x: x[seed], self._states[cell]),
            metrics=jax.tree.map(lambda x: x[index], self.metrics),
        )

    def final_returns(self, updates: int = 5) -> np.ndarray:
        """Mean episode return over the last updates, float[*grid, num_seeds]; NaN if none ended."""
        returns = self.metrics.episode_return[..., -updates:]
        count = np.sum(np.isfinite(returns), axis=-1)
        total = np.nansum(returns, axis=-1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def frame(self) -> "pandas.DataFrame":
        """A row for each update of each run: the setting's values, "seed", "update", the metrics.

        A path of the grid whose values are components has their labels, as in the sweep's table.

        Raises:
          MissingExtra: pandas is not installed.
        """
        length = self.metrics.finite.shape[-1]
        indices = np.indices((*self.shape, length)).reshape(len(self.shape) + 1, -1)
        labels = sweep_labels.value_labels(self.config, self.grid)
        columns = {
            path: frames.labelled(values, labels[path])[index]
            for (path, values), index in zip(self.grid.items(), indices, strict=False)
        }
        columns |= {"seed": indices[-2], "update": indices[-1] + 1}
        metrics = config_json.columns(self.metrics)
        return frames.frame(columns | {name: np.ravel(x) for name, x in metrics.items()})

    def best(self, updates: int = 5) -> Member:
        """The best seed of the setting with the best mean over seeds of `final_returns`."""
        returns = np.nan_to_num(self.final_returns(updates), nan=-np.inf)
        cell = np.unravel_index(np.argmax(returns.mean(-1)), self.shape[:-1])
        return self.at(*map(int, cell), int(np.argmax(returns[cell])))


def same_names(metrics: Sequence[Metrics]) -> list[Metrics]:
    """The settings' metrics, each with all of their names: NaN where a setting does not report."""
    dtypes = {name: x.dtype for setting in metrics for name, x in setting.extra.items()}

    def filled(setting: Metrics) -> Metrics:
        missing = {
            name: np.full(setting.episode_return.shape, np.nan, dtype)
            for name, dtype in dtypes.items()
        }
        return setting.replace(extra=missing | setting.extra)

    return [filled(setting) for setting in metrics]
