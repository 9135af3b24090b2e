import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax import (
    ClippedRatio,
    ImportanceRatio,
    Passes,
    Probability,
    ProbabilityRatio,
    ProbabilityTimesReturn,
    ScoreFunction,
    Step,
    SummedProbabilityTimesReturn,
    TrustRegion,
)
from pgjax.core import exports

# A bandit with one state, known exactly: the first action is frequent and mediocre, the second
# rare and good.
FREQUENT, RARE = 0, 1
PROBABILITIES = np.array([0.9, 0.1])
RETURNS = np.array([1.0, 2.0])
LADDER = (Probability(), ProbabilityTimesReturn(), SummedProbabilityTimesReturn())


def contribution(objective, log_prob, entropy, weight, time):
    old = jax.lax.stop_gradient(log_prob)
    return objective.contribution(Step(log_prob, old, entropy, weight, time))


def expected_update(objective, probabilities, returns, num_steps: int = 1):
    """E[∇ Σ_t contribution] by the logits, over every sequence of actions there is."""
    logits = jnp.log(jnp.asarray(probabilities, jnp.float32))

    def contribution_of(logits, actions):
        log_probs = jax.nn.log_softmax(logits)
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs)
        weight = sum(returns[a] for a in actions)
        terms = [
            contribution(objective, log_probs[a], entropy, weight, jnp.int32(t))
            for t, a in enumerate(actions)
        ]
        return sum(terms)

    total = np.zeros(len(probabilities))
    for actions in itertools.product(range(len(probabilities)), repeat=num_steps):
        probability = math.prod(probabilities[a] for a in actions)
        total += probability * np.asarray(jax.grad(contribution_of)(logits, actions))
    return total


def exact_gradient(probabilities, returns, num_steps: int = 1):
    """∂/∂logit_k of num_steps · Σ_a p_a R_a, by hand: num_steps · p_k (R_k − U)."""
    return num_steps * probabilities * (returns - probabilities @ returns)


def test_score_function_contribution_by_hand():
    objective = ScoreFunction(entropy_coefficient=0.5)
    log_prob, entropy = jnp.array([-1.0, -2.0]), jnp.array([0.25, 0.5])
    weight, time = jnp.array([3.0, -1.0]), jnp.array([0, 1])
    np.testing.assert_array_equal(
        contribution(objective, log_prob, entropy, weight, time), [-2.875, 2.25]
    )


# Ratios to the old policy of 2, ½, 2, ½ and 1; weights of either sign.
MOVED = Step(
    log_prob=jnp.log(jnp.array([0.5, 0.25, 0.5, 0.25, 0.5])),
    old_log_prob=jnp.log(jnp.array([0.25, 0.5, 0.25, 0.5, 0.5])),
    entropy=jnp.array([0.0, 0.0, 1.0, 2.0, 4.0]),
    weight=jnp.array([3.0, 3.0, -3.0, -3.0, 3.0]),
    time=jnp.arange(5),
)


def test_clipped_ratio_by_hand():
    objective = ClippedRatio(epsilon=0.25, entropy_coefficient=0.5)
    # Clipped to 1.25 and 0.75 where the weight asks for more of the same; not where for less.
    expected = [3.75, 1.5, -6.0 + 0.5, -2.25 + 1.0, 3.0 + 2.0]
    np.testing.assert_allclose(objective.contribution(MOVED), expected, rtol=1e-6)
    report = objective.report(MOVED)
    np.testing.assert_array_equal(report["clip_fraction"], [1.0, 1.0, 1.0, 1.0, 0.0])


def test_passes_report_an_estimate_of_the_divergence():
    # ρ − 1 − log ρ.
    expected = [1 - math.log(2), math.log(2) - 0.5, 1 - math.log(2), math.log(2) - 0.5, 0.0]
    np.testing.assert_allclose(Passes().report(MOVED)["kl"], expected, rtol=1e-6)


@pytest.mark.parametrize(("epsilon", "beyond"), [(0.0, 4), (0.75, 2), (1.5, 0)])
def test_a_ratio_as_far_as_epsilon_is_not_beyond_it(epsilon, beyond):
    assert jnp.sum(ClippedRatio(epsilon=epsilon).report(MOVED)["clip_fraction"]) == beyond


def test_importance_ratio_is_the_ratio_times_the_weight():
    found = ImportanceRatio().contribution(MOVED)
    np.testing.assert_allclose(found, [6.0, 1.5, -6.0, -1.5, 3.0], rtol=1e-6)
    found = ImportanceRatio(entropy_coefficient=0.5).contribution(MOVED)
    np.testing.assert_allclose(found, [6.0, 1.5, -6.0 + 0.5, -1.5 + 1.0, 3.0 + 2.0], rtol=1e-6)


