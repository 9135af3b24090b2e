"""PPO's passes and the natural gradient, against what they must equal."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import pgjax
from pgjax.ascents import trust_region
from pgjax.core import chunks
from pgjax.training.config import bind, checked


def mdp():
    random = np.random.default_rng(3)
    transition = random.dirichlet(np.ones(3), (3, 2))
    return pgjax.FiniteMDP(transition, random.normal(size=(3, 2)), [0.5, 0.3, 0.2], horizon=5)


def config_of(**fields):
    fields = {"sampler": pgjax.Episodes(32), "optimizer": pgjax.SGD(0.1)} | fields
    return pgjax.Config(mdp(), network=pgjax.MLP(()), **fields)


def trust_region_config(**options):
    return config_of(
        objective=pgjax.ImportanceRatio(),
        ascent=pgjax.TrustRegion(**options),
        optimizer=pgjax.SGD(1.0),
    )


def equal(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.mark.slow
def test_one_pass_of_ppo_at_the_old_parameters_is_the_policy_gradient():
    plain = config_of()
    clipped = config_of(
        objective=pgjax.ClippedRatio(), ascent=pgjax.Passes(epochs=1, minibatches=1)
    )
    state = pgjax.init(jax.random.key(0), plain)
    key = jax.random.key(1)
    expected, _ = pgjax.policy_gradient(key, state, plain)
    found, metrics = pgjax.policy_gradient(key, state, clipped)
    equal(found, expected, rtol=1e-5, atol=1e-6)
    assert abs(float(metrics.extra["kl"])) < 1e-6
    assert float(metrics.extra["clip_fraction"]) == 0.0
    equal(
        pgjax.update(state, clipped)[0].params,
        pgjax.update(state, plain)[0].params,
        rtol=1e-5,
        atol=1e-6,
    )


def test_clipping_stops_a_step_that_has_gone_far_enough():
    objective = pgjax.ClippedRatio(epsilon=0.2)

    def slope(log_ratio, weight):
        def contribution(log_prob):
            step = pgjax.Step(log_prob, jnp.zeros(()), jnp.zeros(()), weight, 0)
            return objective.contribution(step)

        return float(jax.grad(contribution)(log_ratio))

    assert slope(0.5, 1.0) == 0.0
    assert slope(-0.5, -1.0) == 0.0
    assert slope(-0.5, 1.0) == pytest.approx(np.exp(-0.5))
    assert slope(0.5, -1.0) == pytest.approx(-np.exp(0.5))


@pytest.mark.slow
def test_a_limit_on_the_divergence_ends_the_passes():
    loose = config_of(
        objective=pgjax.ClippedRatio(), ascent=pgjax.Passes(epochs=10), optimizer=pgjax.SGD(5.0)
    )
    tight = loose.replace(**{"ascent.max_kl": 1e-3})
    state = pgjax.init(jax.random.key(0), loose)
    _, far = pgjax.update(state, loose)
    moved, near = pgjax.update(state, tight)
    assert float(far.extra["kl"]) > 1e-2
    assert float(near.extra["kl"]) <= 1e-3
    assert not np.array_equal(ravel_pytree(moved.params)[0], ravel_pytree(state.params)[0])


@pytest.mark.parametrize("rows", [7, 8])
def test_minibatches_deal_out_every_step_once(rows):
    data = jnp.arange(rows * 5).reshape(rows, 5)
    valid = jnp.asarray(np.random.default_rng(0).random((rows, 5)) < 0.8)
    batches, counted = chunks.minibatches(jax.random.key(0), data, valid, 4)
    assert batches.shape == (4, 2, 5)
    found = np.sort(np.asarray(batches)[np.asarray(counted)])
    np.testing.assert_array_equal(found, np.asarray(data)[np.asarray(valid)])
    for trajectory in range(5):
        own = np.asarray(batches)[:, :, trajectory][np.asarray(counted)[:, :, trajectory]]
        assert (own % 5 == trajectory).all()
    other, _ = chunks.minibatches(jax.random.key(1), data, valid, 4)
    assert not np.array_equal(batches, other)


@pgjax.component
class Timed(pgjax.Objective):
    """Reports the mean time of the steps, and the mean of its square."""

    def contribution(self, step):
        return step.log_prob * step.weight

    def report(self, step):
        return {"time": step.time.astype(float), "square": jnp.square(step.time.astype(float))}


@pgjax.component
class Zeros(pgjax.Oracle):
    """Needs no fit, so that less is compiled."""

    def evaluate(self, critic_state, trajectories):
        rows, m = trajectories.valid.shape
        return pgjax.Values(jnp.zeros((rows + 1, m)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "window", "minibatches"),
    [
        (pgjax.Episodes(4), None, 2),
        (pgjax.Episodes(4), 2, 4),
        (pgjax.Episodes(4), 3, 1),
        (pgjax.Segments(4, 8), None, 4),
        (pgjax.Segments(4, 8), 2, 2),
    ],
)
def test_an_objective_is_told_the_time_of_every_step_whatever_minibatch_it_is_in(
    sampler, window, minibatches
):
    random = np.random.default_rng(0)
    tables = random.dirichlet(np.ones(3), (3, 2)), random.normal(size=(3, 2)), [0.5, 0.3, 0.2]
    network = pgjax.MLP(())
    config = pgjax.Config(
        pgjax.FiniteMDP(*tables, horizon=8),
        sampler=sampler,
        network=network if window is None else pgjax.Recurrent(network, 4, window),
        estimator=pgjax.GAE(),
        critic=Zeros(),
        optimizer=pgjax.SGD(0.1),
        objective=Timed(),
        ascent=pgjax.Passes(1, minibatches),
        num_updates=1,
    )
    _, metrics = pgjax.train(jax.random.key(0), config)
    np.testing.assert_allclose(metrics.extra["time"], np.mean(np.arange(8.0)), rtol=1e-6)
    np.testing.assert_allclose(metrics.extra["square"], np.mean(np.arange(8.0) ** 2), rtol=1e-6)


def dense_fisher(state, config, tau):
    """Mean over valid steps of Σ_a π(a | s) ∇log π ∇log πᵀ, one state after another."""
    flat, unravel = ravel_pytree(state.params)
    policy = bind(checked(config), 0).policy
    total, states = 0.0, np.asarray(tau.obs)[np.asarray(tau.valid)]
    for obs, count in zip(*np.unique(states, axis=0, return_counts=True), strict=True):

        def log_probs(flat, obs=obs):
            return policy.apply({"params": unravel(flat)}, jnp.asarray(obs), ())[0].log_probs()

        scores, p = np.asarray(jax.jacobian(log_probs)(flat)), np.exp(log_probs(flat))
        total = total + count * np.einsum("a,ai,aj->ij", p, scores, scores)
    return total / len(states)


@pytest.mark.slow
def test_the_natural_gradient_is_the_fisher_matrix_inverse_times_the_gradient():
    damping = 1e-2
    natural = config_of(
        objective=pgjax.ImportanceRatio(),
        ascent=pgjax.TrustRegion(max_kl=None, damping=damping, iterations=30),
        optimizer=pgjax.SGD(1.0),
    )
    state = pgjax.init(jax.random.key(0), natural)
    state = state.replace(params=jax.tree.map(lambda x: x + 0.5, state.params))
    after, _ = pgjax.update(state, natural)
    sample_key = jax.random.split(state.key)[1]  # the one that the update sampled with
    tau = pgjax.sample_trajectories(sample_key, state, natural)
    gradient, _ = ravel_pytree(pgjax.policy_gradient(sample_key, state, config_of())[0])
    per_step = gradient * tau.valid.shape[1] / tau.valid.sum()
    fisher = dense_fisher(state, natural, tau)
    expected = np.linalg.solve(fisher + damping * np.eye(len(fisher)), per_step)
    step = ravel_pytree(after.params)[0] - ravel_pytree(state.params)[0]
    np.testing.assert_allclose(step, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.slow
def test_no_update_of_the_natural_gradient_is_skipped_on_a_small_problem():
    random = np.random.default_rng(0)
    transition, reward = random.dirichlet(np.ones(2), (2, 2)), random.normal(size=(2, 2))
    config = pgjax.natural_policy_gradient(
        pgjax.FiniteMDP(transition, reward, [0.5, 0.5], horizon=5),
        network=pgjax.MLP((8,)),
        num_updates=60,
        **{"sampler.num_envs": 8, "sampler.length": 16},
    )
    keys = jax.random.split(jax.random.key(0), 4)
    _, metrics = jax.vmap(pgjax.train, (0, None))(keys, config)
    assert np.all(metrics.finite)
    assert np.all(np.asarray(metrics.extra["kl"])[:, 0] > 1e-3)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_conjugate_gradients_solve_what_can_be_solved_in_more_steps_than_it_has(rank):
    factor = np.random.default_rng(rank).normal(size=(6, rank))
    matrix = jnp.asarray(factor @ factor.T, float)
    b = matrix @ jnp.arange(1.0, 7.0)
    b = b / jnp.linalg.norm(b)
    for right in (b, jnp.zeros(6)):
        x = trust_region._conjugate_gradients(lambda v: matrix @ v, right, 50)
        np.testing.assert_allclose(matrix @ x, right, atol=1e-4)


@pytest.mark.slow
def test_the_trust_region_does_not_depend_on_the_scale_of_rewards():
    config = trust_region_config()
    config = config.replace(env_params=config.env.default_params)
    state = pgjax.init(jax.random.key(0), config)
    expected, _ = pgjax.update(state, config)
    for scale in (1e-30, 1e-12, 1e12, 1e30):
        rewards = config.env_params.reward * scale
        found, metrics = pgjax.update(state, config.replace(**{"env_params.reward": rewards}))
        assert metrics.finite
        equal(found.params, expected.params, rtol=2e-2, atol=1e-4)


def test_the_trust_region_bounds_the_divergence_and_is_used():
    config = trust_region_config(max_kl=0.02).replace(num_updates=8)
    state, metrics = pgjax.train(jax.random.key(0), config)
    kl = np.asarray(metrics.extra["kl"])
    assert (kl <= 0.02).all()
    assert kl[:3].min() > 0.005
    before = pgjax.init(jax.random.key(0), config)
    exact = [
        pgjax.tabular.expected_return(pgjax.tabular.action_probabilities(s, config), config.env)
        for s in (before, state)
    ]
    assert exact[1] > exact[0] + 0.5


@pytest.mark.slow
def test_a_step_that_gains_nothing_is_not_taken():
    flat = pgjax.FiniteMDP(np.ones((1, 2, 1)), [[3.0, 3.0]], [1.0], horizon=4)
    config = trust_region_config().replace(env=flat)
    state = pgjax.init(jax.random.key(0), config)
    after, metrics = pgjax.update(state, config)
    equal(after.params, state.params)
    assert float(metrics.extra["step_size"]) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("distribution", ["categorical", "normal", "tanh_normal", "beta"])
def test_divergences_are_expected_log_ratios(distribution):
    env = "CartPole-v1" if distribution == "categorical" else "Pendulum-v1"
    config = checked(pgjax.Config(env, distribution=distribution))
    bound = bind(config, 0)
    policy = bound.policy
    obs = jnp.full(bound.environment.observation_space.shape, 0.3)
    variables = policy.init(jax.random.key(0))
    moved = jax.tree.map(lambda x: x + 0.05, variables)
    (old, _), (new, _) = (policy.apply(v, obs, ()) for v in (variables, moved))
    actions = jax.vmap(old.sample)(policy.noise(jax.random.key(1), (200_000,)))
    ratios = jax.vmap(lambda a: old.log_prob(a) - new.log_prob(a))(actions)
    error = 4 * float(ratios.std()) / np.sqrt(len(ratios))
    assert float(old.divergence(new)) == pytest.approx(float(ratios.mean()), abs=error + 1e-5)
    assert float(old.divergence(old)) == pytest.approx(0.0, abs=1e-6)


class HalfPrecision(nn.Module):
    """Features and parameters in bfloat16."""

    @nn.compact
    def __call__(self, obs):
        return nn.Dense(4, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)(obs)


def test_the_natural_gradient_leaves_parameters_their_own_dtypes():
    parts = {"objective": pgjax.ImportanceRatio(), "ascent": pgjax.TrustRegion()}
    config = config_of(**parts).replace(network=HalfPrecision())
    before = jax.eval_shape(lambda: pgjax.init(jax.random.key(0), config))
    after = jax.eval_shape(lambda state: pgjax.update(state, config)[0], before)
    assert after.params == before.params
