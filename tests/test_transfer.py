"""Training that starts from another one: parts by choice, the source's return, refusals by path."""

import dataclasses
import json

import jax
import numpy as np
import optax
import pytest

import pgjax
from pgjax.cli.main import main
from pgjax.pictures import curves
from pgjax.runs import checkpoints, folders
from pgjax.training import transfer

KEY = jax.random.key(0)
CONFIG = pgjax.actor_critic("Catch-bsuite", num_updates=2, normalize_observations=True).replace(
    **{"network.hidden_sizes": (4,), "sampler.num_envs": 2, "sampler.length": 8}
)
FLAGS = ["--algorithm", "a2c", "--network.hidden-sizes", "4", "--sampler.num-envs", "2"]


@pytest.fixture(scope="module")
def states():
    """Two states that differ in every number that a transfer may take."""
    first, second = (pgjax.init(jax.random.key(seed), CONFIG) for seed in (0, 1))
    return first, jax.tree.map(
        lambda x: x + 1 if jax.numpy.issubdtype(x.dtype, jax.numpy.number) else x, second
    )


@pytest.mark.parametrize(
    ("parts", "taken"),
    [
        (transfer.DEFAULT, (".params", ".variables['normalizer']", ".critic")),
        (("policy",), (".params",)),
        (("normalizer",), (".variables['normalizer']",)),
        (("optimizer",), (".opt_state",)),
        (("critic", "optimizer"), (".critic", ".opt_state")),
        ((), ()),
    ],
)
def test_the_parts_that_are_named_are_the_sources_and_no_others(states, parts, taken):
    state, source = map(checkpoints.to_arrays, states)
    result = checkpoints.to_arrays(pgjax.transfer(*states, parts))
    assert result.keys() == state.keys()
    for name, array in result.items():
        moments = name.startswith(".critic.opt_state") and "optimizer" not in parts
        expected = source if name.startswith(taken) and not moments and taken else state
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize(
    ("changes", "parts", "message"),
    [
        (
            {"network.hidden_sizes": (5,)},
            ("policy",),
            r"\.params\['head'\].* the config has float32",
        ),
        ({"env": "CartPole-v1"}, ("policy",), r"\.params\['head'\]\['Dense_0'\]"),
        ({"normalize_observations": False}, transfer.DEFAULT, r"\.variables\['normalizer'\]"),
        ({"estimator": pgjax.RewardToGo()}, transfer.DEFAULT, r"\.critic\.params.* not have"),
        ({"optimizer": pgjax.SGD()}, ("optimizer",), r"\.opt_state\[0\]\.count"),
        ({}, ("polcy",), "unknown part 'polcy'; did you mean 'policy'"),
    ],
)
def test_other_shapes_are_refused_by_path(states, changes, parts, message):
    config = CONFIG.replace(**changes)
    if "estimator" in changes:
        config = config.replace(sampler=pgjax.Episodes(num_trajectories=2, horizon=8))
    like = jax.eval_shape(pgjax.init, KEY, config)
    with pytest.raises(ValueError, match=message):
        transfer.check(checkpoints.to_arrays(states[1]), like, parts)


def test_two_states_are_needed(states):
    with pytest.raises(TypeError, match="takes two TrainStates, got dict"):
        pgjax.transfer(states[0], {})


def head_only(learning_rate):
    """Adam for the head; the network is frozen."""

    def labels(params):
        return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key, params)

    parts = {"head": optax.adam(learning_rate), "network": optax.set_to_zero()}
    return optax.multi_transform(parts, labels)


def test_frozen_layers_keep_their_bits_while_others_move():
    config = pgjax.Config("Catch-bsuite", optimizer=head_only, num_updates=2).replace(
        **{"network.hidden_sizes": (4,), "sampler.num_trajectories": 4}
    )
    # Without a baseline no gradient is 0, even where all returns are equal.
    config = config.replace(**{"estimator.baseline": "none", "optimizer.max_gradient_norm": 1.0})
    start, source = (pgjax.init(jax.random.key(seed), config) for seed in (0, 1))
    start = pgjax.transfer(start, source)
    state, metrics = pgjax.update(start, config)
    state, _ = pgjax.update(state, config)
    for part, moves in (("network", False), ("head", True)):
        for before, after in zip(
            *(jax.tree.leaves(params[part]) for params in (source.params, state.params)),
            strict=True,
        ):
            assert np.any(np.asarray(before) != np.asarray(after)) == moves
    assert metrics.gradient_norm > 0
    # Moments of the head's two arrays alone, and Adam's count.
    assert len(jax.tree.leaves(state.opt_state)) == 2 * 2 + 1


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run's folder and its final state."""
    folder = tmp_path_factory.mktemp("runs") / "source"
    return folder, pgjax.run(CONFIG.replace(normalize_observations=False), 0, folder).state


