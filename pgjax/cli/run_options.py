"""Options that several commands share: the folder to make, and what a resumed folder takes."""

import argparse
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pgjax.environments.wrappers import wrapper
from pgjax.training import transfer
from pgjax.training.config import Config

_RESUMING = ("--devices", "--env", "--import")
_CACHE = ("--compilation-cache", "--no-compilation-cache")


def start(options: argparse.Namespace) -> dict[str, Any]:
    """What `--from` and `--from-parts` say, as arguments of `run`, `sweep` and `tune`.

    Raises:
      ValueError: parts without a run.
    """
    if options.parts is not None and options.start_from is None:
        raise ValueError("--from-parts needs --from RUN")
    return {"start_from": options.start_from, "parts": options.parts or transfer.DEFAULT}


def check_resuming(
    run: Path, arguments: Sequence[str], kind: str, more: Sequence[str] = ()
) -> None:
    """Raises ValueError for a flag that cannot change a sweep or tuning that goes on.

    Args:
      run: its folder.
      arguments: the command's.
      kind: "sweep" or "tuning".
      more: flags that it takes beside those that both take.
    """
    given = [text.partition("=")[0] for text in arguments if text.startswith("-")]
    allowed = (*_RESUMING, *more, *_CACHE)
    refused = [flag for flag in given if flag not in allowed]
    if refused:
        raise ValueError(
            f"{run} is a {kind}'s folder, and {refused[0]} cannot change a {kind}; "
            f"{', '.join(allowed)} can be given"
        )


def new_directory(parent: str, config: Config, options: argparse.Namespace) -> Path:
    """The folder to make in `parent`: of the name that the options give, else ENV-seed-time."""
    if options.name is None:
        # Random digits tell jobs apart that start in the same second.
        time = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        env = re.sub("[/?&]", "-", wrapper.core(config.env))
        return Path(parent) / f"{env}-{options.seed}-{time}"
    if options.name in ("", ".", "..") or set(options.name) & set("/\\\0"):
        raise ValueError(
            f"--name must be the name of a folder in {parent}/, got {options.name!r}; --directory "
            "takes any path"
        )
    return Path(parent) / options.name
