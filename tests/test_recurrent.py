"""Policies with a memory: what they remember, when they forget, and the gradient through it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import Counter
from flax import struct

import pgjax
from pgjax.environments.interface import EnvState, spaces
from pgjax.training import updates
from pgjax.training.config import bind, checked


@struct.dataclass
class RecallState(EnvState):
    """What was shown, and the time."""

    cue: jax.Array


class Recall(Counter):
    """Shows −1 or 1 at first, then 0; pays ±1 for repeating it at the last of `lifetime` steps."""

    def reset_env(self, key, params):
        cue = 2 * jax.random.bernoulli(key).astype(jnp.int32) - 1
        return cue[None].astype(float), RecallState(time=0, cue=cue)

    def step_env(self, key, state, action, params):
        after = RecallState(time=state.time + 1, cue=state.cue)
        last = after.time >= params.lifetime
        right = 2 * action - 1 == state.cue
        reward = jnp.where(last, jnp.where(right, 1.0, -1.0), 0.0)
        return jnp.zeros(1), after, reward, last, {}

    def observation_space(self, params=None):
        return spaces.Box(-1.0, 1.0, (1,))


def config_of(sampler, **fields):
    defaults = {"network": pgjax.Recurrent(pgjax.MLP((8,)), 8)}
    if isinstance(sampler, pgjax.Segments):
        defaults["estimator"] = pgjax.GAE()
    fields = defaults | fields
    return pgjax.Config(Recall(lifetime=3, limit=9), sampler=sampler, **fields)


def moved(state):
    """The state with parameters that are not symmetric."""
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + 0.3 * random.normal(size=x.shape), state.params)
    return state.replace(params=params)


def equal(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


CELLS = [
    nn.GRUCell,
    nn.LSTMCell,
    nn.OptimizedLSTMCell,
    nn.MGUCell,
    nn.SimpleCell,
    pgjax.MinGRU,
]
SAMPLERS = [pgjax.Episodes(6), pgjax.Segments(3, 10)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize(
    ("window", "cell"), [(None, nn.GRUCell), *((4, cell) for cell in CELLS)], ids=str
)
def test_what_was_sampled_is_replayed_with_the_same_probability(sampler, window, cell):
    config = checked(config_of(sampler, network=pgjax.Recurrent(window=window, cell=cell)))
    state = moved(pgjax.init(jax.random.key(0), config))
    tau = pgjax.sample_trajectories(jax.random.key(1), state, config)
    bound = bind(config, 0)
    (obs, memory, action, log_prob, *_), valid = updates.task(state, tau, bound).surrogate.batch()
    rows = tau.valid.shape[0]
    assert valid.shape == (-(-rows // (window or rows)), tau.valid.shape[1], window or rows)
    replay = jax.vmap(bound.policy.outputs_of_steps, (None, 0, 0, 0))
    found = replay(state.policy_variables, obs, memory, valid).distribution
    scored = jax.vmap(jax.vmap(jax.vmap(lambda d, a: d.log_prob(a))))(found, action)
    np.testing.assert_allclose(scored[valid], log_prob[valid], rtol=1e-5, atol=1e-6)
    assert valid.sum() == tau.valid.sum()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_memory_follows_from_the_step_before_and_starts_empty(sampler):
    config = checked(config_of(sampler))
    state = moved(pgjax.init(jax.random.key(0), config))
    tau = pgjax.sample_trajectories(jax.random.key(1), state, config)
    policy = bind(config, 0).policy
    apply = jax.vmap(jax.vmap(policy.apply, (None, 0, 0)), (None, 0, 0))
    _, after = apply(state.policy_variables, tau.obs[:-1], tau.memory[:-1])
    taken, memory = np.asarray(tau.valid), np.asarray(tau.memory)
    np.testing.assert_allclose(memory[1:][taken[:-1]], after[taken[:-1]], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(memory[0], 0.0)
    starts = taken[1:] & ~taken[:-1]
    np.testing.assert_array_equal(memory[1:][starts], 0.0)
    assert starts.any() == isinstance(sampler, pgjax.Segments)
    assert np.abs(after[taken[:-1]]).min() > 0.0


def through_time(state, config, tau):
    """∇ (1/m) Σ_i R(τ_i) Σ_t log π(a_t | o_0 … o_t), trajectory by trajectory, step by step."""
    policy = bind(config, 0).policy

    def objective(params):
        total, variables = 0.0, {"params": params, **state.variables}
        for i in range(tau.valid.shape[1]):
            memory = policy.initial_memory()
            for t in range(int(tau.valid[:, i].sum())):
                distribution, memory = policy.apply(variables, tau.obs[t, i], memory)
                score = distribution.log_prob(tau.action[t, i])
                total = total + tau.reward[:, i].sum() * score
        return total / tau.valid.shape[1]

    return jax.grad(objective)(state.params)


def test_the_gradient_goes_back_through_the_memory():
    config = checked(config_of(pgjax.Episodes(6), estimator=pgjax.TotalReturn()))
    state = moved(pgjax.init(jax.random.key(0), config))
    key = jax.random.key(1)
    expected = through_time(state, config, pgjax.sample_trajectories(key, state, config))
    found, _ = pgjax.policy_gradient(key, state, config)
    equal(found, expected, rtol=1e-4, atol=1e-6)
    cut = config.replace(network=pgjax.Recurrent(pgjax.MLP((8,)), 8, window=1))
    short, _ = pgjax.policy_gradient(key, state, cut)
    gaps = jax.tree.map(lambda a, b: np.abs(a - b).max(), short, expected)
    assert max(jax.tree.leaves(gaps)) > 1e-3


@pytest.mark.parametrize(
    ("objective", "ascent"),
    [
        (pgjax.ClippedRatio(), pgjax.Passes(epochs=1, minibatches=1)),
        (pgjax.ImportanceRatio(), pgjax.TrustRegion()),
    ],
    ids=lambda part: type(part).__name__,
)
def test_every_objective_has_the_same_gradient(objective, ascent):
    plain = config_of(pgjax.Segments(4, 12))
    state = moved(pgjax.init(jax.random.key(0), plain))
    expected, _ = pgjax.policy_gradient(jax.random.key(1), state, plain)
    other = plain.replace(objective=objective, ascent=ascent)
    found, _ = pgjax.policy_gradient(jax.random.key(1), state, other)
    equal(found, expected, rtol=1e-4, atol=1e-6)
    _, metrics = pgjax.update(state, other)
    assert bool(metrics.finite)
    assert float(metrics.extra["kl"]) <= 0.01


@pytest.mark.devices(2)
def test_two_devices_give_the_same_numbers():
    config = config_of(pgjax.Segments(4, 12), num_updates=3)
    one = pgjax.train(jax.random.key(0), config)
    two = pgjax.train(jax.random.key(0), config, pgjax.make_mesh(2))
    equal(two.state.params, one.state.params, rtol=1e-4, atol=1e-5)


def test_it_learns_what_a_policy_without_memory_cannot():
    def final_return(network):
        config = config_of(
            pgjax.Episodes(64),
            network=network,
            num_updates=60,
            optimizer=pgjax.Adam(0.01),
        )
        state, _ = pgjax.train(jax.random.key(0), config)
        return float(pgjax.evaluate(jax.random.key(1), state, config, 256).mean)

    assert final_return(pgjax.Recurrent(pgjax.MLP((8,)), 8)) > 0.9
    assert abs(final_return(pgjax.MLP((8,)))) < 0.3


def test_a_checkpoint_holds_the_memory_of_the_streams(tmp_path):
    config = pgjax.actor_critic("CartPole-v1", network=pgjax.Recurrent(), num_updates=2)
    state, _ = pgjax.update(pgjax.init(jax.random.key(0), config), config)
    pgjax.save(tmp_path / "saved", state, config)
    loaded, found = pgjax.load(tmp_path / "saved")
    assert found == config
    after, same = pgjax.update(loaded, found)[0], pgjax.update(state, config)[0]
    equal(after.params, same.params, rtol=0.0)
    equal(after.streams, same.streams, rtol=0.0)


def test_statistics_of_observations_are_not_those_of_memories():
    config = config_of(pgjax.Episodes(8), normalize_observations=True, num_updates=1)
    state, _ = pgjax.train(jax.random.key(0), config)
    assert state.variables["normalizer"].mean.shape == (1,)


def test_a_memory_that_is_none_of_the_policys_is_refused():
    config = pgjax.Config(Recall(), network=pgjax.Recurrent(features=4))
    policy = bind(config, 0).policy
    variables = policy.init(jax.random.key(0))
    message = r"memory must be policy.initial_memory\(\) at .*, float32\[4\], .*, got "
    for memory, got in (((), r"\(\)"), (jnp.zeros(3), r"float32\[3\]")):
        with pytest.raises(ValueError, match=message + got):
            policy.apply(variables, policy.blank_obs(), memory)
