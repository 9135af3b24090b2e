import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import types

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgjax
from pgjax.cli import (
    diagnosis,
    flag_names,
    flags,
    parsers,
    printing,
    run_options,
    startup,
)
from pgjax.cli.main import main
from pgjax.environments import ids, interface
from pgjax.environments.suites import table
from pgjax.pictures import curves
from pgjax.runs import host_loop, progress_bar, sweep_labels
from pgjax.training import presets

SMALL = ["--num-updates", "3", "--sampler.num-trajectories", "8", "--network.hidden-sizes", "8"]


def run(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_train_then_evaluate(tmp_path, capsys):
    folder = str(tmp_path / "run")
    flags = ["--directory", folder, "--seed", "1", "--optimizer.learning-rate", "3e-3"]
    code, out, err = run(capsys, "train", "Catch-bsuite", *SMALL, *flags)
    assert (code, err) == (0, "")
    assert f"Catch-bsuite, seed 1, on {diagnosis.device_line(1)}" in out
    assert re.search(r"return, stochastic +-?\d+\.\d+ +\(95 % interval", out)
    assert re.search(r"running time .* steps/s\)", out)
    assert "\x1b" not in out
    assert max(map(len, out.replace(folder, "").splitlines())) <= 80
    code, again, _ = run(capsys, "evaluate", folder, "--seed", "1")
    assert code == 0
    for line in out.splitlines():
        if "return, " in line:
            assert line in again
    flags = ["--seed", "1", "--json", "--episodes-csv", str(tmp_path / "episodes.csv")]
    code, text, _ = run(capsys, "evaluate", folder, "--deterministic", *flags)
    (line,) = text.splitlines()
    result = json.loads(line)
    assert (code, result["updates"], "stochastic" in result) == (0, 3, False)
    deterministic = result["deterministic"]
    assert f"return, deterministic  {deterministic['return']:.2f}  (95 %" in out
    with open(tmp_path / "episodes.csv") as file:
        episodes = list(csv.DictReader(file))
    assert {row["actions"] for row in episodes} == {"deterministic"}
    assert len(episodes) == deterministic["episodes"] == 128
    mean = sum(float(row["return"]) for row in episodes) / 128
    assert mean == pytest.approx(deterministic["return"], abs=1e-6)


def test_runs_are_plotted_rendered_and_resumed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in ("0", "1"):
        flags = ["--name", f"a{seed}", "--seed", seed, "--metrics-every", "2", "--tensorboard"]
        assert run(capsys, "train", "Catch-bsuite", *SMALL, *flags)[0] == 0
    folders = ["runs/a0", "runs/a1"]
    assert len(list((tmp_path / "runs/a0/tensorboard").iterdir())) == 1
    code, out, err = run(capsys, "plot", *folders, "--x", "update", "--output", "p.svg")
    assert (code, err) == (0, "")
    assert re.search(r"runs +2 seeds, at the end -?[\d.]+ \(95 %: ", out)
    assert max(map(len, out.splitlines())) <= 80
    assert (tmp_path / "p.svg").read_text().startswith("<?xml")
    code, out, err = run(capsys, "render", folders[0], "--episodes", "2", "--deterministic")
    assert (code, err) == (0, "")
    assert re.search(r"returns shown +-?1, -?1\n", out)
    assert (tmp_path / "runs/a0/episodes.gif").read_bytes()[:6] == b"GIF89a"
    code, out, err = run(capsys, "resume", folders[0], "--num-updates", "5", "--tensorboard")
    assert (code, err) == (0, "")
    assert len(list((tmp_path / "runs/a0/tensorboard").iterdir())) >= 1
    assert "updates                5 of 5" in out
    assert max(map(len, out.splitlines())) <= 80


def test_tensorboard_events_hold_the_metrics(tmp_path, capsys):
    from tensorboardX.proto.event_pb2 import Event

    folder = tmp_path / "run"
    assert run(capsys, "train", "Catch-bsuite", *SMALL, "--tensorboard", "--directory", str(folder))
    (file,) = (folder / "tensorboard").iterdir()
    data, found = file.read_bytes(), {}
    while data:  # each: its length, a checksum, itself, a checksum
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        data = data[12 + length + 4 :]
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    with open(folder / "metrics.csv") as opened:
        rows = list(csv.DictReader(opened))
    expected = [(int(row["env_steps"]), float(row["episode_return"])) for row in rows]
    assert found["episode_return"] == expected
    assert {"entropy", "gradient_norm", "finite"} <= found.keys()


def test_a_missing_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    flags = ["--tensorboard", "--directory", str(tmp_path / "run")]
    code, _, err = run(capsys, "train", "Catch-bsuite", *SMALL, *flags)
    assert code == 2
    assert "pip install 'pgjax-rl[tensorboard]'" in err


@pytest.mark.devices(2)
def test_a_sweep_leaves_its_tables_a_heat_map_and_the_best_policy(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid = ["--grid", "optimizer.learning-rate=1e-2,1e-1", "estimator.baseline=none,mean"]
    flags = ["--num-seeds", "2", "--name", "s", "--devices", "2"]
    code, out, err = run(capsys, "sweep", "Catch-bsuite", *SMALL, *grid, *flags)
    assert (code, err) == (0, "")
    assert re.search(r"learning rate +baseline +mean +IQM +low +high +worst seed", out)
    assert "2 programs" in out
    assert max(map(len, out.splitlines())) <= 80
    names = ["checkpoint", "heat_map.png", "parts", "returns.csv", "summary.csv", "sweep.json"]
    assert sorted(p.name for p in (tmp_path / "sweeps/s").iterdir()) == names
    with open("sweeps/s/summary.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    means = [float(row["mean"]) for row in rows]
    assert means == sorted(means, reverse=True)
    with open("sweeps/s/returns.csv") as file:
        assert len(list(csv.DictReader(file))) == 8
    assert run(capsys, "evaluate", "sweeps/s", "--eval-episodes", "4")[0] == 0


def test_values_of_one_class_are_told_apart_in_a_sweeps_table():
    def rate(value):
        return pgjax.Schedule(
            optax.linear_schedule, init_value=value, end_value=0.0, transition_steps=6
        )

    grid = {
        "optimizer.learning_rate": [rate(0.1), rate(0.2), np.float32(0.3), jnp.array(0.1)],
        "network": [pgjax.MLP((8,)), pgjax.MLP((16,)), pgjax.CNN()],
        "network.hidden_sizes": [(8, 8), (16,)],
        "optimizer": [optax.sgd, optax.rmsprop],
        "estimator.discount": [0.9, 0.9],
    }
    labels = sweep_labels.value_labels(pgjax.Config(env="Catch-bsuite"), grid)
    assert list(labels.values()) == [
        ["init value 0.1", "init value 0.2", "0.3", "0.1"],
        ["hidden sizes [8]", "hidden sizes [16]", "CNN"],
        ["8 8", "16"],
        ["optax.sgd", "optax.rmsprop"],
        ["0.9", "0.9"],
    ]


def test_rows_of_results_are_a_line_each(capsys):
    rows = {"return, stochastic": "-499.92  (95 %)", "return, deterministic": "1.00", "x" * 30: "2"}
    printing.print_rows(rows)
    assert capsys.readouterr().out.splitlines() == [
        "  return, stochastic     -499.92  (95 %)",
        "  return, deterministic  1.00",
        "  " + "x" * 30,
        " " * 25 + "2",
    ]


OWN = """
import pathlib
from pgjax.environments import interface
interface.ids()
import gymnax.environments.bsuite.catch as catch
class Mine(catch.Catch):
    pass
def make():
    pathlib.Path("imported").touch()
    return Mine()
"""


def test_a_custom_environment_is_imported_only_when_it_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(ids, "IMPORTED", {})
    (tmp_path / "own_module.py").write_text(OWN)
    assert run(capsys, "train", "own_module:make", *SMALL, "--name", "a")[::2] == (0, "")
    monkeypatch.setattr(ids, "IMPORTED", {})
    (tmp_path / "imported").unlink()
    few = ["--eval-episodes", "2"]
    for command in (["evaluate", *few], ["render"], ["resume", "--num-updates", "4", *few]):
        name, *options = command
        code, _, err = run(capsys, name, "runs/a", *options)
        assert (code, len(err.splitlines())) == (2, 1)
        assert "--env own_module:make" in err
        assert not (tmp_path / "imported").exists()
    for wrong in ("own_module:nothing", "no_module:make"):
        assert run(capsys, "evaluate", "runs/a", "--env", wrong)[0] == 2
    named = ["--env", "own_module:make"]
    assert run(capsys, "evaluate", "runs/a", *named, *few)[::2] == (0, "")
    assert run(capsys, "resume", "runs/a", "--num-updates", "4", *named, *few)[0] == 0
    # One that Python trained as an object.
    config = pgjax.load("runs/a")[1].replace(env=interface.make("own_module:make"))
    pgjax.run(config, 0, "runs/b")
    assert "(--env) for an environment" in run(capsys, "evaluate", "runs/b", *few)[2]
    assert run(capsys, "evaluate", "runs/b", *named, *few)[::2] == (0, "")
    assert run(capsys, "resume", "runs/b", "--num-updates", "5", *named, *few)[::2] == (0, "")


def test_completion_knows_commands_flags_and_environments(capsys):
    code, out, _ = run(capsys, "completion", "bash")
    assert code == 0
    for word in ("resume", "--optimizer.learning-rate", "MountainCarContinuous-v0", "--grid"):
        assert word in out


def test_envs_lists_every_environment(capsys):
    code, out, _ = run(capsys, "envs")
    assert code == 0
    assert "CartPole-v1" in out
    assert re.search(r"Pendulum-v1 +Box\(3\) float32 +Box\(1\) +200 +TanhNormal", out)
    assert re.search(r"FrozenLake-misc +Discrete\(16\) +Discrete\(4\) +100 +Categorical", out)
    assert re.search(r"MNISTBandit-bsuite +(cannot be made here|Box)", out)
    assert len(out.splitlines()) == 29 + len(table.SUITES)
    assert max(map(len, out.splitlines())) <= 80


def test_doctor_reports_versions_devices_and_speed(capsys, monkeypatch):
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert "gymnax 1." in out
    assert re.search(r"devices: \d+ ", out)
    assert re.search(r"[\d,]+ steps/s", out)
    assert max(map(len, out.splitlines())) <= 80


def test_a_grid_takes_components_numbers_flags_tuples_and_parameters():
    config = pgjax.ppo("PointRobot-misc")
    texts = [
        "estimator=gae,action-value",
        "estimator.standardize=true,False",
        "network.hidden_sizes=32,64 64",
        "sampler.num-envs=8",
        "env_params.dense_reward=true",
        "env_params.max_force=0.5,1",
    ]
    assert flags.grid(texts, config) == {
        "estimator": [pgjax.GAE(), pgjax.ActionValue()],
        "estimator.standardize": [True, False],
        "network.hidden_sizes": [(32,), (64, 64)],
        "sampler.num_envs": [8],
        "env_params.dense_reward": [True],
        "env_params.max_force": [0.5, 1.0],
    }
    with pytest.raises(ValueError, match=r"env_params\.dense_reward must be a bool, got 'yes'"):
        flags.grid(["env_params.dense_reward=yes"], config)
    with pytest.raises(ValueError, match=r"estimator\.standardize cannot be 'yes'"):
        flags.grid(["estimator.standardize=yes"], config)


def test_help_tells_the_flags(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    for flag in ("--sampler.num-trajectories", "--estimator NAME", "--env-params.NAME"):
        assert flag in out
    assert main(["--help"]) == 0
    assert "doctor" in capsys.readouterr().out


def test_components_and_env_params_are_chosen_by_flags(tmp_path, capsys):
    flags = ["--estimator", "total-return", "--estimator.baseline", "mean", "--optimizer", "SGD"]
    flags += ["--env-params.gravity", "12", "--optimizer.max-gradient-norm", "none"]
    flags += ["--estimator.standardize", "--sampler.horizon", "20"]
    folder = str(tmp_path / "run")
    code, _, err = run(capsys, "train", *flags, "CartPole-v1", *SMALL, "--directory", folder)
    assert (code, err) == (0, "")
    import pgjax

    _, config = pgjax.load(folder)
    assert config.estimator == pgjax.TotalReturn(baseline="mean", standardize=True)
    assert config.optimizer == pgjax.SGD()
    assert config.env_params.gravity == 12.0
    assert config.sampler.horizon == 20


def test_every_options_help_says_what_it_is_and_flags_are_known_without_jax():
    parser = startup.parser_for("train")
    flags.add_flags(parser)
    known = {flag: action for action in parser._actions for flag in action.option_strings}
    for flag, action in known.items():
        words = action.help.partition("(default")[0].split()
        assert len(words) >= 2, f"{flag}: {action.help}"
    assert set(flag_names.config_flags()) == known.keys() - {"-h", "--help", "--env-params.NAME"}


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["trian"], "did you mean 'train'"),
        (["train", "CartPole-v1", "--lr", "1"], "did you mean '--optimizer.learning-rate'"),
        (["sweep", "CartPole-v1", "--num-seed", "1"], "did you mean '--num-seeds'"),
        (["evaluate", "runs/a", "--sede", "1"], "did you mean '--seed'"),
        (["train", "CartPole-v1", "--grid", "a=1,2"], "'--grid', which `pgjax sweep` has"),
    ],
)
def test_a_wrong_command_or_flag_is_answered_before_jax_is_imported(arguments, answer):
    script = "import sys; from pgjax.cli.main import main; code = main(sys.argv[1:]); "
    script += "sys.exit(code if not {'jax', 'numpy'} & sys.modules.keys() else 'imported')"
    command = [sys.executable, "-c", script, *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert answer in result.stderr


def test_version_and_help_are_commands_too(capsys):
    for arguments in (["--version"], ["version"]):
        assert run(capsys, *arguments) == (0, f"pgjax {pgjax.__version__}\n", "")
    assert "doctor" in run(capsys, "help")[1]
    with pytest.raises(SystemExit):
        main(["help", "plot"])
    out = capsys.readouterr().out
    assert all(axis in out for axis in curves.AXES)


def configured(*arguments):
    return flags.read(list(arguments), parsers.train())[1]()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("PPO", "ppo"), ("a2c", "actor_critic"), ("TRPO", "natural_policy_gradient")],
)
def test_algorithms_have_their_usual_names(name, expected):
    config = configured("CartPole-v1", "--algorithm", name)
    assert config == presets.ALGORITHMS[expected]("CartPole-v1")


