"""Runs: the host loop around jitted blocks of updates, begun or taken up again."""

import contextlib
import dataclasses
import functools
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgjax.core import processes, schedules
from pgjax.core.components import check_int, check_seed, unknown
from pgjax.core.parallel import check_mesh, divided, local, replicated
from pgjax.core.types import Metrics, TrainState
from pgjax.pictures import plots
from pgjax.runs import checkpoints, disk, folders
from pgjax.study import memory_estimate
from pgjax.training import training
from pgjax.training.config import Config, checked

CAPACITY = 64
_KEPT_UPDATES = 2**20
_BLOCK_SECONDS = 0.2
_ON_BAD = ("stop", "skip", "raise")
_NOTHING: Any = None  # metrics and seconds before the first block
_SAVE, _STOP, _FAIL = 1, 2, 4  # what is to be done after a block


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands after a block of updates; times in seconds.

    Attributes:
      num_updates: updates made so far.
      env_steps: environment steps taken so far.
      metrics: NumPy metrics of this block's updates, `env_steps` int64 and cumulative.
      state: a copy of the state after the block, to keep as long as you like. It is made when first
        asked for, which must be while `on_block` runs, as the next block takes the original's
        memory; of several processes, all must ask.
      seconds: float[updates in this block]; of running, at the end of each.
      compile_seconds, run_seconds: so far; the one is not in the other.
    """

    num_updates: int
    env_steps: int
    metrics: Metrics
    seconds: np.ndarray
    compile_seconds: float
    run_seconds: float
    _state: TrainState = dataclasses.field(repr=False)

    @functools.cached_property
    def state(self) -> TrainState:
        """See the class."""
        if any(leaf.is_deleted() for leaf in jax.tree.leaves(self._state)):
            raise ValueError(
                f"the state after update {self.num_updates} is gone: read Progress.state while "
                "on_block runs; what it gave stays"
            )
        return local(self._state)


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run leaves behind.

    Attributes:
      state: the final state.
      metrics: NumPy metrics, [updates made]; of a resumed run, since then; beyond 2²⁰ updates, the
        last 2²⁰. metrics.csv has all.
      compile_seconds, run_seconds: wall-clock time, from the run's start; the one is not in the
        other.
      interrupted: the signal that ended it before its last update, SIGINT or SIGTERM; or 0.
      stopped: whether `on_block` ended it.
      solved: whether an update reached `stop_at_return`.
      bad_update: the first update that was not made since some number was not finite; or None.
      directory: the run folder, or None.
    """

    state: TrainState
    metrics: Metrics
    compile_seconds: float
    run_seconds: float
    interrupted: int
    stopped: bool
    solved: bool
    bad_update: int | None
    directory: Path | None


class _Settings(NamedTuple):
    """What a run does besides training; see `run`."""

    on_block: Callable[[Progress], Any] | None
    mesh: Mesh | None
    stop_at_return: float
    checkpoint_seconds: float
    nan: str

    @property
    def until(self) -> training.StopRule:
        """What ends the run before its last update; NumPy numbers, compared as the device does."""
        target = np.asarray(self.stop_at_return, jnp.zeros(()).dtype)
        return training.StopRule(np.int32(0), target, np.bool_(self.nan != "skip"))


