"""Population-based training: its rules by hand, refusals, and one population on a small MDP."""

import csv
import itertools
import os
import signal

import jax
import numpy as np
import pytest

import pgjax
from pgjax.cli import flags, parsers
from pgjax.cli.main import main
from pgjax.runs.signals import Interrupted
from pgjax.runs.tuning import schedulers
from pgjax.runs.tuning.population import Population
from pgjax.runs.tuning.space import Axis
from pgjax.runs.tuning.trials import Handover, Trial

KEY = jax.random.key(0)
RATE = "optimizer.learning_rate"
SPACE = {RATE: pgjax.LogUniform(1e-3, 1e2)}
LOG, LINEAR = Axis("a", 1e-3, 1.0, True), Axis("b", -1.0, 1.0, False)
# The last of four actions is paid: an ascent with a rate near 1e-2 hardly moves in 40 updates.
PAYS_LAST = pgjax.FiniteMDP(np.ones((1, 4, 1)), [[0.0, 0.0, 0.0, 1.0]], [1.0], horizon=1)
CONFIG = pgjax.Config(
    PAYS_LAST, num_updates=40, network=pgjax.MLP(()), optimizer=pgjax.SGD()
).replace(**{"sampler.num_trajectories": 32})
CATCH = pgjax.Config("Catch-bsuite", num_updates=4).replace(
    **{"sampler.num_trajectories": 4, "network.hidden_sizes": (4,)}
)


def population(*scores, status="running"):
    return [
        Trial(number, (0.1, 0.0), np.array([[score]]), status)
        for number, score in enumerate(scores)
    ]


def test_the_worst_copy_one_of_the_best_and_nobody_a_worse_one():
    rule, generator = pgjax.PopulationBased(fraction=0.4), np.random.default_rng(0)
    trials = population(3.0, np.nan, 5.0, 1.0, 4.0)
    drawn = {tuple(rule.sources(trials, generator)) for _ in range(50)}
    # ⌊0.4 · 5⌋ = 2 of the worst, 1 and 3, each copy 2 or 4.
    assert drawn == {(0, a, 2, b, 4) for a in (2, 4) for b in (2, 4)}
    assert rule.sources(population(1.0, 1.0), generator) == [0, 1]
    assert rule.sources(population(np.nan, np.nan), generator) == [0, 1]
    assert rule.sources(population(0.0, 1.0), generator) == [1, 1]  # at least one
    assert rule.replace(fraction=0.0).sources(population(0.0, 1.0), generator) == [0, 1]


def test_a_logarithmic_float_is_multiplied_and_a_linear_one_moves_along_its_range():
    rule, generator = pgjax.PopulationBased(factors=(1.25,), resample=0.0), np.random.default_rng(0)
    assert rule.explored([LOG, LINEAR], (0.1, 0.0), generator) == pytest.approx((0.125, 0.5))
    assert rule.explored([LOG, LINEAR], (0.9, 0.8), generator) == (1.0, 1.0)
    down = rule.replace(factors=(0.5,))
    assert down.explored([LOG, LINEAR], (1.5e-3, -0.5), generator) == (1e-3, -1.0)
    drawn = rule.replace(resample=1.0).explored([LOG, LINEAR], (0.1, 0.0), generator)
    assert drawn != pytest.approx((0.125, 0.5))


def test_explored_values_stay_in_range():
    rule, generator = pgjax.PopulationBased(resample=0.3), np.random.default_rng(1)
    points = rule.proposals([LOG, LINEAR], [], 400, 1)
    assert 0.4 < np.mean([a < 10**-1.5 for a, _ in points]) < 0.6  # even in the logarithm
    for _ in range(20):
        points = [rule.explored([LOG, LINEAR], point, generator) for point in points]
        assert all(1e-3 <= a <= 1.0 and -1.0 <= b <= 1.0 for a, b in points)


