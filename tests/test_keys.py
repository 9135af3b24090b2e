"""Randomness: no key is used twice, no two seeds agree, and evaluation takes none of training's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.errors import KeyReuseError
from jax.experimental.key_reuse import _core as key_reuse

import pgjax
from pgjax.study import evaluation
from pgjax.training import training
from pgjax.training.config import checked

STREAMS = {"sampler.num_envs": 2, "sampler.length": 4, "num_updates": 2}
LINEAR = {"network": pgjax.MLP(())}
CHAIN = pgjax.FiniteMDP(np.full((2, 2, 2), 0.5), [[1.0, 0.0], [0.0, 1.0]], [0.5, 0.5], horizon=4)
CONFIGS = {
    "reinforce": pgjax.reinforce(CHAIN, num_updates=2, **LINEAR),
    "value": pgjax.reinforce(CHAIN, **{"estimator.baseline": "value"}, **LINEAR),
    "ppo": pgjax.ppo("CartPole-v1", normalize_observations=True, **STREAMS, **LINEAR),
    "streams": pgjax.ppo(CHAIN, **STREAMS, **LINEAR),
    "natural": pgjax.natural_policy_gradient("CartPole-v1", **STREAMS, **LINEAR),
    "recurrent": pgjax.ppo("CartPole-v1", network=pgjax.Recurrent(pgjax.MLP(()), 2), **STREAMS),
    "beta": pgjax.reinforce("Pendulum-v1", distribution="beta", **{"sampler.horizon": 3}, **LINEAR),
}
PROGRAMS = {
    "train": lambda key, state, config: training._train(key, config, None),
    "update": lambda key, state, config: training._update(state, config),
    "sample_trajectories": lambda key, state, config: training._sample(key, state, config, None),
    "policy_gradient": lambda key, state, config: training._policy_gradient(
        key, state, config, None
    ),
    "evaluate": lambda key, state, config: evaluation._evaluate(key, state, config, 3, False),
}


def check_keys(function, *inputs):
    """Raises KeyReuseError if a program, traced but not run, consumes a key twice."""
    key_reuse.check_key_reuse_jaxpr(jax.make_jaxpr(function)(*inputs).jaxpr)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", CONFIGS)
def test_no_key_is_used_twice(name, program):
    config, key = checked(CONFIGS[name]), jax.random.key(0)
    state = jax.eval_shape(training.init, key, config)
    check_keys(lambda key, state: PROGRAMS[program](key, state, config), key, state)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["value", "ppo"])
def test_nor_is_one_by_many_seeds_or_a_host_loop(name):
    config = checked(CONFIGS[name])
    keys = jax.random.split(jax.random.key(0), 2)
    check_keys(jax.vmap(lambda key: training._train(key, config, None)), keys)
    state = jax.eval_shape(training.init, keys[0], config)
    until = training.StopRule(jnp.int32(2), jnp.zeros(()), jnp.bool_(True))
    check_keys(lambda state: training.advance(state, config, until, 2), state)


@pytest.mark.slow
def test_functions_that_compare_what_one_key_gives_twice_say_so():
    config = CONFIGS["reinforce"]
    with jax.debug_key_reuse(True):
        state = pgjax.init(jax.random.key(0), config)
        pgjax.gradient_statistics(jax.random.key(1), state, config, 2)
        pgjax.check_environment(CHAIN, num_steps=16)


def test_no_tracer_leaks():
    with jax.checking_leaks():
        for name in ("reinforce", "recurrent"):
            state = pgjax.init(jax.random.key(0), CONFIGS[name])
            jax.eval_shape(pgjax.update, state, CONFIGS[name])


def test_a_key_that_is_used_twice_in_a_loop_would_be_noticed():
    def twice(key):
        return jax.lax.scan(lambda x, _: (x + jax.random.uniform(key), None), 0.0, length=2)[0]

    def once(key):
        return jax.vmap(jax.random.uniform)(jax.random.split(key, 2)).sum()

    check_keys(once, jax.random.key(0))
    with pytest.raises(KeyReuseError):
        check_keys(jax.vmap(twice), jax.random.split(jax.random.key(0), 2))


@pytest.mark.slow
def test_256_seeds_have_256_policies_and_noises_of_their_own():
    config = pgjax.reinforce("Pendulum-v1", num_updates=1).replace(
        **{"network.hidden_sizes": (3,), "sampler": pgjax.Episodes(2, horizon=3)}
    )
    keys = jax.vmap(jax.random.key)(jnp.arange(256))
    start = jax.vmap(pgjax.init, (0, None))(keys, config)
    kernels = [leaf for leaf in jax.tree.leaves(start.params) if leaf.ndim == 3]
    _, metrics = jax.vmap(pgjax.train, (0, None))(keys, config)
    tau = jax.vmap(pgjax.sample_trajectories, (0, 0, None))(keys, start, config)
    found = [*kernels, jax.random.key_data(start.key), metrics.objective, tau.obs[:, 0]]
    for leaf in found:
        assert len(np.unique(np.asarray(leaf).reshape(256, -1), axis=0)) == 256
    assert len(kernels) == 2
    assert np.unique(tau.action).size == tau.action.size


@pytest.mark.slow
@pytest.mark.parametrize("deterministic", [False, True])
def test_an_evaluation_between_two_updates_changes_no_bit(deterministic):
    config = pgjax.actor_critic(CHAIN, normalize_observations=True, **STREAMS, **LINEAR)
    state, _ = pgjax.update(pgjax.init(jax.random.key(0), config), config)
    expected = bits(pgjax.update(state, config))
    before = bits(state)
    pgjax.evaluate(jax.random.key(0), state, config, 4, deterministic)
    jax.tree.map(np.testing.assert_array_equal, bits(state), before)
    jax.tree.map(np.testing.assert_array_equal, bits(pgjax.update(state, config)), expected)


def bits(tree):
    """A copy in NumPy."""

    def one(leaf):
        typed = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(leaf) if typed else leaf)

    return jax.tree.map(one, tree)


@pytest.mark.slow
def test_what_the_tools_find_in_jax_itself_is_as_troubleshooting_shows():
    keys = jax.random.split(jax.random.key(0), (2, 3))
    with jax.debug_key_reuse(True), pytest.raises(KeyReuseError):
        jax.jit(lambda keys: jax.random.uniform(keys.T[0, 0]))(keys)
    closing = lambda x: jax.custom_batching.sequential_vmap(lambda y: x + y)(1.0)
    with jax.checking_leaks(), pytest.raises(Exception, match="Leaked trace"):
        jax.eval_shape(closing, 1.0)
