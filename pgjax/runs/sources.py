"""The run that another run starts from."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from pgjax.core.types import TrainState
from pgjax.runs import checkpoints
from pgjax.training import training, transfer
from pgjax.training.config import Config

# The fields of a config that say which function the arrays of a part make.
_FUNCTIONS = {
    "policy": ("network", "distribution", "time_aware"),
    "critic": ("critic.network",),
    "normalizer": ("normalize_observations",),
    "optimizer": (),
}


class Source(NamedTuple):
    """The checkpoint that a run starts from.

    Attributes:
      path: a run folder or a checkpoint.
      parts: as for `transfer`.
      arrays: those of the checkpoint by their paths.
    """

    path: Path
    parts: tuple[str, ...]
    arrays: dict[str, Any]

    def transferred(self, state: TrainState) -> TrainState:
        """A state with the parts."""
        return transfer.with_arrays(state, self.arrays, self.parts)

    def facts(self) -> dict[str, Any]:
        """The source as a folder keeps it, JSON types."""
        facts = checkpoints.notes(self.path).get("facts", {})
        return {
            "folder": os.path.abspath(self.path),
            "run": facts.get("run"),
            "update": int(self.arrays[".num_updates"]),
            "parts": list(self.parts),
        }

    def history(self) -> list[dict[str, Any]]:
        """The first entry of the history of the run that starts here, JSON types."""
        return [{"from_update": 0, "started_from": self.facts()}]


def arguments(facts: dict[str, Any] | None) -> dict[str, Any]:
    """The arguments of `sweep` or `tune` by which it starts from the source of these facts."""
    return {} if facts is None else {"start_from": facts["folder"], "parts": facts["parts"]}


def read_for(
    path: str | os.PathLike | None, parts: Sequence[str], configs: Sequence[Config]
) -> Source | None:
    """`read` for runs of different programs, each with one of these configs; None without a path.

    Raises:
      ValueError: as `read` does, for the first config that the source does not fit.
    """
    if path is None:
        return None
    return [read(path, parts, config) for config in configs][-1]


def read(path: str | os.PathLike, parts: Sequence[str], config: Config) -> Source:
    """Reads a checkpoint for a run to start from. Of the source's config nothing is made, so that
    it may hold objects of anyone's own.

    Args:
      path: a run folder or a checkpoint.
      parts: as for `transfer`.
      config: of the run that starts, checked.

    Raises:
      ValueError: no checkpoint, or a damaged one; an unknown part; another shape or a function of
        the same arrays that is another, by its path.
    """
    path, parts = Path(path), tuple(parts)
    arrays = checkpoints.read_arrays(path)
    like = jax.eval_shape(training.init, jax.random.key(0), config)
    try:
        transfer.check(arrays, like, parts)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    fields = [name for part in parts for name in _FUNCTIONS[part]]
    checkpoints.check_same_function(path, config, checkpoints.saved_config(path), fields)
    return Source(path, parts, arrays)