@pytest.mark.parametrize("name", exports.families()["objective"])
def test_objectives_go_through_jit(name):
    kind = getattr(pgjax, name)

    def contribution(objective, step):
        return objective.contribution(step)

    found = jax.jit(contribution)(kind(), MOVED)
    np.testing.assert_allclose(found, contribution(kind(), MOVED), rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "name", "low", "high"),
    [
        (ScoreFunction, "entropy_coefficient", 0.0, None),
        (ClippedRatio, "entropy_coefficient", 0.0, None),
        (ClippedRatio, "epsilon", 0.0, None),
        (ImportanceRatio, "entropy_coefficient", 0.0, None),
        (Passes, "max_kl", 0.0, None),
        (Passes, "epochs", 1, None),
        (Passes, "minibatches", 1, None),
        (TrustRegion, "max_kl", 0.0, None),
        (TrustRegion, "damping", 0.0, None),
        (TrustRegion, "iterations", 1, None),
        (TrustRegion, "backtracks", 1, None),
        (TrustRegion, "backtrack_factor", 0.0, 1.0),
    ],
)
def test_what_options_may_be(kind, name, low, high):
    step = 1 if isinstance(low, int) else 0.01
    allowed, refused = [low], [low - step]
    if high is not None:
        allowed, refused = [*allowed, high], [*refused, high + step]
    for value in allowed:
        kind(**{name: value}).check("objective")
    for value in refused:
        with pytest.raises(ValueError, match=rf"objective.{name} .* got {value}"):
            kind(**{name: value}).check("objective")


def test_defaults():
    # Everybody's results depend on them, so they change on purpose or not at all.
    assert ScoreFunction() == ScoreFunction(entropy_coefficient=0.0)
    assert ClippedRatio() == ClippedRatio(epsilon=0.2, entropy_coefficient=0.0)
    assert ImportanceRatio() == ImportanceRatio(entropy_coefficient=0.0)
    assert Passes() == Passes(epochs=4, minibatches=4, max_kl=None)
    assert TrustRegion() == TrustRegion(
        max_kl=0.01, damping=0.01, iterations=10, backtracks=10, backtrack_factor=0.7
    )


def test_only_the_first_rungs_look_at_the_first_action_alone():
    log_prob, weight, time = jnp.log(jnp.array([0.5, 0.5])), jnp.array([3.0, 3.0]), jnp.arange(2)

    def contributions(objective):
        return contribution(objective, log_prob, jnp.zeros(2), weight, time)

    np.testing.assert_allclose(contributions(Probability()), [0.5, 0.0], rtol=1e-6)
    np.testing.assert_allclose(contributions(ProbabilityTimesReturn()), [1.5, 0.0], rtol=1e-6)
    np.testing.assert_allclose(contributions(SummedProbabilityTimesReturn()), [1.5, 1.5], rtol=1e-6)
    np.testing.assert_allclose(contributions(ProbabilityRatio()), [3.0, 3.0], rtol=1e-6)


def test_probability_ratio_has_the_gradient_of_the_score_function():
    rng = np.random.default_rng(0)
    log_prob, weight = (jnp.asarray(rng.normal(size=20), jnp.float32) for _ in range(2))
    entropy, time = jnp.zeros(20), jnp.arange(20)

    def gradient(objective):
        def total(log_prob):
            return jnp.sum(contribution(objective, log_prob, entropy, weight, time))

        return jax.grad(total)(log_prob)

    np.testing.assert_allclose(gradient(ScoreFunction()), weight, rtol=1e-6)
    np.testing.assert_allclose(gradient(ProbabilityRatio()), weight, rtol=1e-6)


CHAIN = pgjax.FiniteMDP(
    transition=[[[0.3, 0.7], [0.9, 0.1]], [[0.5, 0.5], [0.2, 0.8]]],
    reward=[[1.0, -2.0], [0.5, 3.0]],
    initial=[0.6, 0.4],
    horizon=3,
)


@pytest.mark.slow
@pytest.mark.parametrize(("env", "horizon"), [(CHAIN, 3), ("CartPole-v1", 30)])
def test_probability_ratio_estimates_the_policy_gradient_of_the_score_function(env, horizon):
    config = pgjax.Config(
        env=env,
        network=pgjax.MLP(hidden_sizes=(8,)),
        sampler=pgjax.Episodes(num_trajectories=4, horizon=horizon),
    )
    state = pgjax.init(jax.random.key(0), config)
    key = jax.random.key(1)
    score, _ = pgjax.policy_gradient(key, state, config)
    ratio, _ = pgjax.policy_gradient(key, state, config.replace(objective=ProbabilityRatio()))
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(score))
    assert largest > 0.1
    chex.assert_trees_all_close(ratio, score, rtol=1e-5, atol=1e-6 * largest)


@pytest.mark.parametrize("objective", [ScoreFunction(), ProbabilityRatio()], ids=str)
@pytest.mark.parametrize("num_steps", [1, 2])
def test_the_right_objectives_climb_the_expected_return(objective, num_steps):
    update = expected_update(objective, PROBABILITIES, RETURNS, num_steps)
    expected = exact_gradient(PROBABILITIES, RETURNS, num_steps)
    np.testing.assert_allclose(update, expected, atol=1e-6)
    np.testing.assert_allclose(update, np.array([-0.09, 0.09]) * num_steps, atol=1e-6)


