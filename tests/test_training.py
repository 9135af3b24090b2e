import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from environments_for_tests import UnboundedActions

import pgjax
from pgjax.core import chunks
from pgjax.training import training, updates
from pgjax.training.config import bind, checked

CONFIG = pgjax.Config(env="CartPole-v1", num_updates=4).replace(
    **{"sampler.num_trajectories": 8, "network.hidden_sizes": (16,)}
)


def equal(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        if tolerance:
            np.testing.assert_allclose(x, y, **tolerance)
        else:
            np.testing.assert_array_equal(x, y)


def test_train_is_a_scan_of_update_over_init():
    key = jax.random.key(3)
    state, metrics = pgjax.train(key, CONFIG)
    step_by_step, rows = pgjax.init(key, CONFIG), []
    for _ in range(CONFIG.num_updates):
        step_by_step, row = pgjax.update(step_by_step, CONFIG)
        rows.append(row)
    equal(state, step_by_step, rtol=2e-5, atol=2e-6)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *rows)
    equal(metrics, stacked, rtol=2e-4, atol=2e-5)


def test_train_twice_gives_the_same_bits():
    equal(pgjax.train(jax.random.key(0), CONFIG), pgjax.train(jax.random.key(0), CONFIG))


@pytest.mark.parametrize("env", ["CartPole-v1", "FourRooms-misc"])
def test_every_program_runs_a_second_time(env):
    config = pgjax.ppo(env, **{"sampler.num_envs": 4, "sampler.length": 4, "ascent.minibatches": 1})
    # From the same default parameters, but of the environment's own making.
    config, key = config.replace(env_params=None), jax.random.key(0)
    for _ in range(2):
        state = pgjax.init(key, config)
        pgjax.update(state, config)
        pgjax.sample_trajectories(key, state, config)
        pgjax.policy_gradient(key, state, config)
        pgjax.gradient_statistics(key, state, config, 2, state.params)
        pgjax.evaluate(key, state, config, num_episodes=2)


def test_members_of_a_vmapped_batch_equal_single_runs_and_differ_from_each_other():
    keys = jax.random.split(jax.random.key(0), 3)
    state, metrics = jax.vmap(pgjax.train, in_axes=(0, None))(keys, CONFIG)
    for i in range(3):
        alone = pgjax.train(keys[i], CONFIG)
        member = jax.tree.map(lambda x, i=i: x[i], (state, metrics))
        equal(member, tuple(alone), rtol=2e-4, atol=2e-5)
    kernel = state.params["network"]["Dense_0"]["kernel"]
    assert not (kernel[0] == kernel[1]).any()
    assert len(set(np.asarray(metrics.objective[:, 0]).tolist())) == 3


def test_other_floats_do_not_compile_again():
    pgjax.train(jax.random.key(0), CONFIG)
    compiled = training._train._cache_size()
    changes = {"optimizer.learning_rate": 1, "estimator.discount": np.float64(0.5)}
    changes |= {"objective.entropy_coefficient": jnp.float32(0.1)}
    changed, _ = pgjax.train(jax.random.key(1), CONFIG.replace(**changes))
    assert training._train._cache_size() == compiled
    assert np.isfinite(jax.tree.leaves(changed.params)[0]).all()


def test_num_updates_and_sizes_are_part_of_the_program():
    pgjax.train(jax.random.key(0), CONFIG)
    compiled = training._train._cache_size()
    pgjax.train(jax.random.key(0), CONFIG.replace(num_updates=3))
    assert training._train._cache_size() == compiled + 1


def test_counters_and_keys_advance():
    before = pgjax.init(jax.random.key(0), CONFIG)
    after, metrics = pgjax.update(before, CONFIG)
    assert (int(before.num_updates), int(after.num_updates)) == (0, 1)
    assert int(after.env_steps) == int(metrics.env_steps)
    assert not (jax.random.key_data(before.key) == jax.random.key_data(after.key)).all()
    tau = pgjax.sample_trajectories(jax.random.split(before.key)[1], before, CONFIG)
    assert int(after.env_steps) == int(tau.valid.sum())
    np.testing.assert_allclose(metrics.episode_return, tau.reward.sum(0).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics.episode_length, tau.valid.sum(0).mean(), rtol=1e-6)
    assert int(metrics.num_episodes) == 8


def test_update_climbs_the_gradient_it_estimates():
    config = CONFIG.replace(optimizer=pgjax.SGD(learning_rate=0.25))
    state = pgjax.init(jax.random.key(0), config)
    gradient, _ = pgjax.policy_gradient(jax.random.split(state.key)[1], state, config)
    after, _ = pgjax.update(state, config)
    climbed = jax.tree.map(lambda p, g: p + 0.25 * g, state.params, gradient)
    equal(after.params, climbed, rtol=1e-5, atol=1e-5)


