"""Sweeps: many settings and seeds, one compiled program for all that differ only in floats."""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgjax import memory, training
from pgjax.components import check_int
from pgjax.config import Config, check_key, checked
from pgjax.parallel import check_mesh, local, on_shares, replicated
from pgjax.types import Array, Metrics, PyTree, TrainResult, TrainState


class Member(NamedTuple):
    """One run of a sweep.

    Attributes:
      setting: its value of each path of the grid.
      seed: its index among the seeds.
      config: the config with that setting.
      state, metrics: what `train` would have returned.
    """

    setting: dict[str, Any]
    seed: int
    config: Config
    state: TrainState
    metrics: Metrics


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What `sweep` returns. It unpacks like `train`'s result: `state, metrics = sweep(…)`.

    Attributes:
      config: the config without the grid's settings.
      grid: path -> values; one leading axis of the results each, in this order.
      num_seeds: the length of the axis after those.
      metrics: NumPy metrics, [*grid, num_seeds, num_updates].
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
        """What the leading axes of the results count: the grid's paths, then "seed"."""
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
        number = np.arange(math.prod(self.shape)).reshape(self.shape)[index]
        setting, seed = divmod(int(number), self.num_seeds)
        values = list(itertools.product(*self.grid.values()))[setting]
        named = dict(zip(self.grid, values, strict=True))
        return Member(
            setting=named,
            seed=seed,
            config=self.config.replace(**named),
            state=jax.tree.map(lambda x: x[seed], self._states[setting]),
            metrics=jax.tree.map(lambda x: x[index], self.metrics),
        )

    def final_returns(self, updates: int = 5) -> np.ndarray:
        """Mean episode return over the last updates, float[*grid, num_seeds]; NaN if none ended."""
        returns = self.metrics.episode_return[..., -updates:]
        number = np.sum(np.isfinite(returns), axis=-1)
        total = np.nansum(returns, axis=-1)
        return np.where(number > 0, total / np.maximum(number, 1), np.nan)

    def best(self, updates: int = 5) -> Member:
        """The best seed of the setting with the best mean over seeds of `final_returns`."""
        returns = np.nan_to_num(self.final_returns(updates), nan=-np.inf)
        setting = np.unravel_index(np.argmax(returns.mean(-1)), self.shape[:-1])
        return self.at(*map(int, setting), int(np.argmax(returns[setting])))


def sweep(
    key: Array,
    config: Config,
    grid: Mapping[str, Sequence[Any]],
    num_seeds: int,
    mesh: Mesh | None = None,
    stop_at_return: float = math.inf,
    memory_limit: int | None = None,
) -> Sweep:
    """`train` for every combination of the grid's values, with the same seeds for each.

    Run [i, …, s] is `train(jax.random.split(key, num_seeds)[s], config.replace(…))`. What differs
    in floats only is one compiled program; sizes, networks and estimators are one each.

    Args:
      key: one `jax.random.key`.
      config: what the grid does not set.
      grid: dotted path -> values, for instance {"optimizer.learning_rate": [1e-3, 1e-2]}.
      num_seeds: ≥ 1.
      mesh: from `make_mesh`; runs are divided over its devices.
      stop_at_return: a run that reaches this mean return of finished episodes stays as it is; its
        metrics repeat. The others go on without waiting for its episodes.
      memory_limit: bytes for the runs at once; None: half of what is available. More of them run
        block after block.

    Raises:
      ValueError, TypeError: before compilation, for an empty grid, or a value that cannot be.

    >>> import jax, pgjax
    >>> config = pgjax.Config(env="Catch-bsuite", num_updates=3)
    >>> found = pgjax.sweep(jax.random.key(0), config, {"optimizer.learning_rate": [0.01, 0.1]}, 4)
    >>> found.axes, found.metrics.episode_return.shape
    (('optimizer.learning_rate', 'seed'), (2, 4, 3))
    """
    check_key(key)
    check_int("num_seeds", num_seeds, 1)
    training.check_target(stop_at_return)
    grid = _checked_grid(grid)
    check_mesh(mesh, "the mesh's size", 0)
    settings = itertools.product(*grid.values())
    configs = [checked(config.replace(**dict(zip(grid, s, strict=True)))) for s in settings]
    keys, results = jax.random.split(key, num_seeds), {}
    seconds = np.zeros(2)
    programs = _programs(configs)
    sizes = [memory.seeds_that_fit(configs[members[0]], memory_limit) for members in programs]
    for members, most in zip(programs, sizes, strict=True):
        group = _Group([configs[member] for member in members], keys, mesh)
        found, spent = group.run(stop_at_return, most)
        results |= dict(zip(members, found, strict=True))
        seconds += spent
    states, metrics = zip(*(results[number] for number in range(len(configs))), strict=True)
    shape = (*map(len, grid.values()), num_seeds, config.num_updates)
    metrics = jax.tree.map(lambda *rows: np.stack(rows).reshape(shape), *metrics)
    return Sweep(config, grid, num_seeds, metrics, *map(float, seconds), len(programs), states)


