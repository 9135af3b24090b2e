"""The zoo: each policy loads, acts, and is as good as its card says; what it cannot do."""

import importlib
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

import pgjax
from pgjax.cli.main import main
from pgjax.runs import sources
from pgjax.runs.zoo import entries
from pgjax.study.acting import Deployed
from pgjax.study.evaluation import evaluation_key
from pgjax.training import presets
from pgjax.training.config import bind, checked

ROOT = Path(__file__).parents[1]
CARDS = {card.name: card for card in entries.zoo()}
MOST_BYTES = 5 * 2**20


def test_the_zoo_is_small():
    files = [file for file in entries.FOLDER.rglob("*") if file.is_file()]
    assert {file.name for file in files} == {"config.json", "weights.npz", "card.json"}
    assert len(files) == 3 * len(CARDS)
    assert len(CARDS) >= 3
    assert sum(file.stat().st_size for file in files) < MOST_BYTES


@pytest.mark.parametrize("name", CARDS)
def test_a_policy_loads_acts_and_fits_its_card(name):
    card, (state, config) = CARDS[name], pgjax.load_policy(name)
    assert name == f"zoo/{card.environment}" == f"zoo/{config.env}"
    assert card.algorithm == presets.algorithm(config.env)
    assert card.num_updates == config.num_updates == state.num_updates
    assert card.env_steps == state.env_steps
    assert card.parameters == sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert card.seed in card.seeds
    options = f"--algorithm preset --seed {card.seed} --devices 1"
    assert card.command == f"pgjax train {card.environment} {options}"
    for leaf in jax.tree.leaves(state.policy_variables):
        assert leaf.dtype == np.float32
        assert np.isfinite(leaf).all()
    with jax.disable_jit():  # one action is not worth a program
        deployed = Deployed(bind(checked(config), 0).policy, state.policy_variables)
        example = jax.eval_shape(deployed.environment.reset, jax.random.key(0))[0]
        obs = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), example)
        action, _ = deployed.act(obs, deployed.initial_memory())
    assert deployed.environment.action_space.contains(action)


def test_the_page_has_the_table_of_the_cards(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    table = importlib.import_module("make_zoo").table(entries.zoo())
    page = (ROOT / "docs" / "guides" / "zoo.md").read_text()
    assert f"<!-- zoo -->\n{table}<!-- end of zoo -->" in page


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_commands_list_and_card(capsys):
    code, out, _ = run(capsys, "zoo")
    header, *rows = out.partition("\n\n")[0].splitlines()
    assert (code, header.split()[0], len(rows)) == (0, "policy", len(CARDS))
    assert all(len(line) <= 80 for line in out.splitlines())
    assert any(row.startswith("CartPole-v1 ") and "500 (500 to 500)" in row for row in rows)
    for name in ("CartPole-v1", "zoo/CartPole-v1"):
        code, out, _ = run(capsys, "zoo", name)
        assert code == 0
        assert CARDS["zoo/CartPole-v1"].command in out
    _, out, _ = run(capsys, "zoo", "CartPole-v1", "--json")
    (policy,) = json.loads(out)["policies"]
    assert policy["stochastic"]["interval"] == [500.0, 500.0]
    assert len(json.loads(run(capsys, "zoo", "--json")[1])["policies"]) == len(CARDS)


ALONE = "zoo/CartPole-v1 is a policy alone, without the optimizer"
NEAREST = "unknown policy 'zoo/CartPole-v2'; did you mean 'zoo/CartPole-v1'?"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo", "CartPole-v2"], NEAREST),
        (["evaluate", "zoo/CartPole-v2"], NEAREST),
        (["resume", "zoo/CartPole-v2"], NEAREST),
        (["resume", "zoo/CartPole-v1"], ALONE),
        (["plot", "zoo/CartPole-v1"], ALONE),
        (["compare", "zoo/CartPole-v1", "runs/a"], ALONE),
        (["evaluate", "zoo/CartPole-v1", "--env", "Catch-bsuite"], "is of the environment 'CartP"),
        (["evaluate", "zoo"], "zoo does not exist"),
        (["zoo", "../policies/CartPole-v1"], "unknown policy 'zoo/../policies/CartPole-v1'"),
        (["train", "CartPole-v1", "--from", "zoo/Catch-bsuite"], "zoo/Catch-bsuite: policy, "),
    ],
)
def test_refusals_are_one_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("refused", [pgjax.load, pgjax.resume])
def test_training_does_not_go_on(refused):
    with pytest.raises(ValueError, match=ALONE):
        refused("zoo/CartPole-v1")


