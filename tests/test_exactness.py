"""Exact unbiasedness: estimates of all possible batches, weighted by probability, in float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax.ascents.ascent import Place
from pgjax.training import updates
from pgjax.training.config import bind, checked

NUM_STATES, NUM_ACTIONS = 3, 2


pytestmark = pytest.mark.usefixtures("float64")


def make_mdp(horizon, with_terminal):
    rng = np.random.default_rng(7)
    transition = rng.dirichlet(np.ones(NUM_STATES), (NUM_STATES, NUM_ACTIONS))
    reward = 1.0 + rng.normal(size=(NUM_STATES, NUM_ACTIONS))
    terminal = [False, False, with_terminal]
    return pgjax.FiniteMDP(transition, reward, [0.6, 0.4, 0.0], horizon, terminal)


def make_state(config, seed=1):
    state = pgjax.init(jax.random.key(0), config)
    rng = np.random.default_rng(seed)
    return state.replace(params=jax.tree.map(lambda x: rng.normal(size=x.shape), state.params))


@functools.cache
def shared_state(seed=1):
    """A state of every config without a critic's or an objective's own: `init` compiles once."""
    return make_state(make_config(pgjax.TotalReturn(), 1), seed)


def enumerate_trajectories(mdp, probabilities):
    """Every trajectory as rows (s, a, r, s', terminated), with its probability."""
    tables = mdp.default_params

    def extend(prefix, state, probability):
        if len(prefix) == tables.max_steps_in_episode or (prefix and tables.terminal[state]):
            yield prefix, probability
            return
        for action, following in itertools.product(range(NUM_ACTIONS), range(NUM_STATES)):
            p = probabilities[state, action] * tables.transition[state, action, following]
            ended = bool(tables.terminal[following])
            row = (state, action, float(tables.reward[state, action]), following, ended)
            yield from extend([*prefix, row], following, probability * p)

    for state in range(NUM_STATES):
        if tables.initial[state] > 0:
            yield from extend([], state, tables.initial[state])


def batch_of(rows_of_each, horizon, probabilities=None, memory=()):
    """`Trajectories` [T, m] of hand-written rows; with log-probabilities of 0, unless told, and the
    same memory throughout."""
    m = len(rows_of_each)
    arrays = {name: np.zeros((horizon, m)) for name in ("reward",)}
    flags = {n: np.zeros((horizon, m), bool) for n in ("valid", "terminated", "truncated")}
    obs, action = np.zeros((horizon, m, NUM_STATES)), np.zeros((horizon, m), np.int32)
    final = np.zeros((m, NUM_STATES))
    for i, rows in enumerate(rows_of_each):
        for t, (state, act, reward, following, ended) in enumerate(rows):
            obs[t, i, state], action[t, i], arrays["reward"][t, i] = 1.0, act, reward
            flags["valid"][t, i], flags["terminated"][t, i] = True, ended
            flags["truncated"][t, i] = t == horizon - 1
            final[i] = np.eye(NUM_STATES)[following]
    log_prob = np.zeros((horizon, m))
    if probabilities is not None:
        log_prob = np.log(probabilities[np.argmax(obs, -1), action])
    kept = {
        "memory": jax.tree.map(lambda x: np.broadcast_to(x, (horizon, m, *x.shape)), memory),
        "final_memory": jax.tree.map(lambda x: np.broadcast_to(x, (m, *x.shape)), memory),
    }
    return pgjax.Trajectories(
        obs=obs, action=action, log_prob=log_prob, final_obs=final, **arrays, **flags, **kept
    )


def expected_estimate(config, state, m, as_sampled=False):
    """Σ over all m-tuples of trajectories: probability × estimate.

    Args:
      as_sampled: whether the trajectories know how likely their actions were, for a ratio to it.
    """
    mdp, horizon = config.env, config.env.default_params.max_steps_in_episode
    probabilities = np.asarray(pgjax.tabular.action_probabilities(state, config))
    every = list(enumerate_trajectories(mdp, probabilities))
    batches, weights = [], []
    for members in itertools.product(every, repeat=m):
        likely = probabilities if as_sampled else None
        batches.append(batch_of([rows for rows, _ in members], horizon, likely))
        weights.append(np.prod([probability for _, probability in members]))
    assert np.isclose(sum(weights), 1.0)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    bound = bind(checked(config), 0)

    def estimate(batch):
        surrogate = updates.task(state, batch, bound).surrogate
        return surrogate.gradient(state.params, surrogate.batch()).direction

    @jax.jit
    def expectation(stacked, weights):
        estimates = jax.vmap(estimate)(stacked)
        return jax.tree.map(lambda x: jnp.tensordot(weights, x, axes=1), estimates)

    return expectation(stacked, np.asarray(weights))


def assert_equal_trees(actual, expected, tolerance=1e-6, least=0.05):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected)) > least