def test_whole_numbers_may_have_an_exponent_and_steps_may_be_asked_for():
    assert configured("CartPole-v1", "--num-updates", "1e3").num_updates == 1000
    steps = ["CartPole-v1", "--algorithm", "ppo", "--total-steps", "1e5"]
    assert configured(*steps, "--sampler.num-envs", "10").num_updates == math.ceil(1e5 / 640)
    with pytest.raises(ValueError, match="give num_updates"):
        configured("CartPole-v1", "--total-steps", "1000")
    with pytest.raises(ValueError, match="give it or --num-updates"):
        configured(*steps, "--num-updates", "3")


@pytest.mark.parametrize(
    ("command", "flag", "answer"),
    [
        ("train", "--seeds", "; write --seed N, one number; `pgjax sweep` has --num-seeds N$"),
        ("evaluate", "--seeds", "; write --seed N, one number; `pgjax sweep` has --num-seeds N$"),
        ("train", "--num-seeds", "; write --seed N, one .* `pgjax sweep` has --num-seeds N$"),
        ("sweep", "--seeds", "; write --num-seeds N, how many, and --seed S to draw them from$"),
        ("resume", "--grid", ", which `pgjax sweep` has; "),
        ("sweep", "--metrics-every", ", which `pgjax train` has; "),
        ("train", "--env", "; write the environment without it: pgjax train CartPole-v1$"),
        ("sweep", "--env-id", "; write the environment without it: pgjax sweep CartPole-v1$"),
    ],
)
def test_a_flag_of_another_command_or_library_is_told_what_to_write(command, flag, answer, capsys):
    code, _, err = run(capsys, command, flag, "0,1,2")
    assert (code, len(err.splitlines())) == (2, 1)
    assert re.search(f"^pgjax: unknown option '{flag}'{answer}", err)