def test_decisions_depend_on_the_trials_and_the_seed_alone():
    rule, trials = pgjax.PopulationBased(), population(*range(8))
    first, again = (rule.decided([LOG, LINEAR], trials, 3) for _ in range(2))
    assert [trial.handovers for trial in first] == [trial.handovers for trial in again]
    assert first[7].handovers == (Handover((0.1, 0.0), 7),)
    assert first[0].handovers[0].source in (6, 7)
    assert first[0].point != first[0].handovers[0].point
    done = population(1.0, 2.0, status="done")
    assert rule.decided([LOG, LINEAR], done, 3) == done


@pytest.mark.parametrize(
    ("space", "fields", "options", "message"),
    [
        (SPACE, {"interval": 40}, {}, "interval must be below a member's 40 updates, got 40"),
        (SPACE, {"interval": 0}, {}, "interval must be at least 1"),
        (SPACE, {"fraction": 0.6}, {}, r"fraction must be .* from 0.0 to 0.5, got 0.6"),
        (SPACE, {"factors": (0.8, 0.0)}, {}, r"must be positive numbers, as \(0.8, 1.25\)"),
        (SPACE, {"factors": ()}, {}, "must be positive numbers"),
        (SPACE, {"resample": 1.5}, {}, "resample must be"),
        (SPACE, {}, {"num_trials": 1}, "num_trials must be at least 2, got 1"),
        ({RATE: [0.1, 0.2]}, {}, {}, r"is a list of values, and PopulationBased changes floats"),
        ({"sampler.num_trajectories": [8, 16]}, {}, {}, r"is a list of values"),
        (SPACE, {}, {"reduction": 2}, r"reduction is a field of SuccessiveHalving"),
    ],
)
def test_bad_input_is_refused_before_anything_is_compiled(space, fields, options, message):
    options = {"num_trials": 4, **options}
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        pgjax.tune(KEY, CONFIG, space, scheduler=pgjax.PopulationBased(**fields), **options)
    assert "\n" not in str(caught.value)


def test_a_scheduler_is_one_of_two_classes():
    with pytest.raises(TypeError, match=r"SuccessiveHalving\(…\) or PopulationBased\(…\), got 'p"):
        pgjax.tune(KEY, CONFIG, SPACE, scheduler="pbt")
    with pytest.raises(TypeError, match="has no field 'intervall'"):
        pgjax.PopulationBased(intervall=3)


