"""The loggers that a flag names."""

from collections.abc import Iterable

from pgjax.core.names import shown, unknown
from pgjax.runs.logger import Logger
from pgjax.runs.mlflow_store import MLflow
from pgjax.runs.tensorboard import TensorBoard
from pgjax.runs.weights_and_biases import WeightsAndBiases

LOGGERS: dict[str, type[Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


def named(names: Iterable[str]) -> list[type[Logger]]:
    """The classes of these names, each once.

    Raises:
      ValueError: an unknown name; the message has the nearest.
    """
    for name in names:
        if name not in LOGGERS:
            raise ValueError(unknown(f"logger {shown(name)}", name, LOGGERS))
    return [LOGGERS[name] for name in dict.fromkeys(names)]
