"""A sweep's runs that are trained side by side, and their parts in a sweep's folder."""

import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from pgjax.core.parallel import local
from pgjax.core.types import TrainState
from pgjax.runs import checkpoints, sweep_folders
from pgjax.runs.signals import Interrupted, Signals
from pgjax.training import training

_STATE = "state/"  # before the paths of a state's leaves in a part


class RunBlock(NamedTuple):
    """n runs that are trained side by side, after some updates.

    Attributes:
      state: their states, [n, …].
      num_updates: updates made.
      metrics: NumPy arrays by name, [n, total], filled up to `num_updates`; of a run that ended
        before, arbitrary numbers.
      seconds: float[total], filled up to `num_updates`; of running, at the end of each update.
      ended: bool[n]; whether they reached the target.
      compile_seconds: so far.
    """

    state: TrainState
    num_updates: int
    metrics: dict[str, np.ndarray]
    seconds: np.ndarray
    ended: np.ndarray
    compile_seconds: float

    @property
    def done(self) -> bool:
        """Whether no run has an update left to make."""
        return bool(self.ended.all()) or self.num_updates >= len(self.seconds)

    @property
    def run_seconds(self) -> float:
        """Seconds of running so far."""
        return float(self.seconds[self.num_updates - 1]) if self.num_updates else 0.0


class BlockStore:
    """Saves blocks of runs in a sweep's folder, and ends the sweep after a signal.

    Attributes:
      path: the folder.
      checkpoint_seconds: the time between two savings.
      signals: those that the process received.
    """

    def __init__(self, path: Path, checkpoint_seconds: float, signals: Signals) -> None:
        self.path, self.checkpoint_seconds, self.signals = path, checkpoint_seconds, signals
        self._saved = time.monotonic()

    def load(self, name: str, like: TrainState, total: int) -> RunBlock | None:
        """A saved block; None: it has not been begun.

        Args:
          name: of its part.
          like: a state of the same structure, shapes and dtypes.
          total: updates in all.

        Raises:
          ValueError: the part is damaged, or its state is another one's.
        """
        arrays = sweep_folders.read_part(self.path, name)
        if arrays is None:
            return None
        state, metrics = (below(prefix, arrays) for prefix in (_STATE, sweep_folders.METRICS))
        try:
            full_state = restored(state, like)
        except ValueError as error:
            raise ValueError(f"{self.path}, part {name}: {error}") from error
        return RunBlock(
            state=full_state,
            num_updates=len(arrays["seconds"]),
            metrics={key: _lengthened(array, total) for key, array in metrics.items()},
            seconds=_lengthened(arrays["seconds"], total),
            ended=arrays["ended"],
            compile_seconds=float(arrays["compile_seconds"]),
        )

    def save_if_due(self, name: str, runs: np.ndarray, block: RunBlock) -> None:
        """Saves a block that is done, or when it is time to, or after a signal.

        Args:
          name: of its part.
          runs: int[n]; the indices of its runs in the sweep.
          block: to save.

        Raises:
          Interrupted: after a signal, once the block is saved.
        """
        caught = self.signals.caught
        late = time.monotonic() - self._saved >= self.checkpoint_seconds
        if block.done or caught or late:
            sweep_folders.write_part(self.path, name, _arrays(runs, block))
            self._saved = time.monotonic()
        if caught:
            raise Interrupted(self.path, caught)


def below(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with the prefix, by the rest of their names."""
    names = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays[name] for name in names}


def _arrays(runs: np.ndarray, block: RunBlock) -> dict[str, np.ndarray]:
    """The arrays of a block's part, by name."""
    state, num_updates = local(block.state), block.num_updates
    leaves = checkpoints.to_arrays(state).items()
    return {
        "runs": runs,
        "num_updates": np.asarray(state.num_updates),
        "ended": block.ended,
        "seconds": block.seconds[:num_updates],
        "compile_seconds": np.array(block.compile_seconds),
        **{_STATE + path: np.asarray(leaf) for path, leaf in leaves},
        **{sweep_folders.METRICS + name: x[:, :num_updates] for name, x in block.metrics.items()},
    }


def restored(arrays: dict[str, np.ndarray], like: TrainState) -> TrainState:
    """The state of a part's arrays; ValueError where they do not fit `like`."""
    target = jax.eval_shape(checkpoints.to_arrays, like)
    # NumPy's files hold dtypes that are not NumPy's, such as bfloat16, as bytes.
    arrays = {
        name: array.view(target[name].dtype)
        if array.dtype.kind == "V" and name in target
        else array
        for name, array in arrays.items()
    }
    given, expected = ({n: training.aval(x) for n, x in t.items()} for t in (arrays, target))
    problem = training.difference(given, expected)
    if problem is not None:
        raise ValueError(problem)
    return checkpoints.from_arrays(arrays, like)


def _lengthened(array: np.ndarray, total: int) -> np.ndarray:
    """The array with zeros up to length `total` along its last axis."""
    longer = np.zeros((*array.shape[:-1], total), array.dtype)
    longer[..., : array.shape[-1]] = array
    return longer
