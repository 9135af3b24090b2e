import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import GAE, ActionValue, RewardToGo, TotalReturn, Trajectories, Values
from pgjax.estimators.estimator import standardized

REWARDS = [
    [1.0, -2.0, 0.5, 3.0],
    [0.25],
    [2.0, 2.0],
    [-1.0, 0.0, 4.0, -3.0],
    [0.0, 1.5, 1.0],
]
BASELINES = ("none", "mean", "leave_one_out")
ESTIMATORS = [
    kind(discount=discount, baseline=baseline, standardize=standardize)
    for kind, discount, baseline, standardize in itertools.product(
        (TotalReturn, RewardToGo), (1.0, 0.9), BASELINES, (False, True)
    )
]
compute_weights = jax.jit(lambda estimator, *inputs: estimator.weights(*inputs))
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)


def trajectories_of(rewards: list[list[float]], num_steps: int | None = None) -> Trajectories:
    """Trajectories that end where their lists of rewards do, padded to `num_steps`."""
    lengths = np.array([len(r) for r in rewards])
    num_steps = num_steps or lengths.max()
    reward = np.zeros((num_steps, len(rewards)), np.float32)
    for i, r in enumerate(rewards):
        reward[: len(r), i] = r
    time = np.arange(num_steps)[:, None]
    return Trajectories(
        obs=jnp.zeros((num_steps, len(rewards), 1)),
        memory=(),
        action=jnp.zeros((num_steps, len(rewards)), jnp.int32),
        log_prob=jnp.zeros((num_steps, len(rewards))),
        reward=jnp.asarray(reward),
        valid=jnp.asarray(time < lengths[None]),
        terminated=jnp.asarray(time == lengths[None] - 1),
        truncated=jnp.zeros((num_steps, len(rewards)), bool),
        final_obs=jnp.zeros((len(rewards), 1)),
        final_memory=(),
    )


def slow_weights(estimator, rewards):
    """{(t, i): weight}, one trajectory and one step after the other."""

    def discounted(r):
        return sum(estimator.discount**k * reward for k, reward in enumerate(r))

    def value(i, t):
        return discounted(rewards[i][t:] if isinstance(estimator, RewardToGo) else rewards[i])

    def baseline(i, t):
        among = list(range(len(rewards)))
        if isinstance(estimator, RewardToGo):
            among = [j for j in among if t < len(rewards[j])]
        if estimator.baseline == "leave_one_out":
            among.remove(i)
        if estimator.baseline == "none" or not among:
            return 0.0
        return sum(value(j, t) for j in among) / len(among)

    steps = [(t, i) for i, r in enumerate(rewards) for t in range(len(r))]
    weights = {(t, i): value(i, t) - baseline(i, t) for t, i in steps}
    if not estimator.standardize:
        return weights
    centre, spread = np.mean(list(weights.values())), np.std(list(weights.values()))
    return {step: (weight - centre) / spread for step, weight in weights.items()}


def test_total_return_by_hand():
    trajectories = trajectories_of([[1.0, 2.0], [4.0]])
    weights = compute_weights(TotalReturn(), trajectories)
    np.testing.assert_array_equal(weights, [[3.0, 4.0], [3.0, 0.0]])
    weights = compute_weights(TotalReturn(discount=0.5), trajectories)
    np.testing.assert_array_equal(weights, [[2.0, 4.0], [2.0, 0.0]])
    weights = compute_weights(TotalReturn(baseline="mean"), trajectories)
    np.testing.assert_array_equal(weights, [[-0.5, 0.5], [-0.5, 0.0]])
    weights = compute_weights(TotalReturn(baseline="leave_one_out"), trajectories)
    np.testing.assert_array_equal(weights, [[-1.0, 1.0], [-1.0, 0.0]])


def test_reward_to_go_by_hand():
    trajectories = trajectories_of([[1.0, 2.0], [4.0]])
    weights = compute_weights(RewardToGo(baseline="none"), trajectories)
    np.testing.assert_array_equal(weights, [[3.0, 4.0], [2.0, 0.0]])
    weights = compute_weights(RewardToGo(baseline="none", discount=0.5), trajectories)
    np.testing.assert_array_equal(weights, [[2.0, 4.0], [2.0, 0.0]])
    # At the second step only the first trajectory runs: it is its own mean, and has no others.
    weights = compute_weights(RewardToGo(baseline="mean"), trajectories)
    np.testing.assert_array_equal(weights, [[-0.5, 0.5], [0.0, 0.0]])
    weights = compute_weights(RewardToGo(baseline="leave_one_out"), trajectories)
    np.testing.assert_array_equal(weights, [[-1.0, 1.0], [2.0, 0.0]])


