"""The versions, devices and speed of this machine, and causes of slowness."""

import os
import platform
import sys
import time
from collections.abc import Iterator

import jax

from pgjax.core import distribution
from pgjax.core.components import jax_option
from pgjax.sampling.episodes import Episodes
from pgjax.training import training
from pgjax.training.config import Config, checked


def device_line(number: int | None = None) -> str:
    """The devices that JAX uses, as text: `number` of them, or all."""
    devices = jax.devices()
    used = f"{number} of {len(devices)}" if number else f"{len(devices)}"
    if devices[0].platform == "cpu":
        return f"{used} CPU device{'s' * (len(devices) > 1)}, {os.cpu_count()} cores"
    return f"{used} x {devices[0].device_kind}"


def report() -> Iterator[str]:
    """Lines of text: versions, devices, the speed of a small run, then each cause of slowness."""
    yield f"python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield from (f"{name} {version}" for name, version in distribution.versions().items())
    yield f"devices: {device_line()}"
    compile_seconds, speed = _small_run()
    yield f"CartPole-v1, 64 trajectories of up to 100 steps, 2x64 MLP: {speed:,.0f} steps/s"
    yield f"compiling that took {compile_seconds:.1f} s; every other shape compiles anew"
    if conflict := distribution.conflict():
        yield f"wrong: {conflict}"
    problems = list(_problems())
    yield from (f"slow: {problem}" for problem in problems)
    if not problems:
        yield "nothing found that makes it slower than it needs to be"


def _problems() -> Iterator[str]:
    """Causes of slowness on this machine, each with its cure where it has one."""
    if jax_option("jax_disable_jit"):
        yield "JAX_DISABLE_JIT is on: nothing is compiled; unset it"
    if jax_option("jax_debug_nans"):
        yield "JAX_DEBUG_NANS is on: every call is checked on the host; unset it"
    if jax_option("jax_enable_x64"):
        yield "JAX_ENABLE_X64 is on: float64 takes twice the memory and time; unset it"
    if jax_option("jax_log_compiles"):
        yield "JAX_LOG_COMPILES is on: compilation prints; unset it"
    if jax.default_backend() == "cpu" and _has_nvidia():
        yield 'an NVIDIA GPU is here but JAX has no plugin for it; pip install -U "jax[cuda12]"'
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if available < (os.cpu_count() or 1):
        yield f"this process may use {available} of {os.cpu_count()} cores"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > (os.cpu_count() or 1):
        yield f"the machine is busy: load {load:.1f} on {os.cpu_count()} cores"
    if sys.flags.optimize == 0 and sys.gettrace() is not None:
        yield "a debugger or a coverage tool traces Python: compilation is slower"


def _has_nvidia() -> bool:
    return os.path.exists("/proc/driver/nvidia/version")


def _small_run() -> tuple[float, float]:
    """Seconds to compile a small training, and its steps per second."""
    config = checked(Config("CartPole-v1", sampler=Episodes(64, horizon=100)))
    state = training.init(jax.random.key(0), config)
    until = training.StopRule(jax.numpy.int32(16), jax.numpy.inf, False)
    started = time.perf_counter()
    block = training.update_block.lower(state, config, until, 16).compile()
    compile_seconds = time.perf_counter() - started
    started = time.perf_counter()
    state, _ = jax.block_until_ready(block(state, config, until))
    return compile_seconds, int(state.env_steps) / (time.perf_counter() - started)
