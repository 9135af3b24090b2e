"""What a config is stored as: public names, the user's own described; no addresses."""

import json
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from environments_for_tests import Counter

import pgjax
from pgjax.runs import checkpoints, config_json


def own_optimizer(rate):
    return optax.chain(optax.scale_by_adam(), optax.scale(-1.0), optax.scale(rate))


@pgjax.component
class OwnObjective(pgjax.ScoreFunction):
    """A user's: none that a saved config can name."""


def test_acting_needs_no_optimizer_objective_or_critic(tmp_path):
    config = pgjax.actor_critic(
        "Catch-bsuite", optimizer=own_optimizer, objective=OwnObjective(), num_updates=1
    ).replace(**{"sampler.num_envs": 2, "sampler.length": 3})
    state = pgjax.init(jax.random.key(0), config)
    pgjax.save(tmp_path / "c", state, config)
    with pytest.raises(
        ValueError, match=r"objective \(.*OwnObjective.*optimizer \(.*own_optimizer"
    ):
        pgjax.load(tmp_path / "c")
    acting, found = checkpoints.load_policy(tmp_path / "c")
    pairs = zip(
        *map(jax.tree.leaves, (acting.policy_variables, state.policy_variables)), strict=True
    )
    assert all((a == b).all() for a, b in pairs)
    assert (acting.opt_state, acting.critic, acting.streams) == ((), (), ())
    result = jax.eval_shape(lambda key: pgjax.evaluate(key, acting, found, 2), jax.random.key(1))
    assert result.returns.shape == (2,)


def sequence():
    layers = (nn.Dense(8, dtype=jnp.bfloat16), nn.relu, nn.Dense(4, use_bias=False), nn.tanh)
    return nn.Sequential(layers)


def decay():
    numbers = {"init_value": 0.1, "decay_rate": 0.9, "transition_steps": pgjax.Share(0.1)}
    return pgjax.Schedule(optax.exponential_decay, **numbers)


NAMED = [
    {"optimizer": optax.adamw},
    {"optimizer": optax.contrib.muon, "optimizer.max_gradient_norm": 0.5},
    {"optimizer": optax.rmsprop, "optimizer.learning_rate": decay()},
    {"network": sequence()},
    {"network": pgjax.Recurrent(nn.Dense(8, kernel_init=nn.initializers.zeros), 8)},
    {"critic": pgjax.Critic(network=sequence())},
]


@pytest.mark.parametrize("changes", NAMED, ids=lambda changes: next(iter(changes)))
def test_what_optax_and_flax_export_is_found_again_by_its_name(changes):
    config = pgjax.ppo("CartPole-v1").replace(**changes)
    text = json.dumps(config_json.to_dict(config))
    assert "custom" not in text
    found = config_json.from_dict(json.loads(text))
    assert found == config
    assert jax.tree.structure(found) == jax.tree.structure(config)


@pytest.mark.parametrize(
    ("field", "name", "message"),
    [
        ("optimizer", "os.system", "unknown module of 'os.system'"),
        ("optimizer", "optax._src.adam", "unknown module"),
        ("optimizer", "optax.adamww", "unknown name 'optax.adamww'; did you mean 'adamw'"),
        ("network", "flax.linen.tabulate", "is no Flax module"),
        ("network", "flax.linen.__dict__", "unknown name"),
        ("estimator", "os.system", "unknown estimator"),
    ],
)
def test_a_name_from_elsewhere_is_refused(field, name, message):
    data = config_json.to_dict(pgjax.ppo("CartPole-v1"))
    data[field] = {"type": name}
    with pytest.raises(ValueError, match=message):
        config_json.from_dict(data)


class Arm(Counter):
    """An environment of the user's own, without a `__repr__`."""

    def __init__(self, length=1.0):
        super().__init__()
        self.length, self.table = length, np.arange(3.0)


class Net(nn.Module):
    """A network of the user's own."""

    size: int = 3

    def __call__(self, x):
        return x


def described(env):
    return config_json.to_dict(pgjax.Config(env))["env"]["custom"]


def test_an_object_of_the_users_own_is_stored_as_its_module_and_name():
    assert described(Arm()).startswith(f"{__name__}.Arm #")
    assert described(Arm()) == described(Arm())
    assert described(Arm()) != described(Arm(2.0))
    config = pgjax.Config("CartPole-v1", network=Net(), optimizer=lambda rate: optax.sgd(rate))
    data = config_json.to_dict(config)
    assert data["network"] == {"custom": f"{__name__}.Net(size=3)"}
    assert f"make={__name__}.test_an_object" in data["optimizer"]["custom"]
    assert " at 0x" not in json.dumps(data)


@pytest.mark.slow
def test_two_processes_describe_one_environment_alike():
    mdp = "pgjax.FiniteMDP([[[1.0]]], [[2.0]], [1.0], 3)"
    code = f"import pgjax, test_identities as t; print(t.described(t.Arm()), t.described({mdp}))"
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    own = described(Arm()), described(pgjax.FiniteMDP([[[1.0]]], [[2.0]], [1.0], 3))
    assert other.stdout.split("\n")[0] == " ".join(own)
    assert own[1].startswith("pgjax.environments.finite_mdp.FiniteMDP #")