def make_config(estimator, m, horizon=2, with_terminal=True, **changes):
    config = pgjax.Config(
        env=make_mdp(horizon, with_terminal),
        network=pgjax.MLP((3,)),
        sampler=pgjax.Episodes(m),
        estimator=estimator,
    )
    return config.replace(**changes)


UNBIASED = [
    (pgjax.TotalReturn(), 1),
    (pgjax.TotalReturn(), 2),
    (pgjax.TotalReturn(baseline="leave_one_out"), 2),
    (pgjax.TotalReturn(discount=0.7), 1),
    (pgjax.TotalReturn(discount=0.7, baseline="leave_one_out"), 2),
    (pgjax.RewardToGo(baseline="none"), 1),
    (pgjax.RewardToGo(baseline="none"), 2),
    (pgjax.RewardToGo(baseline="leave_one_out"), 2),
]


@pytest.mark.parametrize(("estimator", "m"), UNBIASED, ids=str)
def test_expectation_is_the_exact_gradient(estimator, m):
    config = make_config(estimator, m, horizon=3 if m == 1 else 2)
    state = shared_state()
    exact = pgjax.tabular.policy_gradient(state, config)
    assert_equal_trees(expected_estimate(config, state, m), exact)


def test_expectation_of_the_probability_ratio_is_the_exact_gradient():
    config = make_config(pgjax.TotalReturn(), 1, horizon=3, objective=pgjax.ProbabilityRatio())
    state = shared_state()
    exact = pgjax.tabular.policy_gradient(state, config)
    assert_equal_trees(expected_estimate(config, state, 1), exact)


NETWORKS = [pgjax.MLP((3,)), pgjax.Recurrent(pgjax.MLP((3,)), 3, window=2)]
TINY = 1e-7  # a step after which the policy is the same up to what float64 shows of it


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS, ids=["MLP", "Recurrent"])
@pytest.mark.parametrize(
    ("objective", "weight"),
    [
        (pgjax.Probability(), lambda rows: 1.0),
        (pgjax.ProbabilityTimesReturn(), lambda rows: sum(reward for _, _, reward, *_ in rows)),
    ],
    ids=["Probability", "ProbabilityTimesReturn"],
)
def test_the_first_rungs_climb_the_first_action_alone_in_minibatches_too(
    network, objective, weight
):
    """E[∇π(a_0 | s_0) w(τ)] by enumeration, with later actions that no memory decides.

    The four minibatches' steps, too small to move the policy, add up to four of all of the data.
    """
    config = make_config(pgjax.TotalReturn(), 1, horizon=3, network=network, objective=objective)
    passes = {"ascent": pgjax.Passes(1, 4), "optimizer": pgjax.SGD(TINY)}
    config = checked(config.replace(**passes))
    state, bound = make_state(config), bind(config, 0)
    empty = bound.policy.initial_memory()

    @jax.jit
    def first(params):
        """π(a_0 | s_0): float[states, actions]."""
        variables = {"params": params, **state.variables}
        return jnp.stack(
            [bound.policy.apply(variables, obs, empty)[0].probabilities() for obs in np.eye(3)]
        )

    later = np.tile([0.8, 0.2], (NUM_STATES, 1))
    likely = np.asarray(first(state.params)) / later
    every = [
        (rows, probability * likely[rows[0][:2]])
        for rows, probability in enumerate_trajectories(config.env, later)
    ]
    probabilities = np.array([probability for _, probability in every])
    assert np.isclose(probabilities.sum(), 1.0)

    @jax.jit
    @jax.vmap
    def climbed(batch):
        surrogate = updates.task(state, batch, bound).surrogate
        start = Place(state.params, state.opt_state)
        place, _ = bound.ascent.climb(jax.random.key(0), surrogate, bound.optimizer, start)
        return jax.tree.map(lambda new, old: (new - old) / TINY, place.params, state.params)

    batches = [batch_of([rows], 3, memory=empty) for rows, _ in every]
    steps = climbed(jax.tree.map(lambda *leaves: np.stack(leaves), *batches))
    found = jax.tree.map(lambda x: jnp.tensordot(probabilities, x, axes=1) / 4, steps)

    coefficients = np.zeros((NUM_STATES, NUM_ACTIONS))
    for rows, probability in every:
        coefficients[rows[0][:2]] += probability * weight(rows)
    slopes = jax.jit(jax.jacobian(first))(state.params)
    exact = jax.tree.map(lambda x: jnp.tensordot(coefficients, x, axes=2), slopes)
    assert_equal_trees(found, exact, least=0.02)