def _checked_grid(grid: Mapping[str, Sequence[Any]]) -> dict[str, tuple]:
    if not isinstance(grid, Mapping) or not grid:
        raise ValueError(
            f"grid must map at least one of the config's paths to values, got {grid!r}"
        )
    if "num_updates" in grid:
        raise ValueError("grid must not hold num_updates: a longer run contains the shorter ones")
    for path, values in grid.items():
        if isinstance(values, str) or not np.iterable(values) or len(values) == 0:
            raise ValueError(f"grid[{path!r}] must be a list of at least one value, got {values!r}")
    return {path: tuple(values) for path, values in grid.items()}


def _programs(configs: list[Config]) -> list[list[int]]:
    """Numbers of the configs that share a program: all but their leaves' values is equal."""
    groups: dict[Any, list[int]] = {}
    for number, config in enumerate(configs):
        leaves, structure = jax.tree.flatten(config)
        kind = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        groups.setdefault(kind, []).append(number)
    return list(groups.values())


class _Group:
    """The runs of one program: every config with every seed, config by config."""

    def __init__(self, configs: list[Config], keys: Array, mesh: Mesh | None) -> None:
        self.num_seeds, self.mesh = keys.shape[0], mesh
        self.number = len(configs) * self.num_seeds
        self.keys = jnp.tile(keys, len(configs))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *configs)
        # What is the same in all runs is not batched: it need not be read for each.
        self.varies = tuple(bool(np.any(leaf != leaf[:1])) for leaf in jax.tree.leaves(stacked))
        self.config = self._per_leaf(
            lambda leaf, varies: np.repeat(leaf, self.num_seeds, axis=0) if varies else leaf[0],
            stacked,
        )

    def run(self, target: float, most: int) -> tuple[list[TrainResult], np.ndarray]:
        """State and NumPy metrics of each config, [num_seeds, …]; seconds to compile and to run."""
        size = self._block_size(most)
        compiled, seconds, blocks = None, np.zeros(2), []
        for first in range(0, self.number, size):
            inputs = (*self._members(first, size), jnp.asarray(target, float))
            inputs = replicated(inputs, self.mesh)
            started = time.perf_counter()
            if compiled is None:
                compiled = _train_members.lower(*inputs, self.varies, self.mesh).compile()
                seconds[0] = time.perf_counter() - started
                started = time.perf_counter()
            blocks.append(local(jax.block_until_ready(compiled(*inputs))))
            seconds[1] += time.perf_counter() - started
        state, metrics = jax.tree.map(lambda *parts: jnp.concatenate(parts), *blocks)
        everything = TrainResult(state, jax.tree.map(np.asarray, metrics))
        firsts = range(0, self.number, self.num_seeds)
        return [_rows(everything, first, self.num_seeds) for first in firsts], seconds

    def _members(self, first: int, size: int) -> tuple[Array, Config]:
        """`size` runs from `first` on; after the last, the last again."""
        index = np.minimum(np.arange(first, first + size), self.number - 1)
        config = self._per_leaf(lambda leaf, varies: leaf[index] if varies else leaf, self.config)
        return self.keys[index], config

    def _per_leaf(self, function: Any, config: Config) -> Config:
        leaves, structure = jax.tree.flatten(config)
        return jax.tree.unflatten(structure, map(function, leaves, self.varies))

    def _block_size(self, most: int) -> int:
        """Runs at once: equal blocks of at most `most`, and a share for every device."""
        devices = 1 if self.mesh is None else self.mesh.size
        blocks = math.ceil(self.number / most)
        return math.ceil(math.ceil(self.number / blocks) / devices) * devices


def _rows(tree: PyTree, first: int, number: int) -> Any:
    return jax.tree.map(lambda x: x[first : first + number], tree)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _train_members(
    keys: Array, config: Config, target: Array, varies: tuple[bool, ...], mesh: Mesh | None
) -> TrainResult:
    leaves, structure = jax.tree.flatten(config)
    axes = [0 if batched else None for batched in varies]

    def member(key, leaves, target):
        config = jax.tree.unflatten(structure, leaves)
        number, until = jnp.int32(config.num_updates), training.Until(target, jnp.bool_(False))
        return training.advance(
            training.init(key, config), config, number, until, config.num_updates
        )

    members = jax.vmap(member, (0, axes, None))
    return on_shares(members, mesh, (0, axes, None), 0)(keys, leaves, target)