def run(
    config: Config,
    seed: int = 0,
    directory: str | os.PathLike | None = None,
    on_block: Callable[[Progress], Any] | None = None,
    mesh: Mesh | None = None,
    stop_at_return: float = math.inf,
    *,
    checkpoint_seconds: float = 60.0,
    metrics_every: int = 1,
    nan: str = "stop",
    on_start: Callable[[int], Any] | None = None,
) -> Run:
    """`train`, with a host loop around it: files, progress, Ctrl-C. The same numbers.

    One of several processes (`processes.start`) runs it like the others, on a mesh of the devices
    of all; the first of them writes, and its Ctrl-C counts.

    Args:
      config: what to train.
      seed: the run's key is `jax.random.key(seed)`; in [0, 2³²).
      directory: a folder to make, for config.json, metrics.csv, learning_curve.png, checkpoint/;
        None writes nothing.
      on_block: called after every block of updates, a few times a second. Where it returns False
        (not None), that block is the run's last. What it raises ends the run, once all that was
        made is saved.
      mesh: from `make_mesh`, to divide each update's trajectories over its devices.
      stop_at_return: the update whose mean return of finished episodes reaches it is the last.
      checkpoint_seconds: between two checkpoints, ≥ 0; there is one at the end, too.
      metrics_every: metrics.csv has every so many updates' metrics, ≥ 1.
      nan: what to do when an update is not made since some number is not finite: "stop" after it,
        "skip" it and go on, or "raise" FloatingPointError. What was learned before is kept.
      on_start: called with the number of updates made so far, once nothing is refused any more,
        before anything is compiled.

    Raises:
      ValueError, TypeError: before anything is compiled or written, for what cannot be; a
        `directory` that exists; more memory than there is.
      FloatingPointError: see `nan`; the folder can be resumed.
      OSError: a file cannot be written; the latest checkpoint is as it was.
    """
    seed = check_seed("seed", seed)
    check_int("metrics_every", metrics_every, 1)
    training.check_target(stop_at_return)
    settings = _Settings(on_block, mesh, stop_at_return, checkpoint_seconds, nan)
    arrays = _checked(config, settings)
    folder = Path(directory) if directory is not None and processes.is_first() else None
    if folder is not None:
        folders.check_free(folder)
    _warn_of_ended(config)
    if on_start is not None:
        on_start(0)
    started = time.perf_counter()
    state = jax.block_until_ready(training.init(jax.random.key(seed), arrays))
    spent = time.perf_counter() - started
    start = Progress(0, 0, _NOTHING, _NOTHING, spent, 0.0, state)
    writer = None
    if folder is not None:
        facts = {"seed": seed, **_facts(stop_at_return, metrics_every)}
        writer = folders.create(folder, config, facts, state, _notes(start))
    with contextlib.nullcontext() if folder is None else disk.held(folder):
        return _run(config, arrays, start, settings, writer, directory)


def _alone(function: Callable[..., Run]) -> Callable[..., Run]:
    """The function, while no other process goes on with the run folder that it is given first."""

    @functools.wraps(function)
    def alone(directory: str | os.PathLike, *args, **kwargs) -> Run:
        folders.read_facts(Path(directory))
        with disk.held(Path(directory)) if processes.is_first() else contextlib.nullcontext():
            return function(directory, *args, **kwargs)

    return alone


@_alone
def resume(
    directory: str | os.PathLike,
    on_block: Callable[[Progress], Any] | None = None,
    mesh: Mesh | None = None,
    *,
    config: Config | None = None,
    num_updates: int | None = None,
    stop_at_return: float | None = None,
    metrics_every: int | None = None,
    checkpoint_seconds: float = 60.0,
    nan: str = "stop",
    discard_metrics: bool = False,
    on_start: Callable[[int], Any] | None = None,
) -> Run:
    """Goes on with a run from its latest checkpoint, to the same bits as without interruption.

    The same on as many devices as before; on another number, up to the order of floating-point
    sums. What metrics.csv has beyond the checkpoint is made again.

    Args:
      directory: a run folder, from `run`.
      on_block, mesh, checkpoint_seconds, nan, on_start: as for `run`.
      config: to go on with: the run's own, where that holds objects of the user's own (see `load`),
        or one with other numbers. config.json then holds the new one, and in its history from which
        update on what has changed.
      num_updates: in all, in place of the config's; schedules whose lengths are a `Share` of it
        are stretched, so that a rate which had fallen to 0 is above it again.
      stop_at_return, metrics_every: in place of the run's.
      discard_metrics: sets metrics.csv aside and begins another, where that file is damaged.

    Raises:
      ValueError: no run folder; another process goes on with it; nothing is left to do; another
        environment, or a network that makes another function of the same parameters; metrics.csv is
        not what the checkpoint vouches for; as for `load`.
    """
    path = Path(directory)
    notes, old = folders.read_notes(path), checkpoints.saved_config(path)
    config = checkpoints.load_config(path, config)
    if num_updates is not None:
        config = config.replace(num_updates=num_updates)
    facts = _changed(notes["facts"], stop_at_return, metrics_every)
    settings = _Settings(on_block, mesh, _target(facts), checkpoint_seconds, nan)
    arrays = _checked(config, settings)
    changes = folders.changes(old, config, notes["facts"], facts)
    _check_changes(path, changes)
    state, _ = checkpoints.load(path, config)
    made = int(state.num_updates)
    if made >= config.num_updates:
        raise ValueError(
            f"{path} has made its {made} updates; to go on, give num_updates above {made}"
        )
    _warn_of_ended(config)
    if discard_metrics:
        changes["metrics.csv"] = ["set aside", "begun anew"]
    if changes:
        entry = {"from_update": made, "changed": changes}
        facts = {**facts, "history": [*facts["history"], entry]}
    times = {name: notes[name] for name in ("env_steps", "compile_seconds", "run_seconds")}
    start = Progress(made, _state=state, metrics=_NOTHING, seconds=_NOTHING, **times)
    writer = None
    processes.agreed(0)  # all have read before the first writes
    if processes.is_first():
        writer = folders.Writer(path, facts)
        writer.go_on(notes, discard_metrics)
        if changes:
            writer.checkpoint(state, config, times)
        # What a kill left between those two is made good, too.
        folders.write_config(path, config, facts)
    if on_start is not None:
        on_start(made)
    return _run(config, arrays, start, settings, writer, path)


