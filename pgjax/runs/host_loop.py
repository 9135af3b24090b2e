"""One run: training with files, progress and signals, begun or resumed."""

import contextlib
import dataclasses
import functools
import math
import os
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from jax.sharding import Mesh

from pgjax.core import processes, schedules
from pgjax.core.components import check_bool, check_int, check_seed, unknown
from pgjax.core.names import shown
from pgjax.core.types import Metrics, TrainState
from pgjax.pictures import plots
from pgjax.runs import (
    blocks,
    checkpoints,
    config_json,
    disk,
    folders,
    frames,
    progress_bar,
    recent_metrics,
    resumed_changes,
    sources,
)
from pgjax.runs.evaluations import Evaluator
from pgjax.runs.progress import Progress, after_blocks, compiled
from pgjax.runs.recent_metrics import RecentMetrics
from pgjax.runs.signals import Interrupted, noted_signals
from pgjax.study import memory_estimate
from pgjax.training import training, transfer
from pgjax.training.config import Config, checked

if TYPE_CHECKING:
    import pandas

_COUNTERS = ("env_steps", "compile_seconds", "run_seconds")  # in a checkpoint's notes
_ON_BAD = ("stop", "skip", "raise")
_MOST = 2**31  # updates between two evaluations, checkpoints that are kept
_NOTHING: Any = None  # metrics and seconds before the first block
_SAVE, _STOP, _FAIL = 1, 2, 4  # requests after a block, which add up


@dataclasses.dataclass(frozen=True)
class Run:
    """The result of a run.

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

    def metrics_frame(self) -> "pandas.DataFrame":
        """`metrics` as a pandas DataFrame: a row for each update, "update" its number.

        Raises:
          MissingExtra: pandas is not installed.
        """
        last, length = int(self.state.num_updates), len(self.metrics.finite)
        updates = {"update": range(last - length + 1, last + 1)}
        return frames.frame(updates | config_json.columns(self.metrics))


class _Settings(NamedTuple):
    """The arguments of `run` that training itself does not need; see there.

    Attributes:
      facts: the seed and the settings that a run folder keeps.
    """

    on_block: Callable[[Progress], Any] | None
    mesh: Mesh | None
    stop_at_return: float
    checkpoint_seconds: float
    nan: str
    facts: dict[str, Any]
    progress: bool

    @property
    def stop(self) -> training.StopRule:
        """The rule that ends the run before its last update."""
        return blocks.stop_rule(self.stop_at_return, self.nan != "skip")


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
    evaluate_every: int = 0,
    eval_episodes: int = 128,
    keep: int = 1,
    nan: str = "stop",
    start_from: str | os.PathLike | None = None,
    parts: Sequence[str] = transfer.DEFAULT,
    on_start: Callable[[int], Any] | None = None,
    progress: bool = False,
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
      evaluate_every: evaluates the policy after every so many updates; 0: never. Training's numbers
        are the same to the bit. evaluation.csv has the mean return of each and its 95 % interval,
        checkpoint_best/ the policy of the best: its return is biased, as the best of many is better
        by luck, too.
      eval_episodes: in an evaluation, with sampled actions, ≥ 1.
      keep: checkpoints/ has copies of so many latest checkpoints, if more than 1.
      nan: what to do when an update is not made since some number is not finite: "stop" after it,
        "skip" it and go on, or "raise" FloatingPointError. What was learned before is kept.
      start_from: a run folder or a checkpoint, whose `parts` the run starts from; config.json has
        it in its history. None: from fresh parameters.
      parts: as for `transfer`.
      on_start: called with the number of updates made so far, once nothing is refused any more,
        before anything is compiled.
      progress: shows updates, the last return and steps/s while it runs: a bar on a terminal or in
        a notebook, elsewhere about ten lines.

    Raises:
      ValueError, TypeError: before anything is compiled or written, for what cannot be; a
        `directory` that exists; more memory than there is; parts of other shapes in `start_from`.
      FloatingPointError: see `nan`; the folder can be resumed.
      OSError: a file cannot be written; the latest checkpoint is as it was.
    """
    seed = check_seed("seed", seed)
    training.check_target(stop_at_return)
    facts = {
        "seed": seed,
        **_facts(stop_at_return, metrics_every, evaluate_every, eval_episodes, keep),
    }
    settings = _Settings(on_block, mesh, stop_at_return, checkpoint_seconds, nan, facts, progress)
    arrays = _checked(config, settings)
    folder = Path(directory) if directory is not None and processes.is_first() else None
    if folder is not None:
        folders.check_free(folder)
    source = None if start_from is None else sources.read(start_from, parts, arrays)
    _warn_of_ended(config)
    if on_start is not None:
        on_start(0)
    state, seconds = blocks.timed(training.init, jax.random.key(seed), arrays)
    if source is not None:
        state, facts = source.transferred(state), {**facts, "history": source.history()}
    start = Progress(0, 0, _NOTHING, _NOTHING, seconds, 0.0, state)
    writer = None
    if folder is not None:
        writer = folders.create(folder, config, facts, state, _notes(start))
    with contextlib.nullcontext() if folder is None else disk.held(folder):
        return _run(config, arrays, start, settings, writer, directory)


