"""Whatever ends a process, and whenever: the folder loads, and the run goes on from it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import pgjax
from pgjax.runs import checkpoints, folders

CONFIG = pgjax.Config(env="Catch-bsuite", num_updates=5).replace(
    **{"network.hidden_sizes": (8,), "sampler.num_trajectories": 8}
)
KILLS = Path(__file__).resolve().parents[1] / "benchmarks" / "kills.py"


class Killed(BaseException):
    """Not an Exception: nothing cleans up after it."""


@pytest.fixture(scope="module")
def states():
    first = pgjax.init(jax.random.key(0), CONFIG)
    return first, pgjax.update(first, CONFIG)[0]


def steps_of_a_save(monkeypatch):
    """Counts the calls that change what is on disk; the list's head says at which to die."""
    made, die_at = [0], [None]

    def watched(function):
        def call(*args, **kwargs):
            for _ in ("before", "after"):
                made[0] += 1
                if made[0] == die_at[0]:
                    raise Killed
                if _ == "before":
                    result = function(*args, **kwargs)
            return result

        return call

    for owner, name in (
        (checkpoints, "_write_arrays"),
        (os, "replace"),
        (os, "rename"),
        (os, "unlink"),
        (shutil, "rmtree"),
        (Path, "mkdir"),
    ):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    return made, die_at


def test_a_save_that_dies_at_any_step_leaves_the_old_or_the_new_checkpoint(tmp_path, states):
    old, new = states
    deaths, seen, number = 0, set(), 0
    while number == 0 or deaths == number:
        number += 1
        path = tmp_path / str(number)
        pgjax.save(path, old, CONFIG)
        with pytest.MonkeyPatch.context() as patched:
            _, die_at = steps_of_a_save(patched)
            die_at[0] = number
            try:
                pgjax.save(path, new, CONFIG)
            except Killed:
                deaths += 1
        found, _ = pgjax.load(path)
        seen.add(int(found.num_updates))
        pgjax.save(path, new, CONFIG)
        assert int(pgjax.load(path)[0].num_updates) == 1
        assert sorted(p.name[:7] for p in path.iterdir()) == ["arrays-", "pgjax.j"]
    assert deaths >= 8
    assert seen == {0, 1}


def test_a_run_folder_appears_whole_or_not_at_all(tmp_path, states):
    deaths = 0
    for number in range(1, 40):
        path = tmp_path / str(number)
        facts = {"seed": 0, "stop_at_return": None, "metrics_every": 1}
        notes = {"env_steps": 0, "compile_seconds": 0.0, "run_seconds": 0.0}
        with pytest.MonkeyPatch.context() as patched:
            _, die_at = steps_of_a_save(patched)
            die_at[0] = number
            try:
                folders.create(path, CONFIG, facts, states[0], notes)
            except Killed:
                deaths += 1
        if path.exists():
            assert folders.read_facts(path)["seed"] == 0
            assert int(pgjax.load(path)[0].num_updates) == 0
    assert deaths >= 8


def test_processes_killed_at_random_lose_nothing_but_the_last_updates(tmp_path):
    command = [sys.executable, str(KILLS), "--quick", "--out", str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "6 of 6 kills survived" in found.stdout


def test_a_full_disk_is_said_and_the_checkpoint_before_is_intact(tmp_path, states, capfd):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        path = disk / "checkpoint"
        pgjax.save(path, states[0], CONFIG)
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "full").write_bytes(b"0" * free)
        with pytest.raises(OSError, match=r"[Nn]o space|cannot be written"):
            pgjax.save(path, states[1], CONFIG)
        assert int(pgjax.load(path)[0].num_updates) == 0
        for left in (0, 8, 32, 64):  # KiB
            os.truncate(disk / "full", free - 1024 * left)
            with pytest.raises(OSError, match=f"No space left on device: '{disk}/run'$"):
                pgjax.run(CONFIG, 0, disk / "run")
            assert sorted(p.name for p in disk.iterdir()) == ["checkpoint", "full"]
        assert capfd.readouterr().err == ""
        (disk / "full").unlink()
        pgjax.save(path, states[1], CONFIG)
        assert int(pgjax.load(path)[0].num_updates) == 1
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_fills_up_during_a_run_costs_the_updates_since_the_checkpoint(tmp_path):
    def fill(*args):
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(folders, "_append", fill)
        with pytest.raises(OSError, match="No space left"):
            pgjax.run(CONFIG, 0, tmp_path / "run")
    assert int(pgjax.load(tmp_path / "run")[0].num_updates) == 0
    whole = pgjax.run(CONFIG, 0)
    resumed = pgjax.resume(tmp_path / "run")
    np.testing.assert_array_equal(whole.metrics.episode_return, resumed.metrics.episode_return)


def test_a_place_where_nothing_can_be_written_is_said(tmp_path, states):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        pgjax.save(tmp_path / "file" / "checkpoint", states[0], CONFIG)
    with pytest.raises(OSError, match="Not a directory"):
        pgjax.run(CONFIG, 0, tmp_path / "file" / "run")


def test_a_run_folder_runs_no_code(tmp_path, states):
    """No file is ever unpickled: one that would run code when it is does nothing."""
    path, trap = tmp_path / "checkpoint", tmp_path / "ran"
    pgjax.save(path, states[0], CONFIG)
    bomb = f"cposix\nsystem\n(S'touch {trap}'\ntR.".encode()
    for folder in (path, *path.glob("arrays-*")):
        for name in ("state.pkl", "treedef", "a.npy", "sitecustomize.py"):
            (folder / name).write_bytes(bomb)
    with pytest.raises(ValueError, match=r"arrays-.*/a.npy does not belong there"):
        pgjax.load(path)
    for stray in ("state.pkl", "treedef", "a.npy", "sitecustomize.py"):
        next(path.glob("arrays-*")).joinpath(stray).unlink()
    pgjax.load(path)
    target = max((f for f in path.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    target.write_bytes(bomb)
    with pytest.raises(ValueError, match=r"damaged|cannot be read"):
        pgjax.load(path)
    assert not trap.exists()