class EndedSchedule(UserWarning):
    """A learning rate's schedule is 0 before the last update."""


def _warn_of_ended(config: Config) -> None:
    text = schedules.ended_text(config)
    if text:
        warnings.warn(text, EndedSchedule, stacklevel=3)


def _facts(stop_at_return: float, metrics_every: int) -> dict[str, Any]:
    """What a run folder keeps of these settings, as JSON types."""
    target = None if math.isinf(stop_at_return) else float(stop_at_return)
    return {"stop_at_return": target, "metrics_every": int(metrics_every)}


def _target(facts: dict[str, Any]) -> float:
    return math.inf if facts["stop_at_return"] is None else facts["stop_at_return"]


def _changed(
    facts: dict[str, Any], stop_at_return: float | None, metrics_every: int | None
) -> dict[str, Any]:
    """A run's facts with those in their place that are given."""
    target = _target(facts) if stop_at_return is None else stop_at_return
    every = facts["metrics_every"] if metrics_every is None else metrics_every
    training.check_target(target)
    check_int("metrics_every", every, 1)
    return {**facts, **_facts(target, every)}


def _check_changes(path: Path, changes: dict[str, list]) -> None:
    for name, (old, new) in changes.items():
        both = {checkpoints.without_module(str(text)) for text in (old, new)}
        if name == "env" or (name == "env.custom" and len(both) > 1):
            raise ValueError(
                f"{path}: the environment of a run cannot change, from {old!r} to {new!r}; start a "
                "new run"
            )


def _checked(config: Config, settings: _Settings) -> Config:
    arrays = checked(config)
    check_mesh(settings.mesh, f"sampler.{config.sampler.width_field}", config.sampler.width)
    training.check_target(settings.stop_at_return)
    if settings.nan not in _ON_BAD:
        raise ValueError(unknown(f"nan {settings.nan!r}", settings.nan, _ON_BAD))
    check_seconds(settings.checkpoint_seconds)
    # Of several processes, each holds its share of the trajectories.
    held = config.replace(num_updates=min(config.num_updates, _KEPT_UPDATES))
    memory_estimate.seeds_that_fit(held, memory_estimate.available_bytes() * jax.process_count())
    return arrays


class Interrupted(KeyboardInterrupt):
    """What was asked to end has saved what was done, if it has a folder.

    Attributes:
      signal: SIGINT or SIGTERM.
    """

    def __init__(self, directory: str | os.PathLike | None, signal: int) -> None:
        saved = f": saved what was done; pgjax resume {directory} goes on"
        super().__init__("interrupted" + (saved if directory is not None else ""))
        self.signal = signal


def check_seconds(checkpoint_seconds: float) -> None:
    """Raises ValueError unless it is a time between two checkpoints."""
    if not checkpoint_seconds >= 0:
        raise ValueError(f"checkpoint_seconds must be at least 0, got {checkpoint_seconds}")


class Signals:
    """What asked the run to end: the first signal, 0 for none; whether `on_block` did."""

    caught = 0
    stopped = False


