"""The folder in which compiled programs wait for later processes. JAX is imported where it is used:
a command names the folder before it loads JAX."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path


def cache_compilation(folder: str | os.PathLike | None = None) -> Path:
    """Keeps compiled programs in a folder, where this process and later ones read them again.

    A process that finds its program there traces it, lowers it and loads it. A program is found by
    its text, its options, the devices and the versions of JAX and XLA; so numbers that are data, as
    learning rates and seeds, are no part of what it is found by. Several processes may share the
    folder; an entry that is damaged is compiled anew, after a warning of JAX's. Nothing is ever
    removed: the folder is safe to delete. The commands call this themselves, but for
    `--no-compilation-cache`.

    Args:
      folder: made if it does not exist; None: what JAX's option `jax_compilation_cache_dir` says,
        else `$XDG_CACHE_HOME/pgjax` or `~/.cache/pgjax` or, where that cannot be written,
        `pgjax-UID` among temporary files.

    Returns:
      The folder.

    Raises:
      ValueError: the folder cannot be written.

    Note:
      JAX runs what it reads there: give no folder that others can write.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    path = _path(folder)
    jax.config.update("jax_enable_compilation_cache", True)
    if os.fspath(path) != os.fspath(_option() or ""):
        jax.config.update("jax_compilation_cache_dir", os.fspath(path))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # What has been compiled before this call settled that there is no cache.
    compilation_cache.reset_cache()
    return Path(path)


def _path(folder: str | os.PathLike | None) -> str | os.PathLike:
    """The folder to use, which can be written."""
    if folder is None:
        path = _option() or cache_folder()
        if path is None:
            places = " and ".join(map(str, _folders()))
            raise ValueError(f"no folder for compiled programs can be written ({places}); give one")
        return path
    if not _can_be_written(path := Path(folder).expanduser().absolute()):
        raise ValueError(f"compiled programs cannot be kept in {path}: not a folder of this user's")
    return path


def _option() -> str | os.PathLike | None:
    from pgjax.core.components import jax_option

    return jax_option("jax_compilation_cache_dir")


def cache_folder() -> Path | None:
    """A folder for compiled programs, safe to delete: the user's own or, where that cannot be
    written, as in a container without a home, one among temporary files; None: neither can be
    written."""
    return next(filter(_can_be_written, _folders()), None)


def _folders() -> Iterator[Path]:
    with contextlib.suppress(RuntimeError):  # a user without a home
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pgjax"
    if hasattr(os, "getuid"):
        yield Path(tempfile.gettempdir()) / f"pgjax-{os.getuid()}"


def _can_be_written(folder: Path) -> bool:
    """Whether this user can write in a folder; makes it if it does not exist."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    if folder.parent == Path(tempfile.gettempdir()):
        # Any user can make this folder, and JAX runs the programs in it: it must be the user's own.
        status = folder.lstat()
        private = stat.S_IFDIR | stat.S_IRWXU
        if (status.st_uid, status.st_mode) != (os.getuid(), private):
            return False
    return os.access(folder, os.W_OK | os.X_OK)