# Of three rows and of the one after, of two trajectories of two actions.
VALUES = Values(
    state=jnp.array([[0.5, 1.0], [2.0, -1.0], [4.0, 8.0], [16.0, 32.0]]),
    action=jnp.array(
        [[[1.0, 2.0], [3.0, 5.0]], [[7.0, 4.0], [6.0, 9.0]], [[8.0, 1.0], [2.0, 3.0]]]
    ),
    probability=jnp.array(
        [[[0.5, 0.5], [0.25, 0.75]], [[1.0, 0.0], [0.5, 0.5]], [[0.25, 0.75], [0.5, 0.5]]]
    ),
)


def test_a_value_baseline_by_hand():
    trajectories = trajectories_of([[1.0, 2.0, 4.0], [4.0, 1.0]])
    weights = compute_weights(TotalReturn(baseline="value"), trajectories, VALUES)
    np.testing.assert_array_equal(weights, [[6.5, 4.0], [6.5, 4.0], [6.5, 0.0]])
    weights = compute_weights(RewardToGo(baseline="value"), trajectories, VALUES)
    np.testing.assert_array_equal(weights, [[6.5, 4.0], [4.0, 2.0], [0.0, 0.0]])


def test_gae_by_hand():
    trajectories = trajectories_of([[1.0, 2.0, 4.0], [4.0, 1.0]])
    # The errors are 1.5, 2 and 0 of the first; 2.5 and 2 of the second: each ends by itself.
    weights = compute_weights(GAE(discount=0.5, gae_lambda=0.5), trajectories, VALUES)
    np.testing.assert_array_equal(weights, [[2.0, 3.0], [2.0, 2.0], [0.0, 0.0]])
    cut = trajectories.replace(terminated=trajectories.truncated, truncated=trajectories.terminated)
    # Cut off by a time limit, each gets half of what follows on top: of 16, and of 8.
    weights = compute_weights(GAE(discount=0.5, gae_lambda=0.5), cut, VALUES)
    np.testing.assert_array_equal(weights, [[2.5, 4.0], [4.0, 6.0], [8.0, 0.0]])


def test_action_value_by_hand():
    trajectories = trajectories_of([[1.0, 2.0, 4.0], [4.0, 1.0]])
    trajectories = trajectories.replace(action=jnp.array([[0, 1], [1, 0], [0, 0]]))
    weights = compute_weights(ActionValue(), trajectories, VALUES)
    np.testing.assert_array_equal(weights, [[0.5, 4.0], [2.0, 7.0], [4.0, 0.0]])
    weights = compute_weights(ActionValue(all_actions=True), trajectories, VALUES)
    first, second, third = [[0.25, 0.75], [0.5, 3.0]], [[5.0, 0.0], [3.5, 5.0]], [1.0, -2.25]
    np.testing.assert_array_equal(weights, [first, second, [third, [0.0, 0.0]]])
    # Of actions that are not discrete, the critic gives the value of the one that was taken.
    taken = Values(VALUES.state, VALUES.action[..., 1])
    weights = compute_weights(ActionValue(), trajectories, taken)
    np.testing.assert_array_equal(weights, [[1.5, 4.0], [2.0, 10.0], [-3.0, 0.0]])


@pytest.mark.parametrize(
    "estimator",
    [
        TotalReturn(baseline="value", standardize=True),
        RewardToGo(baseline="value", standardize=True),
        GAE(standardize=True),
        ActionValue(standardize=True),
        ActionValue(standardize=True, all_actions=True),
    ],
    ids=repr,
)
def test_weights_by_a_critic_are_standardized_over_valid_steps(estimator):
    trajectories = trajectories_of([[1.0, 2.0, 4.0], [4.0, 1.0]])
    plain = np.asarray(compute_weights(estimator.replace(standardize=False), trajectories, VALUES))
    weights = compute_weights(estimator, trajectories, VALUES)
    valid = np.asarray(trajectories.valid)
    expected = (plain[valid] - plain[valid].mean()) / plain[valid].std()
    np.testing.assert_allclose(np.asarray(weights)[valid], expected, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(weights)[~valid], 0.0)


