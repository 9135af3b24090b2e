"""A run that was interrupted and taken up again is the run that was not: every bit."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

import pgjax
from pgjax.cli.main import main
from pgjax.runs import checkpoints, disk, folders

_SEGMENTS = {"sampler.num_envs": 8, "sampler.length": 12, "num_updates": 5}
_EPISODES = {"sampler.num_trajectories": 16, "num_updates": 5}
_SMALL = {"network": pgjax.MLP((8,))}
_DECAY = pgjax.Schedule(optax.linear_schedule, init_value=1e-2, end_value=0.0, transition_steps=5)

_RECURRENT = {"network": pgjax.Recurrent(pgjax.MLP((8,)), 8)}

CASES = {
    "reinforce": pgjax.reinforce("Catch-bsuite", **_SMALL, **_EPISODES),
    "reinforce, SGD, value baseline": pgjax.reinforce(
        "Catch-bsuite",
        optimizer=pgjax.SGD(),
        estimator=pgjax.RewardToGo(baseline="value"),
        **_SMALL,
        **_EPISODES,
    ),
    "actor critic of actions": pgjax.actor_critic(
        "CartPole-v1", estimator=pgjax.ActionValue(all_actions=True), **_SMALL, **_SEGMENTS
    ),
    "ppo, normalised, clipped gradients, a schedule": pgjax.ppo(
        "Pendulum-v1",
        normalize_observations=True,
        **{"optimizer.learning_rate": _DECAY, "optimizer.max_gradient_norm": 0.5},
        **_SMALL,
        **_SEGMENTS,
    ),
    "ppo, SGD, time-aware, kl stop": pgjax.ppo(
        "CartPole-v1",
        optimizer=pgjax.SGD(),
        time_aware=True,
        **{"ascent.max_kl": 1e-3},
        **_SMALL,
        **_SEGMENTS,
    ),
    "natural gradient": pgjax.natural_policy_gradient("Acrobot-v1", **_SMALL, **_SEGMENTS),
    "ppo, recurrent, SGD, time-aware, kl stop": pgjax.ppo(
        "MemoryChain-bsuite",
        optimizer=pgjax.SGD(),
        time_aware=True,
        **{**_SEGMENTS, **_RECURRENT, "network.window": 4, "ascent.max_kl": 1e-3},
    ),
    "reinforce, recurrent, natural, value baseline": pgjax.reinforce(
        "MemoryChain-bsuite",
        estimator=pgjax.RewardToGo(baseline="value"),
        objective=pgjax.ImportanceRatio(),
        ascent=pgjax.TrustRegion(),
        **{**_EPISODES, **_RECURRENT, "sampler.horizon": 8},
    ),
}
_RESUME = "import sys, pgjax\nfor folder in sys.argv[1:]:\n    pgjax.resume(folder)\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of each case, a run without and one with an interruption, resumed in another process."""
    root = tmp_path_factory.mktemp("runs")
    # As on the command line, a program that was compiled once is not compiled again.
    cache = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in cache}
    for name, value in cache.items():
        jax.config.update(name, value)
    for number, config in enumerate(CASES.values()):
        pgjax.run(config, 3, root / f"{number}-whole")
        interrupted = pgjax.run(config, 3, root / f"{number}-parts", _interrupt_after(1))
        assert interrupted.interrupted == signal.SIGINT
        assert int(interrupted.state.num_updates) < 5
    parts = [str(root / f"{number}-parts") for number in range(len(CASES))]
    # Programs for one of eight devices are not those for the only one.
    cached = {"JAX_NUM_CPU_DEVICES": "8"} | {name.upper(): str(x) for name, x in cache.items()}
    command = [sys.executable, "-c", _RESUME, *parts]
    subprocess.run(command, check=True, env=os.environ | cached)
    for name, value in before.items():
        jax.config.update(name, value)
    return root


def _interrupt_after(updates):
    def on_block(progress):
        if progress.num_updates >= updates:
            os.kill(os.getpid(), signal.SIGINT)

    return on_block


def assert_same_run(a, b):
    """Parameters, optimizer, key, counters, statistics, streams, and all metrics but seconds."""
    states = [checkpoints.to_arrays(pgjax.load(path)[0]) for path in (a, b)]
    assert states[0].keys() == states[1].keys()
    for name in states[0]:
        np.testing.assert_array_equal(*(np.asarray(state[name]) for state in states), err_msg=name)
    metrics = [folders.read(path).metrics for path in (a, b)]
    assert metrics[0].keys() == metrics[1].keys()
    for name in metrics[0].keys() - {"seconds"}:
        np.testing.assert_array_equal(*(found[name] for found in metrics), err_msg=name)


@pytest.mark.parametrize("number", range(len(CASES)), ids=list(CASES))
def test_interrupted_and_resumed_is_bit_for_bit_uninterrupted(folder, number):
    assert_same_run(folder / f"{number}-whole", folder / f"{number}-parts")


