"""Values as means of distributions over places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import Counter
from gymnax.environments import spaces

import pgjax
from pgjax.critics import units
from pgjax.critics.two_hot import two_hot
from pgjax.training.config import bind, checked

GAMMA = 0.8


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-1.0, [1, 0, 0, 0, 0]),
        (0.5, [0, 0, 0, 1, 0]),
        (0.1, [0, 0, 0.8, 0.2, 0]),
        (-0.875, [0.75, 0.25, 0, 0, 0]),
        (3.0, [0, 0, 0, 0, 1]),
        (-1e30, [1, 0, 0, 0, 0]),
    ],
)
def test_two_hot_by_hand(value, expected):
    np.testing.assert_allclose(two_hot(jnp.asarray(value), 5), expected, atol=1e-6)


@pytest.mark.parametrize("num_bins", [2, 3, 51])
def test_a_two_hot_distribution_has_the_value_for_its_mean(num_bins):
    values = jnp.linspace(-1.0, 1.0, 97)
    found = jax.vmap(lambda x: two_hot(x, num_bins))(values)
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(found @ np.linspace(-1.0, 1.0, num_bins), values, atol=1e-6)
    assert (found > 1e-5).sum(-1).max() <= 2
    critic = pgjax.TwoHotCritic(num_bins=num_bins, limit=4.0)
    np.testing.assert_allclose(critic.value(jnp.log(found)), 4.0 * values, atol=1e-5)


def test_the_loss_is_least_where_the_value_is_the_mean_of_the_targets():
    critic, targets = pgjax.TwoHotCritic(num_bins=9, limit=2.0), np.array([-3.0, 1.0, 6.5, 7.0])
    # Reward units: 5 z + 3, of targets between −7 and 13.
    state = units.CriticState((), (), jnp.asarray(3.0), jnp.asarray(5.0), jnp.int32(1))

    def loss(logits):
        lessons = [critic.lesson_loss(state, logits, (0, target, 0.0)) for target in targets]
        return sum(lessons) / len(lessons)

    mixed = np.mean([two_hot((x - 3.0) / 10.0, 9) for x in targets], axis=0)
    best = jnp.log(jnp.maximum(mixed, 1e-30))
    np.testing.assert_allclose(jax.grad(loss)(best), 0.0, atol=1e-6)
    assert float(state.in_rewards(critic.value(best))) == pytest.approx(targets.mean(), rel=1e-5)


def test_of_all_actions_the_one_that_was_taken_learns():
    critic = pgjax.TwoHotCritic(num_bins=3)
    state = units.CriticState((), (), jnp.zeros(()), jnp.ones(()), jnp.int32(1))
    logits, lesson = jnp.arange(6.0).reshape(2, 3), (jnp.int32(1), jnp.asarray(2.0), 0.0)
    gradient = jax.grad(lambda x: critic.lesson_loss(state, x, lesson))(logits)
    alone = jax.grad(lambda x: critic.lesson_loss(state, x, lesson))(logits[1])
    np.testing.assert_array_equal(gradient[0], 0.0)
    np.testing.assert_allclose(gradient[1], alone, rtol=1e-6)


def mdp():
    random = np.random.default_rng(3)
    transition = random.dirichlet(np.ones(3), (3, 2))
    return pgjax.FiniteMDP(transition, random.normal(size=(3, 2)), [0.5, 0.3, 0.2], horizon=50)


def true_values(reward):
    """V and Q of the policy that takes either action equally often, without an end."""
    transition = np.asarray(mdp().default_params.transition)
    value = np.linalg.solve(np.eye(3) - GAMMA * transition.mean(1), reward.mean(1))
    return value, reward + GAMMA * transition @ value


ENV = mdp()


@jax.jit
def trained(state, config):
    """The state after 40 updates, and the critic's values of the three states."""
    state, _ = jax.lax.scan(lambda s, _: pgjax.update(s, config), state, length=40)
    critic = bind(config, 0).critic_at(state.policy_variables)
    return jax.vmap(lambda obs: critic.values(state.critic, obs, (), jnp.int32(0)))(jnp.eye(3))


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e6, 0.0), (1e-6, 0.0), (1.0, 3.0)])
@pytest.mark.parametrize("estimator", [pgjax.GAE, pgjax.ActionValue])
def test_it_learns_the_values_of_a_policy_at_every_scale_and_offset(estimator, scale, offset):
    params = ENV.default_params
    reward = scale * (np.asarray(params.reward) + offset)
    config = pgjax.Config(
        ENV,
        env_params=params.replace(reward=reward),
        network=pgjax.MLP(()),
        sampler=pgjax.Segments(32, 32),
        estimator=estimator(discount=GAMMA),
        critic=pgjax.TwoHotCritic(learning_rate=0.03),
        optimizer=pgjax.SGD(0.0),
        num_updates=40,
    )
    state = pgjax.init(jax.random.key(0), config)
    fair = jax.tree.map(jnp.zeros_like, state.params)
    found = trained(state.replace(params=fair), checked(config))
    value, q = true_values(reward)
    np.testing.assert_allclose(found.state, value, atol=0.1 * scale, rtol=0.02)
    if estimator is pgjax.ActionValue:
        np.testing.assert_allclose(found.action, q, atol=0.15 * scale, rtol=0.02)


