"""TensorBoard events of a run, written by tensorboardX: the extra `tensorboard`."""

from typing import Any

from pgjax.runs.logger import Logger


class TensorBoard(Logger):
    """Writes events to the folder tensorboard/ of a run folder: `tensorboard --logdir runs`."""

    project = "tensorboardX"
    extra = "tensorboard"
    feature = "TensorBoard events"

    def open(self) -> None:
        """Makes a file of events."""
        self._events: Any = self.imported.SummaryWriter(str(self.directory / "tensorboard"))

    def log(self, step: int, values: dict[str, float]) -> None:
        """Adds a scalar for each number."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes the last events."""
        self._events.close()
