"""A sweep is saved as it goes: whatever ends it, it goes on to the same bits."""

import itertools
import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

import pgjax
from pgjax.cli.main import main
from pgjax.core import keys
from pgjax.environments import ids, interface
from pgjax.runs import (
    blocks,
    checkpoints,
    config_json,
    folders,
    signals,
    sweep_folders,
    sweeps,
)

CONFIG = pgjax.Config("Catch-bsuite", num_updates=4).replace(
    **{"sampler.num_trajectories": 8, "network.hidden_sizes": (8,)}
)
# Two programs; the first, with room for four runs at once, in two blocks.
GRID = {"estimator.baseline": ["none", "mean"], "optimizer.learning_rate": [1e-2, 1e-1]}
KEY, SEEDS = jax.random.key(5), 3
ROOM = 4 * pgjax.memory_estimate(CONFIG).total


class Killed(BaseException):
    """Not an Exception: nothing cleans up after it."""


def swept(directory=None, **options):
    options = {"memory_limit": ROOM, "checkpoint_seconds": 0.0, **options}
    return pgjax.sweep(KEY, CONFIG, GRID, SEEDS, directory=directory, **options)


@pytest.fixture(scope="module")
def whole():
    return swept()


def assert_same(found, expected):
    for a, b in ((found.metrics, expected.metrics), (found.state, expected.state)):
        jax.tree.map(np.testing.assert_array_equal, keys.unwrap_keys(a), keys.unwrap_keys(b))


def dying(monkeypatch, number, death):
    """Parts are written after every update, and after this many `death` is called."""
    calls, write = itertools.count(1), sweep_folders.write_part

    def written(*arguments):
        write(*arguments)
        if next(calls) == number:
            death()

    monkeypatch.setattr(sweep_folders, "write_part", written)
    monkeypatch.setattr(blocks, "block_size", lambda remaining, done, seconds: 1)


def die():
    raise Killed


@pytest.mark.slow
def test_a_sweep_that_dies_after_any_saving_goes_on_to_the_same_bits(tmp_path, whole):
    for number in itertools.count(1, 3):
        path = tmp_path / str(number)
        with pytest.MonkeyPatch.context() as patched:
            dying(patched, number, die)
            try:
                swept(path)
                break
            except Killed:
                pass
        # By the same call, or from the folder alone.
        assert_same(swept(path) if number % 2 else sweeps.resume_sweep(path), whole)
    assert number > 20  # each of four blocks is saved before its first update and after each


