"""Tuning: halving by hand, importances, refusals, and one small search that is interrupted."""

import json
import os
import signal
import sys

import jax
import numpy as np
import pytest

import pgjax
from pgjax.cli import flags, parsers
from pgjax.cli.main import main
from pgjax.runs import checkpoints, config_json
from pgjax.runs.signals import Interrupted
from pgjax.runs.tuning import halving, proposals
from pgjax.runs.tuning.default_spaces import RANGES, default_space
from pgjax.runs.tuning.halving import Trial
from pgjax.runs.tuning.space import Axis
from pgjax.training import registry

CONFIG = pgjax.Config("Catch-bsuite", num_updates=4).replace(
    **{"sampler.num_trajectories": 4, "network.hidden_sizes": (4,)}
)
RATE = "optimizer.learning_rate"
SPACE = {RATE: pgjax.LogUniform(1e-4, 1e-1), "estimator.discount": [0.9, 1.0]}
OPTIONS = {"num_trials": 7, "num_seeds": 2, "batch": 3, "reduction": 2, "halvings": 1}
KEY = jax.random.key(0)


def trial(number, *scores, status="running"):
    return Trial(number, (float(number),), np.reshape(np.array(scores), (-1, 1)), status)


def test_a_trial_goes_on_while_it_is_among_the_best_of_those_that_came_as_far():
    # After one round 6 trials have scores 5, 4, 3, 2, 1, −∞: the best 6 // 3 go on.
    scores = [3.0, 5.0, 1.0, 4.0, np.nan, 2.0]
    trials = [trial(number, score) for number, score in enumerate(scores)]
    assert halving.stopping(trials, 3, 2) == {0, 2, 4, 5}
    # At the second rung, after 3 rounds, one of two; one that is between rungs goes on.
    further = [trial(0, 9.0, 9.0, 1.0), trial(1, 8.0, 8.0, 2.0), trial(2, 9.5, 0.0)]
    assert halving.stopping(further, 3, 2) == {0}
    assert halving.stopping(further, 3, 0) == set()


def test_of_equal_scores_the_earlier_trial_goes_on_and_what_has_ended_is_not_stopped_again():
    trials = [trial(0, 1.0), trial(1, 1.0), trial(2, 0.0, status="stopped")]
    assert halving.stopping(trials, 2, 1) == {1}


def test_the_importance_is_the_unbiased_share_of_the_variance():
    scores = np.array([0.0, 1.0, 10.0, 11.0])
    choices = np.array([0.0, 0.0, 1.0, 1.0])
    # Ranks 0 1 2 3: Σ n (r̄_g − r̄)² / Σ (r − r̄)² is 4 / 5, and 1 − (1 / 5) · 3 / 2 = 0.7.
    assert halving.importance(choices, scores, True) == pytest.approx(0.7)
    assert halving.importance(np.array([0.0, 1.0, 0.0, 1.0]), scores, True) == 0.0
    assert halving.importance(choices, np.ones(4), True) == 0.0
    # A range in quartiles of two: scores that rise and fall again are explained, too.
    coordinates = np.linspace(0.1, 0.8, 8)
    hill = np.array([0.0, 0.1, 5.0, 5.1, 6.0, 6.1, 1.0, 1.1])
    assert halving.importance(coordinates, hill, False) > 0.8