def test_what_is_beyond_the_checkpoint_is_made_again(tmp_path):
    config = CASES["reinforce"]
    pgjax.run(config, 1, tmp_path / "whole")
    pgjax.run(config, 1, tmp_path / "parts", _interrupt_after(1), checkpoint_seconds=0.0)
    # As if it had been killed after metrics of two more updates, one line of them cut short.
    metrics, whole = tmp_path / "parts" / "metrics.csv", tmp_path / "whole" / "metrics.csv"
    made = metrics.read_text()
    later = whole.read_text().splitlines(keepends=True)[made.count("\n") :]
    metrics.write_text(made + "".join(later)[:-30])
    pgjax.resume(tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_longer_run_goes_on_where_the_shorter_one_ended(tmp_path):
    config = CASES["reinforce"]
    pgjax.run(config, 1, tmp_path / "parts", metrics_every=2)
    with pytest.raises(ValueError, match=r"has made its 5 updates; .* num_updates above 5"):
        pgjax.resume(tmp_path / "parts")
    result = pgjax.resume(tmp_path / "parts", num_updates=9)
    assert len(result.metrics.episode_return) == 4
    pgjax.run(config.replace(num_updates=9), 1, tmp_path / "whole", metrics_every=2)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    record = folders.read(tmp_path / "parts")
    np.testing.assert_array_equal(record.metrics["update"], [2, 4, 6, 8])
    assert record.config["num_updates"] == 9


def test_one_process_at_a_time_goes_on_with_a_run(tmp_path):
    config, refused = CASES["reinforce"], []

    def resume_too(progress):
        with pytest.raises(ValueError, match=f"in use by process {os.getpid()} on ") as error:
            pgjax.resume(tmp_path / "run")
        refused.append(str(error.value))

    pgjax.run(config, 0, tmp_path / "run", resume_too)
    pgjax.resume(tmp_path / "run", resume_too, num_updates=7)
    assert len(refused) >= 2
    assert not list((tmp_path / "run").glob(".*"))


def test_objects_of_the_users_own_are_given_again(tmp_path):
    config = CASES["reinforce"].replace(optimizer=lambda rate: optax.rmsprop(rate))
    pgjax.run(config, 0, tmp_path / "run", _interrupt_after(1))
    with pytest.raises(ValueError, match="pass config"):
        pgjax.resume(tmp_path / "run")
    assert int(pgjax.resume(tmp_path / "run", config=config).state.num_updates) == 5


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_command_goes_on(tmp_path, capsys, monkeypatch, number, code):
    def kill(progress):
        os.kill(os.getpid(), number)

    monkeypatch.setattr("pgjax.runs.progress_bar._plain_lines", lambda total: kill)
    flags = ["--num-updates", "60", "--sampler.num-trajectories", "8", "--directory"]
    run = str(tmp_path / "run")
    assert main(["train", "Catch-bsuite", *flags, run]) == code
    captured = capsys.readouterr()
    assert f"pgjax resume {run} goes on" in captured.err
    assert re_updates(captured.out) < 60
    monkeypatch.undo()
    assert main(["resume", run, "--eval-episodes", "4"]) == 0
    out = capsys.readouterr().out
    assert "Catch-bsuite, seed 0, from update" in out
    assert re_updates(out) == 60
    assert main(["resume", run]) == 2
    assert "num_updates above 60" in capsys.readouterr().err


def re_updates(text):
    line = next(line for line in text.splitlines() if line.startswith("  updates "))
    return int(line.split()[1])


@pytest.mark.parametrize("what", ["nowhere", "empty", "config", "checkpoint"])
def test_a_folder_that_cannot_be_resumed_is_named(tmp_path, what):
    path = tmp_path / "run"
    if what != "nowhere":
        path.mkdir()
    if what == "config":
        (path / "config.json").write_text("{")
    if what == "checkpoint":
        pgjax.run(CASES["reinforce"].replace(num_updates=1), 0, path / "whole")
        (path / "whole" / "config.json").rename(path / "config.json")
    message = {
        "nowhere": "does not exist",
        "empty": r"is no run folder \(no config.json\)",
        "config": "config.json cannot be read",
        "checkpoint": "holds no checkpoint",
    }
    with pytest.raises(ValueError, match=message[what]):
        pgjax.resume(path)


@pytest.mark.devices(2)
def test_resuming_on_two_devices_gives_the_same_but_for_the_order_of_sums(tmp_path):
    config = CASES["ppo, normalised, clipped gradients, a schedule"]
    whole = pgjax.run(config, 1)
    pgjax.run(config, 1, tmp_path / "run", _interrupt_after(1))
    parts = pgjax.resume(tmp_path / "run", mesh=pgjax.make_mesh(2))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        whole.state.params,
        parts.state.params,
    )


def history(path):
    return json.loads((path / "config.json").read_text())["history"]