class _Kept:
    """Metrics of the last `_KEPT_UPDATES` updates, and the first update that was not made."""

    def __init__(self) -> None:
        self.parts: list[Metrics] = []
        self.bad_update: int | None = None

    def add(self, num_updates: int, new: Metrics) -> None:
        """Appends a block's metrics, merging parts of similar length like a binary counter, so
        that n blocks are O(log n) arrays: one for each would take more than their numbers."""
        bad = np.flatnonzero(~new.finite)
        if self.bad_update is None and len(bad):
            self.bad_update = num_updates - len(new.finite) + int(bad[0]) + 1
        while self.parts and len(self.parts[-1].finite) <= len(new.finite):
            new = _joined(self.parts.pop(), new)
        self.parts.append(new)
        while sum(len(part.finite) for part in self.parts[1:]) >= _KEPT_UPDATES:
            del self.parts[0]

    def metrics(self) -> Metrics:
        """All that is kept, in one."""
        return jax.tree.map(lambda x: x[-_KEPT_UPDATES:], _joined(*self.parts))


def _run(
    config: Config,
    arrays: Config,
    start: Progress,
    settings: _Settings,
    writer: folders.Writer | None,
    directory: str | os.PathLike | None,
) -> Run:
    kept = _Kept()
    with noted_signals() as signals:
        first, advance = _compiled(arrays, start, settings)
        if signals.caught and jax.process_count() == 1:  # several stop together, after an update
            raise Interrupted(directory, signals.caught)
        saved, now = time.monotonic(), first
        for now in _blocks(first, advance, config.num_updates, settings, signals):
            kept.add(now.num_updates, now.metrics)
            if writer is not None:
                writer.append(now.num_updates - len(now.seconds) + 1, now.metrics, now.seconds)
            asked, error = _asked(settings.on_block, now)
            due = bool(asked) or time.monotonic() - saved >= settings.checkpoint_seconds
            asked = processes.agreed(asked | (_SAVE if due and writer is not None else 0))
            if asked & _SAVE:
                _save_despite(error, writer, now, config)
                saved = time.monotonic()
            if asked & _FAIL:
                raise error or RuntimeError("on_block of process 0 raised an error; see there")
            signals.stopped = bool(asked & _STOP)
            if signals.stopped:
                break
        _save(writer, now, config)
    if writer is not None:
        _picture(writer.path)
    return _result(config, now, kept, settings, signals, directory)


def _asked(on_block: Callable | None, now: Progress) -> tuple[int, Exception | None]:
    """What `on_block` asks for, and what it raised: of several processes, only the first can tell
    the others, so that all save together."""
    try:
        return (_STOP if on_block is not None and on_block(now) is False else 0), None
    except Exception as error:
        if not processes.is_first():
            raise
        return _FAIL, error


def _save_despite(
    error: Exception | None, writer: folders.Writer | None, now: Progress, config: Config
) -> None:
    """Saves; where that fails after another error, the other one is what is to be told."""
    try:
        _save(writer, now, config)
    except OSError as failed:
        if error is None:
            raise
        error.add_note(f"nor could what was made be saved: {failed}")


def _joined(*parts: Metrics) -> Metrics:
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def _picture(path: Path) -> None:
    # Where no episode has ended yet there is no curve.
    with contextlib.suppress(ValueError):
        plots.learning_curves([folders.read(path)], path / "learning_curve.png")


def _result(config, now, kept, settings, signals, directory) -> Run:
    metrics, bad_update = kept.metrics(), kept.bad_update
    if bad_update is not None and settings.nan == "raise":
        raise FloatingPointError(not_finite(bad_update))
    solved = bool(settings.until.reached(metrics)[-1])
    bad = bad_update is not None and settings.nan == "stop"
    ended = solved or bad or signals.stopped or now.num_updates >= config.num_updates
    return Run(
        state=now.state,
        metrics=metrics,
        compile_seconds=now.compile_seconds,
        run_seconds=now.run_seconds,
        interrupted=0 if ended else signals.caught or signal.SIGINT,
        stopped=signals.stopped,
        solved=solved,
        bad_update=bad_update,
        directory=None if directory is None else Path(directory),
    )