def _exclusive(function: Callable[..., Run]) -> Callable[..., Run]:
    """Keeps other processes from the run folder, the function's first argument, during a call."""

    @functools.wraps(function)
    def exclusive(directory: str | os.PathLike, *args, **kwargs) -> Run:
        folders.read_facts(Path(directory))
        with disk.held(Path(directory)) if processes.is_first() else contextlib.nullcontext():
            return function(directory, *args, **kwargs)

    return exclusive


@_exclusive
def resume(
    directory: str | os.PathLike,
    on_block: Callable[[Progress], Any] | None = None,
    mesh: Mesh | None = None,
    *,
    config: Config | None = None,
    num_updates: int | None = None,
    stop_at_return: float | None = None,
    metrics_every: int | None = None,
    evaluate_every: int | None = None,
    eval_episodes: int | None = None,
    keep: int | None = None,
    checkpoint_seconds: float = 60.0,
    nan: str = "stop",
    discard_metrics: bool = False,
    on_start: Callable[[int], Any] | None = None,
    progress: bool = False,
) -> Run:
    """Goes on with a run from its latest checkpoint, to the same bits as without interruption.

    The same on as many devices as before; on another number, up to the order of floating-point
    sums. What metrics.csv has beyond the checkpoint is made again.

    Args:
      directory: a run folder, from `run`.
      on_block, mesh, checkpoint_seconds, nan, on_start, progress: as for `run`.
      config: to go on with: the run's own, where that holds objects of the user's own (see `load`),
        or one with other floats, or schedules in their places. config.json then holds the new one,
        and in its history from which update on what has changed.
      num_updates: in all, in place of the config's; schedules whose lengths are a `Share` of it
        are stretched, so that a rate which had fallen to 0 is above it again.
      stop_at_return, metrics_every, evaluate_every, eval_episodes, keep: in place of the run's.
      discard_metrics: sets metrics.csv aside and begins another, where that file is damaged.

    Raises:
      ValueError: no run folder; another process goes on with it; nothing is left to do; another
        environment, a network that makes another function of the same parameters, or any other
        change of the program, as of a size; metrics.csv is not what the checkpoint vouches for; as
        for `load`.
    """
    path = Path(directory)
    notes, saved_config = folders.read_notes(path), checkpoints.saved_config(path)
    config = checkpoints.load_config(path, config)
    if num_updates is not None:
        config = config.replace(num_updates=num_updates)
    facts = _changed(
        notes["facts"],
        stop_at_return,
        metrics_every=metrics_every,
        evaluate_every=evaluate_every,
        eval_episodes=eval_episodes,
        keep=keep,
    )
    settings = _Settings(on_block, mesh, _target(facts), checkpoint_seconds, nan, facts, progress)
    arrays = _checked(config, settings)
    changes = folders.changes(saved_config, config, notes["facts"], facts)
    resumed_changes.check(path, changes, saved_config, config, folders.SETTINGS)
    start = _saved_progress(path, config, notes)
    _warn_of_ended(config)
    if discard_metrics:
        changes["metrics.csv"] = ["set aside", "begun anew"]
    if changes:
        entry = {"from_update": start.num_updates, "changed": changes}
        facts = {**facts, "history": [*facts["history"], entry]}
    writer = _reopened(folders.Writer(path, facts), config, start, notes, discard_metrics)
    if on_start is not None:
        on_start(start.num_updates)
    return _run(config, arrays, start, settings, writer, path)


