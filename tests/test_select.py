"""Networks that see some entries of an observation, and critics that see more than policies."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import HiddenContext

import pgjax
from pgjax.policies import networks
from pgjax.runs import config_json

LINEAR = pgjax.MLP(())
POLICY = pgjax.Select(("obs",), LINEAR)


def config_of(critic_entries, scale=100.0):
    critic = pgjax.Critic(pgjax.Select(critic_entries, LINEAR), learning_rate=0.02)
    return pgjax.Config(
        HiddenContext(scale),
        network=POLICY,
        critic=critic,
        estimator=pgjax.GAE(standardize=True),
        sampler=pgjax.Episodes(64),
        optimizer=pgjax.Adam(0.05),
        num_updates=100,
    )


@pytest.mark.parametrize(
    ("names", "seen"),
    [("grid", [1.0, 2.0]), (("grid",), [1.0, 2.0]), (("time", "grid"), [1.0, 2.0, 7.0])],
)
def test_a_network_sees_the_entries_named(names, seen):
    obs = {"grid": jnp.array([1.0, 2.0]), "other": jnp.array([5.0]), "time": jnp.array(7.0)}
    network = pgjax.Select(names, LINEAR)
    np.testing.assert_array_equal(network.apply({}, obs), seen)
    beside = networks.CriticInputs(memory=jnp.array([3.0]), obs=obs)
    np.testing.assert_array_equal(network.apply({}, beside), [3.0, *seen])


def test_one_name_gives_the_entry_itself():
    network = pgjax.Select("grid", pgjax.CNN((2,), 3, (4,)))
    obs = {"grid": jnp.ones((3, 3, 1)), "state": jnp.ones(2)}
    variables = network.init(jax.random.key(0), obs)
    assert network.apply(variables, obs).shape == (4,)


def test_policy_and_critic_have_their_own_entries():
    config = config_of(("state",))
    state = pgjax.init(jax.random.key(0), config)
    kernel = state.params["head"]["Dense_0"]["kernel"]
    assert kernel.shape == (1, 2)
    assert state.critic.params["values"]["kernel"].shape == (1, 1)


def test_with_a_memory_the_critic_sees_that_and_its_own_entries():
    config = config_of(("state",)).replace(
        **{"network": pgjax.Recurrent(POLICY, 3, cell=nn.LSTMCell), "sampler.num_trajectories": 2}
    )
    linear = pgjax.init(jax.random.key(0), config).critic.params
    assert linear["values"]["kernel"].shape == (3 + 3 + 1, 1)
    # Unless it has another network, an MLP of the policy's entries.
    first = pgjax.init(jax.random.key(0), config.replace(**{"critic.network": None})).critic.params
    assert first["network"]["network"]["Dense_0"]["kernel"].shape == (3 + 3 + 1, 64)
    misspelt = config.replace(**{"critic.network": pgjax.Select("stat")})
    with pytest.raises(ValueError, match=r"^critic.network: unknown .* known: obs, state"):
        pgjax.init(jax.random.key(0), misspelt)


@pytest.mark.slow
def test_a_critic_that_sees_more_makes_learning_possible():
    def right(critic_entries):
        config = config_of(critic_entries)
        keys = jax.random.split(jax.random.key(0), 10)
        states = jax.jit(jax.vmap(lambda key: pgjax.train(key, config)[0]))(keys)
        plain = config_of(critic_entries, scale=0.0)
        evaluate = lambda state: pgjax.evaluate(jax.random.key(1), state, plain, 64).mean
        return np.asarray(jax.vmap(evaluate)(states))

    # Measured: at least 0.996 on each of ten seeds, and at most 0.86.
    assert right(("state",)).min() > 0.98
    assert right(("obs",)).max() < 0.95


WRONG = [
    (
        {"network": pgjax.Select(("ob",))},
        r"^network: unknown entry 'ob' of .* mean 'obs'\? ",
    ),
    ({"critic.network": pgjax.Select("stat")}, r"^critic.network: unknown entry 'stat' .* 'state'"),
    (
        {"network": pgjax.Recurrent(pgjax.Select("obss"))},
        r"^network.network: unknown entry 'obss' .* mean 'obs'",
    ),
    ({"env": "CartPole-v1"}, r"^network: Select needs a Dict observation, got \(4,\)"),
    ({"network": pgjax.Select(())}, r"^network.names must be a name or a tuple"),
    ({"network": pgjax.Select(("obs", "obs"))}, r"tuple of different names, got \('obs', 'obs'\)"),
    ({"network": pgjax.Select(["obs"])}, r"network.names .* a list is not; use a tuple"),
    (
        {"network": pgjax.Select("obs", pgjax.Recurrent())},
        r"^network.network must have no memory, got Recurrent; write network=Recurrent\(Select\(",
    ),
    ({"network": pgjax.Select("obs", pgjax.MLP((0,)))}, r"^network.network.hidden_sizes must be"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[*range(len(WRONG))])
def test_what_cannot_be_selected_is_refused_before_compilation(changes, message):
    config = config_of(("state",)).replace(**changes)
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        jax.eval_shape(lambda key: pgjax.train(key, config), jax.random.key(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", ["obs", ("obs", "state")])
def test_a_config_that_selects_is_read_again(names):
    network = pgjax.Recurrent(pgjax.Select(names, pgjax.MLP((4,))))
    config = pgjax.actor_critic("CartPole-v1", network=network).replace(
        **{"critic.network": pgjax.Select(names)}
    )
    text = json.dumps(config_json.to_dict(config))
    assert "custom" not in text
    assert config_json.from_dict(json.loads(text)) == config
