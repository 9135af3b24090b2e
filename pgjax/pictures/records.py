"""Records of runs, from which curves are drawn."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Record:
    """A run without its parameters, read from its folder or its sweep's.

    Attributes:
      path: the folder.
      sweep: the folder of the sweep that it is a run of; None: a run by itself.
      config: as JSON types, see `config_json.to_dict`.
      seed: of the run's key.
      stop_at_return: reward units; infinite: none.
      metrics: columns of metrics.csv, float64 each: "update", "seconds" of running, and the
        metrics by name.
      dropped: the number of incomplete lines in metrics.csv.
      evaluations: columns of evaluation.csv, float64 each: "update", "env_steps", "seconds",
        "return", "low", "high", "episodes"; empty where the run was not evaluated.
      start: "fresh"; or "from" and the parts that another run gave it.
      source: that run and its update; "": none.
    """

    path: Path
    sweep: Path | None
    config: dict[str, Any]
    seed: int
    stop_at_return: float
    metrics: dict[str, np.ndarray]
    dropped: int
    evaluations: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    start: str = "fresh"
    source: str = ""

    def setting(self) -> dict[str, Any]:
        """All that is alike in runs that differ by their seeds: the config, start and source."""
        return {**self.config, "start": self.start, "source": self.source}

    def final_return(self, updates: int = 5) -> float:
        """Mean episode return over the last updates that are recorded; NaN if no episode ended."""
        returns = self.metrics["episode_return"][-updates:]
        returns = returns[np.isfinite(returns)]
        return float(returns.mean()) if len(returns) else np.nan
