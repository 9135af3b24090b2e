"""A run folder that somebody else has touched: what is wrong is said by file and field."""

import json
import os
import shutil

import numpy as np
import pytest

import pgjax
from pgjax.cli.main import main
from pgjax.runs import checkpoints, folders, schema

CONFIG = pgjax.Config(env="Catch-bsuite", num_updates=4).replace(
    **{"network.hidden_sizes": (8,), "sampler.num_trajectories": 8}
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs, the first of which has not made all of its updates."""
    root = tmp_path_factory.mktemp("runs")
    pgjax.run(CONFIG, 0, root / "a")
    pgjax.resume(root / "a", lambda now: False, num_updates=200)
    pgjax.run(CONFIG, 1, root / "b")
    return root


@pytest.fixture
def run(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "run")
    return tmp_path / "run"


def edited(path, **changes):
    facts = json.loads((path / "config.json").read_text())
    facts = {name: value for name, value in {**facts, **changes}.items() if value != "gone"}
    (path / "config.json").write_text(json.dumps(checkpoints.sealed(facts)))


def lines(path):
    return (path / "metrics.csv").read_text().splitlines(keepends=True)


def put(path, rows):
    (path / "metrics.csv").write_text("".join(rows))


def cell(path):
    rows = lines(path)
    put(path, [rows[0], rows[1].replace(",", ",x", 1), *rows[2:]])


def in_place_of(name, make):
    def damage(path):
        (path / name).unlink()
        make(path / name)

    return damage


def zeros(file):
    file.symlink_to("/dev/zero")


METRICS = [
    (lambda p: (p / "metrics.csv").unlink(), "metrics.csv cannot be read .No such file"),
    (lambda p: put(p, lines(p)[:-1]), r"\d+ bytes are missing at its end"),
    (lambda p: put(p, lines(p)[:1]), r"\d+ bytes are missing at its end"),
    (lambda p: put(p, []), r"\d+ bytes are missing at its end"),
    (cell, r"row 2, 'seconds': 'x[\d.e-]+' is no number"),
    (lambda p: put(p, [*lines(p)[:2], "1,2\n", *lines(p)[2:]]), "row 3 has 2 cells, not"),
    (lambda p: put(p, [lines(p)[0], *reversed(lines(p)[1:])]), "it was changed, or is another's"),
    (lambda p: put(p, [lines(p)[0].replace("entropy", "entropie"), *lines(p)[1:]]), "missing|was"),
    (in_place_of("metrics.csv", os.mkfifo), r"metrics.csv cannot be read \(it is not a regular"),
    (in_place_of("metrics.csv", zeros), r"metrics.csv cannot be read \(it is not a regular"),
]


@pytest.mark.parametrize(("damage", "message"), METRICS)
def test_metrics_that_the_checkpoint_does_not_vouch_for_are_refused(run, damage, message):
    damage(run)
    for use in (folders.read, pgjax.resume):
        with pytest.raises(ValueError, match=message):
            use(run)
    assert int(pgjax.load(run)[0].num_updates) == 5


def test_another_runs_metrics_or_config_are_refused(run, runs):
    shutil.copy(runs / "b" / "metrics.csv", run)
    with pytest.raises(ValueError, match=r"metrics.csv is not what its checkpoint vouches for"):
        pgjax.resume(run)
    shutil.copy(runs / "a" / "metrics.csv", run)
    shutil.copy(runs / "b" / "config.json", run)
    with pytest.raises(ValueError, match=r"config.json is another run's than"):
        pgjax.resume(run)
    with pytest.raises(ValueError, match=r"config.json is another run's than"):
        folders.read(run)


def test_damaged_metrics_do_not_block_the_checkpoint(run, capsys):
    cell(run)
    damaged, made = (run / "metrics.csv").read_bytes(), int(pgjax.load(run)[0].num_updates)
    assert main(["resume", str(run)]) == 2
    assert "--discard-metrics" in capsys.readouterr().err
    pgjax.resume(run, discard_metrics=True)
    assert (run / "metrics.csv.old").read_bytes() == damaged
    record = folders.read(run)
    np.testing.assert_array_equal(record.metrics["update"], np.arange(made + 1, 201))
    *_, entry = json.loads((run / "config.json").read_text())["history"]
    assert "metrics.csv" in entry["changed"]


CONFIGS = [
    (lambda p: (p / "config.json").write_text(""), r"config.json cannot be read \(Expecting value"),
    (lambda p: (p / "config.json").write_text("[]"), r"config.json .* must be an object, got \[\]"),
    (lambda p: (p / "config.json").write_text("[" * 10**5), "config.json cannot be read"),
    (lambda p: (p / "config.json").write_text('{"seed": ' + "9" * 5000 + "}"), "cannot be read"),
    (lambda p: (p / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json cannot be read"),
    (in_place_of("config.json", os.mkfifo), r"config.json cannot be read \(it is not a regular"),
    (in_place_of("config.json", zeros), r"config.json cannot be read \(it is not a regular"),
    (lambda p: edited(p, seed="1"), r"config.json .*field seed must be an integer from .*got '1'"),
    (lambda p: edited(p, seed=2**40), "field seed must be an integer from 0 to 4294967295, got"),
    (lambda p: edited(p, seed=True), "field seed must be an integer"),
    (lambda p: edited(p, stop_at_return=float("nan")), "field stop_at_return must be a finite"),
    (lambda p: edited(p, metrics_every=0), "field metrics_every must be an integer from 1 to"),
    (lambda p: edited(p, config=3), "field config must be an object, got 3"),
    (lambda p: edited(p, versions={"jax": 1}), r"field versions.jax must be a text, got 1"),
    (lambda p: edited(p, history="gone"), "field history is missing"),
    (lambda p: edited(p, spare=1), "field spare is unknown"),
    (lambda p: edited(p, config={"env": {"custom": "\x1b]0;x\x07"}}), "holds control characters"),
]


@pytest.mark.parametrize(("damage", "message"), CONFIGS)
def test_a_config_json_is_read_by_its_schema(run, damage, message, capsys):
    damage(run)
    with pytest.raises(ValueError, match=message):
        folders.read(run)
    for command in ("plot", "resume"):
        assert main([command, str(run)]) == 2
        shown = capsys.readouterr().err
        assert len(shown.splitlines()) == 1
        assert "\x1b" not in shown


def test_an_edited_config_json_is_said(run):
    file = run / "config.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 5'))
    with pytest.raises(ValueError, match=r"config.json was edited or damaged"):
        pgjax.resume(run)


def test_notes_are_checked_as_well(run):
    file = run / "checkpoint" / "pgjax.json"
    manifest = json.loads(file.read_text())
    for name, value in (("env_steps", 10**30), ("run_seconds", -1.0), ("metrics", {"bytes": 3})):
        notes = {**manifest["notes"], name: value}
        file.write_text(json.dumps(checkpoints.sealed({**manifest, "notes": notes})))
        with pytest.raises(ValueError, match=rf"checkpoint cannot be read .field notes.{name}"):
            pgjax.resume(run)


def test_a_users_objects_name_reaches_no_terminal_as_it_is():
    assert schema.printable({"a": ["\x1b[31mred", 1.5, None]}) == {"a": ["\\x1b[31mred", 1.5, None]}