def _saved_progress(path: Path, config: Config, notes: dict[str, Any]) -> Progress:
    """The progress at a run folder's checkpoint; ValueError where no update is left to make."""
    state, _ = checkpoints.load(path, config)
    num_updates = int(state.num_updates)
    if num_updates >= config.num_updates:
        raise ValueError(
            f"{path} has made its {num_updates} updates; to go on, give num_updates above "
            f"{num_updates}"
        )
    counters = {name: notes[name] for name in _COUNTERS}
    return Progress(num_updates, _state=state, metrics=_NOTHING, seconds=_NOTHING, **counters)


def _reopened(
    writer: folders.Writer,
    config: Config,
    start: Progress,
    notes: dict[str, Any],
    discard_metrics: bool,
) -> folders.Writer | None:
    """The writer, after it has written what changed since the checkpoint with these notes; None
    in all processes but the first."""
    processes.broadcast(0)  # all have read before the first writes
    if not processes.is_first():
        return None
    writer.go_on(notes, discard_metrics)
    if writer.facts != notes["facts"]:
        _save(writer, start, config)
    # Whatever changed: a kill may have come between the last checkpoint and its config.json.
    folders.write_config(writer.path, config, writer.facts)
    return writer


class EndedSchedule(UserWarning):
    """A learning rate's schedule is 0 before the last update."""


def _warn_of_ended(config: Config) -> None:
    text = schedules.ended_text(config)
    if text:
        warnings.warn(text, EndedSchedule, stacklevel=3)


def _facts(
    stop_at_return: float, metrics_every: int, evaluate_every: int, eval_episodes: int, keep: int
) -> dict[str, Any]:
    """The settings that a run folder keeps, as JSON types.

    Raises:
      ValueError, TypeError: for one that cannot be.
    """
    check_int("metrics_every", metrics_every, 1)
    check_int("evaluate_every", evaluate_every, 0, _MOST)
    check_int("eval_episodes", eval_episodes, 1)
    check_int("keep", keep, 1, _MOST)
    return {
        "stop_at_return": None if math.isinf(stop_at_return) else float(stop_at_return),
        "metrics_every": int(metrics_every),
        "evaluate_every": int(evaluate_every),
        "eval_episodes": int(eval_episodes),
        "keep": int(keep),
    }


def _target(facts: dict[str, Any]) -> float:
    return math.inf if facts["stop_at_return"] is None else facts["stop_at_return"]


def _changed(
    facts: dict[str, Any], stop_at_return: float | None, **counts: int | None
) -> dict[str, Any]:
    """A run's facts with the given settings in place of its own; None: its own."""
    target = _target(facts) if stop_at_return is None else stop_at_return
    training.check_target(target)
    given = {name: count for name, count in counts.items() if count is not None}
    return {**facts, **_facts(target, **{name: facts[name] for name in counts} | given)}


def _checked(config: Config, settings: _Settings) -> Config:
    """The config with arrays as leaves; raises for a config or settings that cannot be."""
    arrays = checked(config)
    training.check_devices(config, settings.mesh)
    training.check_target(settings.stop_at_return)
    if settings.nan not in _ON_BAD:
        raise ValueError(unknown(f"nan {shown(settings.nan)}", settings.nan, _ON_BAD))
    check_seconds(settings.checkpoint_seconds)
    check_bool("progress", settings.progress)
    # Each of several processes holds its share of the trajectories.
    if settings.facts["evaluate_every"]:
        memory_estimate.check_episodes("eval_episodes", arrays, settings.facts["eval_episodes"])
    limit = memory_estimate.available_bytes() * jax.process_count()
    kept_updates = min(config.num_updates, recent_metrics.MOST_UPDATES)
    memory_estimate.seeds_that_fit(config.replace(num_updates=kept_updates), limit)
    return arrays


def check_seconds(checkpoint_seconds: float) -> None:
    """Raises ValueError unless it is a time between two checkpoints."""
    if not checkpoint_seconds >= 0:
        raise ValueError(f"checkpoint_seconds must be at least 0, got {checkpoint_seconds}")


def _run(
    config: Config,
    arrays: Config,
    start: Progress,
    settings: _Settings,
    writer: folders.Writer | None,
    directory: str | os.PathLike | None,
) -> Run:
    """Trains from `start` on, saves, and shows the progress if asked to; `arrays` is the config
    with arrays as leaves."""
    if not (settings.progress and processes.is_first()):
        return _trained(config, arrays, start, settings, writer, directory)
    with progress_bar.beside(settings.on_block, config.num_updates) as on_block:
        settings = settings._replace(on_block=on_block)
        return _trained(config, arrays, start, settings, writer, directory)


