"""`pgjax list` and `pgjax compare`, on run folders that are written by hand."""

import itertools
import json
import os

import numpy as np
import pytest

import pgjax
from pgjax.cli import run_tables
from pgjax.cli.main import main
from pgjax.runs import comparison, folders

CONFIG = pgjax.Config(env="Catch-bsuite", num_updates=2)
HEADER = "update,seconds,episode_return,episode_length,num_episodes,env_steps,entropy"
HEADER += ",gradient_norm,objective,finite"


def write_run(path, last_return, seed=0, config=CONFIG):
    path.mkdir(parents=True)
    facts = {"run": f"{seed:032x}", "seed": seed, "stop_at_return": None, "metrics_every": 1}
    folders.write_config(path, config, {**facts, "history": []})
    rows = [f"{n},{n},{r},9,8,{n * 700},1,1,0,True" for n, r in ((1, "nan"), (2, last_return))]
    (path / "metrics.csv").write_text("\n".join([HEADER, *rows, ""]))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, value in enumerate((4.0, 6.0)):
        write_run(tmp_path / f"runs/a/{seed}", value, seed)
    for seed, value in enumerate((1.0, 4.0, 5.0)):
        write_run(tmp_path / f"runs/b/{seed}", value, seed)
    return tmp_path / "runs"


def output(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_difference_and_probability_by_hand():
    x, y = np.array([4.0, 6.0]), np.array([1.0, 4.0, 5.0])
    # The middle half of three: ¼ of the first and of the last, all of the second.
    assert comparison.interquartile_mean(y) == pytest.approx((0.25 + 4 + 1.25) / 1.5)
    difference, _, probability, _ = comparison._statistics(x, y)
    assert difference == pytest.approx(5 - 5.5 / 1.5)
    assert probability == pytest.approx((1 + 0.5 + 0 + 1 + 1 + 1) / 6)
    assert comparison._statistics(y, x)[2] == pytest.approx(1 - probability)
    assert comparison._statistics(x[:1], y)[1::2] == (None, None)


def test_intervals_are_those_of_all_resamples():
    x, y = np.array([0.0, 1.0, 5.0]), np.array([1.0, 2.0])
    resamples = [
        (np.array(a), np.array(b))
        for a in itertools.product(x, repeat=3)
        for b in itertools.product(y, repeat=2)
    ]
    iqm = comparison.interquartile_mean
    differences = [iqm(a) - iqm(b) for a, b in resamples]
    scores = [np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b)) for a, b in resamples]
    _, difference_interval, _, probability_interval = comparison._statistics(x, y)
    # 2000 draws of these 108: the percentile falls between two of few values.
    np.testing.assert_allclose(
        difference_interval, np.percentile(differences, (2.5, 97.5)), atol=0.1
    )
    np.testing.assert_allclose(probability_interval, np.percentile(scores, (2.5, 97.5)), atol=0.1)


def test_compare_prints_both_sides_and_their_difference(runs, capsys):
    code, out, err = output(capsys, "compare", "runs/a", "runs/b")
    assert (code, err) == (0, "")
    assert "IQM, B                 3.6667  (REINFORCE, 3 seeds of 1.4 k steps)" in out
    assert "A − B                  1.3333  (95 % interval " in out
    assert "P(A > B)               0.75  (95 % interval " in out
    code, out, _ = output(capsys, "compare", "runs/a/0", "runs/b", "--json")
    result = json.loads(out)
    assert result["probability"] == 0.5
    assert result["difference_interval"] is None
    assert result["b"]["returns"] == [1.0, 4.0, 5.0]


def test_of_several_configs_the_best_is_compared(runs, capsys):
    write_run(runs / "b/other", 9.0, config=CONFIG.replace(**{"optimizer.learning_rate": 0.5}))
    assert pgjax.compare(runs / "a", runs / "b").b.returns.tolist() == [9.0]
    assert "runs/b, best of 2 configs\n" in output(capsys, "compare", "runs/a", "runs/b")[1]


def test_what_cannot_be_compared_is_one_line(runs, capsys):
    write_run(runs / "other", 1.0, config=CONFIG.replace(env="CartPole-v1"))
    write_run(runs / "none", "nan")
    (runs / "empty").mkdir()
    for arguments, message in (
        (["runs/a", "runs/other"], "runs/other of CartPole-v1: returns of two environments"),
        (["runs/a", "runs/none"], "no episode ended in the last 5 updates"),
        (["runs/a", "runs/empty"], "runs/empty holds no run folder and no sweep"),
        (["runs/a", "runs/no"], "runs/no does not exist"),
        (["runs", "runs/a"], "runs holds runs of CartPole-v1, Catch-bsuite"),
        (["runs/a", "runs/b", "--updates", "0"], "--updates must be at least 1"),
    ):
        code, _, err = output(capsys, "compare", *arguments)
        assert (code, len(err.splitlines())) == (2, 1)
        assert message in err


def test_list_has_a_line_for_each_run_the_last_written_first(runs, capsys):
    long_name = "a-run-whose-name-is-longer-than-what-a-line-has-room-for-20261128-1"
    write_run(runs / long_name, 2.0, config=CONFIG.replace(env="MountainCarContinuous-v0"))
    for file in (runs / "a/0", *(runs / "a/0").iterdir()):
        os.utime(file, (1e9, 1e9))
    (runs / "a/1/config.json").write_text("{")
    code, out, err = output(capsys, "list")
    header, *lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 6)
    assert header.split() == ["run", "environment", "algorithm", "steps", "return", "age"]
    assert max(map(len, out.splitlines())) <= 80
    assert "…" in next(line for line in lines if line.startswith("a-run"))
    assert lines[-1].split()[:6] == ["a/0", "Catch-bsuite", "REINFORCE", "1.4", "k", "4"]
    assert lines[-1].endswith(" d")
    assert "cannot be read" in next(line for line in lines if line.startswith("a/1"))
    entries = json.loads(output(capsys, "list", "runs", "--json")[1])["runs"]
    assert entries[-1]["return"] == 4.0
    assert entries[-1]["env_steps"] == 1400
    assert "config.json" in next(e for e in entries if e["run"] == "runs/a/1")["problem"]


def test_list_of_nothing_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = output(capsys, "list")
    assert (code, err) == (2, "pgjax: runs does not exist\n")
    assert output(capsys, "list", ".")[1] == "no run folder in .\n"


def test_the_middle_of_a_text_is_left_out():
    assert run_tables._shortened("abcdefghij", 5) == "ab…ij"
    assert run_tables._shortened("abc", 5) == "abc"