def true_critic(config, state, wrong=0.0):
    """A critic that knows V and Q of the policy at every time, and how likely actions are.

    Args:
      wrong: how far V is off, but for what follows the last step.
    """
    probabilities = np.asarray(pgjax.tabular.action_probabilities(state, config))
    q = np.asarray(pgjax.tabular.action_values(probabilities, config.env))
    q = np.concatenate([q, np.zeros_like(q[:1])])  # after the horizon there is nothing
    live = ~np.asarray(config.env.default_params.terminal)
    v = live * (q * probabilities).sum(-1)

    @pgjax.component
    class TrueCritic(pgjax.Oracle):
        def evaluate(self, critic_state, trajectories):
            now = np.arange(len(q) - 1)[:, None]
            states = jnp.argmax(trajectories.obs, -1)
            final = jnp.zeros_like(states[:1], float)
            return pgjax.Values(
                state=jnp.concatenate([jnp.asarray(v)[now, states] + wrong * (now - 2), final]),
                action=jnp.asarray(q)[now, states],
                probability=jnp.asarray(probabilities)[states],
            )

    return TrueCritic()


WITH_THE_TRUE_CRITIC = [
    pgjax.GAE(discount=1.0, gae_lambda=0.0),
    pgjax.GAE(discount=1.0, gae_lambda=0.5),
    pgjax.GAE(discount=1.0, gae_lambda=1.0),
    pgjax.VTrace(discount=1.0),
    pgjax.VTrace(discount=1.0, gae_lambda=0.5, rho=2.0, c=0.5),
    pgjax.ActionValue(discount=1.0),
    pgjax.ActionValue(discount=1.0, all_actions=True),
    pgjax.RewardToGo(baseline="value"),
    pgjax.TotalReturn(baseline="value"),
]


@pytest.mark.slow
@pytest.mark.parametrize("estimator", WITH_THE_TRUE_CRITIC, ids=repr)
def test_with_the_true_values_expectations_are_the_exact_gradient(estimator):
    config = make_config(estimator, 1, horizon=3)
    state = shared_state()
    config = config.replace(critic=true_critic(config, state))
    exact = pgjax.tabular.policy_gradient(state, config)
    assert_equal_trees(expected_estimate(config, state, 1), exact)


@pytest.mark.parametrize("kind", [pgjax.RewardToGo, pgjax.TotalReturn])
def test_a_wrong_value_baseline_leaves_the_expectation_exact(kind):
    config = make_config(kind(baseline="value"), 1, horizon=3)
    state = make_state(config)  # its critic has learned nothing, and is not 0
    params = jax.tree.map(lambda x: x + 0.3, state.critic.params)
    state = state.replace(critic=state.critic.replace(params=params))
    exact = pgjax.tabular.policy_gradient(state, config)
    assert_equal_trees(expected_estimate(config, state, 1), exact)


