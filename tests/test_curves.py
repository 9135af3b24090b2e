import dataclasses
import shutil

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

import pgjax
from pgjax.pictures import curves, plots
from pgjax.runs import config_json, folders

CONFIG = pgjax.Config(env="Catch-bsuite", num_updates=6).replace(
    **{"network.hidden_sizes": (8,), "sampler.num_trajectories": 8}
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of one config, one of another, one in another environment."""
    root = tmp_path_factory.mktemp("runs")
    cases = {
        "a0": (CONFIG, 0),
        "a1": (CONFIG, 1),
        "b0": (CONFIG.replace(**{"optimizer.learning_rate": 0.1}), 0),
        "other": (CONFIG.replace(env="SimpleBandit-bsuite"), 0),
    }
    for name, (config, seed) in cases.items():
        pgjax.run(config, seed, root / name)
    return root


def records(runs, *names):
    return [folders.read(runs / name) for name in names]


def test_seeds_of_one_config_are_one_curve_and_configs_are_told_apart(runs):
    first, second = curves.curves(records(runs, "a0", "b0", "a1"))
    assert (first.label, second.label) == ("learning rate 0.01", "learning rate 0.1")
    assert (len(first.seeds), len(second.seeds)) == (2, 1)
    assert second.low is None
    assert np.all(first.low <= first.middle + 1e-9)
    assert np.all(first.middle <= first.high + 1e-9)
    a, b = (folders.read(runs / name).metrics["episode_return"][-1] for name in ("a0", "a1"))
    assert first.middle[-1] == pytest.approx((a + b) / 2)


def test_each_environment_has_a_panel(runs, tmp_path):
    found = plots.learning_curves(records(runs, "a0", "other", "b0"), tmp_path / "p.svg")
    environments = ["Catch-bsuite", "Catch-bsuite", "SimpleBandit-bsuite"]
    assert [curve.environment for curve in found] == environments
    text = (tmp_path / "p.svg").read_text()
    assert all(f"<!-- {name}, REINFORCE -->" in text for name in environments)


def test_the_same_seed_counts_once_and_is_named(runs, tmp_path):
    shutil.copytree(runs / "a0", tmp_path / "copy")
    again = [*records(runs, "a0", "a1", "a0"), folders.read(tmp_path / "copy")]
    (curve,) = curves.curves(again)
    assert len(curve.seeds) == 2
    assert curve.repeated == [runs / "a0", tmp_path / "copy"]
    (single,) = curves.curves(records(runs, "a0", "a0"))
    assert single.low is None


@hypothesis.given(
    st.lists(
        st.fixed_dictionaries(
            {
                "env": st.just("Catch-bsuite"),
                "optimizer": st.fixed_dictionaries({"learning_rate": st.floats(0, 1)}),
                "critic": st.fixed_dictionaries(
                    {"type": st.sampled_from("AB"), "learning_rate": st.floats(0, 1)}
                ),
                "network": st.fixed_dictionaries({n: st.integers(0, 1) for n in "abcdef"}),
            }
        ),
        min_size=2,
        unique_by=str,
    )
)
def test_no_two_labels_are_alike(configs):
    assert len(set(curves.differences(configs))) == len(configs)


def test_settings_of_one_name_are_told_apart_and_no_digit_is_lost():
    rates = [(0.1, 0.5), (0.5, 0.1), (0.1234567, 0.1), (0.1234568, 0.1)]
    configs = [
        {"optimizer": {"learning_rate": a}, "critic": {"learning_rate": b}} for a, b in rates
    ]
    assert curves.differences(configs) == [
        "optimizer learning rate 0.1, critic learning rate 0.5",
        "optimizer learning rate 0.5, critic learning rate 0.1",
        "optimizer learning rate 0.1234567, critic learning rate 0.1",
        "optimizer learning rate 0.1234568, critic learning rate 0.1",
    ]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (pgjax.reinforce, "REINFORCE"),
        (pgjax.actor_critic, "actor-critic"),
        (pgjax.ppo, "PPO"),
        (pgjax.natural_policy_gradient, "natural policy gradient"),
        (lambda env: pgjax.ppo(env, ascent=pgjax.GradientStep()), "ClippedRatio"),
        (lambda env: pgjax.reinforce(env, ascent=pgjax.Passes()), "ScoreFunction by Passes"),
    ],
)
def test_a_curves_title_says_environment_and_algorithm(runs, make, name):
    config = config_json.to_dict(make("Catch-bsuite"))
    record = dataclasses.replace(folders.read(runs / "a0"), config=config)
    assert plots._panel_title([record], "Catch-bsuite") == f"Catch-bsuite, {name}"


@pytest.mark.parametrize("axis", curves.AXES)
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_pictures_are_drawn_against_any_axis(runs, tmp_path, axis, kind):
    path = tmp_path / f"picture.{kind}"
    plots.learning_curves(records(runs, "a0", "a1", "b0"), path, axis)
    assert path.stat().st_size > 5000
    assert path.read_bytes()[:4] in (b"\x89PNG", b"<?xm")


def test_other_metrics_have_panels_of_their_own(runs, tmp_path):
    (entropy,) = curves.curves(records(runs, "a0", "a1"), "update", "entropy")
    a, b = (folders.read(runs / name).metrics["entropy"] for name in ("a0", "a1"))
    middle = np.interp(np.arange(1, 7), entropy.x, entropy.middle)
    np.testing.assert_allclose(middle, (a + b) / 2, rtol=1e-5)
    metrics = ("episode_return", "entropy")
    drawn = plots.learning_curves(records(runs, "a0", "other"), tmp_path / "p.svg", metrics=metrics)
    assert [(curve.environment[:5], curve.metric) for curve in drawn] == [
        *(("Catch", "episode_return"), ("Simpl", "episode_return")),
        *(("Catch", "entropy"), ("Simpl", "entropy")),
    ]
    text = (tmp_path / "p.svg").read_text()
    assert text.count("<!-- Catch-bsuite, REINFORCE -->") == 2
    assert text.count("<!-- entropy -->") == text.count("<!-- mean episode return -->") == 2


def test_plot_takes_folders_runs_and_sweeps(runs, tmp_path):
    config = CONFIG.replace(num_updates=2)
    sweep = pgjax.sweep(jax.random.key(0), config, {"optimizer.learning_rate": [0.01, 0.1]}, 2)
    figure = pgjax.plot(sweep, tmp_path / "s.png", x="update", y=["episode_length", "entropy"])
    assert (tmp_path / "s.png").stat().st_size > 5000
    lengths, entropies = figure.axes
    assert (lengths.get_ylabel(), entropies.get_ylabel()) == ("episode length", "entropy")
    named = {line.get_label(): line for line in entropies.lines if line.get_label()[0] != "_"}
    assert list(named) == ["learning rate 0.01 (2 seeds)", "learning rate 0.1 (2 seeds)"]
    expected = sweep.metrics.entropy.mean(axis=1)
    for line, values in zip(named.values(), expected, strict=True):
        np.testing.assert_allclose(line.get_ydata()[[0, -1]], values, rtol=1e-6)
    two = pgjax.plot([str(runs / "a0"), runs / "a1"])
    assert two.axes[0].lines[-1].get_label() == "(2 seeds)"


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ([[]], {}, ValueError, "at least one run, got none"),
        (["a0"], {"y": []}, ValueError, "y needs at least one metric"),
        (
            ["a0"],
            {"y": "entropie"},
            ValueError,
            "unknown metric 'entropie'; did you mean 'entropy'",
        ),
        (["a0"], {"x": "steps"}, ValueError, "unknown axis 'steps'"),
        (["a0", "p.pdf"], {}, ValueError, "must end in .png or .svg"),
        ([3], {}, TypeError, "plot takes folders, Runs and Sweeps, got int"),
        ([None], {}, TypeError, "got NoneType"),
        (["nothing"], {}, ValueError, "does not exist"),
    ],
)
def test_what_plot_cannot_draw_is_said(runs, monkeypatch, arguments, options, error, message):
    monkeypatch.chdir(runs)
    with pytest.raises(error, match=message):
        pgjax.plot(*arguments, **options)


def test_no_part_of_a_second_reads_as_minutes_and_updates_are_whole():
    _, (axes,) = plots._figure((6.0, 4.0))
    axes.set_xlim(0.0, 0.4)
    plots._format_x(axes, "seconds")
    assert axes.xaxis.get_major_formatter().format_ticks([0.05, 0.4]) == ["0.05", "0.40"]
    axes.set_xlim(0.9, 1.1)
    plots._format_x(axes, "update")
    assert all(x == round(x) for x in axes.get_xticks())
    assert axes.xaxis.get_major_formatter().format_ticks([2500.0]) == ["2.5k"]


def test_curves_beyond_the_colours_have_another_line():
    _, (axes,) = plots._figure((6.0, 4.0))
    x = np.arange(3.0)
    for number in range(2 * len(plots.COLORS)):
        curve = curves.Curve("env", str(number), x, x, None, None, [(x, x)], [])
        plots._draw(axes, curve, number)
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 12


def test_what_cannot_be_drawn_is_said(runs, tmp_path):
    with pytest.raises(ValueError, match=r"unknown axis 'step'.*'env_steps'"):
        curves.curves(records(runs, "a0"), "step")
    with pytest.raises(ValueError, match=r"must end in .png or .svg, got 'x.pdf'"):
        plots.learning_curves(records(runs, "a0"), tmp_path / "x.pdf")


def test_metrics_that_are_not_whole_are_left_out_and_counted(runs):
    file = runs / "b0" / "metrics.csv"
    whole = file.read_text()
    lines = whole.splitlines(keepends=True)
    # Without a checkpoint nobody vouches for them.
    (runs / "b0" / "checkpoint").rename(runs / "kept")
    try:
        file.write_text("".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
        record = folders.read(runs / "b0")
        assert record.dropped == 1
        np.testing.assert_array_equal(record.metrics["update"], [1, 2, 3, 4, 5])
        file.write_text(lines[0] + "1,2\n" + "x" * 30 + "\n" + lines[2])
        record = folders.read(runs / "b0")
        assert (record.dropped, list(record.metrics["update"])) == (2, [2])
        for empty in ("", lines[0], lines[0][:10]):
            file.write_text(empty)
            with pytest.raises(ValueError, match="has no whole line"):
                folders.read(runs / "b0")
        file.unlink()
        with pytest.raises(ValueError, match="does not exist: no update has ended"):
            folders.read(runs / "b0")
    finally:
        file.write_text(whole)
        (runs / "kept").rename(runs / "b0" / "checkpoint")


def test_a_folder_that_is_none_is_said(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        folders.read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is no run folder \(no config.json\)"):
        folders.read(tmp_path)
    for text in ("{", "[]", '{"seed": 1}', '{"config": 3, "seed": 1, "stop_at_return": null}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match="cannot be read"):
            folders.read(tmp_path)


def test_a_run_without_a_finished_episode_has_no_curve(tmp_path):
    config = pgjax.ppo("CartPole-v1", num_updates=1).replace(
        **{"sampler.num_envs": 16, "sampler.length": 4}
    )
    pgjax.run(config, 0, tmp_path / "run")
    assert not (tmp_path / "run" / "learning_curve.png").exists()
    with pytest.raises(ValueError, match="no episode has ended in this run"):
        curves.curves([folders.read(tmp_path / "run")])


def test_thinning_weights_by_episodes():
    x = np.arange(1.0, 401.0)
    returns, number = np.where(x % 2, 1.0, 4.0), np.where(x % 2, 1.0, 2.0)
    returns[:2], number[:2] = np.nan, 0.0
    ends, means = curves.thinned(x, returns, number)
    np.testing.assert_array_equal(ends, np.arange(4.0, 401.0, 2.0))
    np.testing.assert_allclose(means, (1.0 + 2 * 4.0) / 3)


def test_interquartile_mean_and_its_interval():
    assert curves.interquartile_mean(np.arange(8.0)) == 3.5
    assert curves.interquartile_mean(np.array([0.0, 1.0, 2.0, 3.0, 100.0])) == pytest.approx(2.0)
    values = np.random.default_rng(0).normal(size=(200, 10))
    low, high = curves.interval(values)
    # The interval of a normal's centre, from ten values: it covers 0 a little less often than 95 %.
    assert 0.8 < np.mean((low < 0) & (high > 0)) < 0.97