_KILLED = """
import itertools, os, signal, sys, jax
jax.config.update("jax_num_cpu_devices", 8)
sys.path.insert(0, sys.argv[1])
from pgjax.runs import sweep_folders
import test_sweep_folders as tests
calls, write = itertools.count(1), sweep_folders.write_part
def written(*arguments):
    if next(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*arguments)
sweep_folders.write_part = written
tests.swept(sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_process_sweep_is_taken_up_again(tmp_path, whole):
    here = os.path.dirname(__file__)
    command = [sys.executable, "-c", _KILLED, here, str(tmp_path / "sweep")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    saved = folders.read_all(tmp_path / "sweep")
    assert 0 < len(saved) < 12
    assert main(["resume", str(tmp_path / "sweep"), "--devices", "1"]) == 0
    assert_same(swept(tmp_path / "sweep"), whole)
    assert not list((tmp_path / "sweep").glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_a_sweep(tmp_path, whole, number):
    with pytest.MonkeyPatch.context() as patched:
        dying(patched, 3, lambda: os.kill(os.getpid(), number))
        with pytest.raises(signals.Interrupted, match=f"pgjax resume {tmp_path}/sweep") as e:
            swept(tmp_path / "sweep", checkpoint_seconds=60.0)
    assert e.value.signal == number
    assert_same(sweeps.resume_sweep(tmp_path / "sweep"), whole)


def test_a_sweeps_folder_keeps_every_runs_metrics(tmp_path, whole):
    swept(tmp_path / "sweep")
    records = folders.read_all(tmp_path / "sweep")
    assert len(records) == 12
    for record, index in zip(records, np.ndindex(*whole.shape), strict=True):
        member = whole.at(*index)
        assert record.config == config_json.to_dict(member.config)
        assert record.seed == member.seed
        np.testing.assert_array_equal(record.metrics["update"], [1, 2, 3, 4])
        for name in ("episode_return", "env_steps", "entropy"):
            np.testing.assert_array_equal(record.metrics[name], getattr(member.metrics, name))
        assert (np.diff(record.metrics["seconds"]) > 0).all()
    best = pgjax.load(tmp_path / "sweep")[0]
    jax.tree.map(np.testing.assert_array_equal, best.params, whole.best().state.params)


@pytest.mark.slow
def test_settings_that_report_different_metrics_are_one_sweep(tmp_path):
    """NaN in what a setting does not report; with a folder, a death in between, and a picture."""
    config = pgjax.Config("Catch-bsuite", network=pgjax.MLP((4,)), num_updates=2)
    config = config.replace(sampler=pgjax.Episodes(4))
    grid = {
        "ascent": [pgjax.GradientStep(), pgjax.Passes(1, 1)],
        "estimator": [pgjax.RewardToGo(), pgjax.GAE()],
    }
    with pytest.MonkeyPatch.context() as patched:
        dying(patched, 6, die)
        with pytest.raises(Killed):
            pgjax.sweep(KEY, config, grid, 2, directory=tmp_path / "s", checkpoint_seconds=0.0)
    found = sweeps.resume_sweep(tmp_path / "s")
    reported = {"kl": [[False, False], [True, True]], "value_loss": [[False, True]] * 2}
    for name, there in reported.items():
        values = found.metrics.extra[name]
        assert values.shape == (2, 2, 2, 2)
        np.testing.assert_array_equal(np.isfinite(values).all((2, 3)), there)
        np.testing.assert_array_equal(np.isnan(values).all((2, 3)), ~np.array(there))
    member = found.at(1, 1, 0)
    _, alone = pgjax.train(jax.random.split(KEY, 2)[0], member.config)
    np.testing.assert_allclose(
        member.metrics.extra["value_loss"], alone.extra["value_loss"], rtol=1e-3
    )
    assert np.isnan(found.at(0, 0, 0).metrics.extra["kl"]).all()
    own = [set(record.metrics) & set(reported) for record in folders.read_all(tmp_path / "s")]
    assert own == [set()] * 2 + [{"value_loss"}] * 2 + [{"kl"}] * 2 + [{"kl", "value_loss"}] * 2
    assert main(["plot", str(tmp_path / "s"), "--output", str(tmp_path / "curves.png")]) == 0


def test_runs_that_were_solved_stay_so_when_others_go_on(tmp_path):
    config = CONFIG.replace(num_updates=30)
    grid, options = {"optimizer.learning_rate": [1e-2]}, {"stop_at_return": -0.3}
    expected = pgjax.sweep(KEY, config, grid, 4, **options)
    made = np.asarray(expected.state.num_updates)
    assert len(set(made.ravel().tolist())) > 1
    with pytest.MonkeyPatch.context() as patched:
        dying(patched, int(made.min()) + 3, die)
        options |= {"directory": tmp_path / "sweep", "checkpoint_seconds": 0.0}
        with pytest.raises(Killed):
            pgjax.sweep(KEY, config, grid, 4, **options)
    assert_same(sweeps.resume_sweep(tmp_path / "sweep"), expected)
    lengths = [len(r.metrics["update"]) for r in folders.read_all(tmp_path / "sweep")]
    assert lengths == made.ravel().tolist()


@pytest.mark.slow
@pytest.mark.devices(2)
def test_on_two_devices(tmp_path):
    grid, mesh = {"optimizer.learning_rate": [1e-2, 1e-1]}, pgjax.make_mesh(2)
    expected = pgjax.sweep(KEY, CONFIG, grid, 2, mesh)
    with pytest.MonkeyPatch.context() as patched:
        dying(patched, 2, die)
        options = {"directory": tmp_path / "sweep", "checkpoint_seconds": 0.0}
        with pytest.raises(Killed):
            pgjax.sweep(KEY, CONFIG, grid, 2, mesh, **options)
    assert sweeps.devices(tmp_path / "sweep") == 2
    with pytest.raises(ValueError, match="multiple of the 3 devices, got 4"):
        sweeps.resume_sweep(tmp_path / "sweep", pgjax.make_mesh(3))
    assert_same(sweeps.resume_sweep(tmp_path / "sweep", mesh), expected)


def test_another_sweeps_folder_is_left_alone(tmp_path):
    with pytest.MonkeyPatch.context() as patched:
        dying(patched, 1, die)
        with pytest.raises(Killed):
            swept(tmp_path / "sweep")
    for changed in (
        {"config": CONFIG.replace(num_updates=5)},
        {"grid": {**GRID, "optimizer.learning_rate": [1e-2]}},
        {"num_seeds": 4},
        {"key": jax.random.key(6)},
        {"stop_at_return": 1.0},
    ):
        given = {"key": KEY, "config": CONFIG, "grid": GRID, "num_seeds": SEEDS, **changed}
        with pytest.raises(ValueError, match=r"folder of another sweep: its .* differs"):
            pgjax.sweep(**given, directory=tmp_path / "sweep")
    with pytest.raises(ValueError, match=r"is a sweep's folder; pgjax.resume_sweep"):
        pgjax.resume(tmp_path / "sweep")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"is no sweep's folder \(no sweep.json\)"):
        swept(tmp_path / "empty")
    with pytest.raises(ValueError, match="checkpoint_seconds must be at least 0"):
        swept(tmp_path / "new", checkpoint_seconds=-1.0)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damage_is_named(tmp_path, damage):
    with pytest.MonkeyPatch.context() as patched:
        dying(patched, 1, die)
        with pytest.raises(Killed):
            swept(tmp_path / "sweep")
    begun = []

    def resumed(path):
        sweeps.resume_sweep(path, on_start=begun.append)

    for file in (tmp_path / "sweep/parts/0000-0000.npz", tmp_path / "sweep/sweep.json"):
        whole = file.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        file.write_bytes({"cut": whole[:middle], "flipped": flipped, "empty": b""}[damage])
        for read in (resumed, folders.read_all):
            with pytest.raises(ValueError, match=str(file)) as error:
                read(tmp_path / "sweep")
            assert len(str(error.value).splitlines()) == 1
        file.write_bytes(whole)
    assert not begun


def test_objects_of_the_users_own_are_given_again(tmp_path):
    def optimizer(learning_rate):
        return optax.sgd(learning_rate)

    config = CONFIG.replace(optimizer=optimizer)
    grid, path = {"estimator.discount": [0.9, 1.0]}, tmp_path / "sweep"
    expected = pgjax.sweep(KEY, config, grid, 2)
    with pytest.MonkeyPatch.context() as patched:
        dying(patched, 2, die)
        with pytest.raises(Killed):
            pgjax.sweep(KEY, config, grid, 2, directory=path, checkpoint_seconds=0.0)
    with pytest.raises(ValueError, match="only their author has"):
        sweeps.resume_sweep(path)
    assert_same(pgjax.sweep(KEY, config, grid, 2, directory=path), expected)


def test_the_command_line_goes_on_with_a_sweep(tmp_path, capsys):
    path = str(tmp_path / "sweep")
    command = ["sweep", "Catch-bsuite", "--grid", "optimizer.learning_rate=1e-2,1e-1"]
    command += ["--num-seeds", "2", "--num-updates", "3", "--sampler.num-trajectories", "8"]
    command += ["--network.hidden-sizes", "8", "--directory", path, "--devices", "1"]
    with pytest.MonkeyPatch.context() as patched:
        dying(patched, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert main([*command, "--checkpoint-seconds", "0"]) == 130
    assert f"saved what was done; pgjax resume {path} goes on" in capsys.readouterr().err
    assert main(["resume", path, "--num-updates", "5"]) == 2
    assert "--num-updates cannot change a sweep" in capsys.readouterr().err
    assert main(["resume", path]) == 0
    first = capsys.readouterr()
    assert first.err == ""
    files = {file.name for file in (tmp_path / "sweep").iterdir()}
    assert files == {
        "sweep.json",
        "parts",
        "checkpoint",
        "summary.csv",
        "returns.csv",
        "heat_map.png",
    }
    assert main(command) == 0  # it is done, and read
    again = capsys.readouterr().out
    assert again.splitlines()[1:4] == first.out.splitlines()[1:4]
    assert main([*command, "--seed", "1"]) == 2
    assert "folder of another sweep: its key differs" in capsys.readouterr().err


NAME = "environments_for_tests:Counter"


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False], ids=["by name", "as an object"])
def test_a_sweep_of_ones_own_environment_is_resumed_by_its_name(
    tmp_path, capsys, monkeypatch, named
):
    path, grid = tmp_path / "sweep", {"optimizer.learning_rate": [1e-2, 1e-1]}
    monkeypatch.setattr(ids, "IMPORTED", {})
    interface.import_environment(NAME)
    env = NAME if named else interface.make(NAME)
    config = CONFIG.replace(env=env, num_updates=2)
    with monkeypatch.context() as patched:
        dying(patched, 2, die)
        with pytest.raises(Killed):
            pgjax.sweep(KEY, config, grid, 2, directory=path, checkpoint_seconds=0.0)
    monkeypatch.setattr(ids, "IMPORTED", {})
    assert main(["resume", str(path)]) == 2
    assert (f"--env {NAME}" if named else "(--env) for an environ") in capsys.readouterr().err
    assert main(["resume", str(path), "--env", "environments_for_tests:Endless"]) == 2
    assert ("not of" if named else "makes a Endless") in capsys.readouterr().err
    if not named:  # saved by a script, whose module has another name
        file = path / "sweep.json"
        facts = sweep_folders.read_facts(path) | {"stop_at_return": None}
        text = json.dumps(facts).replace("environments_for_tests.Counter", "__main__.Counter")
        file.write_text(json.dumps(checkpoints.sealed(json.loads(text))))
    found = sweeps.resume_sweep(path, env=NAME)
    assert_same(found, pgjax.sweep(KEY, config, grid, 2))
    assert main(["resume", str(path), "--env", NAME]) == 0


def test_commands_that_read_a_sweep_that_is_not_done_say_how_to_end_it(
    tmp_path, capsys, monkeypatch
):
    path, picture = tmp_path / "sweep", str(tmp_path / "a.png")
    with monkeypatch.context() as patched:
        dying(patched, 1, die)
        with pytest.raises(Killed):
            swept(path)
    told = f"{path} is a sweep that is not done; `pgjax resume {path}` ends it"
    for command in (["evaluate"], ["render"], ["plot", "--output", picture]):
        assert main([command[0], str(path), *command[1:]]) == 2
        printed = capsys.readouterr()
        assert (printed.out, printed.err.startswith(f"pgjax: {told}")) == ("", True)
    with monkeypatch.context() as patched:
        dying(patched, 2, die)
        with pytest.raises(Killed):
            swept(path)
    assert main(["plot", str(path), "--output", picture]) == 0
    assert capsys.readouterr().out.splitlines()[0] == told