KEPT = (
    "goes on with the run as it began, and only floats and --num-updates may change, so it has no"
)


@pytest.mark.parametrize(
    ("command", "flag", "kept"),
    [
        ("evaluate", "--config", "takes the run as it is, so it has no"),
        ("evaluate", "--optimizer.learning-rate", "takes the run as it is, so it has no"),
        ("render", "--wrap", "takes the run as it is, so it has no"),
        ("export", "--no-normalize-observations", "takes the run as it is, so it has no"),
        ("resume", "--config", KEPT),
        ("resume", "--estimator", KEPT),
        ("resume", "--algorithm", KEPT),
        ("resume", "--seed", KEPT),
    ],
)
def test_a_flag_that_would_make_another_run_is_told_how_to_begin_one(command, flag, kept, capsys):
    code, out, err = run(capsys, command, "runs/a", flag, "x")
    another = f"`pgjax train ENV --from RUN {flag} …` begins another run with it"
    assert (code, out) == (2, "")
    assert err == f"pgjax: `pgjax {command}` {kept} {flag}; {another}\n"


def test_a_resumed_run_counts_in_updates(capsys):
    code, _, err = run(capsys, "resume", "runs/a", "--total-steps", "100")
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.endswith(
        "has no --total-steps; --num-updates N is how many updates it makes in all\n"
    )


