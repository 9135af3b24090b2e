"""TensorBoard events of a run, written by tensorboardX: the extra `tensorboard`."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pgjax.core import distribution
from pgjax.runs import config_json
from pgjax.runs.progress import Progress


@contextmanager
def writer(folder: Path, metrics_every: int = 1) -> Iterator[Any]:
    """Yields a function of a block's `Progress` that writes its metrics against environment steps.

    Args:
      folder: where to write.
      metrics_every: the metrics of every so many updates.

    Raises:
      ValueError: the extra is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        message = distribution.missing("TensorBoard events", "tensorboard", error)
        raise ValueError(message) from None
    # Opened with the first block: the run folder is made after this.
    events = functools.cache(lambda: SummaryWriter(str(folder)))
    try:
        yield lambda progress: _write(events(), progress, metrics_every)
    finally:
        if events.cache_info().currsize:
            events().close()


def _write(events: Any, progress: Progress, metrics_every: int) -> None:
    columns = config_json.columns(progress.metrics)
    steps = columns.pop("env_steps")
    first = progress.num_updates - len(steps) + 1
    for row, step in enumerate(steps):
        if (first + row) % metrics_every:
            continue
        for name, column in columns.items():
            if np.isfinite(column[row]):  # NaN: no episode ended
                events.add_scalar(name, float(column[row]), int(step))