def not_finite(update: int) -> str:
    """What there is to say of the first update that was not made."""
    return (
        f"update {update}: a number in its rewards, gradient or what was learned is not finite; "
        "it was not made, and what was learned before is kept"
    )


def _compiled(
    config: Config, start: Progress, settings: _Settings
) -> tuple[Progress, Callable[[TrainState, int], tuple[TrainState, Metrics]]]:
    """The start, its state on the mesh, and a function of a state and a number of updates."""
    started, mesh = time.perf_counter(), settings.mesh
    state = replicated(start._state.replace(streams=()), mesh)
    state = state.replace(streams=divided(start._state.streams, mesh))
    config, until = replicated((config, settings.until), mesh)

    def at_most(number: int) -> training.StopRule:
        return until._replace(number=replicated(jnp.int32(number), mesh))

    program = training.update_block.lower(state, config, at_most(0), CAPACITY, mesh)
    block = program.compile()
    seconds = start.compile_seconds + time.perf_counter() - started
    start = dataclasses.replace(start, _state=state, compile_seconds=seconds)
    return start, lambda state, number: block(state, config, at_most(number))


def _blocks(
    now: Progress, advance: Callable, total: int, settings: _Settings, signals: Signals
) -> Iterator[Progress]:
    """Blocks of updates until the last one, the target, a bad one, or a signal."""
    first, before = now.num_updates, now.run_seconds
    while now.num_updates < total:
        made = now.num_updates - first
        size = block_size(total - now.num_updates, made, now.run_seconds - before)
        size = processes.agreed(0 if made and signals.caught else size)
        if size == 0:
            return
        now = _after_block(now, advance, size)
        yield now
        until = settings.until
        if until.reached(now.metrics)[-1] or (until.bad and not now.metrics.finite[-1]):
            return


def _after_block(now: Progress, advance: Callable, size: int) -> Progress:
    started = time.perf_counter()
    state, metrics = jax.block_until_ready(advance(now._state, size))
    spent = time.perf_counter() - started
    made = int(state.num_updates)
    metrics = _on_host(metrics, made - now.num_updates, now.env_steps)
    shares = np.arange(1, made - now.num_updates + 1) / (made - now.num_updates)
    return Progress(
        num_updates=made,
        env_steps=int(metrics.env_steps[-1]),
        metrics=metrics,
        seconds=now.run_seconds + spent * shares,
        _state=state,
        compile_seconds=now.compile_seconds,
        run_seconds=now.run_seconds + spent,
    )


def _save(writer: folders.Writer | None, now: Progress, config: Config) -> None:
    """Puts the state on disk, as this process's own. Of several processes, all must call."""
    state = now.state
    if writer is not None:
        writer.checkpoint(state, config, _notes(now))


def _notes(now: Progress) -> dict[str, float]:
    names = ("env_steps", "compile_seconds", "run_seconds")
    return {name: getattr(now, name) for name in names}


def block_size(left: int, made: int, seconds: float) -> int:
    """Updates for the next block to take about `_BLOCK_SECONDS`; one, to begin with."""
    fitting = int(_BLOCK_SECONDS * made / seconds) if made else 1
    return max(1, min(fitting, CAPACITY, left))


def _on_host(metrics: Metrics, size: int, steps_before: int) -> Metrics:
    # Copied: a view would keep the device's array, with room for the longest block.
    host = jax.tree.map(lambda x: np.array(np.asarray(x)[:size]), metrics)
    # The device counts modulo 2³²; differences between updates do not suffer from that.
    previous = np.concatenate([[np.uint32(steps_before % 2**32)], host.env_steps[:-1]])
    taken = (host.env_steps - previous.astype(np.uint32)).astype(np.int64)
    return host.replace(env_steps=steps_before + np.cumsum(taken))


@contextlib.contextmanager
def noted_signals() -> Iterator[Signals]:
    """Notes Ctrl-C and SIGTERM, so that a block in flight is finished and kept. A second one ends
    the process at once."""
    found = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # What the process was started to ignore, as jobs in the background are, it goes on to ignore.
    previous = {n: handler for n, handler in previous.items() if handler is not signal.SIG_IGN}

    def note(number, frame):
        found.caught = number
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, note)
    try:
        yield found
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