def test_a_wrong_critic_biases_gae_by_what_it_is_wrong():
    config = make_config(pgjax.GAE(discount=1.0, gae_lambda=0.0), 1, horizon=3)
    state = make_state(config)
    exact = pgjax.tabular.policy_gradient(state, config)
    found = expected_estimate(config, state, 1)
    gaps = jax.tree.map(lambda a, e: np.abs(a - e).max(), found, exact)
    assert max(jax.tree.leaves(gaps)) > 1e-2


def test_mean_baseline_shrinks_total_return_by_m_minus_one_over_m():
    config = make_config(pgjax.TotalReturn(baseline="mean"), 2)
    state = shared_state()
    exact = pgjax.tabular.policy_gradient(state, config)
    half = jax.tree.map(lambda x: x / 2, exact)
    assert_equal_trees(expected_estimate(config, state, 2), half)


def test_mean_baseline_shrinks_reward_to_go_likewise_where_all_lengths_are_equal():
    config = make_config(pgjax.RewardToGo(baseline="mean"), 2, with_terminal=False)
    state = shared_state()
    exact = pgjax.tabular.policy_gradient(state, config)
    half = jax.tree.map(lambda x: x / 2, exact)
    assert_equal_trees(expected_estimate(config, state, 2), half)


def weighted_scores(config, state, weight_of_step):
    """E[Σ_t ∇log π(a_t | s_t) w_t(s_t, a_t)] for any known weights, by enumeration."""
    probabilities = np.asarray(pgjax.tabular.action_probabilities(state, config))

    def log_probs(params):
        return jnp.log(pgjax.tabular.action_probabilities(state.replace(params=params), config))

    scores = jax.jit(jax.jacobian(log_probs))(state.params)
    coefficients = np.zeros((NUM_STATES, NUM_ACTIONS))
    for rows, probability in enumerate_trajectories(config.env, probabilities):
        for t, (s, a, *_) in enumerate(rows):
            coefficients[s, a] += probability * weight_of_step[t, s, a]
    return jax.tree.map(lambda x: jnp.tensordot(coefficients, x, axes=2), scores)


@pytest.mark.slow
@pytest.mark.parametrize("gae_lambda", [1.0, 0.5])
def test_v_trace_is_the_new_policys_gradient_in_the_old_ones_states(gae_lambda):
    """E_old[Σ_t ρ_t ∇log π_new(a_t | s_t) A_t] = Σ_{t,s} d_old,t(s) Σ_a ∇π_new(a | s) Q_new,t(s, a)

    by the new policy's true values; at λ = 1 by any, if no ratio is cut off.
    """
    estimator = pgjax.VTrace(discount=1.0, gae_lambda=gae_lambda, rho=1e9, c=1e9)
    config = make_config(estimator, 1, horizon=3)
    old, new = shared_state(), shared_state(seed=2)
    config = config.replace(critic=true_critic(config, new, wrong=0.7 * (gae_lambda == 1.0)))
    bound = bind(checked(config), 0)
    behaviour = np.asarray(pgjax.tabular.action_probabilities(old, config))
    every = list(enumerate_trajectories(config.env, behaviour))
    batches = [batch_of([rows], 3, behaviour) for rows, _ in every]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)

    @jax.jit
    @jax.vmap
    def estimate(batch):
        surrogate = updates.task(old, batch, bound).surrogate
        return surrogate.gradient(new.params, surrogate.batch(new.params)).direction

    probability = np.array([p for _, p in every])
    actual = jax.tree.map(lambda x: jnp.tensordot(probability, x, axes=1), estimate(stacked))

    target = np.asarray(pgjax.tabular.action_probabilities(new, config))
    q = np.asarray(pgjax.tabular.action_values(target, config.env))
    visits = np.zeros((3, NUM_STATES))
    for rows, p in every:
        for t, (s, *_) in enumerate(rows):
            visits[t, s] += p

    def worth(params):
        policy = pgjax.tabular.action_probabilities(new.replace(params=params), config)
        return jnp.einsum("ts,sa,tsa->", visits, policy, q)

    assert_equal_trees(actual, jax.grad(worth)(new.params))


