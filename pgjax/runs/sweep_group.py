"""The runs of one program of a sweep, trained block after block."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgjax.core.parallel import local
from pgjax.core.types import Array, Metrics, PyTree, TrainResult
from pgjax.runs.run_blocks import BlockStore, RunBlock
from pgjax.runs.run_program import Program, block_size, varying
from pgjax.runs.sources import Source
from pgjax.training.config import Config


class Group:
    """The runs of one program: every config with every seed, config by config.

    Attributes:
      num_seeds, num_runs: seeds of each config; of all configs together.
      num_updates: updates of each run.
      config: leaves that vary over the runs are [num_runs, …].
    """

    def __init__(
        self, configs: list[Config], keys: Array, mesh: Mesh | None, source: Source | None = None
    ) -> None:
        self.num_seeds, self.num_runs = len(keys), len(configs) * len(keys)
        self.num_updates, self._keys = configs[0].num_updates, jnp.tile(keys, len(configs))
        self._program = Program(varying(configs), mesh, source)
        self.config = self._program.stacked(configs, self.num_seeds)

    def train(
        self,
        stop_at_return: float,
        size: int,
        store: BlockStore | None,
        label: str,
        runs: np.ndarray,
    ) -> tuple[list[TrainResult], np.ndarray]:
        """State and NumPy metrics of each config, [num_seeds, …]; seconds to compile and to run.

        Args:
          stop_at_return: a run that reaches it stays as it is.
          size: runs at once.
          store: saves them; None: nothing is saved.
          label: before the numbers of this group's blocks, in their names.
          runs: int[num_runs]; the indices of its runs in the sweep.
        """
        seconds, results = np.zeros(2), []
        for first in range(0, self.num_runs, size):
            # The last block repeats the last run, to be as long as the others.
            index = np.minimum(np.arange(first, first + size), self.num_runs - 1)
            name = f"{label}-{first // size:04d}"
            config, start = self._begun(index, store, name)
            block = start
            for block in self._program.after_updates(start, config, stop_at_return):
                if store is not None:
                    store.save_if_due(name, runs[index], block)
            seconds += block.compile_seconds, block.run_seconds
            results.append(TrainResult(local(block.state), self._metrics(block)))
        return self._per_config(results), seconds

    def _per_config(self, results: list[TrainResult]) -> list[TrainResult]:
        """The blocks' results, joined and divided into those of each config."""
        states, metrics = zip(*results, strict=True)
        joined = TrainResult(
            jax.tree.map(lambda *parts: jnp.concatenate(parts), *states),
            jax.tree.map(lambda *parts: np.concatenate(parts), *metrics),
        )
        firsts = range(0, self.num_runs, self.num_seeds)
        return [_rows(joined, first, self.num_seeds) for first in firsts]

    def _begun(
        self, index: np.ndarray, store: BlockStore | None, name: str
    ) -> tuple[Config, RunBlock]:
        """The configs of a block's runs, and the block as saved, else before its first update."""
        config = self._program.rows(self.config, index)
        keys, config = self._program.replicated(self._keys[index], config)
        if store is not None:
            saved = store.load(name, self._program.shapes(keys, config), self.num_updates)
            if saved is not None:
                return config, saved
        return config, self._program.begun(keys, config, self.num_updates)

    def _metrics(self, block: RunBlock) -> Metrics:
        """Metrics [n, num_updates]; a run that ended early repeats those of its last update."""
        last = np.asarray(local(block.state).num_updates)[:, None] - 1
        index = np.minimum(np.arange(self.num_updates), last)
        # Any: these metrics are NumPy's.
        columns: dict[str, Any] = {
            name: np.take_along_axis(x, index, 1) for name, x in block.metrics.items()
        }
        names = [field.name for field in dataclasses.fields(Metrics) if field.name != "extra"]
        return Metrics(**{name: columns.pop(name) for name in names}, extra=columns)

    def block_size(self, most: int) -> int:
        """Runs at once: equal blocks of at most `most`, a multiple of the number of devices."""
        return block_size(self.num_runs, most, self._program.mesh)


def _rows(tree: PyTree, first: int, number: int) -> Any:
    return jax.tree.map(lambda x: x[first : first + number], tree)
