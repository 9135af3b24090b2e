"""Copies of a run's latest checkpoints, beside the one that `resume` goes on from."""

import shutil
from pathlib import Path

from pgjax.runs import checkpoints, disk

FOLDER = "checkpoints"


def keep(path: Path, num_updates: int, number: int) -> None:
    """Copies a run folder's checkpoint to checkpoints/update-N, and removes the oldest copies.

    Args:
      path: the run folder.
      num_updates: N.
      number: of copies that stay, ≥ 1.

    Raises:
      OSError: it cannot be copied.
    """
    folder = path / FOLDER
    copy = folder / f"update-{num_updates:010d}"  # by name in the order of updates
    if not copy.exists():
        folder.mkdir(exist_ok=True)
        with disk.appearing(copy) as unfinished:
            shutil.copytree(path / checkpoints.IN_RUN, unfinished, dirs_exist_ok=True)
    for oldest in sorted(folder.glob("update-*"))[:-number]:
        shutil.rmtree(oldest)
