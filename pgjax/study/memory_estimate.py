"""Estimates of the memory that training and evaluation take, without compiling them."""

import math
import os
import sys
from typing import NamedTuple

import jax

from pgjax.core import chunks
from pgjax.core.components import check_int
from pgjax.core.types import Array, PyTree, TrainState, Trajectories
from pgjax.training import training, updates
from pgjax.training.bound import Bound
from pgjax.training.config import Config, bind, checked

# Arrays [T, m] beside the stored trajectories while weights are computed: the weights, the returns,
# the baselines, and a buffer for their sums.
_WORKING_ARRAYS = 4
# The state before an update, the state after it, and in between the gradient, its sum over chunks,
# and Optax's updates. The state holds the parameters three times.
_STATE_COPIES = 3
_EPISODE_COPIES = 3  # an episode's memory and environment state before, during and after a step
_EPISODE_BYTES = 64  # an episode's sums and resampled indices
# The share of the arrays that a chunk's forward pass keeps for its backward pass which XLA does not
# fuse away.
_RESIDUALS_KEPT = 0.85
_SHARE_OF_AVAILABLE = 0.5


class MemoryEstimate(NamedTuple):
    """Bytes that the seeds trained side by side take together.

    Attributes:
      trajectories: the stored trajectories of one update.
      working: the weights and other arrays as large as the rewards, and a chunk's backward pass.
      state: parameters, optimizer state and the gradient, with copies.
      metrics: all updates' metrics.
      total: the sum.
    """

    trajectories: int
    working: int
    state: int
    metrics: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self)


def memory_estimate(config: Config, num_seeds: int = 1) -> MemoryEstimate:
    """Estimates the bytes that `num_seeds` seeds of `train` take side by side; compiles nothing.

    Args:
      config: what to train.
      num_seeds: ≥ 1.

    >>> import pgjax
    >>> config = pgjax.Config(env="CartPole-v1")
    >>> pgjax.memory_estimate(config, 2).trajectories // pgjax.memory_estimate(config).trajectories
    2
    """
    check_int("num_seeds", num_seeds, 1)
    config = checked(config)
    key = jax.random.key(0)
    state = jax.eval_shape(training.init, key, config)
    bound = bind(config, 0)
    trajectories, _ = jax.eval_shape(updates.sample, key, state, bound)
    metrics = jax.eval_shape(lambda state: training.update(state, config)[1], state)
    parts = (
        _bytes(trajectories),
        _WORKING_ARRAYS * _bytes(trajectories.reward),
        _STATE_COPIES * _bytes(state.replace(key=None)),
        2 * config.num_updates * _bytes(metrics),
    )
    total = MemoryEstimate(*(num_seeds * part for part in parts))
    # Where there are several seeds, the trajectories of one are copied out for its gradient.
    copied = parts[0] if num_seeds > 1 else 0
    residuals = _RESIDUALS_KEPT * _bytes(jax.eval_shape(_residuals, state, trajectories, bound))
    # On a CPU seeds take their gradients one after another.
    residuals *= 1 if jax.default_backend() == "cpu" else num_seeds
    return total._replace(working=total.working + copied + int(residuals))


def _residuals(state: TrainState, trajectories: Trajectories, bound: Bound) -> PyTree:
    """The arrays that the gradient of the first chunk keeps between its two passes."""
    surrogate = updates.task(state, trajectories, bound).surrogate
    chunk = chunks.first(*surrogate.batch())
    return jax.vjp(lambda params: surrogate.terms.sums(params, chunk), state.params)[1]


def seeds_that_fit(config: Config, limit: int | None = None) -> int:
    """The number of seeds that fit into memory side by side, at least 1.

    Args:
      config: what to train.
      limit: bytes; None: half of the available memory.

    Raises:
      ValueError: one seed does not fit; the message says how much it needs and what would fit.
    """
    available = available_bytes()
    limit = int(_SHARE_OF_AVAILABLE * available) if limit is None else limit
    needed = memory_estimate(config)
    if needed.total <= limit:
        return max(1, (limit - needed.trajectories) // needed.total)
    available_text = readable(available) if available < sys.maxsize else "unknown"
    per_trajectory = (needed.trajectories + needed.working) / config.sampler.width
    fitting = int((limit - needed.state - needed.metrics) / per_trajectory)
    width = f"sampler.{config.sampler.width_field} is {config.sampler.width}"
    if needed.metrics > limit:
        width = f"num_updates is {config.num_updates}"
        fitting = limit * config.num_updates // needed.metrics
    advice = "no number of trajectories fits" if fitting < 1 else f"{fitting} would fit"
    raise ValueError(
        f"one seed needs {readable(needed.total)}, of which trajectories "
        f"{readable(needed.trajectories)}, metrics {readable(needed.metrics)}; allowed are "
        f"{readable(limit)}, available {available_text}; {width}, {advice}"
    )


def check_episodes(name: str, config: Config, num_episodes: int) -> None:
    """Raises ValueError unless so many episodes can be played side by side, as `evaluate` does.

    Args:
      name: the number's, in the message.
      config: from `checked`.
      num_episodes: ≥ 1.
    """
    check_int(name, num_episodes, 1)
    carry = jax.eval_shape(_episode_carry, jax.random.key(0), config)
    per_episode = _EPISODE_COPIES * _bytes(carry) + _EPISODE_BYTES
    needed, available = num_episodes * per_episode, available_bytes()
    if needed > available:
        fitting = int(_SHARE_OF_AVAILABLE * available / per_episode)
        raise ValueError(
            f"{name} {num_episodes:,} need about {readable(needed)}, available "
            f"{readable(available)}; {fitting:,} would fit"
        )


def _episode_carry(key: Array, config: Config) -> PyTree:
    """The observation and environment state of an episode, and the policy's memory."""
    bound = bind(config, 0)
    return bound.environment.reset(key), bound.policy.initial_memory()


def available_bytes() -> int:
    """Bytes of free memory: of all accelerators together, or of the host; `sys.maxsize` where the
    system does not tell, as Windows does not."""
    if jax.default_backend() != "cpu":
        stats = [device.memory_stats() or {} for device in jax.local_devices()]
        if all("bytes_limit" in device for device in stats):
            return sum(device["bytes_limit"] - device["bytes_in_use"] for device in stats)
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return 1024 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return sys.maxsize


def _bytes(tree: PyTree) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def readable(number: float) -> str:
    """Bytes in three digits: "1.5 KiB"."""
    power = min(3, int(math.log2(max(number, 1)) // 10))
    return f"{number / 2 ** (10 * power):.3g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
