"""Exponential weights, and what weighted likelihood converges to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax import AdvantageWeighted

WEIGHTS = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, 7.0]])
VALID = np.array([[True, True, True], [True, False, False]])


def weights_of(objective, weights=WEIGHTS, valid=VALID):
    found = jax.jit(lambda o, *args: o.weights(*args))
    return np.asarray(found(objective, jnp.asarray(weights, jnp.float32), jnp.asarray(valid)))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_weights_are_exponentials_of_mean_one_over_valid_steps(temperature):
    powers = np.exp(WEIGHTS[VALID] / temperature)
    found = weights_of(AdvantageWeighted(temperature))
    np.testing.assert_allclose(found[VALID], powers / powers.mean(), rtol=1e-5)
    np.testing.assert_array_equal(found[~VALID], 0.0)
    shifted = weights_of(AdvantageWeighted(temperature), WEIGHTS + 5.0)
    np.testing.assert_allclose(shifted, found, rtol=1e-4)


def test_the_largest_weight_is_cut():
    found = weights_of(AdvantageWeighted(0.5, max_weight=1.5))
    np.testing.assert_allclose(found, np.minimum(weights_of(AdvantageWeighted(0.5)), 1.5))
    assert found.max() == 1.5


def test_at_temperature_0_the_best_steps_share_all_weight():
    weights = np.array([[2.0, -1.0], [2.0, 5.0]])
    valid = np.array([[True, True], [True, False]])
    with jax.debug_nans(True):
        found = weights_of(AdvantageWeighted(0.0), weights, valid)
    np.testing.assert_array_equal(found, [[1.5, 0.0], [1.5, 0.0]])


@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1e20, 1e36])
def test_no_magnitude_is_beyond_them(scale):
    with jax.debug_nans(True):
        found = weights_of(AdvantageWeighted(scale), WEIGHTS * scale / 4)
        huge = weights_of(AdvantageWeighted(1e-3), WEIGHTS * scale / 4)
    np.testing.assert_allclose(found, weights_of(AdvantageWeighted(4.0)), rtol=1e-4)
    assert np.isfinite(huge).all()
    assert huge[VALID].mean() == pytest.approx(1.0)


def test_without_a_valid_step_all_are_0_and_nan_is_seen():
    with jax.debug_nans(True):
        found = weights_of(AdvantageWeighted(), valid=np.zeros_like(VALID))
    np.testing.assert_array_equal(found, 0.0)
    unknown = np.where(WEIGHTS == 1.0, np.nan, WEIGHTS)
    assert np.isnan(weights_of(AdvantageWeighted(), unknown)).any()


def test_its_gradient_vanishes_at_the_old_policy_tilted_by_exponential_advantages():
    counts = np.array([5, 3, 2])  # of each action, as likely as π_old has them
    advantage, temperature = np.array([1.0, -0.5, 2.0]), 0.8
    actions = np.repeat(np.arange(3), counts)
    weights = weights_of(
        AdvantageWeighted(temperature), advantage[actions][None], actions[None] < 9
    )

    def objective(logits):
        log_prob = jax.nn.log_softmax(logits)[actions]
        zeros = jnp.zeros(len(actions))
        step = pgjax.Step(log_prob, zeros, zeros, weights[0], zeros)
        return jnp.mean(AdvantageWeighted(temperature).contribution(step))

    tilted = counts * np.exp(advantage / temperature)
    np.testing.assert_allclose(jax.grad(objective)(jnp.log(tilted)), 0.0, atol=1e-6)
    assert np.abs(jax.grad(objective)(jnp.log(counts.astype(float)))).max() > 0.1


@pytest.mark.slow
def test_an_update_climbs_the_likelihood_with_these_weights():
    random = np.random.default_rng(0)
    transition = random.dirichlet(np.ones(3), (3, 2))
    mdp = pgjax.FiniteMDP(transition, random.normal(size=(3, 2)), [0.5, 0.3, 0.2], horizon=4)
    config = pgjax.Config(
        mdp, network=pgjax.MLP(()), sampler=pgjax.Episodes(8), objective=AdvantageWeighted(0.7)
    )
    state, key = pgjax.init(jax.random.key(0), config), jax.random.key(1)
    tau = pgjax.sample_trajectories(key, state, config)
    powers = np.exp(np.asarray(config.estimator.weights(tau)) / 0.7)

    def likelihood(params):
        table = pgjax.tabular.action_probabilities(state.replace(params=params), config)
        chosen = table[jnp.argmax(tau.obs, -1), tau.action]
        return jnp.sum(jnp.log(chosen) * powers / powers.mean()) / 8

    found, _ = pgjax.policy_gradient(key, state, config)
    expected = jax.grad(likelihood)(state.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )


def test_weights_of_all_actions_are_refused():
    estimator = pgjax.ActionValue(all_actions=True)
    config = pgjax.Config("Catch-bsuite", estimator=estimator, objective=AdvantageWeighted())
    with pytest.raises(
        ValueError, match="AdvantageWeighted takes one of the action that was taken"
    ):
        pgjax.init(jax.random.key(0), config)


@pytest.mark.parametrize("name", ["temperature", "max_weight", "entropy_coefficient"])
def test_what_options_may_be(name):
    AdvantageWeighted(**{name: 0.0}).check("objective")
    with pytest.raises(ValueError, match=f"objective.{name} must be a finite number"):
        AdvantageWeighted(**{name: -0.1}).check("objective")


def test_defaults():
    assert AdvantageWeighted() == AdvantageWeighted(
        temperature=1.0, max_weight=None, entropy_coefficient=0.0
    )