def test_weights_by_exponential_advantages_go_to_the_policy_gradient_of_a_hot_temperature():
    temperature = 1e6
    objective = pgjax.AdvantageWeighted(temperature=temperature)
    config = make_config(pgjax.RewardToGo(baseline="none"), 2, horizon=1, objective=objective)
    state = shared_state()
    found = expected_estimate(config, state, 2)
    # Z holds the step's own return, as a mean baseline does: half of two trajectories' is left.
    half = jax.tree.map(lambda x: x / 2, pgjax.tabular.policy_gradient(state, config))
    assert_equal_trees(jax.tree.map(lambda x: temperature * x, found), half, tolerance=1e-5)


def test_the_expectation_of_a_kl_penalty_at_the_old_parameters_is_the_exact_gradient():
    objective = pgjax.KLPenalty(coefficient=3.0)
    config = make_config(pgjax.RewardToGo(baseline="none"), 1, horizon=3, objective=objective)
    state = make_state(config)
    exact = pgjax.tabular.policy_gradient(state, config)
    assert_equal_trees(expected_estimate(config, state, 1, as_sampled=True), exact)


@pytest.mark.slow
@pytest.mark.parametrize("ascent", [pgjax.GradientStep(), pgjax.Passes()], ids=repr)
def test_all_actions_with_a_ratio_are_the_exact_gradient(ascent):
    estimator = pgjax.ActionValue(discount=1.0, all_actions=True)
    config = make_config(estimator, 1, horizon=3, objective=pgjax.ImportanceRatio(), ascent=ascent)
    state = shared_state()
    config = config.replace(critic=true_critic(config, state))
    exact = pgjax.tabular.policy_gradient(state, config)
    assert_equal_trees(expected_estimate(config, state, 1), exact)


def test_discounted_reward_to_go_has_the_expectation_that_its_docstring_states():
    config = make_config(pgjax.RewardToGo(discount=0.6, baseline="none"), 1, horizon=3)
    state = shared_state()
    probabilities = pgjax.tabular.action_probabilities(state, config)
    values = pgjax.tabular.action_values(probabilities, config.env, discount=0.6)
    actual = expected_estimate(config, state, 1)
    assert_equal_trees(actual, weighted_scores(config, state, values))
    exact = pgjax.tabular.policy_gradient(state, config)
    gaps = jax.tree.map(lambda a, e: np.abs(a - e).max(), actual, exact)
    assert max(jax.tree.leaves(gaps)) > 1e-2


def test_weights_of_the_true_action_values_give_the_exact_gradient():
    config = make_config(pgjax.RewardToGo(), 2, horizon=3)
    state = shared_state()
    probabilities = pgjax.tabular.action_probabilities(state, config)
    values = pgjax.tabular.action_values(probabilities, config.env)
    exact = pgjax.tabular.policy_gradient(state, config)
    assert_equal_trees(weighted_scores(config, state, values), exact)


def test_entropy_bonus_adds_its_gradient_at_visited_states():
    plain = make_config(pgjax.RewardToGo(baseline="none"), 1, horizon=3)
    with_bonus = plain.replace(**{"objective.entropy_coefficient": 0.5})
    state = shared_state()
    probabilities = pgjax.tabular.action_probabilities(state, plain)
    visits = np.zeros(NUM_STATES)
    for rows, probability in enumerate_trajectories(plain.env, np.asarray(probabilities)):
        for s, *_ in rows:
            visits[s] += probability

    def bonus(params):
        p = pgjax.tabular.action_probabilities(state.replace(params=params), plain)
        return -0.5 * visits @ jnp.sum(p * jnp.log(p), axis=1)

    added = jax.grad(bonus)(state.params)
    exact = pgjax.tabular.policy_gradient(state, plain)
    expected = jax.tree.map(jnp.add, exact, added)
    assert_equal_trees(expected_estimate(with_bonus, state, 1), expected)