def test_a_run_that_starts_from_another_has_its_return(source, tmp_path):
    folder, trained = source
    path, config = tmp_path / "run", CONFIG.replace(normalize_observations=False)
    config = config.replace(**{"optimizer.learning_rate": 0.0})
    state = pgjax.run(config, 3, path, start_from=folder).state
    jax.tree.map(np.testing.assert_array_equal, state.params, trained.params)
    result, expected = (pgjax.evaluate(KEY, x, config, 8) for x in (state, trained))
    np.testing.assert_array_equal(result.returns, expected.returns)
    facts = json.loads((folder / "config.json").read_text())
    (entry,) = json.loads((path / "config.json").read_text())["history"]
    parts = ["policy", "critic", "normalizer"]
    started = {"folder": str(folder), "run": facts["run"], "update": 2, "parts": parts}
    assert entry == {"from_update": 0, "started_from": started}
    # The critic goes on from its fits, too.
    assert int(state.critic.num_fits) == int(trained.critic.num_fits) + 2
    assert checkpoints.notes(path)["facts"]["history"] == [entry]
    # It is no further seed of the runs that start from fresh parameters.
    record = folders.read(path)
    fresh, tuned = curves.curves([dataclasses.replace(record, start="fresh"), record])
    assert (fresh.label, fresh.repeated, tuned.repeated) == ("start fresh", [], [])
    assert tuned.label == "start from policy, critic, normalizer"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--network.hidden-sizes", "5"],
            ".params['head']['Dense_0']['kernel'] is float32[4, 3], the",
        ),
        (["--network.activation", "relu"], "network.activation is 'relu', 'tanh' was saved"),
        (["--normalize-observations"], ".variables['normalizer'].mean is missing"),
        (["--from-parts", "policy,critics"], "unknown part 'critics'; did you mean 'critic'"),
        (["--from", "nowhere"], "nowhere does not exist"),
    ],
)
def test_what_does_not_fit_is_one_line_before_training(source, tmp_path, flags, message, capsys):
    path = tmp_path / "run"
    command = ["train", "Catch-bsuite", *FLAGS, "--directory", str(path)]
    assert main([*command, "--from", str(source[0]), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert (len(error.splitlines()), path.exists()) == (1, False)


def test_parts_need_a_source(capsys):
    assert main(["train", "Catch-bsuite", "--from-parts", "policy"]) == 2
    assert "--from-parts needs --from RUN" in capsys.readouterr().err


def test_every_run_of_a_sweep_starts_from_the_source_and_the_folder_says_so(
    source, tmp_path, capsys
):
    folder, trained = source
    path = tmp_path / "sweep"
    command = ["sweep", "Catch-bsuite", *FLAGS, "--num-updates", "1", "--sampler.length", "10"]
    command += ["--num-seeds", "2", "--directory", str(path)]
    grid = ["--grid", "optimizer.learning_rate=0,1", "--from", str(folder)]
    assert main([*command, *grid, "--from-parts", "policy"]) == 0
    run_id = json.loads((folder / "config.json").read_text())["run"]
    expected = {"folder": str(folder), "run": run_id, "update": 2, "parts": ["policy"]}
    assert json.loads((path / "sweep.json").read_text())["started_from"] == expected
    sweep = pgjax.resume_sweep(path)
    for leaf, learned in zip(
        *map(jax.tree.leaves, (sweep.state.params, trained.params)), strict=True
    ):
        still = np.asarray(leaf)[0]  # the setting whose learning rate is 0
        np.testing.assert_array_equal(still, np.broadcast_to(learned, still.shape))
    assert main([*command, *grid[:2]]) == 2
    assert "another sweep: its started from differs" in capsys.readouterr().err
    # Runs of two sources are two curves, each of both seeds.
    records = [r for r in folders.read_all(path) if r.config["optimizer"]["learning_rate"] == 0]
    others = [dataclasses.replace(record, source="other") for record in records]
    first, second = curves.curves([*records, *others])
    assert (len(first.seeds), len(second.seeds)) == (2, 2)
    assert first.label == f"source source {run_id[:8]} at update 2"
    assert (first.repeated, second.repeated) == ([], [])


@pytest.mark.slow
def test_the_trials_of_a_tuning_start_from_the_source(source, tmp_path):
    folder, trained = source
    config = CONFIG.replace(
        **{"normalize_observations": False, "num_updates": 1, "optimizer.learning_rate": 0.0}
    )
    space = {"estimator.discount": pgjax.Uniform(0.9, 1.0)}
    options = {"num_trials": 1, "num_seeds": 1, "search": "random", "halvings": 0}
    path = tmp_path / "tuning"
    tuning = pgjax.tune(KEY, config, space, directory=path, start_from=folder, **options)
    jax.tree.map(np.testing.assert_array_equal, tuning.best_state.params, trained.params)
    assert json.loads((path / "tuning.json").read_text())["started_from"]["update"] == 2
    again = pgjax.resume_tune(path)
    jax.tree.map(np.testing.assert_array_equal, again.best_state.params, trained.params)
    with pytest.raises(ValueError, match="another tuning: its started from differs"):
        pgjax.tune(KEY, config, space, directory=path, **options)
    wide = config.replace(**{"network.hidden_sizes": (5,)})
    with pytest.raises(ValueError, match=r"cannot be taken: \.params"):
        pgjax.tune(KEY, wide, space, start_from=folder, **options)
