"""Flags and config.json for fields that no component of pgjax has yet: tuples, inner components."""

import json
import re

import jax.numpy as jnp
import pytest

import pgjax
from pgjax.cli import flags, parsers
from pgjax.runs import config_files, config_json
from pgjax.training import registry


@pgjax.component
class Factor(pgjax.Component):
    """A factor.

    Attributes:
      factor: at least 0.
    """

    factor: float = pgjax.option(2.0, low=0.0)


@pgjax.component
class Mixed(pgjax.Estimator):
    """Weights of another estimator, times a factor."""

    inner: pgjax.Estimator = pgjax.RewardToGo()
    scale: Factor | None = None
    powers: tuple[float, ...] = (1.0, 0.5)
    names: tuple[str, ...] = ("a",)
    pair: tuple[int, float] = (1, 0.5)

    def weights(self, trajectories):
        return jnp.zeros_like(trajectories.reward)


@pytest.fixture(autouse=True)
def member_of_the_family(monkeypatch):
    family = registry.COMPONENTS["estimator"] | {"Mixed": Mixed}
    monkeypatch.setitem(registry.COMPONENTS, "estimator", family)


def configured(*arguments):
    _, make = flags.read(["Catch-bsuite", *arguments], parsers.train())
    return make()


def mixed(*arguments):
    return configured("--estimator", "Mixed", *arguments).estimator


def test_a_tuples_elements_are_of_its_kind():
    assert mixed("--estimator.powers", "0.25", "1e-3", "2").powers == (0.25, 1e-3, 2.0)
    assert mixed("--estimator.powers").powers == ()
    assert mixed("--estimator.names", "left", "2").names == ("left", "2")
    pair = mixed("--estimator.pair", "3", "0.1").pair
    assert pair == (3, 0.1)
    assert [type(number) for number in pair] == [int, float]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--estimator.powers", "0.5,0.25"],
            "; write values with spaces between: --estimator.powers 0.5 0.25",
        ),
        (
            ["--estimator.powers", "1", "x"],
            "cannot be '1 x': could not convert string to float: 'x'",
        ),
        (["--estimator.pair", "1.5", "2"], "cannot be '1.5 2': expected a whole number"),
        (["--estimator.pair", "1", "2", "3"], "cannot be '1 2 3': expected 2 values, got 3"),
    ],
)
def test_a_wrong_element_is_answered(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        mixed(*arguments)


def test_fields_of_an_inner_component_have_flags_and_are_swept():
    assert mixed("--estimator.inner.discount", "0.5").inner == pgjax.RewardToGo(discount=0.5)
    config = pgjax.Config("Catch-bsuite", estimator=Mixed())
    grid = flags.grid(["estimator.inner.discount=0.5,1", "estimator.powers=1 2,3"], config)
    assert grid == {
        "estimator.inner.discount": [0.5, 1.0],
        "estimator.powers": [(1.0, 2.0), (3.0,)],
    }


@pytest.mark.parametrize("inner", [pgjax.RewardToGo(0.5), pgjax.VTrace(discount=0.25)], ids=repr)
def test_an_inner_component_comes_back_with_its_type(inner):
    estimator = Mixed(inner, powers=(0.25, 0.5), names=("b", "c"))
    config = pgjax.Config("Catch-bsuite", estimator=estimator)
    data = json.loads(json.dumps(config_json.to_dict(config)))
    assert data["estimator"]["inner"]["component"] == type(inner).__name__
    assert config_json.from_dict(data) == config


def test_an_inner_component_of_ones_own_is_named():
    data = config_json.to_dict(pgjax.Config("Catch-bsuite", estimator=Mixed(scale=Factor())))
    message = r"only their author has: estimator.scale \(test_flags.Factor\(factor=2.0\)\)"
    with pytest.raises(ValueError, match=message):
        config_json.from_dict(data)


def test_an_inner_component_of_another_version_is_named():
    data = config_json.to_dict(pgjax.Config("Catch-bsuite", estimator=Mixed()))
    data["estimator"]["inner"]["component"] = "RewardToG"
    with pytest.raises(ValueError, match="component 'RewardToG'; did you mean 'RewardToGo'"):
        config_json.from_dict(data)


def test_an_inner_component_in_a_config_file_is_merged(tmp_path):
    file, base = tmp_path / "run.toml", pgjax.Config("Catch-bsuite", estimator=Mixed())
    for text, inner in (
        ("estimator.inner.discount = 0.5", pgjax.RewardToGo(discount=0.5)),
        ('estimator.inner = {component = "GAE", gae_lambda = 0.5}', pgjax.GAE(gae_lambda=0.5)),
    ):
        file.write_text(text)
        assert config_files.read(file).config(base).estimator == Mixed(inner)
    file.write_text("estimator.inner.discont = 0.5")
    with pytest.raises(ValueError, match=r"did you mean 'estimator\.inner\.discount'"):
        config_files.read(file).config(base)