def test_every_default_range_is_a_float_of_its_component_and_holds_no_wrong_bound():
    for field, classes in RANGES.items():
        for name, ranges in classes.items():
            component = registry.COMPONENTS[field][name]()
            for path, distribution in ranges.items():
                for end in (distribution.low, distribution.high):
                    component.replace(**{path: end}).check(field)
    assert "critic.learning_rate" in default_space(pgjax.ppo("CartPole-v1"))
    assert "objective.epsilon" in default_space(pgjax.ppo("CartPole-v1"))
    assert list(default_space(pgjax.natural_policy_gradient("CartPole-v1")))[-1] == "ascent.max_kl"


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ({}, {}, "at least one of"),
        ({"optimizer.learning_rat": [0.1]}, {}, "did you mean 'optimizer.learning_rate'"),
        ({RATE: pgjax.LogUniform(1e-1, 1e-3)}, {}, r"\.low must be at most"),
        ({RATE: pgjax.Normal(0.0, 1.0)}, {}, "must be Uniform, LogUniform or a list"),
        ({RATE: 0.1}, {}, "or a list of values"),
        ({RATE: [0.1, 0.1]}, {}, "has 0.1 twice"),
        ({RATE: pgjax.Uniform(-1.0, 1.0)}, {}, "finite number at least 0"),
        ({"sampler.num_trajectories": pgjax.Uniform(2, 8)}, {}, r"give a list of values, as"),
        ({"sampler.num_trajectories": [*range(2, 90)]}, {}, "88 combinations of choices"),
        ({"num_updates": [1, 2]}, {}, "must not hold num_updates"),
        (SPACE, {"budget": 0}, "budget must be at least 1"),
        (SPACE, {"budget": 1000}, r"total_steps needs sampler=Segments"),
        (SPACE, {"halvings": 3}, "has 4 updates, and 3 halvings by 2 need 8"),
        (SPACE, {"num_trials": 0}, "num_trials must be at least 1"),
        (SPACE, {"reduction": 1}, "reduction must be at least 2"),
        (SPACE, {"search": "tpee"}, "did you mean 'tpe'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_compiled(space, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        pgjax.tune(KEY, CONFIG, space, **{**OPTIONS, **options})


def test_the_command_line_refuses_in_one_line(capsys):
    for words in (
        ["--space", "optimizer.learning_rat=Uniform:0:1"],
        ["--space", "optimizer.learning_rate=Uniform:1:0"],
        ["--space", "optimizer.learning_rate=Uniform:1"],
        ["--budget", "0"],
        ["--budget", "9", "--num-updates", "3"],
    ):
        assert main(["tune", "Catch-bsuite", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("pgjax: ")
        assert error.count("\n") == 1


def test_a_space_in_words():
    words = ["optimizer.learning-rate=LogUniform:1e-4:1e-2", "sampler.num_trajectories=8,16"]
    assert flags.space(words, CONFIG) == {
        RATE: pgjax.LogUniform(1e-4, 1e-2),
        "sampler.num_trajectories": [8, 16],
    }
    assert flags.space(None, CONFIG) is None


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'pgjax-rl\[tune\]'"):
        pgjax.tune(KEY, CONFIG, SPACE, **OPTIONS)


def test_proposals_depend_on_the_trials_alone():
    pytest.importorskip("optuna")
    axes = [Axis("a", 1e-4, 1.0, True), Axis("b", 0.0, 2.0, False, ("x", "y", "z"))]

    def history(sign):
        points = [(10.0 ** (-4 + n / 3), float(n % 3)) for n in range(12)]
        return [
            Trial(n, point, np.array([[sign * n]]), "done" if n < 10 else "running")
            for n, point in enumerate(points)
        ]

    first, again = (proposals.proposals(axes, history(1.0), 8, "tpe", 3) for _ in range(2))
    assert first == again
    assert first != proposals.proposals(axes, history(1.0), 8, "tpe", 4)
    assert all(1e-4 <= a <= 1.0 and b in (0.0, 1.0, 2.0) for a, b in first)
    # Where later trials, of larger a, are better, larger ones are proposed.
    worse = proposals.proposals(axes, history(-1.0), 8, "tpe", 3)
    assert np.median([a for a, _ in first]) > np.median([a for a, _ in worse])


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A tuning, and its folder; interrupted after its second round, and resumed."""
    pytest.importorskip("optuna")
    path, rounds = tmp_path_factory.mktemp("tunings") / "catch", []

    def interrupt(trials):
        rounds.append(trials)
        if len(rounds) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="pgjax resume"):
        pgjax.tune(KEY, CONFIG, SPACE, directory=path, on_round=interrupt, **OPTIONS)
    with pytest.raises(ValueError, match="is a tuning that is not done"):
        pgjax.load(path)
    return pgjax.resume_tune(path, on_round=rounds.append), path, rounds


def test_an_interrupted_tuning_goes_on_to_the_same_trials(tuned):
    resumed, path, rounds = tuned
    once = pgjax.tune(KEY, CONFIG, SPACE, **OPTIONS)
    assert len(rounds) >= 3
    assert len(once.trials) == 7
    for given, expected in zip(resumed.trials, once.trials, strict=True):
        assert given._replace(returns=None) == expected._replace(returns=None)
        np.testing.assert_array_equal(given.returns, expected.returns)
    jax.tree.map(np.testing.assert_array_equal, resumed.best_state.params, once.best_state.params)
    # Done, it is read; the folder of another tuning is refused.
    again = pgjax.tune(KEY, CONFIG, SPACE, directory=path, **OPTIONS)
    assert again.run_seconds == 0.0
    assert again.best.number == once.best.number
    with pytest.raises(ValueError, match="another tuning: its space differs"):
        pgjax.tune(KEY, CONFIG, {RATE: [0.1]}, directory=path, **OPTIONS)


def test_halving_stops_trials_and_others_take_their_places(tuned):
    result, _, rounds = tuned
    running = [sum(trial.status == "running" for trial in trials) for trials in rounds]
    assert max(running) <= 3
    assert [len(trials) for trials in rounds[:2]] == [3, 5]  # 3, of which 2 // … one went on
    assert {trial.status for trial in result.trials} == {"stopped", "done"}
    assert all(trial.rounds == 2 for trial in result.trials if trial.status == "done")
    assert all(result.num_updates(trial) == 2 for trial in result.ranked()[-2:])
    scores = [trial.score() for trial in result.trials if trial.status == "done"]
    assert result.best.score() == max(scores)


def test_the_best_trial_is_what_train_gives(tuned):
    result, path, _ = tuned
    config = result.best_config
    assert set(result.setting(result.best)) == set(SPACE)
    assert config.optimizer.learning_rate == result.setting(result.best)[RATE]
    seed = int(result.best.returns[-1].argmax())
    state, metrics = pgjax.train(jax.random.split(KEY, 2)[seed], config)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5),
        result.best_state.params,
        state.params,
    )
    np.testing.assert_allclose(
        metrics.episode_return[-2:].mean(), result.best.returns[-1].max(), rtol=1e-4
    )
    assert pgjax.load(path)[1].replace() == checkpoints.load_config(path)
    written = json.loads((path / "best.json").read_text())
    assert config_json.from_dict(written).optimizer == config.optimizer
    _, make_config = flags.read(["--config", str(path / "best.json")], parsers.train())
    assert make_config() == config
    assert (path / "importances.png").stat().st_size > 1000
    assert set(result.importances()) == set(SPACE)
    assert len((path / "trials.csv").read_text().splitlines()) == 8


def test_the_command_resumes_a_folder_that_is_done(tuned, capsys):
    _, path, _ = tuned
    assert main(["resume", str(path), "--devices", "1"]) == 0
    output = capsys.readouterr().out
    assert "7 trials of 2 seeds" in output
    assert str(path / "best.json") in output
    assert main(["resume", str(path), "--num-updates", "9"]) == 2
    assert "cannot change a tuning" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.devices(4)
def test_a_tuning_with_choices_of_size_is_a_program_for_each_on_several_devices(tmp_path):
    pytest.importorskip("optuna")
    space = {RATE: pgjax.LogUniform(1e-4, 1e-1), "sampler.num_trajectories": [4, 8]}
    options = {"search": "random", **OPTIONS}
    one = pgjax.tune(KEY, CONFIG, space, **options)
    mesh, path = pgjax.make_mesh(4), tmp_path / "four"

    def interrupt(trials):
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        pgjax.tune(KEY, CONFIG, space, mesh=mesh, directory=path, on_round=interrupt, **options)
    four = pgjax.resume_tune(path, mesh=mesh)
    assert len({trial.point[1] for trial in one.trials}) == 2
    for given, expected in zip(four.trials, one.trials, strict=True):
        np.testing.assert_allclose(given.returns[:1], expected.returns[:1], rtol=1e-3, atol=1e-3)
