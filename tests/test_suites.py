"""Environments of other projects: ids, the interface, learning, and names that do not exist."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from suites_for_tests import Levers, levers  # noqa: F401

import pgjax
from pgjax.core import distribution
from pgjax.environments import interface
from pgjax.environments.suites import brax, suite, table
from pgjax.study.checking import check_environment
from pgjax.training import presets
from pgjax.training.config import checked

ROOT = Path(__file__).parents[1]
# Brax says that it and JAXopt are no longer developed, and uses what MJX says is deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Brax System",
    "ignore:JAXopt",
    "ignore:Accessing `:DeprecationWarning",
    "ignore:jax.core.pytype_aval_mappings:DeprecationWarning",  # TensorFlow Probability, of Navix
)


# Navix and Craftax broadcast between ranks.
@pytest.fixture(autouse=True)
def _rank_promotion_inside_others():
    with jax.numpy_rank_promotion("allow"):
        yield


def gain(config, updates=5):
    """How much more the last updates' episodes return than the first update's."""
    _, metrics = pgjax.train(jax.random.key(0), config)
    returns = np.asarray(metrics.episode_return)
    return np.nanmean(returns[-updates:]) - returns[0]


def test_brax_keeps_to_the_interface():
    pytest.importorskip("brax")
    check_environment("brax/fast", num_steps=60)
    check_environment("brax/inverted_pendulum?limit=50&backend=spring", num_steps=60)


def test_a_pendulum_of_brax_is_learned():
    pytest.importorskip("brax")
    config = pgjax.reinforce("brax/inverted_pendulum?limit=100", num_updates=15)
    config = config.replace(**{"sampler.num_trajectories": 32, "normalize_observations": True})
    assert gain(config) > 20.0


def test_navix_keeps_to_the_interface():
    pytest.importorskip("navix")
    check_environment("navix/Navix-Empty-5x5-v0?limit=20", num_steps=60)
    check_environment("navix/Navix-Dynamic-Obstacles-5x5-v0", num_steps=60)


def test_a_room_of_navix_is_learned():
    pytest.importorskip("navix")
    config = pgjax.reinforce("navix/Navix-Empty-5x5-v0?limit=20", num_updates=25)
    assert gain(config.replace(network=pgjax.MLP((32,)))) > 0.4


def test_craftax_keeps_to_the_interface():
    pytest.importorskip("craftax")
    check_environment("craftax/Craftax-Classic-Symbolic-v1", num_steps=32)


def test_craftax_is_learned():
    pytest.importorskip("craftax")
    config = pgjax.reinforce("craftax/Craftax-Classic-Symbolic-v1?limit=30", num_updates=12)
    assert gain(config.replace(network=pgjax.MLP((32,)))) > 0.3


MAKERS = {
    "brax": (pgjax.from_brax, "inverted_pendulun", "inverted_pendulum"),
    "navix": (pgjax.from_navix, "Navix-Empty-5x5-v1", "Navix-Empty-5x5-v0"),
    "craftax": (pgjax.from_craftax, "Craftax-Symbolic-v2", "Craftax-Symbolic-v1"),
    "jumanji": (pgjax.from_jumanji, "Snake-v0", "Snake-v1"),
    "xminigrid": (pgjax.from_xminigrid, "MiniGrid-LockedRoom-v0", "MiniGrid-LockedRoom"),
}


@pytest.mark.parametrize(("package", "case"), MAKERS.items(), ids=MAKERS)
def test_an_unknown_name_or_limit_is_refused(package, case):
    pytest.importorskip(package)
    make, wrong, right = case
    near = f"unknown {package} environment '{wrong}'; did you mean '{right}'"
    with pytest.raises(ValueError, match=near):
        make(wrong)
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        make(right, limit=0)
    assert make(right) is interface.make(f"{package}/{right}")


@pytest.mark.parametrize(("package", "case"), MAKERS.items(), ids=MAKERS)
def test_a_missing_package_is_named_with_its_extra(package, case, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    ours = table.suite(package)
    monkeypatch.setattr(suite.importlib, "import_module", missing)
    make, name, _ = case
    sentence = rf"{package} environments need the extra: pip install 'pgjax-rl\[{package}\]'"
    with pytest.raises(ImportError, match=sentence):
        make(name)
    with pytest.raises(ImportError, match=sentence):
        ours.names()


@pytest.mark.parametrize("name", table.SUITES)
def test_a_suite_has_the_name_of_its_line_and_an_extra(name):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = table.suite(name)
    assert ours.name == name
    assert ours.extra in extras["optional-dependencies"]
    assert ours.options()
    # Gymnasium itself is among the dependencies, and its tests are everybody's.
    (everything,) = extras["optional-dependencies"]["suites"]
    assert (ours.extra in re.findall(r"\w+", everything)) == (name != "gymnasium")


@pytest.mark.parametrize("name", table.SUITES)
def test_a_suite_is_installed_if_its_names_can_be_listed(name):
    ours = table.suite(name)
    if ours.installed():
        assert len(set(ours.names())) == len(ours.names()) > 0
    else:
        with pytest.raises(distribution.MissingExtra):
            ours.names()


@pytest.mark.usefixtures("levers")
def test_an_id_is_an_environment_with_its_options():
    env = interface.make("levers/three?limit=7&pay=2.5&sign=minus&note=12")
    assert env.name == "levers/three 12"
    environment = interface.bind("levers/three?limit=7&pay=2.5&sign=minus&note=12")
    assert environment.limit == 7
    _, state = environment.reset(jax.random.key(0))
    assert environment.step(jax.random.key(1), state, jnp.int32(2)).reward == -5.0
    assert interface.default_params("levers/two").max_steps_in_episode == 5


@pytest.mark.usefixtures("levers")
def test_one_object_for_each_meaning():
    env = interface.make("levers/two")
    assert env is interface.make("levers/two")
    assert env is interface.make("levers/two?limit=5&note=none&blank=false")
    assert env is Levers().environment("two", pay=1.0)
    assert env is not interface.make("levers/two?limit=6")
    assert interface.version("levers/two") == interface.version("levers/two")
    assert interface.version("levers/two") != interface.version("brax/ant")


WRONG_IDS = {
    "Levers-two": "'Levers-two' is none of gymnax's; of levers it is levers/Levers-two",
    "lever": "unknown environment 'lever'; did you mean 'levers'?",
    "levers/tow": "unknown levers environment 'tow'; did you mean 'two'?",
    "levers/two?limt=5": "unknown option 'limt' of levers/two; did you mean 'limit'?",
    "levers/two?limit=many": "option limit of levers/two must be an integer, got 'many'",
    "levers/two?limit=1.5": "option limit of levers/two must be an integer, got '1.5'",
    "levers/two?limit=0": "limit must be at least 1, got 0",
    "levers/two?pay=much": "option pay of levers/two must be a number, got 'much'",
    "levers/two?blank=maybe": "option blank of levers/two must be true or false, got 'maybe'",
    "levers/two?sign=minos": "unknown 'minos' for option sign of levers/two; did you mean 'minus'?",
    "levers/two?limit": "options of 'levers/two.limit' are written NAME=VALUE&…, got 'limit'",
    "levers/two?limit=": "options of 'levers/two.limit=' are written NAME=VALUE&…, got 'limit='",
    "levers/two?=5": "options of 'levers/two.=5' are written NAME=VALUE&…, got '=5'",
    "levers/two?limit=5&limit=6": "has the option 'limit' twice",
    "levers/two?": "'levers/two.' has no option after its '.': write levers/two$",
    "levers/two?&": "options of 'levers/two.&' are written NAME=VALUE&…, got ''",
    "levers/two?&limit=5": "are written NAME=VALUE&…, got ''",
    "levers/two?limit=5&": "are written NAME=VALUE&…, got ''",
    "levers/two?limit=5&&pay=2": "are written NAME=VALUE&…, got ''",
    "levers/two??limit=5": "unknown option '.limit' of levers/two; did you mean 'limit'?",
    "levers/offline": "levers/offline cannot be made here: it loads data when it is made .no route",
    "levers/broken": "levers/broken cannot be made here: KeyError: 'lever'",
    "lever/two": "unknown suite 'lever' of 'lever/two'; did you mean 'levers'?",
    "levers": "'levers' is a suite: write levers/NAME; `pgjax envs levers` lists the names",
    "Levers": "unknown suite 'Levers'; did you mean 'levers'?",
    "gymnax/CartPole-v2": "unknown environment 'CartPole-v2'; did you mean 'CartPole-v1'?",
    "CartPole-v1?gravity=12": "CartPole-v1 has no options: its parameters are in env_params",
}


@pytest.mark.usefixtures("levers")
@pytest.mark.parametrize(("env_id", "message"), WRONG_IDS.items(), ids=WRONG_IDS)
def test_a_wrong_id_is_named_with_the_nearest_right_one(env_id, message):
    with pytest.raises(ValueError, match=message):
        interface.make(env_id)


@pytest.mark.parametrize("value", [True, 5.0, "5"])
def test_an_option_from_python_has_its_own_type(value):
    with pytest.raises(TypeError, match="option limit of levers/two must be an integer, got"):
        Levers().environment("two", limit=value)


def test_a_suite_of_ones_own_is_registered_once(monkeypatch):
    monkeypatch.setattr(table, "SUITES", dict(table.SUITES))

    class Mine(Levers):
        name, extra = "mine", ""

    assert pgjax.register_suite(Mine) is Mine is pgjax.register_suite(Mine)
    environment = interface.bind("mine/two?limit=3")
    _, state = environment.reset(jax.random.key(0))
    assert environment.limit == 3
    assert environment.step(jax.random.key(1), state, jnp.int32(2)).reward == 2.0
    with pytest.raises(ValueError, match="unknown mine environment 'tow'; did you mean 'two'"):
        pgjax.Config("mine/tow") and interface.make("mine/tow")
    for name, message in {
        "brax": "there is another suite 'brax'",
        "gymnax": "there is another suite 'gymnax'",
        "a/b": "letters, digits, _, . and -, got 'a/b'",
    }.items():
        with pytest.raises(ValueError, match=message):
            pgjax.register_suite(type("Other", (Levers,), {"name": name}))
    for wrong, message in {
        Mine(): "takes a class that derives from pgjax.Suite, got <",
        int: "takes a class that derives from pgjax.Suite, got <class 'int'>",
        type("Unfinished", (pgjax.Suite,), {"name": "x"}): "Unfinished needs a name, and the",
        type("Nameless", (Levers,), {}): "Nameless needs a name, and the methods",
    }.items():
        with pytest.raises(TypeError, match=message):
            pgjax.register_suite(wrong)


def test_an_id_of_gymnax_may_have_its_name_in_front():
    assert interface.make("gymnax/CartPole-v1") is interface.make("CartPole-v1")
    assert pgjax.Config("gymnax/CartPole-v1") == pgjax.Config("CartPole-v1")
    assert pgjax.preset("gymnax/CartPole-v1") == pgjax.preset("CartPole-v1")


@pytest.mark.parametrize("env_id", presets.suites_tuned())
def test_a_preset_traces(env_id):
    pytest.importorskip(table.suite(env_id.partition("/")[0]).module or env_id.partition("/")[0])
    config = pgjax.preset(env_id, num_updates=3)
    _, metrics = jax.eval_shape(pgjax.train, jax.random.key(0), config)
    assert metrics.episode_return.shape == (3,)


def test_nothing_is_imported_before_it_is_used():
    code = """