class Steered(Counter):
    """Takes a number between −1 and 1."""

    def action_space(self, params=None):
        return spaces.Box(-1.0, 1.0, (1,))


@pytest.mark.slow
def test_it_goes_with_actions_that_it_cannot_list_and_with_memories():
    critic = pgjax.TwoHotCritic(pgjax.MLP((4,)))
    parts = {"sampler": pgjax.Segments(4, 8), "critic": critic, "optimizer": pgjax.SGD(0.1)}
    small = {**parts, "num_updates": 2}
    linear = pgjax.MLP(())
    q = pgjax.actor_critic(Steered(), estimator=pgjax.ActionValue(), network=linear, **small)
    memory = pgjax.actor_critic(ENV, network=pgjax.Recurrent(linear, 4), **small)
    for config in (q, memory):
        _, metrics = pgjax.train(jax.random.key(0), config)
        assert metrics.finite.all()


def test_a_monte_carlo_baseline_is_0_in_the_first_update():
    estimator = pgjax.RewardToGo(baseline="value")
    config = pgjax.Config("Catch-bsuite", estimator=estimator, critic=pgjax.TwoHotCritic())
    state = pgjax.init(jax.random.key(0), config)
    tau = pgjax.sample_trajectories(jax.random.key(1), state, config)
    critic = bind(checked(config), 0).critic_at(state.policy_variables)
    np.testing.assert_array_equal(critic.evaluate(state.critic, tau).state, 0.0)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"num_bins": 1}, ValueError, "critic.num_bins must be at least 2, got 1"),
        ({"num_bins": 5.0}, TypeError, "critic.num_bins must be an integer.*write 5"),
        ({"limit": 0.5}, ValueError, "critic.limit must be a finite number at least 1.0, got"),
        ({"td_lambda": 1.5}, ValueError, "critic.td_lambda"),
        ({"minibatches": 10**6}, ValueError, "critic.minibatches must be at most"),
        ({"network": pgjax.Recurrent()}, TypeError, "critic.network must map one observation"),
    ],
)
def test_what_options_may_be(options, kind, message):
    config = pgjax.actor_critic("Catch-bsuite", critic=pgjax.TwoHotCritic(**options))
    with pytest.raises(kind, match=message):
        pgjax.init(jax.random.key(0), config)


def test_defaults():
    assert pgjax.TwoHotCritic() == pgjax.TwoHotCritic(
        network=None,
        learning_rate=1e-3,
        epochs=4,
        minibatches=4,
        td_lambda=0.95,
        num_bins=51,
        limit=10.0,
    )
