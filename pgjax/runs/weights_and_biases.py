"""A run for Weights & Biases: the extra `wandb`."""

import os
from typing import Any

from pgjax.runs.logger import Logger


class WeightsAndBiases(Logger):
    """Writes a Weights & Biases run to the folder wandb/ of a run folder.

    It asks for no account and sends nothing: `wandb sync` of that folder does, or the environment
    variable WANDB_MODE=online. WANDB_PROJECT names the project, "pgjax" without it.
    """

    project = "wandb"
    extra = "wandb"
    feature = "Weights & Biases runs"

    def open(self) -> None:
        """Begins a run with the config."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._run: Any = self.imported.init(
            project=os.environ.get("WANDB_PROJECT", "pgjax"),
            mode=os.environ.get("WANDB_MODE", "offline"),
            name=self.directory.name,
            dir=str(self.directory),
            config=self.config,
            settings=self.imported.Settings(console="off", silent=True),
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """Logs the numbers at this step."""
        self._run.log(values, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()