@pytest.mark.parametrize(
    ("estimator", "critic", "needs_whole_episodes", "bootstraps"),
    [
        (TotalReturn(), None, True, False),
        (RewardToGo(baseline="leave_one_out"), None, True, False),
        (RewardToGo(baseline="mean"), None, True, False),
        (RewardToGo(baseline="value"), "states", True, False),
        (GAE(), "states", False, True),
        (ActionValue(), "actions", False, True),
    ],
    ids=str,
)
def test_what_estimators_ask_for(estimator, critic, needs_whole_episodes, bootstraps):
    assert estimator.critic == critic
    assert estimator.needs_whole_episodes is needs_whole_episodes
    assert estimator.bootstraps is bootstraps


@pytest.mark.parametrize(
    ("estimator", "least"),
    [(TotalReturn(), 1), (RewardToGo(), 2), (RewardToGo(baseline="value"), 1)],
)
def test_estimators_know_the_least_number_of_trajectories(estimator, least):
    assert estimator.min_trajectories == least


@pytest.mark.parametrize("kind", [TotalReturn, RewardToGo, GAE, ActionValue])
def test_discounts_and_traces_are_from_0_to_1(kind):
    for name in {"discount", "gae_lambda"} & set(kind.__annotations__):
        for allowed in (0.0, 1.0):
            kind(**{name: allowed}).check("estimator")
        for beyond in (-0.01, 1.01):
            with pytest.raises(ValueError, match=rf"estimator.{name} .* got {beyond}"):
                kind(**{name: beyond}).check("estimator")


def test_defaults():
    # Everybody's results depend on them, so they change on purpose or not at all.
    assert TotalReturn() == TotalReturn(1.0, "none", False)
    assert RewardToGo() == RewardToGo(1.0, "leave_one_out", False)
    assert GAE() == GAE(discount=0.99, gae_lambda=0.95, standardize=False)
    assert ActionValue() == ActionValue(discount=0.99, all_actions=False, standardize=False)


@every_estimator
def test_weights_agree_with_loops_over_ragged_trajectories(estimator):
    weights = compute_weights(estimator, trajectories_of(REWARDS))
    expected = np.zeros(weights.shape)
    for (t, i), weight in slow_weights(estimator, REWARDS).items():
        expected[t, i] = weight
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-5)


@every_estimator
def test_permuting_the_trajectories_permutes_the_weights(estimator):
    order = np.array([3, 0, 4, 1, 2])
    weights = compute_weights(estimator, trajectories_of(REWARDS))
    permuted = compute_weights(estimator, trajectories_of([REWARDS[i] for i in order]))
    np.testing.assert_allclose(permuted, weights[:, order], rtol=1e-5, atol=1e-6)


@every_estimator
def test_appending_invalid_steps_changes_no_weight(estimator):
    weights = compute_weights(estimator, trajectories_of(REWARDS))
    padded = compute_weights(estimator, trajectories_of(REWARDS, num_steps=11))
    np.testing.assert_allclose(padded[:4], weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(padded[4:], 0.0)


@every_estimator
def test_a_step_that_was_not_taken_has_weight_zero(estimator):
    trajectories = trajectories_of(REWARDS)
    weights = np.asarray(compute_weights(estimator, trajectories))
    np.testing.assert_array_equal(weights[~np.asarray(trajectories.valid)], 0.0)


@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS if e.standardize], ids=str)
def test_standardized_weights_have_mean_zero_and_deviation_one_over_valid_steps(estimator):
    trajectories = trajectories_of(REWARDS, num_steps=7)
    weights = np.asarray(compute_weights(estimator, trajectories))[np.asarray(trajectories.valid)]
    np.testing.assert_allclose(weights.mean(), 0.0, atol=1e-6)
    np.testing.assert_allclose(weights.std(), 1.0, rtol=1e-6)


@pytest.mark.parametrize("reward", [0.0, 2.0, 0.1, 123.456, -1200.7])
def test_standardized_weights_are_exactly_zero_where_all_are_equal(reward):
    trajectories = trajectories_of([[reward]] * 64)
    for kind in (TotalReturn, RewardToGo):
        weights = compute_weights(kind(baseline="none", standardize=True), trajectories)
        np.testing.assert_array_equal(weights, 0.0)


