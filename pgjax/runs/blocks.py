"""Blocks of updates: how long the next one is, when it ends, and its counters on the host."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.environments.host import failure
from pgjax.training import training

CAPACITY = 64  # updates in the longest block
_BLOCK_SECONDS = 0.2


def block_size(remaining: int, done: int, seconds: float) -> int:
    """Updates in the next block: as many as take about 0.2 s; 1 at first.

    Args:
      remaining: updates until the last one, ≥ 1.
      done: updates since the loop began.
      seconds: the time that those took.
    """
    fitting = int(_BLOCK_SECONDS * done / seconds) if done else 1
    return max(1, min(fitting, CAPACITY, remaining))


def stop_rule(stop_at_return: float, stop_at_bad: bool) -> training.StopRule:
    """The rule that ends training before its last update, for 0 updates; NumPy numbers, compared
    as the device compares them."""
    target = np.asarray(stop_at_return, jnp.zeros(()).dtype)
    return training.StopRule(np.int32(0), target, np.bool_(stop_at_bad))


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """The result of a call, once it is computed, and the seconds that this took."""
    started = time.perf_counter()
    result = jax.block_until_ready(failure.call(function, *arguments))
    return result, time.perf_counter() - started


def seconds_per_update(before: float, spent: float, size: int) -> np.ndarray:
    """float[size]; running time at the end of each update of a block, which share it equally.

    Args:
      before: seconds before the block.
      spent: seconds in the block.
      size: updates in the block, ≥ 1.
    """
    return before + spent * np.arange(1, size + 1) / size


def cumulative_steps(counts: np.ndarray, before: int = 0) -> np.ndarray:
    """int64[…]; environment steps so far, from the device's counts modulo 2³².

    Args:
      counts: integers; the device's count at the end of each update.
      before: steps before the first of these updates.

    >>> import numpy as np
    >>> cumulative_steps(np.array([2, 10]), before=2**32 - 3).tolist()
    [4294967298, 4294967306]
    """
    # Differences between updates are below 2³², so that a count that began anew does no harm.
    taken = np.diff(counts.astype(np.uint32), prepend=np.uint32(before % 2**32))
    return before + np.cumsum(taken.astype(np.int64))