def test_what_changes_with_a_resumption_is_written_down(tmp_path):
    run, config = tmp_path / "run", CASES["reinforce"]
    pgjax.run(config, 1, run, lambda now: False)
    slower = config.replace(**{"optimizer.learning_rate": 1e-4})
    pgjax.resume(run, lambda now: False, config=slower, num_updates=6, metrics_every=2)
    first = {
        "optimizer.learning_rate": [0.01, 1e-4],
        "num_updates": [5, 6],
        "metrics_every": [1, 2],
    }
    assert history(run) == [{"from_update": 1, "changed": first}]
    pgjax.resume(run, lambda now: False)
    assert len(history(run)) == 1
    assert pgjax.load(run)[1] == slower.replace(num_updates=6)
    record = folders.read(run)
    assert record.config["optimizer"]["learning_rate"] == 1e-4
    assert record.config == checkpoints.saved_config(run)
    flags = ["--optimizer.learning-rate", "0.5", "--stop-at-return", "3", "--num-updates", "8"]
    assert main(["resume", str(run), *flags, "--metrics-every", "1", "--eval-episodes", "2"]) == 0
    assert history(run)[1]["changed"] == {
        "optimizer.learning_rate": [1e-4, 0.5],
        "num_updates": [6, 8],
        "stop_at_return": [None, 3.0],
        "metrics_every": [2, 1],
    }
    assert int(pgjax.load(run)[0].num_updates) == 8


def test_a_resumption_killed_before_config_json_is_written_makes_it_good(tmp_path, monkeypatch):
    run, config = tmp_path / "run", CASES["reinforce"]
    pgjax.run(config, 1, run, lambda now: False)
    before = (run / "config.json").read_text()
    slower = config.replace(**{"optimizer.learning_rate": 1e-4})
    pgjax.resume(run, lambda now: False, config=slower)
    (run / "config.json").write_text(before)
    pgjax.resume(run, lambda now: False)
    assert history(run)[0]["changed"] == {"optimizer.learning_rate": [0.01, 1e-4]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env": "CartPole-v1"}, "env|params"),
        ({"env": "BernoulliBandit-misc"}, "env|params"),
        ({"network.activation": "relu"}, r"network.activation is 'relu', 'tanh' was saved"),
    ],
)
def test_what_may_not_change_is_refused_and_nothing_is_written(tmp_path, changes, message):
    run, config = tmp_path / "run", CASES["reinforce"]
    pgjax.run(config, 1, run, lambda now: False)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=message):
        pgjax.resume(run, config=config.replace(**changes))
    assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}


LATE = {
    "nothing to do": (["--num-updates", "2"], "has made its 2 updates"),
    "a rate below 0": (
        ["--optimizer.learning-rate", "-1"],
        "learning_rate must be a finite number",
    ),
    "another function": (["--network.activation", "relu"], "network.activation is 'relu', 'tanh'"),
    "another size": (
        ["--sampler.num-trajectories", "32"],
        "sampler.num_trajectories cannot change when a run goes on, from 16 to 32",
    ),
    "another baseline": (
        ["--estimator.baseline", "mean"],
        "estimator.baseline cannot change when a run goes on, from 'leave_one_out' to 'mean'",
    ),
    "no such word": (["--nan", "ignore"], "unknown nan 'ignore'"),
    "no time": (["--checkpoint-seconds", "-1"], "checkpoint_seconds must be at least 0"),
    "no target": (["--stop-at-return", "nan"], "stop_at_return must be"),
    "no episodes": (["--eval-episodes", "0"], "--eval-episodes must be at least 1"),
    "metrics": ([], "metrics.csv is not what its checkpoint vouches for"),
    "in use": ([], "is in use by process"),
}


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A run of two updates that has reached its target."""
    run = tmp_path_factory.mktemp("solved") / "run"
    pgjax.run(CASES["reinforce"], 1, run, lambda now: now.num_updates < 2, stop_at_return=-1.0)
    pgjax.resume(run, num_updates=2, stop_at_return=-0.9)
    return run


@pytest.mark.parametrize(("flags", "message"), LATE.values(), ids=LATE)
def test_what_cannot_be_resumed_is_one_line_before_any_other(
    solved, tmp_path, flags, message, capsys, request
):
    run = shutil.copytree(solved, tmp_path / "run")
    if "metrics" in request.node.callspec.id:
        (run / "metrics.csv").write_text("update\n")
    holding = disk.held(run) if "in use" in request.node.callspec.id else contextlib.nullcontext()
    with holding:
        code = main(["resume", str(run), "--num-updates", "9", *flags])
    printed = capsys.readouterr()
    assert (code, printed.out, len(printed.err.splitlines())) == (2, "", 1)
    assert message in printed.err


def test_a_target_that_a_run_was_begun_with_is_said(solved, tmp_path, capsys):
    told = "until a return of -0.9, as begun; --stop-at-return inf: to the last update"
    command = ["--num-updates", "4", "--eval-episodes", "2"]
    for flags, line in (([], told), (["--stop-at-return", "inf"], None)):
        run = shutil.copytree(solved, tmp_path / f"run{len(flags)}")
        assert main(["resume", str(run), *command, *flags]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "from update 2, on" in lines[0]
        assert (lines[1] == told) == (line is told)
        made = int(pgjax.load(run)[0].num_updates)
        assert made == (3 if line else 4)
