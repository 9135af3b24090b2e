"""`export`: a folder with a policy as another kind of program, its card, and their agreement."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pgjax.core.names import shown, unknown
from pgjax.core.types import Evaluation, TrainState
from pgjax.runs import disk
from pgjax.runs.export import card, numpy_module, onnx_model, stablehlo_program
from pgjax.runs.export.agreement import TOLERANCE, largest_difference
from pgjax.runs.export.traced import Exported, exported
from pgjax.training.config import Config


class Export(NamedTuple):
    """A policy that was exported.

    Attributes:
      path: the folder.
      difference: the largest one from the original, max |x − y| / max(1, |y|), over the actions
        and memories of 1000 observations.
    """

    path: Path
    difference: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is at most 1e-5."""
        return self.difference <= TOLERANCE


class _Format(NamedTuple):
    """A kind of export: what writes a folder, what loads it to act, and an example of its use."""

    write: Callable[[Exported, Path, str], None]
    load: Callable[[Path], Callable]
    use: Callable[[Exported], str]


FORMATS = {
    "numpy": _Format(numpy_module.write, numpy_module.load, numpy_module.use),
    "onnx": _Format(onnx_model.write, onnx_model.load, onnx_model.use),
    "stablehlo": _Format(stablehlo_program.write, stablehlo_program.load, stablehlo_program.use),
}


def export(
    state: TrainState,
    config: Config,
    path: str | os.PathLike,
    format: str = "numpy",
    deterministic: bool = False,
    evaluation: Evaluation | None = None,
) -> Export:
    """Writes a policy as another kind of program, with its normaliser, memory, mask and time.

    The folder has a card, README.md: environment, spaces, versions, config, an example of use. The
    export is compared with the original on 1000 observations of the policy's own episodes.

    Args:
      state: the policy's.
      config: the one that it was trained with.
      path: the folder to make.
      format: "numpy": policy.py, a module that needs NumPy alone, with weights.npz; "onnx":
        policy.onnx, for any number of observations and programs that run ONNX; "stablehlo":
        policy.stablehlo, for any number of observations on CPU, CUDA or TPU, which needs JAX.
      deterministic: whether actions are modes; else they are samples, from noise that is an input.
      evaluation: of the policy, for the card.

    Returns:
      The folder, and the largest difference.

    Raises:
      ValueError: an unknown format, a folder that exists, a policy with an operation that the
        format has not (the message has its name), samples that need JAX.
      MissingExtra: a format whose extra is not installed.
      OSError: the folder cannot be written.

    >>> import jax, pgjax, tempfile
    >>> config = pgjax.Config(env="CartPole-v1")
    >>> state = pgjax.init(jax.random.key(0), config)
    >>> pgjax.export(state, config, tempfile.mkdtemp() + "/policy", deterministic=True).agrees
    True
    """
    path = Path(path)
    check(path, format)
    policy = exported(state, config, bool(deterministic))
    kind, title = FORMATS[format], f"A policy of {policy.deployed.environment.name}, by pgjax."
    try:
        with disk.appearing(path) as folder:
            kind.write(policy, folder, title)
            difference = largest_difference(policy, kind.load(folder))
            text = card.text(policy, config, int(state.num_updates), evaluation, difference)
            text += card.use(kind.use(policy))
            (folder / "README.md").write_text(text, encoding="utf-8")
    except FileExistsError:
        _check_free(path)
        raise
    return Export(path, difference)


def check(path: Path, format: str) -> None:
    """Raises ValueError unless the format is known and the folder can be made."""
    if format not in FORMATS:
        raise ValueError(unknown(f"format {shown(format)}", format, FORMATS))
    _check_free(path)


def _check_free(path: Path) -> None:
    if path.exists():
        raise ValueError(f"the folder {path} exists; give another, or remove it")