def test_max_gradient_norm_is_the_global_norm():
    config = CONFIG.replace(optimizer=pgjax.SGD(learning_rate=1.0, max_gradient_norm=0.5))
    state = pgjax.init(jax.random.key(0), config)
    after, metrics = pgjax.update(state, config)
    moved = jax.tree.map(jnp.subtract, after.params, state.params)
    np.testing.assert_allclose(optax.tree.norm(moved), 0.5, rtol=1e-4)
    assert metrics.gradient_norm > 0.5


def test_any_optax_factory_is_an_optimizer():
    config = CONFIG.replace(optimizer=optax.rmsprop)
    config = config.replace(**{"optimizer.learning_rate": 0.0})
    state, _ = pgjax.train(jax.random.key(0), config)
    equal(state.params, pgjax.init(jax.random.key(0), config).params)
    moved, _ = pgjax.train(jax.random.key(0), config.replace(**{"optimizer.learning_rate": 0.01}))
    assert not np.array_equal(jax.tree.leaves(moved.params)[0], jax.tree.leaves(state.params)[0])


def test_the_gradient_does_not_depend_on_the_chunks_it_is_summed_in(monkeypatch):
    config = CONFIG.replace(**{"sampler.num_trajectories": 7})
    state = pgjax.init(jax.random.key(0), config)
    bound = bind(checked(config), 0)
    key = jax.random.key(9)
    whole = None
    for size in (10**9, 256, 37):
        monkeypatch.setattr(pgjax.core.chunks, "_CHUNK_SIZE", size)
        found = jax.jit(lambda key, state: updates.estimate(key, state, bound))(key, state)
        whole = found if whole is None else whole
        equal(found, whole, rtol=5e-4, atol=5e-3)


def test_an_accelerator_has_larger_chunks(monkeypatch):
    steps = {"x": np.zeros((300, 300))}, np.ones((300, 300), bool)
    sizes = {}
    for platform in ("cpu", "gpu", "tpu"):
        monkeypatch.setattr(jax, "default_backend", lambda platform=platform: platform)
        sizes[platform] = len(chunks.first(*steps).valid)
    assert sizes == {"cpu": 256, "gpu": 2**16, "tpu": 2**16}


@pytest.mark.parametrize(("env", "lengths"), [("CartPole-v1", "many"), ("Catch-bsuite", "one")])
def test_the_gradient_is_that_of_all_transitions_at_once(env, lengths):
    config = checked(
        pgjax.Config(env, sampler=pgjax.Episodes(11, horizon=90 if lengths == "many" else 20))
    )
    state = pgjax.init(jax.random.key(0), config)
    tau = pgjax.sample_trajectories(jax.random.key(9), state, config)
    assert (len(set(np.asarray(tau.valid.sum(0)))) == 1) == (lengths == "one")
    bound = bind(config, 0)
    weights, policy = config.estimator.weights(tau), bound.policy

    def objective(params):
        def log_prob(obs, action):
            return policy.apply({"params": params}, obs, ())[0].log_prob(action)

        log_probs = jax.vmap(jax.vmap(log_prob))(tau.obs, tau.action)
        return jnp.sum(jnp.where(tau.valid, log_probs * weights, 0.0)) / 11

    expected = jax.grad(objective)(state.params)
    surrogate = updates.task(state, tau, bound).surrogate
    found = surrogate.gradient(state.params, surrogate.batch())
    np.testing.assert_allclose(found.objective, objective(state.params), rtol=1e-4, atol=1e-4)
    equal(found.direction, expected, rtol=1e-3, atol=1e-4)


def test_nothing_is_learned_from_no_signal():
    mdp = pgjax.FiniteMDP(np.ones((1, 2, 1)), [[3.0, 3.0]], [1.0], horizon=4)
    config = pgjax.Config(env=mdp, num_updates=2)
    state, metrics = pgjax.train(jax.random.key(0), config)
    equal(state.params, pgjax.init(jax.random.key(0), config).params)
    np.testing.assert_allclose(metrics.episode_return, 12.0)
    assert metrics.finite.all()


def test_unbounded_actions_find_their_optimum():
    config = pgjax.Config(env=UnboundedActions(lifetime=1), num_updates=300)
    state, _ = pgjax.train(jax.random.key(0), config)
    best = pgjax.evaluate(jax.random.key(1), state, config, 8, deterministic=True)
    assert best.mean > -0.05


def test_env_steps_count_past_the_range_of_int32():
    state = pgjax.init(jax.random.key(0), CONFIG)
    late = state.replace(env_steps=jnp.uint32(2**31 - 3))
    after, _ = pgjax.update(late, CONFIG)
    assert int(after.env_steps) > 2**31
