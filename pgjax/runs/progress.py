"""The progress of one run: its compiled block of updates, called until the run ends."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgjax.core import processes
from pgjax.core.parallel import divided, local, replicated
from pgjax.core.types import Evaluation, Metrics, TrainState
from pgjax.runs import blocks
from pgjax.runs.signals import Signals
from pgjax.training import training
from pgjax.training.config import Config

Advance = Callable[[TrainState, int], tuple[TrainState, Metrics]]


@dataclasses.dataclass(frozen=True)
class Progress:
    """The progress of a run after a block of updates; times in seconds.

    Attributes:
      num_updates: updates made so far.
      env_steps: environment steps taken so far.
      metrics: NumPy metrics of this block's updates, `env_steps` int64 and cumulative.
      state: a copy of the state after the block, to keep as long as you like. It is made when first
        asked for, which must be while `on_block` runs, as the next block takes the original's
        memory; of several processes, all must ask.
      seconds: float[updates in this block]; of running, at the end of each.
      compile_seconds, run_seconds: so far; the one is not in the other.
      evaluation: of the policy after the block, where one was due; see `run`'s `evaluate_every`. Of
        several processes the first has it.
    """

    num_updates: int
    env_steps: int
    metrics: Metrics
    seconds: np.ndarray
    compile_seconds: float
    run_seconds: float
    _state: TrainState = dataclasses.field(repr=False)
    evaluation: Evaluation | None = None

    @functools.cached_property
    def state(self) -> TrainState:
        """See the class."""
        if any(leaf.is_deleted() for leaf in jax.tree.leaves(self._state)):
            raise ValueError(
                f"the state after update {self.num_updates} is gone: read Progress.state while "
                "on_block runs; what it gave stays"
            )
        return local(self._state)


def compiled(
    config: Config, start: Progress, stop: training.StopRule, mesh: Mesh | None
) -> tuple[Progress, Advance]:
    """The start with its state on the mesh, and a function of a state and a number of updates.

    Args:
      config: from `checked`.
      start: the progress so far.
      stop: ends a block before its last update.
      mesh: the devices; None: one.
    """
    started = time.perf_counter()
    state, inputs = placed(config, start._state, stop, mesh)
    program = training.update_block.lower(state, *inputs(0), blocks.CAPACITY, mesh)
    block = program.compile()
    seconds = start.compile_seconds + time.perf_counter() - started
    start = dataclasses.replace(start, _state=state, compile_seconds=seconds)
    return start, lambda state, number: block(state, *inputs(number))


def placed(
    config: Config, state: TrainState, stop: training.StopRule, mesh: Mesh | None
) -> tuple[TrainState, Callable[[int], tuple[Config, training.StopRule]]]:
    """The state on the mesh, and a function of a number of updates: the program's other inputs.

    Args:
      config, stop, mesh: as for `compiled`.
      state: before the first update.
    """
    streams = divided(state.streams, mesh)
    state = replicated(state.replace(streams=()), mesh).replace(streams=streams)
    config, stop = replicated((config, stop), mesh)

    def inputs(number: int) -> tuple[Config, training.StopRule]:
        return config, stop._replace(number=replicated(jnp.int32(number), mesh))

    return state, inputs


def after_blocks(
    start: Progress,
    advance: Advance,
    num_updates: int,
    stop: training.StopRule,
    signals: Signals,
    end_at_multiples: int = 0,
) -> Iterator[Progress]:
    """The progress after each block until the last update, the target, a bad update or a signal.

    Args:
      end_at_multiples: a block ends at each multiple of so many updates; 0: wherever time decides.
    """
    progress = start
    while progress.num_updates < num_updates:
        done = progress.num_updates - start.num_updates
        seconds = progress.run_seconds - start.run_seconds
        remaining = num_updates - progress.num_updates
        if end_at_multiples:
            until_multiple = end_at_multiples - progress.num_updates % end_at_multiples
            remaining = min(remaining, until_multiple)
        size = blocks.block_size(remaining, done, seconds)
        size = processes.broadcast(0 if done and signals.caught else size)
        if size == 0:
            return
        progress = _after_block(progress, advance, size)
        yield progress
        metrics = progress.metrics
        if stop.reached(metrics)[-1] or (stop.bad and not metrics.finite[-1]):
            return


def _after_block(progress: Progress, advance: Advance, size: int) -> Progress:
    (state, metrics), spent = blocks.timed(advance, progress._state, size)
    num_updates = int(state.num_updates)
    size = num_updates - progress.num_updates
    metrics = on_host(metrics, size, progress.env_steps)
    return Progress(
        num_updates=num_updates,
        env_steps=int(metrics.env_steps[-1]),
        metrics=metrics,
        seconds=blocks.seconds_per_update(progress.run_seconds, spent, size),
        _state=state,
        compile_seconds=progress.compile_seconds,
        run_seconds=progress.run_seconds + spent,
    )


def on_host(metrics: Metrics, size: int, steps_before: int) -> Metrics:
    """NumPy metrics of a block's `size` updates, with cumulative environment steps."""
    # Copied: a view would keep the device's array, with room for the longest block.
    host = jax.tree.map(lambda x: np.array(np.asarray(x)[:size]), metrics)
    return host.replace(env_steps=blocks.cumulative_steps(host.env_steps, steps_before))
