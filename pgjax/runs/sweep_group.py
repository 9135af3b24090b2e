"""The runs of one program of a sweep, trained block after block."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgjax.core.parallel import divided, local, on_shares, replicated
from pgjax.core.types import Array, Metrics, PyTree, TrainResult, TrainState
from pgjax.runs import blocks, config_json
from pgjax.runs.run_blocks import BlockStore, RunBlock
from pgjax.training import training
from pgjax.training.config import Config


class Group:
    """The runs of one program: every config with every seed, config by config.

    Attributes:
      num_seeds, num_runs: seeds of each config; of all configs together.
      num_updates: updates of each run.
      config: leaves that vary over the runs are [num_runs, …].
      varies: which leaves do.
    """

    def __init__(self, configs: list[Config], keys: Array, mesh: Mesh | None) -> None:
        self.num_seeds, self.num_runs = len(keys), len(configs) * len(keys)
        self.num_updates, self._mesh = configs[0].num_updates, mesh
        self._keys = jnp.tile(keys, len(configs))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *configs)
        # A leaf that is equal in all runs is not batched: it need not be read for each.
        self.varies = tuple(bool(np.any(leaf != leaf[:1])) for leaf in jax.tree.leaves(stacked))
        self.config = self._per_leaf(
            lambda leaf, varies: np.repeat(leaf, self.num_seeds, axis=0) if varies else leaf[0],
            stacked,
        )
        self._program: jax.stages.Compiled | None = None

    def train(
        self,
        stop_at_return: float,
        size: int,
        store: BlockStore | None,
        label: str,
        runs: np.ndarray,
    ) -> tuple[list[TrainResult], np.ndarray]:
        """State and NumPy metrics of each config, [num_seeds, …]; seconds to compile and to run.

        Args:
          stop_at_return: a run that reaches it stays as it is.
          size: runs at once.
          store: saves them; None: nothing is saved.
          label: before the numbers of this group's blocks, in their names.
          runs: int[num_runs]; the indices of its runs in the sweep.
        """
        seconds, results = np.zeros(2), []
        for first in range(0, self.num_runs, size):
            # The last block repeats the last run, to be as long as the others.
            index = np.minimum(np.arange(first, first + size), self.num_runs - 1)
            name = f"{label}-{first // size:04d}"
            config, start = self._begun(index, store, name)
            block = start
            for block in self._after_updates(start, config, stop_at_return):
                if store is not None:
                    store.save_if_due(name, runs[index], block)
            seconds += block.compile_seconds, block.run_seconds
            results.append(TrainResult(local(block.state), self._metrics(block)))
        return self._per_config(results), seconds

    def _per_config(self, results: list[TrainResult]) -> list[TrainResult]:
        """The blocks' results, joined and divided into those of each config."""
        states, metrics = zip(*results, strict=True)
        joined = TrainResult(
            jax.tree.map(lambda *parts: jnp.concatenate(parts), *states),
            jax.tree.map(lambda *parts: np.concatenate(parts), *metrics),
        )
        firsts = range(0, self.num_runs, self.num_seeds)
        return [_rows(joined, first, self.num_seeds) for first in firsts]

    def _begun(
        self, index: np.ndarray, store: BlockStore | None, name: str
    ) -> tuple[Config, RunBlock]:
        """The configs of a block's runs, and the block as saved, else before its first update."""
        config = self._per_leaf(lambda leaf, varies: leaf[index] if varies else leaf, self.config)
        keys, config = replicated((self._keys[index], config), self._mesh)
        init = functools.partial(_init_runs, varies=self.varies, mesh=self._mesh)
        if store is not None:
            saved = store.load(name, jax.eval_shape(init, keys, config), self.num_updates)
            if saved is not None:
                return config, saved
        state, spent = blocks.timed(init, keys, config)
        ended, seconds = np.zeros(len(index), bool), np.zeros(self.num_updates)
        return config, RunBlock(local(state), 0, {}, seconds, ended, spent)

    def _after_updates(
        self, start: RunBlock, config: Config, stop_at_return: float
    ) -> Iterator[RunBlock]:
        """The block at the start, and then after every few updates, up to its last."""
        stop = blocks.stop_rule(stop_at_return, stop_at_bad=False)
        block = start._replace(state=divided(start.state, self._mesh))
        yield block
        while not block.done:
            done = block.num_updates - start.num_updates
            seconds = block.run_seconds - start.run_seconds
            size = blocks.block_size(self.num_updates - block.num_updates, done, seconds)
            block = self._advanced(block, config, stop._replace(number=np.int32(size)))
            yield block

    def _advanced(self, block: RunBlock, config: Config, stop: training.StopRule) -> RunBlock:
        """A block after `stop.number` more updates."""
        size = int(stop.number)
        ended = divided(jnp.asarray(block.ended), self._mesh)
        inputs = (config, ended, replicated(stop, self._mesh))
        program, compile_seconds = self._compiled(block.state, *inputs)
        (state, metrics), spent = blocks.timed(program, block.state, *inputs)
        metrics = jax.tree.map(lambda x: np.asarray(x)[:, :size], metrics)
        updates = slice(block.num_updates, block.num_updates + size)
        for name, column in config_json.columns(metrics).items():
            if name not in block.metrics:
                block.metrics[name] = np.zeros((len(column), self.num_updates), column.dtype)
            block.metrics[name][:, updates] = column
        block.seconds[updates] = blocks.seconds_per_update(block.run_seconds, spent, size)
        reached = stop.reached(jax.tree.map(lambda x: x[:, -1], metrics))
        return block._replace(
            state=state,
            num_updates=updates.stop,
            ended=block.ended | np.asarray(reached),
            compile_seconds=block.compile_seconds + compile_seconds,
        )

    def _compiled(self, *inputs: Any) -> tuple[jax.stages.Compiled, float]:
        """The group's program, compiled at the first call, and the seconds that this took."""
        started = time.perf_counter()
        if self._program is None:
            lowered = _advance_runs.lower(*inputs, varies=self.varies, mesh=self._mesh)
            self._program = lowered.compile()
        return self._program, time.perf_counter() - started

    def _metrics(self, block: RunBlock) -> Metrics:
        """Metrics [n, num_updates]; a run that ended early repeats those of its last update."""
        last = np.asarray(local(block.state).num_updates)[:, None] - 1
        index = np.minimum(np.arange(self.num_updates), last)
        # Any: these metrics are NumPy's.
        columns: dict[str, Any] = {
            name: np.take_along_axis(x, index, 1) for name, x in block.metrics.items()
        }
        names = [field.name for field in dataclasses.fields(Metrics) if field.name != "extra"]
        return Metrics(**{name: columns.pop(name) for name in names}, extra=columns)

    def _per_leaf(self, function: Callable[[Any, bool], Any], config: Config) -> Config:
        """`function` of each leaf of a config, and whether it varies over the runs."""
        leaves, structure = jax.tree.flatten(config)
        return jax.tree.unflatten(structure, map(function, leaves, self.varies))

    def block_size(self, most: int) -> int:
        """Runs at once: equal blocks of at most `most`, a multiple of the number of devices."""
        devices = 1 if self._mesh is None else self._mesh.size
        num_blocks = math.ceil(self.num_runs / most)
        return math.ceil(math.ceil(self.num_runs / num_blocks) / devices) * devices


