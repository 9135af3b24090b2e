"""One process at a time in a folder, and folders that appear whole."""

import errno
import os
import signal
import socket
import subprocess
import sys
import types

import pytest

from pgjax.runs import disk

HOLD = "import sys, time, pathlib; from pgjax.runs import disk\n"
HOLD += "with disk.held(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def refuse(descriptor, operation):
    raise OSError(errno.ENOLCK, "No locks available")


# What a system can say of locks: has them, has not, or has them but not on this disk.
SYSTEMS = {
    "flock": disk.fcntl,
    "without": None,
    "refused": types.SimpleNamespace(flock=refuse, LOCK_EX=0, LOCK_NB=0),
}


@pytest.fixture(params=SYSTEMS)
def system(request, monkeypatch):
    monkeypatch.setattr(disk, "fcntl", SYSTEMS[request.param])
    return request.param


def test_a_folder_is_held_by_one_process_which_is_named(tmp_path, system):
    who = f"{tmp_path} is in use by process {os.getpid()} on {socket.gethostname()}"
    for _ in range(2):
        with disk.held(tmp_path):
            with pytest.raises(ValueError, match=who), disk.held(tmp_path):
                pass
            with pytest.raises(ValueError, match=who), disk.held(tmp_path):
                pass
        assert not list(tmp_path.iterdir())


def test_a_killed_process_lets_go(tmp_path, system):
    if system == "flock":
        command = [sys.executable, "-c", HOLD, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"process {process.pid} on"), disk.held(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
    else:
        (tmp_path / ".holder").write_text(f"{dead()} {socket.gethostname()}")
    with disk.held(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_mark_of_another_machine_is_believed_and_its_file_named(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "fcntl", None)
    (tmp_path / ".holder").write_text(f"{dead()} elsewhere")
    message = rf"process {dead()} on elsewhere.*remove {tmp_path}/.holder"
    with pytest.raises(ValueError, match=message), disk.held(tmp_path):
        pass


def test_half_written_files_of_killed_processes_go(tmp_path):
    (tmp_path / "inside").mkdir()
    for name in (".config.json.123", "inside/.0.npz.9", "metrics.csv", ".mine"):
        (tmp_path / name).write_text("")
    with disk.held(tmp_path):
        pass
    assert {p.name for p in tmp_path.rglob("*")} == {"inside", "metrics.csv", ".mine"}


def test_a_folder_appears_whole_and_what_the_dead_have_left_goes(tmp_path):
    host = socket.gethostname()
    left, alive = f".pgjax-{host}-{dead()}-ab12", f".pgjax-{host}-{os.getpid()}-ab12"
    for name in (left, alive, f".pgjax-elsewhere-{dead()}-ab12"):
        (tmp_path / name).mkdir()
    with disk.appearing(tmp_path / "run") as folder:
        (folder / "file").write_text("whole")
        assert not (tmp_path / "run").exists()
    assert (tmp_path / "run" / "file").read_text() == "whole"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"run", alive, f".pgjax-elsewhere-{dead()}-ab12"}


def fill(path, write):
    with disk.appearing(path) as folder:
        write(folder)


def test_a_folder_that_another_process_has_made_first_is_not_replaced(tmp_path):
    def write(folder):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "theirs").write_text("")
        (folder / "mine").write_text("")

    with pytest.raises(FileExistsError, match="run"):
        fill(tmp_path / "run", write)
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "theirs"]


def test_errors_name_what_was_asked_for(tmp_path):
    with pytest.raises(OSError, match=r"No such file.*run'$"):
        fill(tmp_path / "run", lambda folder: (folder / "a" / "b").write_text(""))
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "run"
    with pytest.raises(OSError, match=f"Not a directory: '{path}'"):
        fill(path, lambda folder: None)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def dead():
    """The number of a process that there is not."""
    return 2**22 + 1  # beyond Linux's largest
