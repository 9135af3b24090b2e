"""V-trace against its definition, and what it must equal."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import Counter

import pgjax
from pgjax.training import updates
from pgjax.training.config import bind, checked

T, M = 9, 4
GAMMA = 0.9


def segments(seed=0):
    """Rows of streams, of which some are ends by themselves, by time limits, by both, or gaps."""
    random = np.random.default_rng(seed)
    ended, cut = (random.random((T, M)) < 0.25 for _ in range(2))
    # The row after an end is one in which nothing is done.
    valid = np.ones((T, M), bool)
    for t in range(1, T):
        valid[t] = ~(valid[t - 1] & (ended | cut)[t - 1])
    nothing = jnp.zeros((T, M, 1))
    tau = pgjax.Trajectories(
        obs=nothing,
        memory=(),
        action=jnp.zeros((T, M), jnp.int32),
        log_prob=random.normal(size=(T, M)),
        reward=jnp.where(valid, random.normal(size=(T, M)), 0.0),
        valid=jnp.asarray(valid),
        terminated=jnp.asarray(ended & valid),
        truncated=jnp.asarray(cut & valid),
        final_obs=nothing[0],
        final_memory=(),
    )
    log_prob = tau.log_prob + random.normal(size=(T, M))
    # No ratio is taken where nothing was done.
    log_prob = np.where(valid, log_prob, 1e4)
    return tau, pgjax.Values(jnp.asarray(random.normal(size=(T + 1, M))), log_prob=log_prob)


def slow_target(estimator, tau, values, s, i):
    """v_s of trajectory i: V(x_s) + Σ_t γ^{t−s} (Π_j λ c_j) ρ_t (r_t + γ V(x_{t+1}) − V(x_t))"""
    v = np.asarray(values.state)
    total, factor = v[s, i], 1.0
    for t in range(s, T):
        if not tau.valid[t, i]:
            break
        ratio = np.exp(values.log_prob[t, i] - tau.log_prob[t, i])
        following = 0.0 if tau.terminated[t, i] else v[t + 1, i]
        error = tau.reward[t, i] + estimator.discount * following - v[t, i]
        total += factor * min(estimator.rho, ratio) * error
        factor *= estimator.discount * estimator.gae_lambda * min(estimator.c, ratio)
        if tau.terminated[t, i] or tau.truncated[t, i]:
            break
    return total


def slow_weight(estimator, tau, values, t, i):
    """ρ_t (r_t + γ q_{t+1} − V(x_t)), q of the next step what is left of v where nothing is cut."""
    if not tau.valid[t, i]:
        return 0.0
    v, trace = np.asarray(values.state), estimator.gae_lambda
    following = v[t + 1, i]
    if tau.terminated[t, i]:
        following = 0.0
    elif not tau.truncated[t, i] and t + 1 < T:
        target = slow_target(estimator, tau, values, t + 1, i)
        following = (1 - trace) * following + trace * target
    ratio = min(estimator.rho, np.exp(values.log_prob[t, i] - tau.log_prob[t, i]))
    return ratio * (tau.reward[t, i] + estimator.discount * following - v[t, i])


@pytest.mark.parametrize(
    "estimator",
    [
        pgjax.VTrace(GAMMA),
        pgjax.VTrace(GAMMA, rho=1e6, c=1e6),
        pgjax.VTrace(GAMMA, gae_lambda=0.7, rho=1.5, c=0.8),
        pgjax.VTrace(GAMMA, gae_lambda=0.0, rho=2.0),
    ],
    ids=repr,
)
@pytest.mark.parametrize("seed", [0, 1])
def test_weights_agree_with_the_definition_as_a_sum(estimator, seed):
    tau, values = segments(seed)
    found = jax.jit(lambda *args: estimator.weights(*args))(tau, values)
    expected = [[slow_weight(estimator, tau, values, t, i) for i in range(M)] for t in range(T)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("gae_lambda", [1.0, 0.6])
def test_at_the_old_parameters_it_is_gae(gae_lambda, standardize):
    tau, values = segments()
    values = values._replace(log_prob=tau.log_prob)
    options = {"discount": GAMMA, "gae_lambda": gae_lambda, "standardize": standardize}
    found = pgjax.VTrace(**options, rho=2.0).weights(tau, values)
    expected = pgjax.GAE(**options).weights(tau, values)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_standardized_advantages_are_those_before_the_ratio_in_front():
    tau, values = segments()
    plain = pgjax.VTrace(GAMMA, rho=3.0)
    ratio = np.minimum(3.0, np.exp(np.where(tau.valid, values.log_prob - tau.log_prob, 0.0)))
    advantages = (plain.weights(tau, values) / ratio)[tau.valid]
    found = plain.replace(standardize=True).weights(tau, values) / ratio
    expected = (advantages - advantages.mean()) / advantages.std()
    np.testing.assert_allclose(found[tau.valid], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[~tau.valid], 0.0)


def config_of(**fields):
    fields = {"sampler": pgjax.Segments(4, 8), "estimator": pgjax.VTrace()} | fields
    return pgjax.Config(Counter(3, 5), network=fields.pop("network", pgjax.MLP((4,))), **fields)


def moved(state, scale=0.3, seed=0):
    random = np.random.default_rng(seed)
    params = jax.tree.map(lambda x: x + scale * random.normal(size=x.shape), state.params)
    return state.replace(params=params)


def equal(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def surrogate_of(state, config):
    """That of the next update of a state."""
    config = checked(config)
    key = jax.random.split(state.key, 4)[1]  # the one that the update samples with
    bound = bind(config, 0)
    trajectories, _ = jax.jit(updates.sample)(key, state, bound)
    return updates.task(state, trajectories, bound).surrogate


def test_one_step_is_that_of_gae():
    v_trace = config_of(optimizer=pgjax.SGD(0.1))
    state = moved(pgjax.init(jax.random.key(0), v_trace))
    gae = v_trace.replace(estimator=pgjax.GAE(gae_lambda=1.0))
    found, expected = (pgjax.update(state, config)[0] for config in (v_trace, gae))
    equal(found.params, expected.params, rtol=1e-5, atol=1e-6)
    equal(found.critic.params, expected.critic.params, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_every_pass_has_weights_of_the_policy_at_its_beginning():
    rate = 0.5
    config = config_of(optimizer=pgjax.SGD(rate), ascent=pgjax.Passes(epochs=3, minibatches=1))
    state = moved(pgjax.init(jax.random.key(0), config))
    surrogate, params = surrogate_of(state, config), state.params
    weights = []
    for _ in range(3):
        weights.append(surrogate.weights(params))
        gradient = surrogate.gradient(params, surrogate.batch(params)).direction
        params = jax.tree.map(lambda x, g: x + rate * g, params, gradient)
    assert np.abs(weights[2] - weights[0]).max() > 1e-2
    after, metrics = pgjax.update(state, config)
    equal(after.params, params, rtol=1e-4, atol=1e-5)
    assert float(metrics.extra["kl"]) > 0.0


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [pgjax.Segments(4, 10), pgjax.Episodes(4)], ids=repr)
@pytest.mark.parametrize("window", [None, 4])
def test_ratios_of_a_policy_with_a_memory_are_those_of_its_replayed_windows(sampler, window):
    network = pgjax.Recurrent(pgjax.MLP((4,)), 4, window=window)
    config = config_of(network=network, sampler=sampler, estimator=pgjax.VTrace(rho=2.0, c=2.0))
    state = moved(pgjax.init(jax.random.key(0), config))
    surrogate = surrogate_of(state, config)
    tau = surrogate.trajectories
    equal(surrogate.weights(state.params), surrogate.weights(), rtol=1e-4, atol=1e-5)

    other = moved(state, seed=1).params
    apply, rows = jax.jit(surrogate.terms.policy.apply), tau.valid.shape[0]
    log_prob = np.array(tau.log_prob)
    for i in range(tau.valid.shape[1]):
        for t in range(rows):
            first = t % (window or rows) == 0  # of a window, which begins with what is stored
            start = first or not tau.valid[t - 1, i]
            if start:
                memory = jax.tree.map(lambda x: x[t, i], tau.memory)  # noqa: B023
            distribution, memory = apply({"params": other}, tau.obs[t, i], memory)
            log_prob[t, i] = distribution.log_prob(tau.action[t, i])
    values = surrogate.values._replace(log_prob=log_prob)
    expected = config.estimator.weights(tau, values)
    assert np.abs(expected - surrogate.weights()).max() > 1e-2
    equal(surrogate.weights(other), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "objective",
    [
        pgjax.ClippedRatio(),
        pgjax.ImportanceRatio(),
        pgjax.KLPenalty(),
        pgjax.AdvantageWeighted(),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_an_objective_with_a_ratio_of_its_own_is_refused(objective):
    name = type(objective).__name__
    message = f"VTrace has the ratio .* objective {name} takes weights without it.*ScoreFunction"
    with pytest.raises(ValueError, match=message):
        pgjax.init(jax.random.key(0), config_of(objective=objective))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 0.9}, "estimator.rho must be a finite number at least 1.0, got 0.9"),
        ({"c": -0.1}, "estimator.c must be a finite number"),
        ({"c": 1.5}, "estimator.c must be at most estimator.rho, 1.0, got 1.5"),
        ({"gae_lambda": 1.1}, "estimator.gae_lambda"),
    ],
)
def test_what_options_may_be(options, message):
    with pytest.raises(ValueError, match=message):
        pgjax.init(jax.random.key(0), config_of(estimator=pgjax.VTrace(**options)))


@pytest.mark.parametrize(("c", "message"), [(1.0, None), (1.5, "c must be at most estimator.rho")])
def test_a_checked_config_is_checked_again_while_something_else_is_traced(c, message):
    config = config_of(estimator=pgjax.VTrace())
    config = checked(config).replace(**{"estimator.c": jnp.float32(c)})
    trace = functools.partial(jax.eval_shape, lambda key: pgjax.init(key, config))
    if message is None:
        assert trace(jax.random.key(0)).num_updates.shape == ()
    else:
        with pytest.raises(ValueError, match=message):
            trace(jax.random.key(0))


@pytest.mark.slow
def test_memory_is_estimated_and_sweeps_go_through():
    config = config_of(estimator=pgjax.VTrace(), num_updates=1)
    assert pgjax.memory_estimate(config).total > 0
    swept = pgjax.sweep(jax.random.key(0), config, {"estimator.rho": [1.0, 2.0]}, num_seeds=2)
    assert swept.metrics.finite.all()


def test_defaults():
    assert pgjax.VTrace() == pgjax.VTrace(
        discount=0.99, gae_lambda=1.0, rho=1.0, c=1.0, standardize=False
    )


@pytest.mark.parametrize("unknown", [None, 0.0])
def test_without_the_behaviours_or_the_policys_log_probabilities_it_is_refused(unknown):
    tau, values = segments()
    expected = r"float\[T, m\] = \(9, 4\), got (none|\(\)): use estimator=GAE\(\)"
    with pytest.raises(ValueError, match=rf"trajectories.log_prob, the behaviour's, {expected}"):
        pgjax.VTrace().weights(tau.replace(log_prob=unknown), values)
    with pytest.raises(ValueError, match=rf"values.log_prob, the improved policy's, {expected}"):
        pgjax.VTrace().weights(tau, values._replace(log_prob=unknown))