import sys, pgjax
config = pgjax.Config("brax/ant?limit=500")
import jax
jax.tree.leaves(config)
assert not any("suites." + name in module for module in sys.modules for name in ("brax", "navix"))
assert not {"brax", "navix", "craftax"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("levers")
def test_the_id_is_all_that_a_run_keeps(tmp_path):
    env_id = "levers/two?limit=3&pay=2.0"
    config = pgjax.reinforce(env_id, num_updates=2).replace(network=pgjax.MLP((4,)))
    config = config.replace(**{"sampler.num_trajectories": 2})
    pgjax.run(config, 0, tmp_path / "run")
    data = json.loads((tmp_path / "run" / "config.json").read_text())
    assert data["config"]["env"] == env_id
    _, loaded = pgjax.load(tmp_path / "run")
    assert loaded == config
    result = pgjax.resume(tmp_path / "run", config=loaded.replace(num_updates=3))
    assert int(result.state.num_updates) == 3


@struct.dataclass
class TwoSensors:
    """What of a Brax environment, and of its state, the adapter needs; it observes a dict."""

    obs: Any = None
    reward: Any = 0.0
    done: Any = 0.0
    action_size = 1

    def reset(self, key):
        return TwoSensors({"speed": jnp.zeros(2), "place": {"x": jnp.zeros(())}})

    def step(self, state, action):
        return state


def test_a_dict_of_observations_has_a_dict_for_a_space(monkeypatch):
    envs = SimpleNamespace(_envs={"two": 0}, get_environment=lambda name: TwoSensors())
    monkeypatch.setattr(brax, "imported", lambda module, extra: envs)
    env = brax.from_brax("two", limit=7)
    assert env.observation_space().spaces["speed"].shape == (2,)
    assert env.observation_space().spaces["place"].spaces["x"].shape == ()
    assert checked(pgjax.Config(env)).env is env
