"""Folders that appear in one step, and that one process at a time writes in."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_UNFINISHED = ".pgjax-"
_LOCK, _MARK = ".lock", ".holder"
_REPLACEMENT = re.compile(r"\..+\.\d+")  # a file that was to replace another, see checkpoints.write


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yields a new folder to fill, which is renamed to `path` at the end, and removed after an
    error. Such folders that killed processes of this machine have left beside it are removed, too.

    Raises:
      FileExistsError: `path` exists, also if another process has made it in the meantime.
      OSError: it cannot be made or filled; the error names `path`, not the temporary folder.
    """
    name = f"{_UNFINISHED}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
    unfinished = path.with_name(name)
    try:
        unfinished.mkdir(parents=True)
        _remove_stale(path.parent)
        yield unfinished
        unfinished.rename(path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise FileExistsError(errno.EEXIST, "exists", str(path)) from error
        if error.errno:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise OSError(str(error).replace(str(unfinished), str(path))) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Keeps other processes that call `held` out of a folder; a process that dies releases it.

    Raises:
      ValueError: another process holds it; the message says which.
    """
    release = _flocked(path) if fcntl else _marked(path)
    try:
        for file in (*path.glob(".*"), *path.glob("*/.*")):
            if _REPLACEMENT.fullmatch(file.name) and file.is_file():  # of a killed process
                file.unlink(missing_ok=True)
        yield
    finally:
        release()


def _flocked(path: Path) -> Callable[[], None]:
    """Locks a file in the folder; returns the function that releases the lock."""
    assert fcntl is not None, "a system without fcntl"
    file = path / _LOCK
    while True:
        opened = open(file, "a+")  # noqa: SIM115
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            opened.close()
            raise ValueError(_in_use(path, file)) from None
        except OSError:  # a file system without locks
            opened.close()
            file.unlink(missing_ok=True)
            return _marked(path)
        if file.exists() and os.path.samestat(os.fstat(opened.fileno()), file.stat()):
            break
        opened.close()  # another process released and removed it in between
    with contextlib.suppress(OSError):  # a full disk
        opened.truncate(0)
        opened.write(_holder())
        opened.flush()

    def release():
        file.unlink(missing_ok=True)
        opened.close()

    return release


def _marked(path: Path) -> Callable[[], None]:
    """Makes a file that marks the folder as held; returns the function that removes it. A process
    that is killed leaves the file behind."""
    file = path / _MARK
    while True:
        try:
            with open(file, "x") as opened:
                opened.write(_holder())
            return lambda: file.unlink(missing_ok=True)
        except FileExistsError:
            pid, _, host = _read(file).partition(" ")
            if host != socket.gethostname() or _is_alive(pid):
                advice = f"; if that one is gone, remove {file}"
                raise ValueError(_in_use(path, file) + advice) from None
            file.unlink(missing_ok=True)


def _holder() -> str:
    return f"{os.getpid()} {socket.gethostname()}"


def _in_use(path: Path, file: Path) -> str:
    pid, _, host = _read(file).partition(" ")
    holder = f"process {pid} on {host}" if pid.isdigit() else "another process"
    return f"{path} is in use by {holder}, and one at a time writes there"


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # released in between
        return ""


def _is_alive(pid: str) -> bool:
    """Whether this machine has a process of this number; True where that cannot be told."""
    if not pid.isdigit() or os.name == "nt":
        return True
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _remove_stale(parent: Path) -> None:
    own = f"{_UNFINISHED}{socket.gethostname()}-"
    for folder in parent.iterdir():
        pid = folder.name.removeprefix(own).partition("-")[0]
        if folder.name.startswith(own) and not _is_alive(pid):
            shutil.rmtree(folder, ignore_errors=True)
