"""The critic in the policy's own network: one gradient for both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax.runs import config_json
from pgjax.training import updates
from pgjax.training.config import bind, checked

LINEAR = pgjax.MLP((5,))


def config_of(**changes):
    fields = {
        "network": LINEAR,
        "critic": pgjax.SharedCritic(),
        "sampler": pgjax.Segments(num_envs=4, length=12),
        "estimator": pgjax.GAE(),
    }
    return pgjax.Config("Catch-bsuite", **{**fields, **changes})


def naive(params, task, config, number):
    """The objective less the value's loss, as the docstring has it: no chunks, no masks."""
    tau, coefficient = task.surrogate.trajectories, config.critic.value_coefficient
    policy = task.surrogate.terms.policy
    weights = task.surrogate.weights()
    _, target, old = task.lesson

    def step(obs, action, weight, target, old):
        found = policy.outputs({"params": params}, obs, ())
        error = found.value - task.critic_state.in_units(target)
        return found.distribution.log_prob(action) * weight - coefficient * 0.5 * error**2

    terms = jax.vmap(jax.vmap(step))(tau.obs, tau.action, weights, target, old)
    return jnp.sum(jnp.where(tau.valid, terms, 0.0)) / number(tau)


SAMPLERS = [
    (pgjax.Segments(num_envs=4, length=12), lambda tau: jnp.sum(tau.valid)),
    (pgjax.Episodes(num_trajectories=4), lambda tau: tau.valid.shape[1]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "number"), SAMPLERS, ids=["Segments", "Episodes"])
def test_the_gradient_is_that_of_the_objective_less_the_loss(sampler, number):
    config = checked(config_of(sampler=sampler))
    state = pgjax.init(jax.random.key(0), config)
    bound = bind(config, 0)
    tau, _ = updates.sample(jax.random.key(1), state, bound)
    task = updates.task(state, tau, bound)
    found = task.surrogate.gradient(state.params, task.surrogate.batch())
    value, gradient = jax.value_and_grad(naive)(state.params, task, config, number)
    np.testing.assert_allclose(found.objective, value, rtol=1e-5)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
        found.direction,
        gradient,
    )
    assert float(jnp.abs(found.direction["value"]["Dense_0"]["kernel"]).max()) > 0


def test_without_a_coefficient_only_the_policy_moves():
    config = config_of(critic=pgjax.SharedCritic(value_coefficient=0.0))
    state = pgjax.init(jax.random.key(0), config)
    gradient, _ = pgjax.policy_gradient(jax.random.key(1), state, config)
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradient["value"]))
    assert any(leaf.any() for leaf in jax.tree.leaves(gradient["head"]))


def test_the_weights_are_those_of_values_before_the_update():
    """Two coefficients learn otherwise, but their first update has the same trajectories."""
    found = []
    for coefficient in (0.0, 5.0):
        config = config_of(critic=pgjax.SharedCritic(value_coefficient=coefficient))
        state = pgjax.init(jax.random.key(0), config)
        bound = bind(checked(config), 0)
        tau, _ = updates.sample(jax.random.key(1), state, bound)
        found.append(updates.task(state, tau, bound).surrogate.weights())
    np.testing.assert_array_equal(*found)


NETWORKS = [
    pgjax.MLP((32,)),
    pgjax.CNN((4,), hidden_sizes=(16,)),
    pgjax.Recurrent(pgjax.MLP((16,)), 16),
]


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: type(n).__name__)
def test_ppo_learns_with_any_network(network):
    env = "Breakout-MinAtar" if isinstance(network, pgjax.CNN) else "Catch-bsuite"
    updates_made = 1 if isinstance(network, pgjax.CNN) else 40
    config = pgjax.ppo(env, network=network, critic=pgjax.SharedCritic(), num_updates=updates_made)
    state, metrics = pgjax.train(jax.random.key(0), config)
    assert metrics.finite.all()
    if updates_made > 1:
        assert metrics.episode_return[-5:].mean() > 0.8
        assert metrics.extra["explained_variance"][1:].max() > 0.3
    assert "value" in state.params
    assert state.critic.params == ()


def test_action_values_of_all_actions():
    config = config_of(estimator=pgjax.ActionValue(all_actions=True), num_updates=2)
    _, metrics = pgjax.train(jax.random.key(0), config)
    assert metrics.finite.all()


def test_an_estimator_without_a_critic_has_no_second_output():
    config = config_of(sampler=pgjax.Episodes(4), estimator=pgjax.RewardToGo())
    assert "value" not in pgjax.init(jax.random.key(0), config).params


BAD = [
    (
        lambda: pgjax.natural_policy_gradient("Catch-bsuite", critic=pgjax.SharedCritic()),
        ValueError,
        r"TrustRegion cannot climb the loss of a SharedCritic: use critic=Critic\(\)",
    ),
    (
        lambda: pgjax.actor_critic(
            "Pendulum-v1", critic=pgjax.SharedCritic(), estimator=pgjax.ActionValue()
        ),
        TypeError,
        r"ActionValue no value of an action in Box\(1\).*use critic=Critic\(\)",
    ),
    (
        lambda: config_of(critic=pgjax.SharedCritic(value_coefficient=-1.0)),
        ValueError,
        "critic.value_coefficient must be",
    ),
    (
        lambda: config_of(critic=pgjax.SharedCritic(loss="mse")),
        ValueError,
        "critic.loss 'mse'.*squared",
    ),
]


@pytest.mark.parametrize(("make", "kind", "message"), BAD)
def test_what_cannot_be_is_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        checked(make())


def test_it_is_known_by_name():
    config = config_of(critic=pgjax.SharedCritic(value_coefficient=0.25, value_clip=0.2))
    assert config_json.from_dict(config_json.to_dict(config)) == config


@pytest.mark.slow
def test_seeds_go_through_vmap_and_the_coefficient_is_traced():
    keys = jax.random.split(jax.random.key(0), 2)
    config = config_of(num_updates=2)
    train = jax.vmap(pgjax.train, in_axes=(0, None))
    _, metrics = train(keys, config)
    alone = pgjax.train(keys[1], config)[1]
    np.testing.assert_allclose(metrics.objective[1], alone.objective, rtol=1e-4)