def test_a_scheduler_is_what_its_json_says():
    for scheduler in (pgjax.PopulationBased(7, 0.5, (0.5, 2.0)), pgjax.SuccessiveHalving(3)):
        assert schedulers.from_dict(schedulers.to_dict(scheduler)) == scheduler


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scheduler", "pbtt"], "did you mean 'pbt'"),
        (
            ["--scheduler", "pbt", "--reduction", "2"],
            "--reduction is a flag of --scheduler halving",
        ),
        (["--fraction", "0.2"], "--fraction is a flag of --scheduler pbt"),
        (["--scheduler", "pbt", "--factors", "a"], "expected numbers, 0.8,1.25, got 'a'"),
        (["--scheduler", "pbt", "--interval", "50"], "scheduler.interval must be below"),
        (["--scheduler", "pbt", "--trials", "1"], "num_trials must be at least 2"),
        (["--scheduler", "pbt", "--space", "sampler.num_trajectories=8,16"], "a list of values"),
    ],
)
def test_the_command_line_refuses_in_one_line(words, message, capsys):
    assert main(["tune", "Catch-bsuite", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pgjax: ")
    assert message in error
    assert error.count("\n") == 1


RULE = pgjax.PopulationBased(interval=4, factors=(1.0, 10.0), resample=0.0)


@pytest.fixture(scope="module")
def slow_rates():
    """A population that begins with rates that are far too small, with its handovers of states; and
    the same one without any copy."""
    copies = []
    given, begun = Population.hand_over, pgjax.PopulationBased.proposals

    def hand_over(self, sources):
        before = dict(self.states)
        given(self, sources)
        copies.extend((self.states[n], before[n], before[m]) for n, m in sources.items())

    def small(self, axes, trials, number, seed):
        return [(0.01 + 0.001 * index,) for index in range(number)]

    Population.hand_over, pgjax.PopulationBased.proposals = hand_over, small
    try:
        options = {"num_trials": 6, "num_seeds": 2}
        with_copies, without = (
            pgjax.tune(KEY, CONFIG, SPACE, scheduler=RULE.replace(fraction=fraction), **options)
            for fraction in (0.25, 0.0)
        )
    finally:
        Population.hand_over, pgjax.PopulationBased.proposals = given, begun
    return with_copies, without, copies


def test_a_copy_is_its_source_to_the_bit_but_for_the_key(slow_rates):
    *_, copies = slow_rates
    assert len(copies) >= 5
    for copy, before, source in copies:
        # What is dropped is not kept by a view.
        assert all(leaf.base is None for leaf in jax.tree.leaves(source))
        keys = [state.key for state in (copy, before, source)]
        np.testing.assert_array_equal(keys[0], keys[1])
        assert (keys[0] != keys[2]).any(axis=-1).all()
        kernels = [state.params["head"]["Dense_0"]["kernel"] for state in (before, source)]
        assert (kernels[0] != kernels[1]).any()
        pairs = (state.replace(key=None) for state in (copy, source))
        jax.tree.map(np.testing.assert_array_equal, *pairs)


def test_without_copies_the_population_is_a_sweep(slow_rates):
    _, without, _ = slow_rates
    # One setting from the first update on.
    assert without.schedule() == [without.stages(without.best)[-1]._replace(first=1)]
    rates = [trial.point[0] for trial in without.trials]
    sweep = pgjax.sweep(KEY, CONFIG, {RATE: rates}, num_seeds=12)
    for number, trial in enumerate(without.trials):
        seeds = slice(2 * number, 2 * number + 2)
        returns = sweep.metrics.episode_return[number, seeds].reshape(2, 10, 4).mean(-1)
        np.testing.assert_allclose(trial.returns, returns.T, rtol=1e-6)
    assert not any(handover.source != t.number for t in without.trials for handover in t.handovers)
    best = without.best
    seed = 2 * best.number + int(best.returns[-1].argmax())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b[best.number, seed], rtol=1e-5, atol=1e-7),
        without.best_state.params,
        sweep.state.params,
    )


def test_a_short_last_interval_is_scored_over_as_many_updates_as_the_others():
    # Episodes of 9 steps, all begun together, in updates of 4: none ends in the fourth update.
    sampler = pgjax.Segments(num_envs=4, length=4)
    config = pgjax.actor_critic(
        "Catch-bsuite", network=pgjax.MLP(()), sampler=sampler, num_updates=4
    )
    pbt = pgjax.PopulationBased(interval=3, fraction=0.0)
    space = {"estimator.discount": pgjax.Uniform(0.9, 1.0)}
    tuning = pgjax.tune(KEY, config, space, num_trials=2, scheduler=pbt)
    for trial, key in zip(tuning.trials, jax.random.split(KEY, 2), strict=True):
        returns = np.asarray(pgjax.train(key, tuning.config(trial)).metrics.episode_return)
        assert np.isnan(returns[3])
        np.testing.assert_allclose(trial.returns[-1], np.nanmean(returns[1:]), rtol=1e-6)