def _trained(
    config: Config,
    arrays: Config,
    start: Progress,
    settings: _Settings,
    writer: folders.Writer | None,
    directory: str | os.PathLike | None,
) -> Run:
    """Trains from `start` on and saves; see `_run`."""
    recent, stopped = RecentMetrics(), False
    evaluator = Evaluator(config, settings.facts, None if writer is None else writer.path)
    evaluator.go_on(start.num_updates)
    with noted_signals() as signals:
        start, advance = compiled(arrays, start, settings.stop, settings.mesh)
        if signals.caught and jax.process_count() == 1:  # several stop together, after an update
            raise Interrupted(directory, signals.caught)
        progress, saved = start, time.monotonic()
        interval = settings.facts["evaluate_every"]
        ends = (config.num_updates, settings.stop, signals, interval)
        for progress in after_blocks(start, advance, *ends):
            recent.add(progress.num_updates, progress.metrics)
            if writer is not None:
                first = progress.num_updates - len(progress.seconds) + 1
                writer.append(first, progress.metrics, progress.seconds)
            progress, improved = evaluator.after(progress)
            requests, error = _requests(settings.on_block, progress)
            due = (
                bool(requests)
                or improved
                or time.monotonic() - saved >= settings.checkpoint_seconds
            )
            requests |= _SAVE if due and writer is not None else 0
            requests = processes.broadcast(requests)
            if requests & _SAVE:
                _save_despite(error, writer, progress, config)
                saved = time.monotonic()
            if requests & _FAIL:
                raise error or RuntimeError("on_block of process 0 raised an error; see there")
            stopped = bool(requests & _STOP)
            if stopped:
                break
        _save(writer, progress, config)
    if writer is not None:
        _draw_curve(writer.path)
    ended = stopped or progress.num_updates >= config.num_updates
    interrupted = 0 if ended else signals.caught or signal.SIGINT
    return _result(progress, recent, settings, interrupted, stopped, directory)


def _requests(on_block: Callable | None, progress: Progress) -> tuple[int, Exception | None]:
    """The requests of `on_block`, and the error that it raised. Only the first of several processes
    can tell the others, so that all save together; in the others the error is raised."""
    try:
        ended = on_block is not None and on_block(progress) is False
        return (_STOP if ended else 0), None
    except Exception as error:
        if not processes.is_first():
            raise
        return _FAIL, error


def _save_despite(
    error: Exception | None, writer: folders.Writer | None, progress: Progress, config: Config
) -> None:
    """Saves; where that fails after another error, the other one is to be raised, with a note."""
    try:
        _save(writer, progress, config)
    except OSError as failure:
        if error is None:
            raise
        error.add_note(f"nor could what was made be saved: {failure}")


def _draw_curve(path: Path) -> None:
    # Where no episode has ended yet there is no curve.
    with contextlib.suppress(ValueError):
        plots.learning_curves([folders.read(path)], path / "learning_curve.png")


def _result(
    progress: Progress,
    recent: RecentMetrics,
    settings: _Settings,
    interrupted: int,
    stopped: bool,
    directory: str | os.PathLike | None,
) -> Run:
    """The result of a run; `interrupted` counts unless the target or a bad update ended it."""
    metrics, bad_update = recent.metrics(), recent.bad_update
    if bad_update is not None and settings.nan == "raise":
        raise FloatingPointError(not_finite(bad_update))
    solved = bool(settings.stop.reached(metrics)[-1])
    ended = solved or (bad_update is not None and settings.nan == "stop")
    return Run(
        state=progress.state,
        metrics=metrics,
        compile_seconds=progress.compile_seconds,
        run_seconds=progress.run_seconds,
        interrupted=0 if ended else interrupted,
        stopped=stopped,
        solved=solved,
        bad_update=bad_update,
        directory=None if directory is None else Path(directory),
    )


def not_finite(update: int) -> str:
    """The message about the first update that was not made."""
    return (
        f"update {update}: a number in its rewards, gradient or what was learned is not finite; "
        "it was not made, and what was learned before is kept"
    )


def _save(writer: folders.Writer | None, progress: Progress, config: Config) -> None:
    """Saves a checkpoint where there is a writer. All of several processes must call: a state's
    copy needs them all."""
    state = progress.state
    if writer is not None:
        writer.checkpoint(state, config, _notes(progress))


def _notes(progress: Progress) -> dict[str, float]:
    return {name: getattr(progress, name) for name in _COUNTERS}