def test_probability_raises_what_is_frequent_whatever_the_reward():
    probabilities = np.array([0.7, 0.2, 0.1])
    # ½ ∇Σ p²: p_k (p_k − Σ p²), with Σ p² = 0.54.
    by_hand = [0.112, -0.068, -0.044]
    for returns in ([1.0, 1.0, 1.0], [-5.0, 0.0, 5.0]):
        update = expected_update(Probability(), probabilities, returns)
        np.testing.assert_allclose(update, by_hand, atol=1e-6)
    assert update @ exact_gradient(probabilities, np.array(returns)) < 0


def test_probability_times_return_favours_a_frequent_mediocre_action_over_a_rare_good_one():
    # p_k (p_k R_k − Σ p² R), with Σ p² R = 0.83.
    update = expected_update(ProbabilityTimesReturn(), PROBABILITIES, RETURNS)
    np.testing.assert_allclose(update, [0.063, -0.063], atol=1e-6)
    right = expected_update(ScoreFunction(), PROBABILITIES, RETURNS)
    assert update[FREQUENT] > 0 > update[RARE]
    assert right[RARE] > 0 > right[FREQUENT]


def test_summing_over_the_steps_still_counts_actions_by_their_frequency():
    update = expected_update(SummedProbabilityTimesReturn(), PROBABILITIES, RETURNS, num_steps=2)
    # Twice p_k (p_k (R_k + U) − Σ p² (R + U)), with U = 1.1 the mean return of the other step.
    np.testing.assert_allclose(update, 2 * np.array([0.1422, -0.1422]), atol=1e-6)
    assert update @ exact_gradient(PROBABILITIES, RETURNS, num_steps=2) < 0


def test_summing_over_the_steps_learns_from_every_action():
    first = expected_update(ProbabilityTimesReturn(), PROBABILITIES, RETURNS, num_steps=2)
    summed = expected_update(SummedProbabilityTimesReturn(), PROBABILITIES, RETURNS, num_steps=2)
    np.testing.assert_allclose(summed, 2 * first, rtol=1e-5)


@pytest.mark.parametrize("objective", LADDER, ids=str)
def test_uniform_probabilities_hide_what_the_ladder_does_wrong(objective):
    update = expected_update(objective, np.array([0.5, 0.5]), RETURNS)
    right = exact_gradient(np.array([0.5, 0.5]), RETURNS)
    shown = 0.0 if isinstance(objective, Probability) else 0.5
    np.testing.assert_allclose(update, shown * right, atol=1e-6)


def test_a_constant_return_moves_the_ladder_but_not_the_score_function():
    constant = np.array([10.0, 10.0])
    right = expected_update(ScoreFunction(), PROBABILITIES, constant)
    np.testing.assert_allclose(right, 0.0, atol=1e-6)
    for objective in LADDER:
        assert expected_update(objective, PROBABILITIES, constant)[FREQUENT] > 0.05


def test_the_entropy_coefficient_adds_its_multiple_of_the_entropy_gradient():
    coefficient = 0.3
    update = expected_update(ScoreFunction(coefficient), PROBABILITIES, RETURNS)
    # ∂H/∂logit_k = −p_k (log p_k + H).
    entropy = -PROBABILITIES @ np.log(PROBABILITIES)
    slope = -PROBABILITIES * (np.log(PROBABILITIES) + entropy)
    expected = exact_gradient(PROBABILITIES, RETURNS) + coefficient * slope
    np.testing.assert_allclose(update, expected, atol=1e-6)


def test_an_update_with_an_entropy_coefficient_raises_entropy_where_nothing_is_to_be_earned():
    bandit = pgjax.FiniteMDP([[[1.0]] * 3], [[0.0] * 3], [1.0], horizon=1)
    config = pgjax.Config(
        env=bandit,
        network=pgjax.MLP(hidden_sizes=()),
        sampler=pgjax.Episodes(num_trajectories=2),
        optimizer=pgjax.SGD(learning_rate=0.5),
    )
    state = pgjax.init(jax.random.key(0), config)
    skewed = jax.tree.map(lambda x: jnp.zeros_like(x).at[..., 0].set(1.0), state.params)
    state = state.replace(params=skewed)

    def entropy_after(coefficient):
        after, _ = pgjax.update(
            state, config.replace(**{"objective.entropy_coefficient": coefficient})
        )
        probabilities = np.asarray(pgjax.tabular.action_probabilities(after, config))[0]
        return -probabilities @ np.log(probabilities)

    probabilities = np.array([math.e**2, 1.0, 1.0]) / (math.e**2 + 2.0)
    before = -probabilities @ np.log(probabilities)
    np.testing.assert_allclose(entropy_after(0.0), before, rtol=1e-5)
    assert entropy_after(0.1) > before + 0.01
    assert entropy_after(1.0) > entropy_after(0.1)
