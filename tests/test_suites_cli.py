"""Commands with ids `suite/name`: all of them, what `envs` lists, and bad input in one line."""

import json
import re

import pytest
from suites_for_tests import levers  # noqa: F401

from pgjax.cli.main import main
from pgjax.environments.suites import table
from pgjax.runs import folders

pytestmark = pytest.mark.usefixtures("levers")
SMALL = ["--num-updates", "2", "--sampler.num-trajectories", "2", "--network.hidden-sizes", "4"]
FEW = ["--eval-episodes", "2"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments):
    code = main([*arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_an_id_with_options_is_trained_evaluated_resumed_and_plotted(capsys, tmp_path):
    env_id = "levers/two?limit=3&sign=minus"
    limit = ["--env-params.max-steps-in-episode", "2"]
    assert run(capsys, "train", env_id, *SMALL, *FEW, *limit)[::2] == (0, "")
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("levers-two-limit=3-sign=minus-0-")
    config = json.loads((folder / "config.json").read_text())["config"]
    assert config["env"] == env_id
    assert config["env_params"]["max_steps_in_episode"] == 2
    # Two steps, of at most −1 each.
    returns = folders.read_all(folder)[0].metrics["episode_return"]
    assert ((returns >= -2.0) & (returns <= 0.0)).all()
    path = str(folder)
    code, out, _ = run(capsys, "evaluate", path, *FEW)
    assert code == 0
    assert f"{env_id}, 2 updates" in out
    assert run(capsys, "resume", path, "--num-updates", "3", *FEW)[0] == 0
    assert run(capsys, "plot", path)[0] == 0
    code, _, err = run(capsys, "render", path)
    assert code == 2
    assert "nobody has said how to draw levers/two" in err
    assert len(err.splitlines()) == 1


def test_an_id_is_swept(capsys, tmp_path):
    grid = ["--grid", "optimizer.learning_rate=0.1,0.2", "env_params.max_steps_in_episode=2"]
    arguments = ["sweep", "levers/two", *grid, "--num-seeds", "1", *SMALL, "--name", "a"]
    assert run(capsys, *arguments)[0] == 0
    assert run(capsys, "resume", "sweeps/a")[0] == 0


def test_gymnaxs_name_in_front_makes_no_other_environment(capsys, tmp_path):
    arguments = ["train", "gymnax/Catch-bsuite", *SMALL, *FEW]
    assert run(capsys, *arguments)[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("Catch-bsuite-0-")
    assert json.loads((folder / "config.json").read_text())["config"]["env"] == "Catch-bsuite"


def test_suites_are_listed_with_what_installs_them(capsys, monkeypatch):
    monkeypatch.setattr("pgjax.environments.interface.ids", list)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "absent" else 1)
    code, out, _ = run(capsys, "envs")
    assert code == 0
    assert re.search(r"^levers +installed$", out, re.MULTILINE)
    assert re.search(
        r"^absent +not installed: pip install 'pgjax-rl\[absent\]'$", out, re.MULTILINE
    )
    assert len(out.splitlines()) == 3 + len(table.SUITES)


def test_the_names_of_a_suite_are_ids(capsys):
    code, out, _ = run(capsys, "envs", "levers")
    assert (code, out.split()) == (
        0,
        ["levers/two", "levers/three", "levers/offline", "levers/broken"],
    )


def test_one_environment_is_described(capsys):
    code, out, _ = run(capsys, "envs", "levers/three?limit=7")
    assert code == 0
    for line in (
        r"observation +Box\(1\) float32",
        r"actions +Discrete\(3\)",
        r"time limit +7 steps",
        r"policy head +Categorical",
        r"--env-params.max-steps-in-episode +7",
        r"\?limit= +5",
        r"\?sign= +plus \(plus, minus\)",
        r"\?note= +None",
    ):
        assert re.search(f"^  {line}$", out, re.MULTILINE), line
    code, out, _ = run(capsys, "envs", "CartPole-v1")
    assert code == 0
    assert re.search(r"--env-params.gravity +9.8$", out, re.MULTILINE)


MISSING = "absent environments need the extra: pip install 'pgjax-rl[absent]' (No module"
BAD = [
    (["train", "absent/two"], MISSING),
    (["sweep", "absent/two", "--grid", "estimator.discount=1"], MISSING),
    (["envs", "absent"], MISSING),
    (["envs", "absent/two"], MISSING),
    (["train", "lever/two"], "unknown suite 'lever' of 'lever/two'; did you mean 'levers'?"),
    (["train", "levers/tow"], "unknown levers environment 'tow'; did you mean 'two'?"),
    (["train", "levers/two?limt=3"], "unknown option 'limt' of levers/two; did you mean 'limit'?"),
    (["train", "levers/two?limit=x"], "option limit of levers/two must be an integer, got 'x'"),
    (["train", "levers/two?limit=0"], "limit must be at least 1, got 0"),
    (["train", "levers/offline"], "cannot be made here: it loads data when it is made (no route"),
    (["train", "levers/two", "--env-params.gravity", "3"], "unknown parameter 'gravity' of levers"),
    (["train", "levers"], "'levers' is a suite: write levers/NAME"),
    (["envs", "levrs"], "unknown environment 'levrs'; did you mean 'levers'?"),
    (["envs", "levers", "two"], "unexpected argument 'two'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_run_whose_suite_is_not_installed_says_so(capsys, tmp_path, monkeypatch):
    assert run(capsys, "train", "levers/two", *SMALL, *FEW, "--name", "a")[0] == 0
    monkeypatch.setitem(table.SUITES, "levers", table.SUITES["absent"])
    table.make.cache_clear()
    for command in ("evaluate", "resume", "render"):
        code, out, err = run(capsys, command, "runs/a")
        assert (code, out) == (2, "")
        assert MISSING in err
    assert run(capsys, "plot", "runs/a")[0] == 0