def test_one_valid_step_keeps_its_weight_and_none_gives_zero_without_a_nan_on_the_way():
    weights, returns = jnp.array([3.0, 5.0]), jnp.array([3.0, 5.0])
    with jax.debug_nans(True):
        for valid in ([False, True], [True, False], [False, False]):
            found = standardized(weights, jnp.array(valid), returns)
            np.testing.assert_array_equal(found, np.where(valid, weights, 0.0))


@pytest.mark.parametrize("magnitude", [2e-38, 1e-30, 1e-20, 1e18, 1e20, 1e38])
def test_no_magnitude_of_weights_is_beyond_standardization(magnitude):
    weights, valid = jnp.array([1.0, 2.0, -1.5, 3.0]), jnp.array([True, True, True, False])
    expected = standardized(weights, valid, weights)
    found = standardized(weights * magnitude, valid, weights * magnitude)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert float(jnp.std(expected[:3])) == pytest.approx(1.0)


def test_rounding_left_by_a_baseline_is_not_standardized_into_a_signal():
    paid_at_the_end = [[0.0] * length + [123.456] for length in range(40)]
    raw = RewardToGo(baseline="leave_one_out")
    trajectories = trajectories_of(paid_at_the_end)
    alone = np.asarray(trajectories.valid).sum(1, keepdims=True) == 1
    residuals = np.asarray(compute_weights(raw, trajectories))[~alone[:, 0]]
    assert 0 < np.abs(residuals).max() < 1e-3
    returns = jnp.full((40, 40), 123.456)
    noise = jnp.where(alone, 0.0, compute_weights(raw, trajectories))
    np.testing.assert_array_equal(standardized(noise, trajectories.valid, returns), 0.0)


@pytest.mark.parametrize(("number", "expected"), [(7.5, 0.0), (8.5, 1.0)])
def test_a_deviation_of_up_to_eight_roundings_of_the_largest_return_is_none(number, expected):
    largest = jnp.array([2.0, -8.0])
    deviation = number * 8.0 * jnp.finfo(largest.dtype).eps
    weights = jnp.array([-deviation, deviation])
    found = standardized(weights, jnp.ones(2, bool), largest)
    np.testing.assert_allclose(found, [-expected, expected], rtol=1e-6)


def test_standardized_weights_keep_what_tells_returns_of_a_million_apart():
    returns = 1e6 + jnp.array([-3.0, 0.0, 3.0])
    found = standardized(returns - 1e6, jnp.ones(3, bool), returns)
    np.testing.assert_allclose(found, [-np.sqrt(1.5), 0.0, np.sqrt(1.5)], rtol=1e-6)


@pytest.mark.parametrize("kind", [TotalReturn, RewardToGo])
def test_standardized_weights_do_not_depend_on_the_scale_of_rewards(kind):
    estimator = kind(standardize=True)
    scaled = [[1000.0 * reward for reward in r] for r in REWARDS]
    np.testing.assert_allclose(
        compute_weights(estimator, trajectories_of(scaled)),
        compute_weights(estimator, trajectories_of(REWARDS)),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("kind", [TotalReturn, RewardToGo])
def test_a_trajectory_alone_keeps_its_return_without_others_to_compare_with(kind):
    trajectories = trajectories_of([[1.0, 2.0]])
    np.testing.assert_array_equal(
        compute_weights(kind(baseline="leave_one_out"), trajectories),
        compute_weights(kind(baseline="none"), trajectories),
    )


@pytest.mark.parametrize("kind", [TotalReturn, RewardToGo])
def test_the_discount_may_be_traced(kind):
    trajectories = trajectories_of(REWARDS)
    discounts = jnp.array([0.5, 1.0])
    swept = jax.vmap(lambda d: kind(discount=d).weights(trajectories))(discounts)
    for weights, discount in zip(swept, (0.5, 1.0), strict=True):
        alone = compute_weights(kind(discount=discount), trajectories)
        np.testing.assert_allclose(weights, alone, rtol=1e-6, atol=1e-6)


def test_own_return_inside_the_mean_shrinks_total_return_weights_by_one_in_m():
    trajectories = trajectories_of(REWARDS)
    m = len(REWARDS)
    np.testing.assert_allclose(
        compute_weights(TotalReturn(baseline="mean"), trajectories),
        (m - 1) / m * compute_weights(TotalReturn(baseline="leave_one_out"), trajectories),
        rtol=1e-5,
    )
