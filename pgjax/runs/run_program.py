"""One compiled program for runs whose configs differ in the values of some leaves only."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgjax.core.parallel import divided, local, on_shares, replicated
from pgjax.core.types import Array, TrainResult, TrainState
from pgjax.runs import blocks, config_json
from pgjax.runs.run_blocks import RunBlock
from pgjax.runs.sources import Source
from pgjax.training import training
from pgjax.training.config import Config


class Program:
    """Begins runs and advances them, side by side.

    Attributes:
      varies: which leaves of a config differ between runs; the others need not be read for each.
      mesh: the devices that the runs are divided over; None: one.
      source: what every run starts from; None: fresh parameters.
    """

    def __init__(
        self, varies: Sequence[bool], mesh: Mesh | None, source: Source | None = None
    ) -> None:
        self.varies, self.mesh, self.source = tuple(varies), mesh, source
        self._compiled: jax.stages.Compiled | None = None

    def per_leaf(self, function: Callable[[Any, bool], Any], config: Config) -> Config:
        """`function` of each leaf of a config, and whether it varies over the runs."""
        leaves, structure = jax.tree.flatten(config)
        return jax.tree.unflatten(structure, map(function, leaves, self.varies))

    def stacked(self, configs: Sequence[Config], repeats: int) -> Config:
        """The configs as one, each repeated so often: leaves that vary are [n · repeats, …]."""
        leaves = zip(*map(jax.tree.leaves, configs), strict=True)
        columns = [
            np.repeat(np.stack(leaf), repeats, axis=0) if varies else np.asarray(leaf[0])
            for leaf, varies in zip(leaves, self.varies, strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(configs[0]), columns)

    def rows(self, config: Config, index: np.ndarray) -> Config:
        """The configs of the runs with these indices."""
        return self.per_leaf(lambda leaf, varies: leaf[index] if varies else leaf, config)

    def replicated(self, keys: Array, config: Config) -> tuple[Array, Config]:
        """Keys and config on every device of the mesh."""
        return replicated((keys, config), self.mesh)

    def shapes(self, keys: Array, config: Config) -> TrainState:
        """Shapes and dtypes of the states that `begun` makes, for any number of keys."""
        init = functools.partial(_init_runs, varies=self.varies, mesh=None)
        return jax.eval_shape(init, keys, config)

    def begun(self, keys: Array, config: Config, num_updates: int) -> RunBlock:
        """Runs before their first update.

        Args:
          keys: key[n], one of each run.
          config: leaves that vary are [n, …].
          num_updates: updates that the block is to make.
        """
        state, spent = blocks.timed(self._init(), keys, config)
        state = local(state)
        if self.source is not None:
            state = jax.vmap(self.source.transferred)(state)
        return self.block(state, np.zeros(len(keys), bool), num_updates, spent)

    def block(
        self, state: TrainState, ended: np.ndarray, num_updates: int, compile_seconds: float = 0.0
    ) -> RunBlock:
        """A block of runs with these states that has made no update yet."""
        return RunBlock(state, 0, {}, np.zeros(num_updates), ended, compile_seconds)

    def after_updates(
        self, start: RunBlock, config: Config, stop_at_return: float
    ) -> Iterator[RunBlock]:
        """The block at the start, and then after every few updates, up to its last."""
        stop = blocks.stop_rule(stop_at_return, stop_at_bad=False)
        block = start._replace(state=divided(start.state, self.mesh))
        yield block
        while not block.done:
            done = block.num_updates - start.num_updates
            seconds = block.run_seconds - start.run_seconds
            size = blocks.block_size(len(block.seconds) - block.num_updates, done, seconds)
            block = self._advanced(block, config, stop._replace(number=np.int32(size)))
            yield block

    def _init(self) -> Callable[[Array, Config], TrainState]:
        return functools.partial(_init_runs, varies=self.varies, mesh=self.mesh)

    def _advanced(self, block: RunBlock, config: Config, stop: training.StopRule) -> RunBlock:
        """A block after `stop.number` more updates."""
        size, total = int(stop.number), len(block.seconds)
        ended = divided(jnp.asarray(block.ended), self.mesh)
        inputs = (config, ended, replicated(stop, self.mesh))
        program, compile_seconds = self._compiled_for(block.state, *inputs)
        (state, metrics), spent = blocks.timed(program, block.state, *inputs)
        metrics = jax.tree.map(lambda x: np.asarray(x)[:, :size], metrics)
        updates = slice(block.num_updates, block.num_updates + size)
        for name, column in config_json.columns(metrics).items():
            if name not in block.metrics:
                block.metrics[name] = np.zeros((len(column), total), column.dtype)
            block.metrics[name][:, updates] = column
        block.seconds[updates] = blocks.seconds_per_update(block.run_seconds, spent, size)
        reached = stop.reached(jax.tree.map(lambda x: x[:, -1], metrics))
        return block._replace(
            state=state,
            num_updates=updates.stop,
            ended=block.ended | np.asarray(reached),
            compile_seconds=block.compile_seconds + compile_seconds,
        )

    def _compiled_for(self, *inputs: Any) -> tuple[jax.stages.Compiled, float]:
        """The program, compiled at the first call, and the seconds that this took."""
        started = time.perf_counter()
        if self._compiled is None:
            lowered = _advance_runs.lower(*inputs, varies=self.varies, mesh=self.mesh)
            self._compiled = lowered.compile()
        return self._compiled, time.perf_counter() - started


def varying(configs: Sequence[Config]) -> tuple[bool, ...]:
    """Which leaves differ among configs of one structure."""
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *configs)
    return tuple(bool(np.any(leaf != leaf[:1])) for leaf in jax.tree.leaves(stacked))


def block_size(num_runs: int, most: int, mesh: Mesh | None) -> int:
    """Runs at once: equal blocks of at most `most`, a multiple of the number of devices."""
    devices = 1 if mesh is None else mesh.size
    num_blocks = math.ceil(num_runs / most)
    return math.ceil(math.ceil(num_runs / num_blocks) / devices) * devices


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
