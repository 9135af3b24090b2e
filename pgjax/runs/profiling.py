"""`profile`: how long a config's program compiles and runs, its bytes, and a trace of an update."""

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pgjax.core.components import check_seed
from pgjax.core.types import TrainState
from pgjax.runs import blocks, progress
from pgjax.study import memory_estimate
from pgjax.training import training
from pgjax.training.config import Config, checked

_TIMED = 3  # updates


@dataclasses.dataclass(frozen=True)
class Profile:
    """Times and sizes of the program that `run` compiles for a config, on these devices.

    Bytes are those that XLA plans for one device; None where it does not say.

    Attributes:
      trace_seconds: of running the Python code once, to a jaxpr.
      lower_seconds: from the jaxpr to StableHLO.
      compile_seconds: of XLA; of reading the program where the compilation cache has it.
      update_seconds: the median of three updates, after a first one.
      steps_per_second: environment steps of those three updates per second.
      program_bytes: of the compiled code.
      argument_bytes, output_bytes: of what goes in (state, config) and comes out (state, metrics).
      temporary_bytes: of what lives only while the program runs: trajectories, gradients.
      peak_bytes: all four together, less the arguments whose memory the outputs take.
      directory: of the trace; None: none was asked for, or none could be written.
      problem: why none could be written; "": it could, or none was asked for.
    """

    trace_seconds: float
    lower_seconds: float
    compile_seconds: float
    update_seconds: float
    steps_per_second: float
    program_bytes: int | None
    argument_bytes: int | None
    output_bytes: int | None
    temporary_bytes: int | None
    peak_bytes: int | None
    directory: Path | None = None
    problem: str = ""

    def rows(self) -> dict[str, str]:
        """Names and values, as `pgjax train ENV --profile DIR` prints them."""
        trace = "none" if self.directory is None else str(self.directory)
        if self.problem:
            trace = f"none: JAX's profiler is not available here ({self.problem})"
        return {
            "trace to a jaxpr": f"{self.trace_seconds:.2f} s",
            "lower to StableHLO": f"{self.lower_seconds:.2f} s",
            "compile by XLA": f"{self.compile_seconds:.2f} s",
            "one update": f"{1e3 * self.update_seconds:.3g} ms",
            "environment steps": f"{self.steps_per_second:,.0f} per second",
            "compiled program": _text(self.program_bytes),
            "arguments": _text(self.argument_bytes),
            "outputs": _text(self.output_bytes),
            "temporaries": _text(self.temporary_bytes),
            "peak": _text(self.peak_bytes),
            "trace of an update": trace,
        }


def profile(
    config: Config,
    directory: str | os.PathLike | None = None,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> Profile:
    """Compiles the program that `run` trains a config with, times three of its updates after a
    first one, and traces another one by `jax.profiler`.

    Args:
      config: what would be trained.
      directory: for the trace, made where it does not exist: a folder plugins/profile/TIME with
        perfetto_trace.json.gz, for https://ui.perfetto.dev, and *.xplane.pb, for XProf and
        TensorBoard. None: no trace.
      seed: of the random numbers, in [0, 2³²).
      mesh: from `make_mesh`, as for `run`.

    Raises:
      ValueError, TypeError: before anything is compiled, for what cannot be; a `directory` that
        cannot be written.
    """
    key = jax.random.key(check_seed("seed", seed))
    arrays = checked(config)
    training.check_devices(config, mesh)
    folder = None if directory is None else _writable(Path(directory))
    stop = blocks.stop_rule(np.inf, stop_at_bad=False)
    state, inputs = progress.placed(arrays, training.init(key, arrays), stop, mesh)
    program, spent = _compiled(state, *inputs(0), blocks.CAPACITY, mesh)
    state, seconds, steps = _updates(program, state, lambda: inputs(1))
    problem = "" if folder is None else _trace(folder, lambda: program(state, *inputs(1)))
    return Profile(
        *spent,
        update_seconds=float(np.median(seconds)),
        steps_per_second=float(steps / np.sum(seconds)),
        **_sizes(program.memory_analysis()),
        directory=None if problem else folder,
        problem=problem,
    )


def _writable(folder: Path) -> Path:
    """The folder, made where it does not exist; ValueError where nothing can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(
            f"a profile cannot be written to {folder} ({error.strerror}): give another folder"
        ) from error


def _compiled(*inputs: Any) -> tuple[jax.stages.Compiled, tuple[float, float, float]]:
    """The program of a block of updates, and the seconds of each step of making it."""
    times = [time.perf_counter()]
    traced = training.update_block.trace(*inputs)
    times.append(time.perf_counter())
    lowered = traced.lower()
    times.append(time.perf_counter())
    program = lowered.compile()
    times.append(time.perf_counter())
    trace, lower, compile_ = np.diff(times).tolist()
    return program, (trace, lower, compile_)


def _updates(
    program: jax.stages.Compiled, state: TrainState, inputs: Callable[[], tuple]
) -> tuple[TrainState, np.ndarray, int]:
    """The state after a first update and the timed ones, their seconds, and their steps."""
    seconds, counts = [], []
    for _ in range(1 + _TIMED):
        (state, metrics), spent = blocks.timed(program, state, *inputs())
        seconds.append(spent)
        counts.append(np.asarray(metrics.env_steps)[0])
    steps = blocks.cumulative_steps(np.array(counts))
    return state, np.array(seconds[1:]), int(steps[-1] - steps[0])


def _trace(folder: Path, call: Callable[[], Any]) -> str:
    """Writes a trace of a call; why that is not possible, or an empty text."""
    try:
        jax.profiler.start_trace(folder, create_perfetto_trace=True)
        try:
            jax.block_until_ready(call())
        finally:
            jax.profiler.stop_trace()
    except (RuntimeError, OSError, ImportError) as error:
        return str(error).partition("\n")[0]
    return ""


def _sizes(memory: Any) -> dict[str, int | None]:
    """The bytes of a `Profile`, from what JAX says of a compiled program, which may be nothing."""
    names = ("program", "argument", "output", "temporary", "peak")
    if memory is None:
        return dict.fromkeys(f"{name}_bytes" for name in names)
    sizes = (
        memory.generated_code_size_in_bytes,
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        memory.temp_size_in_bytes,
    )
    peak = sum(sizes) - memory.alias_size_in_bytes
    # A CPU's code has no size: XLA says 0.
    values = (sizes[0] or None, *sizes[1:], peak)
    return {f"{name}_bytes": value for name, value in zip(names, values, strict=True)}


def _text(number: int | None) -> str:
    return "not known on this device" if number is None else memory_estimate.readable(number)
