"""Evaluation during a run: its numbers, what it leaves, and that training does not notice."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import pgjax
from pgjax.cli.main import main
from pgjax.pictures import curves
from pgjax.pictures.records import Record
from pgjax.runs import checkpoints, evaluations, folders
from pgjax.study import evaluation

CONFIG = pgjax.Config(env="Catch-bsuite", num_updates=6).replace(
    **{"network.hidden_sizes": (4,), "sampler.num_trajectories": 4, "optimizer.learning_rate": 0.3}
)
OPTIONS = {"evaluate_every": 2, "eval_episodes": 16, "keep": 2, "checkpoint_seconds": 0.0}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A run folder, and the evaluations and states that the run's observer was given."""
    folder, given = tmp_path_factory.mktemp("runs") / "run", {}

    def on_block(progress):
        if progress.evaluation is not None:
            given[progress.num_updates] = (progress.evaluation, progress.state)

    result = pgjax.run(CONFIG, 3, folder, on_block, **OPTIONS)
    return result, folder, given


def test_training_gives_the_same_bits_with_and_without(evaluated):
    result, _, _ = evaluated
    plain = pgjax.run(CONFIG, 3)
    for name in ("episode_return", "entropy", "gradient_norm", "env_steps"):
        np.testing.assert_array_equal(getattr(result.metrics, name), getattr(plain.metrics, name))
    states = (jax.tree.leaves(run.state.params) for run in (result, plain))
    for a, b in zip(*states, strict=True):
        np.testing.assert_array_equal(a, b)


def test_each_evaluation_is_that_of_its_state_by_its_own_key(evaluated):
    _, folder, given = evaluated
    columns = evaluations.read(folder)
    np.testing.assert_array_equal(columns["update"], [2, 4, 6])
    assert list(given) == [2, 4, 6]
    for row, (number, (result, state)) in enumerate(given.items()):
        key = jax.random.fold_in(evaluation.evaluation_key(3), number)
        expected = pgjax.evaluate(key, state, CONFIG, 16)
        np.testing.assert_array_equal(result.returns, expected.returns)
        assert columns["return"][row] == float(expected.mean)
        assert [columns[name][row] for name in ("low", "high")] == expected.interval.tolist()
        assert columns["episodes"][row] == 16
    record = folders.read(folder)
    steps = record.metrics["env_steps"][[1, 3, 5]]
    np.testing.assert_array_equal(record.evaluations["env_steps"], steps)


def test_the_best_policy_and_the_latest_checkpoints_are_kept(evaluated):
    _, folder, given = evaluated
    best = max(given, key=lambda number: (float(given[number][0].mean), -number))
    state, config = pgjax.load(folder / evaluations.BEST)
    assert (int(state.num_updates), config) == (best, CONFIG)
    assert checkpoints.notes(folder / evaluations.BEST)["evaluation"]["update"] == best
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert len(kept) == 2
    assert kept[-1] == "update-0000000006"
    assert int(pgjax.load(folder / "checkpoints" / kept[-1])[0].num_updates) == 6


@pytest.mark.slow
def test_a_resumed_run_goes_on_evaluating(evaluated, tmp_path, capsys):
    shutil.copytree(evaluated[1], tmp_path / "run")
    file = tmp_path / "run" / evaluations.FILE
    before = file.read_text()
    # What a kill leaves: an evaluation that the checkpoint does not count.
    file.write_text(before + "7,9,9,9,9,9,16\n")
    assert main(["resume", str(tmp_path / "run"), "--num-updates", "8", "--keep", "1"]) == 0
    capsys.readouterr()
    np.testing.assert_array_equal(evaluations.read(tmp_path / "run")["update"], [2, 4, 6, 8])
    assert file.read_text().startswith(before)
    facts = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (facts["evaluate_every"], facts["eval_episodes"], facts["keep"]) == (2, 16, 1)


def record_of(seed, returns, steps=(10.0, 20.0)):
    """A record with two updates and two evaluations."""
    columns = {"update": [1, 2], "seconds": [1, 2], "env_steps": steps, "num_episodes": [1, 1]}
    metrics = {"episode_return": [0.0, 1.0]} | columns
    table = {"update": [1, 2], "env_steps": steps, "return": returns}
    table |= {"low": [0.0, 0.5], "high": [3.0, 4.0]}
    metrics, table = (
        {name: np.array(column, float) for name, column in each.items()}
        for each in (metrics, table)
    )
    config = {"env": "Catch-bsuite"}
    return Record(Path(str(seed)), None, config, seed, np.inf, metrics, 0, table)


def test_evaluations_are_on_the_curve_with_their_interval():
    (curve,) = curves.curves([record_of(0, (1.0, 2.0))])
    np.testing.assert_array_equal(curve.evaluated, [(10, 20), (1, 2), (0, 0.5), (3, 4)])
    three = [record_of(seed, (float(seed), 8.0), (10.0, 20.0 + seed)) for seed in range(3)]
    (curve,) = curves.curves(three)
    np.testing.assert_array_equal(curve.evaluated.x, [10, 21])
    np.testing.assert_allclose(curve.evaluated.middle, [1, 8])
    np.testing.assert_allclose(curve.evaluated.low, [0, 8])
    (curve,) = curves.curves([three[0], dataclasses.replace(three[1], evaluations={})])
    assert curve.evaluated is None


def test_a_damaged_table_is_named(tmp_path):
    for text in ("update,return\n1,2\n", "", ",".join(evaluations.COLUMNS) + "\n1,2,x,4,5,6,7\n"):
        (tmp_path / evaluations.FILE).write_text(text)
        with pytest.raises(ValueError, match=r"evaluation.csv cannot be read \("):
            evaluations.read(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluate_every": -1}, "evaluate_every must be at least 0|evaluate_every must be in"),
        ({"evaluate_every": 2, "eval_episodes": 0}, "eval_episodes must be at least 1"),
        ({"keep": 0}, "keep must be"),
    ],
)
def test_what_cannot_be_is_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pgjax.run(CONFIG, 0, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_run_folder_of_an_earlier_version_is_read(tmp_path):
    (tmp_path / "run").mkdir()
    facts = {"run": "0" * 32, "seed": 1, "stop_at_return": None, "metrics_every": 1, "history": []}
    folders.write_config(tmp_path / "run", CONFIG, facts)
    assert folders.read_facts(tmp_path / "run")["evaluate_every"] == 0
    assert folders.read_facts(tmp_path / "run")["keep"] == 1
