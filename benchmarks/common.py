"""Shared by the benchmarks: timing, facts about the machine, files of results."""

import argparse
import json
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax

from pgjax.core import distribution

RESULTS = Path(__file__).resolve().parent / "results"


class Seconds(NamedTuple):
    """Running times of one call, seconds."""

    median: float
    min: float
    max: float
    repeats: int


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the flags of every benchmark."""
    flags = argparse.ArgumentParser(description=description)
    flags.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, to see that it runs; the speeds mean nothing",
    )
    flags.add_argument("--out", type=Path, help="folder for the results")
    return flags


def results_folder(flags: argparse.Namespace) -> Path:
    """`--out`; else a temporary folder for quick runs, which must not replace real results."""
    if flags.out is None:
        folder = Path(tempfile.mkdtemp(prefix="benchmark-")) if flags.quick else RESULTS
    else:
        folder = flags.out
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def measure(function: Callable[[], Any], repeats: int = 10, seconds: float = 20.0) -> Seconds:
    """Times calls of `function`, after one that warms up, until their results are ready.

    Args:
      function: returns arrays.
      repeats: the number of calls, ≥ 3.
      seconds: fewer calls, but at least three, where `repeats` would take longer than this.
    """
    warm_up = _timed(function)
    repeats = max(3, min(repeats, int(seconds / warm_up)))
    times = [_timed(function) for _ in range(repeats)]
    return Seconds(statistics.median(times), min(times), max(times), repeats)


def per_second(num_steps: int, seconds: Seconds) -> dict[str, float]:
    """Steps per second of calls of `num_steps` each: median, lowest, highest."""
    return {
        "steps_per_second": significant(num_steps / seconds.median),
        "lowest": significant(num_steps / seconds.max),
        "highest": significant(num_steps / seconds.min),
        "repeats": seconds.repeats,
        "num_steps": num_steps,
    }


def compile_ahead(jitted: Any, *args: Any) -> tuple[Callable, float]:
    """The compiled program of a `jax.jit` function for `args`, and seconds to trace and compile."""
    start = time.perf_counter()
    compiled = jitted.lower(*args).compile()
    return compiled, time.perf_counter() - start


def environment_facts() -> dict[str, Any]:
    """The date, machine and versions of a measurement."""
    device = jax.devices()[0]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device.device_kind,
        "platform": device.platform,
        "num_devices": jax.device_count(),
        "cpu": _cpu_model(),
        "num_cores": _num_cores(),
        "python": platform.python_version(),
        "versions": distribution.versions(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def write(folder: Path, name: str, result: dict[str, Any]) -> None:
    """Writes `name`.json: the result and the facts. NaN and infinity are refused."""
    text = json.dumps({"facts": environment_facts(), **result}, indent=1, allow_nan=False)
    # One line for each list of numbers.
    text = re.sub(r"\[[\s\d.,eE+-]*\]", lambda match: " ".join(match[0].split()), text)
    (folder / f"{name}.json").write_text(text + "\n")


def significant(x: Any, digits: int = 4) -> float:
    """A Python float of so many significant digits."""
    return float(f"{float(x):.{digits}g}")


def markdown(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table with padded columns, so that it reads as plain text too."""
    rows = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    lines = (
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def _timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def _cpu_model() -> str:
    try:
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