def test_a_folder_of_the_users_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("zoo/CartPole-v1").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"^zoo/CartPole-v1 holds no checkpoint"):
        pgjax.Agent.load("zoo/CartPole-v1")
    with pytest.raises(ValueError, match="is no run folder"):
        pgjax.resume("zoo/CartPole-v1")


def test_another_config_is_given_if_it_is_the_same_function():
    config = pgjax.Config("CartPole-v1")
    _, loaded = pgjax.load_policy("zoo/CartPole-v1", config)
    assert loaded is config
    with pytest.raises(ValueError, match=r"network.activation is 'relu', 'tanh' was saved"):
        pgjax.load_policy("zoo/CartPole-v1", config.replace(network=pgjax.MLP(activation="relu")))
    with pytest.raises(ValueError, match=r"zoo/CartPole-v1 does not fit its config: .params"):
        pgjax.load_policy("zoo/CartPole-v1", config.replace(env="Acrobot-v1"))


@pytest.fixture
def own_zoo(tmp_path, monkeypatch):
    """A zoo without policies."""
    monkeypatch.setattr(entries, "FOLDER", tmp_path)
    return tmp_path


CARD = CARDS["zoo/CartPole-v1"]


def test_weights_are_single_precision_and_are_taken_in_double(own_zoo, float64):
    config = pgjax.Config("CartPole-v1", normalize_observations=True)
    state = pgjax.init(jax.random.key(0), config)
    assert jax.tree.leaves(state.variables)[0].dtype == np.float64
    entries.write(own_zoo / "CartPole-v1", state, config, CARD)
    with np.load(own_zoo / "CartPole-v1" / "weights.npz", allow_pickle=False) as weights:
        assert {array.dtype.name for array in weights.values()} == {"float32"}
    loaded, _ = pgjax.load_policy("zoo/CartPole-v1")
    pairs = (loaded.policy_variables, state.policy_variables)
    for x, y in zip(*map(jax.tree.leaves, pairs), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=1e-7)


def test_damage_is_named(own_zoo):
    folder = own_zoo / "CartPole-v1"
    config = pgjax.Config("CartPole-v1")
    entries.write(folder, pgjax.init(jax.random.key(0), config), config, CARD)
    assert pgjax.zoo() == (CARD,)
    with pytest.raises(FileExistsError):
        entries.write(folder, pgjax.init(jax.random.key(0), config), config, CARD)
    (folder / "weights.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"weights.npz cannot be read"):
        pgjax.load_policy("zoo/CartPole-v1")
    (folder / "card.json").write_text("{}")
    with pytest.raises(ValueError, match=r"card.json cannot be read \(field environment is miss"):
        pgjax.zoo()


def test_training_starts_from_a_policy():
    config = pgjax.preset("Catch-bsuite")
    source = sources.read("zoo/Catch-bsuite", ("policy",), checked(config))
    expected, _ = pgjax.load_policy("zoo/Catch-bsuite")
    state = source.transferred(pgjax.init(jax.random.key(0), config))
    jax.tree.map(np.testing.assert_array_equal, state.params, expected.params)
    (entry,) = source.history()
    assert entry["started_from"]["update"] == CARDS["zoo/Catch-bsuite"].num_updates


@pytest.mark.slow
def test_commands_take_a_policy(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "zoo/Catch-bsuite"
    code, out, err = run(capsys, "evaluate", name, "--eval-episodes", 8, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["run"], result["updates"]) == (name, CARDS[name].num_updates)
    assert result["stochastic"]["return"] == 1.0
    code, _, err = run(capsys, "render", name, "--deterministic")
    assert code == 0, err
    code, _, err = run(capsys, "export", name, "--format", "numpy", "--eval-episodes", 8)
    assert code == 0, err
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"Catch-bsuite-episodes.gif", "Catch-bsuite-numpy"}


NUM_EPISODES = 32


@pytest.mark.slow
@pytest.mark.parametrize("name", CARDS)
def test_a_policy_is_as_good_as_its_card(name):
    state, config = pgjax.load_policy(name)
    result, stated = pgjax.evaluate(evaluation_key(0), state, config, NUM_EPISODES), CARDS[name]
    stated = stated.stochastic
    variance = stated.standard_deviation**2 * (1 / NUM_EPISODES + 1 / stated.episodes)
    # Four standard errors of the difference between two means; sums are rounded.
    tolerance = 4 * math.sqrt(variance) + 1e-5 * abs(stated.mean)
    assert abs(float(result.mean) - stated.mean) <= tolerance