def _rows(tree: PyTree, first: int, number: int) -> Any:
    return jax.tree.map(lambda x: x[first : first + number], tree)


def _axes(config: Config, varies: tuple[bool, ...]) -> tuple[list, Any, list[int | None]]:
    """The leaves of a config, its structure, and the axis of each leaf for `vmap`."""
    leaves, structure = jax.tree.flatten(config)
    return leaves, structure, [0 if batched else None for batched in varies]


@functools.partial(jax.jit, static_argnames=("varies", "mesh"))
def _init_runs(
    keys: Array, config: Config, varies: tuple[bool, ...], mesh: Mesh | None
) -> TrainState:
    leaves, structure, axes = _axes(config, varies)

    def one_run(key, leaves):
        return training.init(key, jax.tree.unflatten(structure, leaves))

    return on_shares(jax.vmap(one_run, (0, axes)), mesh, (0, axes), 0)(keys, leaves)


# `state` is donated: the next one takes its memory.
@functools.partial(jax.jit, static_argnames=("varies", "mesh"), donate_argnums=0)
def _advance_runs(
    state: TrainState,
    config: Config,
    ended: Array,
    stop: training.StopRule,
    varies: tuple[bool, ...],
    mesh: Mesh | None,
) -> TrainResult:
    leaves, structure, axes = _axes(config, varies)
    capacity = min(blocks.CAPACITY, config.num_updates)

    def one_run(state, leaves, ended, stop):
        config = jax.tree.unflatten(structure, leaves)
        return training.advance(state, config, stop, capacity, None, ended)

    in_axes = (0, axes, 0, None)
    runs = on_shares(jax.vmap(one_run, in_axes), mesh, in_axes, 0)
    return runs(state, leaves, ended, stop)