def test_copies_make_a_population_better_whose_rates_began_too_small(slow_rates):
    with_copies, without, _ = slow_rates
    assert max(trial.score() for trial in without.trials) < 0.5
    assert min(trial.score() for trial in with_copies.trials) > 0.6
    schedule = with_copies.schedule()
    assert schedule[0].first == 1
    assert schedule[-1].last == CONFIG.num_updates
    assert all(a.last + 1 == b.first for a, b in itertools.pairwise(schedule))
    assert schedule[-1].setting == with_copies.setting(with_copies.best)
    assert schedule[-1].setting[RATE] > 10 * schedule[0].setting[RATE]
    # Each stage of another trial's begins with that trial's state, in that update.
    for before, after in itertools.pairwise(schedule):
        assert after.source == before.trial
    rates = [h.point[0] for trial in with_copies.trials for h in trial.handovers]
    assert 1e-3 <= min(rates) <= max(rates) <= 1e2


@pytest.fixture(scope="module")
def catch(tmp_path_factory):
    """The folders of a population that was interrupted after two of four intervals and resumed by
    the command, and of one that was not."""
    parent, rounds = tmp_path_factory.mktemp("tunings"), []
    options = {"num_trials": 4, "scheduler": pgjax.PopulationBased(1, factors=(0.5, 2.0))}
    space = {RATE: pgjax.LogUniform(1e-4, 1e-1), "estimator.discount": pgjax.Uniform(0.9, 1.0)}

    def interrupt(trials):
        rounds.append(trials)
        if len(rounds) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="pgjax resume"):
        pgjax.tune(KEY, CATCH, space, directory=parent / "a", on_round=interrupt, **options)
    assert main(["resume", str(parent / "a"), "--devices", "1"]) == 0
    return (
        parent / "a",
        parent / "b",
        pgjax.tune(KEY, CATCH, space, directory=parent / "b", **options),
    )


def test_an_interrupted_population_goes_on_to_the_same_lineage(catch):
    resumed, once, tuning = catch
    for name in ("lineage.csv", "schedule.csv", "trials.csv"):
        assert (resumed / name).read_text() == (once / name).read_text()
    states = [pgjax.load(path)[0] for path in (resumed, once)]
    jax.tree.map(np.testing.assert_array_equal, *(state.params for state in states))
    rows = list(csv.DictReader((once / "lineage.csv").read_text().splitlines()))
    assert len(rows) == 4 * CATCH.num_updates
    assert any(row["trial"] != row["source"] for row in rows)
    assert rows[-1]["last_update"] == "4"
    assert set(tuning.importances()) == {RATE, "estimator.discount"}


def test_the_best_members_last_config_is_a_file_for_train(catch):
    _, path, tuning = catch
    assert (path / "floats.png").stat().st_size > 1000
    assert "schedule.csv" in (path / "best.json").read_text().partition("config")[0]
    _, make_config = flags.read(["--config", str(path / "best.json")], parsers.train())
    assert make_config() == tuning.best_config


def test_the_command_prints_the_schedule(catch, capsys):
    path, _, tuning = catch
    assert main(["resume", str(path), "--devices", "1"]) == 0
    output = capsys.readouterr().out
    assert f"the schedule of trial {tuning.best.number}'s policy" in output
    assert "best schedule" in output
    assert "schedule.csv" in output
    with pytest.raises(ValueError, match="another tuning: its scheduler differs"):
        pgjax.tune(
            KEY,
            CATCH,
            {RATE: pgjax.LogUniform(1e-4, 1e-1), "estimator.discount": pgjax.Uniform(0.9, 1.0)},
            num_trials=4,
            scheduler=pgjax.PopulationBased(2),
            directory=path,
        )


@pytest.mark.slow
@pytest.mark.devices(4)
def test_members_divide_over_devices():
    options = {"num_trials": 8, "scheduler": RULE}
    one, four = (
        pgjax.tune(KEY, CONFIG, SPACE, mesh=mesh, **options) for mesh in (None, pgjax.make_mesh(4))
    )
    assert any(h.source != trial.number for trial in one.trials for h in trial.handovers)
    for given, expected in zip(four.trials, one.trials, strict=True):
        np.testing.assert_allclose(given.returns[0], expected.returns[0], rtol=1e-5)
        assert given.handovers[:1] == expected.handovers[:1]
