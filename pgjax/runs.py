"""Runs: the host loop around jitted blocks of updates, and the folder that a run leaves."""

import csv
import dataclasses
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgjax import checkpoints, distributed, memory, plots, serialization, training
from pgjax.components import check_int
from pgjax.config import Config, checked
from pgjax.parallel import check_mesh, divided, local, replicated
from pgjax.types import Metrics, TrainState

_CAPACITY = 64
_BLOCK_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands after a block of updates; times in seconds.

    Attributes:
      num_updates: updates made so far.
      metrics: NumPy metrics of this block's updates, `env_steps` int64 and cumulative.
      state: the state after the block; its arrays are given to the next block, so copy what you
        keep.
      compile_seconds, run_seconds: so far; the one is not in the other.
    """

    num_updates: int
    metrics: Metrics
    state: TrainState
    compile_seconds: float
    run_seconds: float


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run leaves behind.

    Attributes:
      state: the final state.
      metrics: NumPy metrics, [updates made].
      compile_seconds, run_seconds: wall-clock time; the one is not in the other.
      interrupted: whether Ctrl-C ended it before its last update.
      solved: whether an update reached `stop_at_return`.
      directory: the run folder, or None.
    """

    state: TrainState
    metrics: Metrics
    compile_seconds: float
    run_seconds: float
    interrupted: bool
    solved: bool
    directory: Path | None


def run(
    config: Config,
    seed: int = 0,
    directory: str | os.PathLike | None = None,
    on_block: Callable[[Progress], None] | None = None,
    mesh: Mesh | None = None,
    stop_at_return: float = math.inf,
) -> Run:
    """`train`, with a host loop around it: files, progress, Ctrl-C. The same numbers.

    One of several processes (`pgjax.distributed.start`) runs it like the others, on a mesh of the
    devices of all; the first of them writes, and its Ctrl-C counts.

    Args:
      config: what to train.
      seed: the run's key is `jax.random.key(seed)`.
      directory: a folder to make, for config.json, metrics.csv, learning_curve.png, checkpoint/;
        None writes nothing.
      on_block: called after every block of updates, a few times a second.
      mesh: from `make_mesh`, to divide each update's trajectories over its devices.
      stop_at_return: the update whose mean return of finished episodes reaches it is the last.

    Raises:
      ValueError, TypeError: before anything is compiled or written, for what cannot be; a
        `directory` that exists; more memory than there is.
    """
    check_int("seed", seed, 0)
    arrays = checked(config)
    check_mesh(mesh, f"sampler.{config.sampler.width_field}", config.sampler.width)
    # Of several processes, each holds its share of the trajectories.
    memory.seeds_that_fit(config, memory.available_bytes() * jax.process_count())
    writes = directory is not None and distributed.is_first()
    folder = _Folder(Path(directory), config, seed) if writes else None
    state, advance, compile_seconds = _compiled(arrays, seed, mesh, stop_at_return)
    blocks = []
    with _interruption() as interrupted:
        start = Progress(0, None, state, compile_seconds, 0.0)
        for progress in _blocks(start, advance, config.num_updates, stop_at_return, interrupted):
            blocks.append(progress.metrics)
            if folder is not None:
                folder.append(progress)
            if on_block is not None:
                on_block(progress)
    metrics = jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)
    state, solved = local(progress.state), bool(metrics.episode_return[-1] >= stop_at_return)
    if folder is not None:
        folder.finish(state, config, metrics)
    return Run(
        state=state,
        metrics=metrics,
        compile_seconds=compile_seconds,
        run_seconds=progress.run_seconds,
        interrupted=progress.num_updates < config.num_updates and not solved,
        solved=solved,
        directory=None if directory is None else Path(directory),
    )


def _compiled(
    config: Config, seed: int, mesh: Mesh | None, target: float
) -> tuple[TrainState, Callable[[TrainState, int], tuple[TrainState, Metrics]], float]:
    """The first state, a function of a state and a number of updates, and seconds to compile."""
    started = time.perf_counter()
    state = training.init(jax.random.key(seed), config)
    streams = divided(state.streams, mesh)
    state = replicated(state.replace(streams=()), mesh).replace(streams=streams)
    config, target = replicated((config, jnp.asarray(target, float)), mesh)

    def count(number: int) -> jax.Array:
        return replicated(jnp.int32(number), mesh)

    program = training.update_block.lower(state, config, count(0), target, _CAPACITY, mesh)
    block = program.compile()
    seconds = time.perf_counter() - started
    return state, lambda state, number: block(state, config, count(number), target), seconds


def _blocks(
    now: Progress, advance: Callable, total: int, target: float, interrupted: threading.Event
) -> Iterator[Progress]:
    """Blocks of updates until the last one, the target, or an interruption."""
    while now.num_updates < total:
        size = _block_size(total - now.num_updates, now.num_updates, now.run_seconds)
        size = distributed.agreed(0 if now.num_updates and interrupted.is_set() else size)
        if size == 0:
            return
        started = time.perf_counter()
        state, metrics = jax.block_until_ready(advance(now.state, size))
        seconds = now.run_seconds + time.perf_counter() - started
        made = int(state.num_updates)
        steps = now.metrics.env_steps[-1] if now.num_updates else 0
        metrics = _on_host(metrics, made - now.num_updates, steps)
        now = Progress(made, metrics, state, now.compile_seconds, seconds)
        yield now
        if metrics.episode_return[-1] >= target:
            return


class _Folder:
    """A run folder, from its making to its last file."""

    def __init__(self, path: Path, config: Config, seed: int) -> None:
        if path.exists():
            raise ValueError(f"the run folder {path} exists; give another, or remove it")
        path.mkdir(parents=True)
        self.path = path
        facts = {"config": serialization.to_dict(config), "seed": seed}
        facts["versions"] = checkpoints.versions()
        (path / "config.json").write_text(json.dumps(facts, indent=2) + "\n")
        self.has_header = False

    def append(self, progress: Progress) -> None:
        columns = serialization.columns(progress.metrics)
        if not self.has_header:
            self._write([("update", *columns)], "w")
            self.has_header = True
        last = progress.num_updates
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        size = len(progress.metrics.env_steps)
        numbers = range(last - size + 1, last + 1)
        self._write([(n, *row) for n, row in zip(numbers, rows, strict=True)], "a")

    def finish(self, state: TrainState, config: Config, metrics: Metrics) -> None:
        checkpoints.save(self.path / checkpoints.IN_RUN, state, config)
        plots.learning_curve(metrics, self.path / "learning_curve.png", title=self.path.name)

    def _write(self, rows, mode: str) -> None:
        with open(self.path / "metrics.csv", mode, newline="") as file:
            csv.writer(file).writerows(rows)


def _block_size(left: int, made: int, seconds: float) -> int:
    """Updates for the next block to take about `_BLOCK_SECONDS`; one, to begin with."""
    fitting = int(_BLOCK_SECONDS * made / seconds) if made else 1
    return max(1, min(fitting, _CAPACITY, left))


def _on_host(metrics: Metrics, size: int, steps_before: int) -> Metrics:
    host = jax.tree.map(lambda x: np.asarray(x)[:size], metrics)
    # The device counts modulo 2³²; differences between updates do not suffer from that.
    previous = np.concatenate([[np.uint32(steps_before % 2**32)], host.env_steps[:-1]])
    taken = (host.env_steps - previous.astype(np.uint32)).astype(np.int64)
    return host.replace(env_steps=steps_before + np.cumsum(taken))


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that a block in flight is finished and kept. A second Ctrl-C
    interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = signal.getsignal(signal.SIGINT)

    def note(signum, frame):
        event.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
