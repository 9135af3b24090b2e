"""Environments of other projects: the interface, learning, and names that do not exist."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import pgjax
from pgjax.environments import adapters
from pgjax.study.checking import check_environment
from pgjax.training.config import checked

# Brax says that it and JAXopt are no longer developed, and uses what MJX says is deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Brax System", "ignore:JAXopt", "ignore:Accessing `:DeprecationWarning"
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
    check_environment(adapters.from_brax("fast"), num_steps=60)
    check_environment(adapters.from_brax("inverted_pendulum", limit=50), num_steps=60)


def test_a_pendulum_of_brax_is_learned():
    pytest.importorskip("brax")
    config = pgjax.reinforce(adapters.from_brax("inverted_pendulum", limit=100), num_updates=15)
    config = config.replace(**{"sampler.num_trajectories": 32, "normalize_observations": True})
    assert gain(config) > 20.0


def test_navix_keeps_to_the_interface():
    pytest.importorskip("navix")
    check_environment(adapters.from_navix("Navix-Empty-5x5-v0", limit=20), num_steps=60)
    check_environment(adapters.from_navix("Navix-Dynamic-Obstacles-5x5-v0"), num_steps=60)


def test_a_room_of_navix_is_learned():
    pytest.importorskip("navix")
    env = adapters.from_navix("Navix-Empty-5x5-v0", limit=20)
    config = pgjax.reinforce(env, num_updates=25).replace(network=pgjax.MLP((32,)))
    assert gain(config) > 0.4


def test_craftax_keeps_to_the_interface():
    pytest.importorskip("craftax")
    check_environment(adapters.from_craftax("Craftax-Classic-Symbolic-v1"), num_steps=32)


def test_craftax_is_learned():
    pytest.importorskip("craftax")
    env = adapters.from_craftax("Craftax-Classic-Symbolic-v1", limit=30)
    config = pgjax.reinforce(env, num_updates=12).replace(network=pgjax.MLP((32,)))
    assert gain(config) > 0.3


MAKERS = {
    "brax": (adapters.from_brax, "inverted_pendulun", "inverted_pendulum"),
    "navix": (adapters.from_navix, "Navix-Empty-5x5-v1", "Navix-Empty-5x5-v0"),
    "craftax": (adapters.from_craftax, "Craftax-Symbolic-v2", "Craftax-Symbolic-v1"),
}


@pytest.mark.parametrize(("package", "case"), MAKERS.items(), ids=MAKERS)
def test_an_unknown_name_or_limit_is_refused(package, case):
    pytest.importorskip(package)
    make, wrong, right = case
    with pytest.raises(ValueError, match=f"unknown environment '{wrong}'; did you mean '{right}'"):
        make(wrong)
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        make(right, limit=0)
    assert make(right) is make(right)


@pytest.mark.parametrize(("package", "case"), MAKERS.items(), ids=MAKERS)
def test_a_missing_package_is_named_with_its_extra(package, case, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(adapters.importlib, "import_module", missing)
    make, wrong, _ = case
    with pytest.raises(ImportError, match=rf"need the extra: pip install 'pgjax-rl\[{package}\]'"):
        make(wrong + "never made before")


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
    monkeypatch.setattr(adapters, "_imported", lambda module, package: envs)
    env = adapters.from_brax("two", limit=7)
    assert env.observation_space().spaces["speed"].shape == (2,)
    assert env.observation_space().spaces["place"].spaces["x"].shape == ()
    assert checked(pgjax.Config(env)).env is env
