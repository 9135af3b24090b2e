"""A run in an MLflow store: the extra `mlflow`."""

import os
import time
from collections.abc import Iterator
from typing import Any

from pgjax.runs.logger import Logger

_EXPERIMENT = "pgjax"
_LONGEST = 500  # characters of a parameter


class MLflow(Logger):
    """Writes an MLflow run to the folder mlflow/ of a run folder, or to MLFLOW_TRACKING_URI.

    `mlflow ui --backend-store-uri RUN/mlflow` shows it; MLFLOW_EXPERIMENT_NAME names the
    experiment, "pgjax" without it.
    """

    project = "mlflow"
    extra = "mlflow"
    feature = "MLflow runs"

    def open(self) -> None:
        """Begins a run, with the config's leaves for parameters."""
        own = (self.directory / "mlflow").resolve().as_uri()
        # Of 3.x, whose file stores are closed to new runs unless one asks.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = os.environ.get("MLFLOW_TRACKING_URI", own)
        self._client: Any = self.imported.MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
        experiment = self._client.get_experiment_by_name(name)
        number = (
            self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        )
        self._run = self._client.create_run(number, run_name=self.directory.name).info.run_id
        entities = self.imported.entities
        params = [entities.Param(path, text) for path, text in _leaves("", self.config)]
        self._client.log_batch(self._run, params=params)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Logs the numbers at this step."""
        now_ms, metric = int(time.time() * 1000), self.imported.entities.Metric
        metrics = [metric(name, value, now_ms, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        """Ends the run."""
        self._client.set_terminated(self._run)


def _leaves(path: str, node: Any) -> Iterator[tuple[str, str]]:
    """The dotted paths of nested dictionaries, and their values as texts."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(f"{path}.{name}" if path else name, value)
    else:
        yield path, str(node)[:_LONGEST]
