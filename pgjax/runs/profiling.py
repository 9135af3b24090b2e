"""`profile`: how long a config's program compiles and runs, the parts of an update beside the
device's limits, bytes, and a trace of an update."""

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
from pgjax.runs import blocks, progress, update_parts
from pgjax.runs.device_limits import Limits, limits_of
from pgjax.runs.update_parts import UpdateParts
from pgjax.study import memory_estimate
from pgjax.training import training
from pgjax.training.config import Config, bind, checked

_TIMED = 3  # updates
# Twice the trajectories take less than this many times as long where the device is not full.
_FULL = 1.5


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
      width: m, the trajectories or streams of an update.
      parts: seconds of the parts of an update, each compiled by itself.
      limits: what the devices reach.
      twice_seconds: of sampling 2 m trajectories; None: of environments on the host, and where
        they would take more than half of the memory that is left.
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
    width: int
    parts: UpdateParts
    limits: Limits
    twice_seconds: float | None
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
            "one update": _milliseconds(self.update_seconds),
            **self._rows_of_parts(),
            "environment steps": f"{self.steps_per_second:,.0f} per second",
            "large matrix product": f"{self.limits.operations / 1e9:.3g} GFLOP/s",
            "large copy": f"{self.limits.copied_bytes / 1e9:.3g} GB/s",
            "compiled program": _text(self.program_bytes),
            "arguments": _text(self.argument_bytes),
            "outputs": _text(self.output_bytes),
            "temporaries": _text(self.temporary_bytes),
            "peak": _text(self.peak_bytes),
            "trace of an update": trace,
        }

    def sentences(self) -> tuple[str, ...]:
        """What follows from the parts: what takes longest, and whether m fills the device."""
        parts = {
            "The rollout": self.parts.rollout,
            "The ascent": self.parts.ascent,
            "The critic": self.parts.values + self.parts.fit,
        }
        longest = max(parts, key=lambda name: parts[name])
        first = f"{longest} takes {self._share(parts[longest])} of an update"
        speed = {"The rollout": self._rollout_speed(), "The ascent": self._gradient_speed()}
        if speed.get(longest):
            subject = "its policy" if longest == "The rollout" else "a gradient"
            first += f"; {subject} runs at {speed[longest]:.1%} of a matrix product's speed"
        if self.twice_seconds is None:
            return (f"{first}.",)
        ratio = self.twice_seconds / self.parts.rollout
        full = "fill" if ratio > _FULL else "do not fill"
        second = f"Twice the trajectories take {ratio:.1f} times as long to sample"
        return f"{first}.", f"{second}: {self.width:,} {full} this device."

    def _rows_of_parts(self) -> dict[str, str]:
        """The parts that make up an update, what is left, and two parts of the ascent."""
        parts = self.parts
        named = {
            "- rollout": parts.rollout,
            "- critic's values": parts.values,
            "- ascent": parts.ascent,
            "- critic's fit": parts.fit,
        }
        rest = max(0.0, self.update_seconds - sum(named.values()))
        named |= {"- all else": rest, "weights alone": parts.weights, "a gradient": parts.gradient}
        return {name: f"{_milliseconds(x)}, {self._share(x)}" for name, x in named.items()}

    def _share(self, seconds: float) -> str:
        return f"{100 * seconds / self.update_seconds:.0f} %"

    def _rollout_speed(self) -> float:
        """The policy's share of a large product's speed in the rollout; 0: not known."""
        done = self.parts.num_steps * self.parts.operations
        return done / self.parts.rollout / self.limits.operations

    def _gradient_speed(self) -> float:
        """The same of a gradient, whose backward pass is two products for each of the forward."""
        done = 3 * self.parts.num_steps * self.parts.operations
        return done / self.parts.gradient / self.limits.operations


def profile(
    config: Config,
    directory: str | os.PathLike | None = None,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> Profile:
    """Compiles the program that `run` trains a config with, times three of its updates after a
    first one, compiles and times the parts of an update, measures the devices' limits, and traces
    another update by `jax.profiler`.

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
    parts = update_parts.parts_of(state, arrays, mesh)
    twice_seconds = _twice(state, arrays, mesh)
    problem = "" if folder is None else _trace(folder, lambda: program(state, *inputs(1)))
    return Profile(
        *spent,
        update_seconds=float(np.median(seconds)),
        steps_per_second=float(steps / np.sum(seconds)),
        width=config.sampler.width,
        parts=parts,
        limits=limits_of(mesh),
        twice_seconds=twice_seconds,
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


def _twice(state: TrainState, config: Config, mesh: Mesh | None) -> float | None:
    """Seconds of sampling twice as many trajectories, where that is possible."""
    twice = config.replace(**{f"sampler.{config.sampler.width_field}": 2 * config.sampler.width})
    needed = memory_estimate.memory_estimate(twice).total
    if bind(config, 0).environment.on_host or needed > memory_estimate.available_bytes() / 2:
        return None
    return update_parts.rollout_seconds(state, twice, mesh)


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


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _text(number: int | None) -> str:
    return "not known on this device" if number is None else memory_estimate.readable(number)