@pytest.mark.parametrize("given", ["8,16", "[8,16]", "(8, 16)", "8x16", "[8, 16]", "8 16"])
def test_a_list_of_numbers_is_told_its_form(given):
    with pytest.raises(ValueError, match=r"spaces between: --network.hidden-sizes 8 16$"):
        configured("CartPole-v1", f"--network.hidden-sizes={given}")
    assert configured("a", "--network.hidden-sizes", "8", "1e1").network.hidden_sizes == (8, 10)


OWN_MODULES = {
    "one.py": "def make(): ...\ndef _other(): ...\nraise ValueError('imported')",
    "two.py": "def easy(): ...\ndef hard(): ...\nclass Mine: ...\n_hidden = easy",
    "broken.py": "def (",
    "raises.py": "def make():\n    return nothing",
    "pkg/__init__.py": "",
    "pkg/inner.py": "def make(): ...",
}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("one", "write one:make, a function of one.py that makes the environment"),
        ("one.py", "write one:make, a function of one.py"),
        ("./one.py", "write one:make, a function of one.py"),
        ("one:", "write one:make, a function of one.py"),
        ("one.py:make", "write one:make, a function of one.py"),
        ("{folder}/one.py", "write one:make, a function of one.py"),
        ("two", "write two:MAKER, a function of two.py"),
        ("broken.py", "write broken:MAKER, a function of broken.py"),
        ("missing.py", "write missing:MAKER, a function of missing.py"),
        ("pkg", "write pkg:MAKER, a function of pkg/__init__.py"),
        ("pkg/inner", "write pkg.inner:make, a function of pkg/inner.py"),
        ("pkg.inner", "write pkg.inner:make, a function of pkg/inner.py"),
        ("../other.py", "write other:MAKER in the folder .., a function of ../other.py"),
        ("two:eazy", "unknown name 'eazy' in two; did you mean 'easy'? known: easy, hard, Mine"),
        ("broken:make", "'broken:make' cannot be imported: invalid syntax"),
        ("raises:make", "imported: NameError: name 'nothing' is not defined (raises.py, line 2)"),
        (":make", "is named module:factory, got ':make'"),
        ("CartPole", "did you mean 'CartPole-v1'"),
    ],
)
def test_a_module_is_told_how_its_environment_is_named(name, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for path, text in OWN_MODULES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    with pytest.raises(ValueError, match=re.escape(answer)):
        interface.default_params(configured(name.format(folder=tmp_path)).env)


BAD = [
    (["trian"], "unknown command 'trian'; did you mean 'train'"),
    (["train"], "the following arguments are required: ENV"),
    (["train", "CartPole"], "did you mean 'CartPole-v1'"),
    (["train", "MNISTBandit-bsuite"], "cannot be made here"),
    (["train", "CartPole-v1", "--num-updats", "3"], "did you mean '--num-updates'"),
    (
        ["train", "CartPole-v1", "--num-updates", "x"],
        "expected a whole number, 1000 or 1e3, got 'x'",
    ),
    (["train", "CartPole-v1", "--seed", "0,1"], "got '0,1'; for several seeds: pgjax sweep --num"),
    (["train", "CartPole-v1", "--num-updates", "0"], "num_updates must be at least 1, got 0"),
    (["train", "CartPole-v1", "extra"], "unexpected argument 'extra'"),
    (["train", "CartPole-v1", "--seed", "-1"], "--seed must be at least 0"),
    (["train", "CartPole-v1", "--seed", "9223372036854775808"], "2**32, as a key has 32 bits"),
    (["sweep", "CartPole-v1", "--grid", "estimator=GAE", "--seed", "4294967297"], "; 1 would do"),
    (["evaluate", "nowhere", "--seed", "4294967296"], "--seed must be below 2**32"),
    (["train", "CartPole-v1", "--eval-episodes", "0"], "--eval-episodes must be at least 1"),
    (["train", "CartPole-v1", "--estimator", "QLearning"], "unknown estimator 'QLearning'"),
    (["train", "CartPole-v1", "--estimator.baseline", "loo"], "unknown estimator.baseline 'loo'"),
    (["train", "CartPole-v1", "--env-params.gravty", "3"], "did you mean 'gravity'"),
    (["train", "CartPole-v1", "--env-params.gravity", "x"], "gravity must be a float, got 'x'"),
    (["train", "CartPole-v1", "--env-params.gravity"], "expected one argument"),
    (["train", "CartPole-v1", "--directory", "."], "exists"),
    (["evaluate", "nowhere"], "nowhere does not exist"),
    (["evaluate", "."], "holds no checkpoint"),
    (["train", "CartPole-v1", "--nan", "ignore"], "unknown nan 'ignore'"),
    (["train", "CartPole-v1", "--metrics-every", "0"], "--metrics-every must be at least 1"),
    (["train", "CartPole-v1", "--checkpoint-seconds", "-1"], "must be at least 0, got -1"),
    (["train", "CartPole-v1", "--name", "a", "--directory", "b"], "not allowed with"),
    (
        ["train", "CartPole-v1", "--name", "a/../../b"],
        "a folder in runs/, got 'a/../../b'; --direc",
    ),
    (
        ["sweep", "Catch-bsuite", "--grid", "estimator.discount=1", "--name", ".."],
        "in sweeps/, got",
    ),
    (["resume", "nowhere"], "nowhere does not exist"),
    (["resume", "."], "is no run folder (no config.json)"),
    (["render", "nowhere"], "nowhere does not exist"),
    (["export", "nowhere", "--format", "numpy"], "nowhere does not exist"),
    (["export", "nowhere", "--format", "nump"], "unknown format 'nump'; did you mean 'numpy'"),
    (["plot"], "the following arguments are required: RUN"),
    (["plot", "."], "is no run folder (no config.json)"),
    (["plot", ".", "--output", "a.pdf"], "must end in .png or .svg"),
    (["plot", ".", "--output", "no/a.png"], "the folder no of the picture a.png does not exist"),
    (["sweep", "CartPole-v1"], "the following arguments are required: --grid"),
    (["sweep", "CartPole-v1", "--grid", "num_updates"], "--grid takes PATH=A,B"),
    (["sweep", "CartPole-v1", "--grid", "optimizer.lr=1"], "unknown setting 'optimizer.lr'"),
    (["sweep", "CartPole-v1", "--grid", "estimator.discount=x"], "discount cannot be 'x'"),
    (["sweep", "CartPole-v1", "--grid", "estimator.discount=2"], "discount must be a finite"),
    (["sweep", "CartPole-v1", "--grid", "num_updates=1,2"], "grid must not hold num_updates"),
    (["sweep", "CartPole-v1", "--grid", "estimator=GAF"], "did you mean 'GAE'"),
    (["sweep", "Catch-bsuite", "--grid", "env_params.row=1"], "unknown parameter 'row' of Catch"),
    (["sweep", "Acrobot-v1", "--grid", "env_params.max_vel_1=x"], "must be a float, got 'x'"),
    (["train", "CartPole-v1", "--env-params.gravity"], "env-params.gravity: expected one argument"),
    (["train", "CartPole-v1", "--algorithm", "pppo"], "did you mean 'ppo'"),
    (
        ["train", "CartPole-v1", "--num-updates", "1.5"],
        "expected a whole number, 1000 or 1e3, got '1.5'",
    ),
    (["train", "CartPole-v1", "--learning-rate", "1"], "mean '--optimizer.learning-rate'"),
    (["train", "CartPole-v1", "--total-timesteps", "9"], "mean '--total-steps'"),
    (["train", "CartPole-v1", "--network.hidden-sizes", "a"], "write values with spaces between"),
    (
        ["sweep", "CartPole-v1", "--grid", "network.hidden_sizes=8x8"],
        "write values with spaces between: 'network.hidden_sizes=8 8'",
    ),
    (["sweep", "CartPole-v1", "--grid", "lr=1"], "mean 'optimizer.learning_rate'"),
    (["sweep", "CartPole-v1", "--grid", "sampler.horizon=9,8,9"], "'] has 9 twice; num_seeds"),
    (["sweep", "CartPole-v1", "--grid", "estimator=GAE,gae"], "grid['estimator'] has GAE(dis"),
    (
        ["sweep", "CartPole-v1", "--grid", "estimator=GAE", "--grid", "estimator=GAE"],
        "--grid has estimator twice: write estimator=A,B,… once",
    ),
    (
        ["sweep", "CartPole-v1", "--grid", "estimator=GAE", "--stop-at-return", "nan"],
        "stop_at_return must be",
    ),
    (
        ["sweep", "CartPole-v1", "--grid", "estimator=GAE", "--checkpoint-seconds", "-1"],
        "must be at least 0, got -1",
    ),
    (["completion", "powershell"], "invalid choice: 'powershell'"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD, ids=lambda x: " ".join(x) if isinstance(x, list) else ""
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")  # before any line that says what goes on
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_ctrl_c_saves_and_leaves_cleanly(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "pgjax.cli", "train", "Catch-bsuite", "--num-updates"]
    process = subprocess.Popen(
        [*command, "1000000", "--directory", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    metrics = folder / "metrics.csv"
    while time.monotonic() < deadline:
        if metrics.exists() and metrics.read_text().count("\n") > 2:
            break
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: saved what was done" in err
    assert "Traceback" not in err
    rows = metrics.read_text().count("\n") - 1
    assert main(["evaluate", str(folder), "--eval-episodes", "2"]) == 0
    assert f"updates                {rows} of 1000000" in out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_compiling_names_the_folder(tmp_path, capsys, monkeypatch, number, code):
    compiled, folder = host_loop.compiled, tmp_path / "run"

    def interrupted(*arguments):
        os.kill(os.getpid(), number)
        return compiled(*arguments)

    monkeypatch.setattr(host_loop, "compiled", interrupted)
    found, _, err = run(capsys, "train", "Catch-bsuite", *SMALL, "--directory", str(folder))
    assert (found, err) == (
        code,
        f"interrupted: saved what was done; pgjax resume {folder} goes on\n",
    )
    monkeypatch.undo()
    assert run(capsys, "resume", str(folder), "--eval-episodes", "2")[::2] == (0, "")


_LOST = """
import gc, os, signal, sys, time
from pgjax.cli import main as cli

def main():
    class Callback:
        def __del__(self):  # what is raised here, Python drops
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
    Callback()
    for _ in range(100):
        time.sleep(0.1)
    return 0

cli.main, cli._PATIENCE = main, 0.2
cli.entry()
"""


def test_ctrl_c_that_python_drops_comes_again():
    done = subprocess.run([sys.executable, "-c", _LOST], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert "Exception ignored" in done.stderr
    assert done.stderr.endswith("pgjax: interrupted\n")


_CLOSES = """
import atexit, os, signal, time
from pgjax.cli import main as cli

def close():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

atexit.register(close)
cli.main = lambda: print("done") or 0
cli.entry()
"""


def test_ctrl_c_cuts_short_what_is_closed_at_the_end():
    done = subprocess.run(
        [sys.executable, "-c", _CLOSES], capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_names_of_runs_of_one_second_differ(monkeypatch):
    options = types.SimpleNamespace(name=None, seed=0)
    config = pgjax.Config(env="brax/ant?limit=5&backend=spring")
    names = {run_options.new_directory("runs", config, options) for _ in range(100)}
    assert len(names) == 100
    assert {name.parent.name for name in names} == {"runs"}


def test_import_is_light():
    script = "import sys, gymnax; before = set(sys.modules); import pgjax; "
    script += "new = {m.partition('.')[0] for m in set(sys.modules) - before}; "
    script += "print(sorted(new & {'matplotlib', 'orbax', 'rich', 'argparse', 'tensorstore'}))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -u -m pgjax.cli envs | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert result.stdout.startswith("environment")
    assert result.stderr == ""


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, _, err = run(
        capsys, "train", "Catch-bsuite", "--directory", str(tmp_path / "file" / "run")
    )
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "Not a directory" in err


@pytest.mark.parametrize("home", [None, "/proc"], ids=["unknown user without HOME", "HOME /proc"])
def test_a_command_needs_no_home(home, tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import pwd\ndef unknown(uid):\n    raise KeyError(uid)\npwd.getpwuid = unknown\n"
    )
    variables = {name: os.environ[name] for name in ("PATH", "XLA_FLAGS") if name in os.environ}
    variables |= {"PYTHONPATH": f"{site}:{os.getcwd()}", "TMPDIR": str(tmp_path)}
    variables |= {} if home is None else {"HOME": home}
    done = subprocess.run(
        [sys.executable, "-m", "pgjax.cli", "completion", "bash"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / f"pgjax-{os.getuid()}").is_dir()


def integer_flags():
    parser = parsers.train()
    flags.add_flags(parser)
    tuples = {"--network.hidden-sizes", "--network.channels"}
    return [
        action.option_strings[0]
        for action in parser._actions
        if "INT" in str(action.metavar) or action.type is int or tuples & set(action.option_strings)
    ]


@pytest.mark.parametrize("flag", integer_flags())
def test_a_number_beyond_all_bounds_is_one_line(flag, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "train", "Catch-bsuite", "--algorithm", "ppo", flag, "9" * 20)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_more_episodes_than_fit_are_refused_before_training(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "train", "Catch-bsuite", "--eval-episodes", "2147483647")
    assert (code, out) == (2, "")
    assert re.search(r"--eval-episodes 2,147,483,647 need about .* GiB, .* would fit$", err)
    assert not list(tmp_path.iterdir())


def test_a_run_that_shows_nothing_for_long_says_that_it_goes_on(capsys, monkeypatch):
    monkeypatch.setattr(progress_bar, "_PATIENCE_SECONDS", 0.02)
    with progress_bar.displayed(10):
        time.sleep(0.2)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(re.match("  compiling, or in the first update: 0 s since", line) for line in lines)
