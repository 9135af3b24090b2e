"""The metrics of a run's last updates, in memory that does not grow with the run."""

import jax
import numpy as np

from pgjax.core.types import Metrics

MOST_UPDATES = 2**20


class RecentMetrics:
    """Metrics of the last `MOST_UPDATES` updates, and the number of the first bad update.

    Attributes:
      parts: NumPy metrics of successive updates.
      bad_update: the first update that was not made since a number was not finite; None: none.
    """

    def __init__(self) -> None:
        self.parts: list[Metrics] = []
        self.bad_update: int | None = None

    def add(self, num_updates: int, block: Metrics) -> None:
        """Appends a block's metrics, merging parts of similar length like a binary counter, so
        that n blocks are O(log n) arrays: one for each would take more than their numbers.

        Args:
          num_updates: made so far, those of the block included.
          block: NumPy metrics.
        """
        bad = np.flatnonzero(~block.finite)
        if self.bad_update is None and len(bad):
            self.bad_update = num_updates - len(block.finite) + int(bad[0]) + 1
        while self.parts and len(self.parts[-1].finite) <= len(block.finite):
            block = _joined(self.parts.pop(), block)
        self.parts.append(block)
        while sum(len(part.finite) for part in self.parts[1:]) >= MOST_UPDATES:
            del self.parts[0]

    def metrics(self) -> Metrics:
        """All kept metrics, joined."""
        return jax.tree.map(lambda x: x[-MOST_UPDATES:], _joined(*self.parts))


def _joined(*parts: Metrics) -> Metrics:
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
