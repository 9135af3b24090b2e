import os
import pathlib
import subprocess
import sys

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import Counter
from flax import struct
from gymnax.environments import environment, spaces

import pgjax
from pgjax.environments.spaces import encode
from pgjax.policies.distributions import Categorical, Normal, Rounded, SquashedNormal, TanhNormal
from pgjax.training.config import bind

LINEAR = pgjax.MLP(hidden_sizes=())


@struct.dataclass
class WalkState(environment.EnvState):
    position: jax.Array


@struct.dataclass
class WalkParams(environment.EnvParams):
    max_steps_in_episode: int = 4


class Walk(environment.Environment):
    """Walks along x, a step of one at a time; what it observes is chosen when it is made."""

    def __init__(self, observation="dict", actions=None):
        self.observation = observation
        self.actions = spaces.Discrete(2) if actions is None else actions

    @property
    def default_params(self):
        return WalkParams()

    def reset_env(self, key, params):
        state = WalkState(time=0, position=jnp.zeros(2))
        return self.get_obs(state), state

    def step_env(self, key, state, action, params):
        state = WalkState(time=state.time + 1, position=state.position.at[0].add(1.0))
        return self.get_obs(state), state, jnp.sum(action) * 1.0, jnp.array(False), {}

    def get_obs(self, state, params=None, key=None):
        position, phase = state.position, jnp.asarray(state.time % 3, jnp.int32)
        return {
            "box": position,
            "grid": jnp.full((2, 3), phase),
            "dict": {"position": position, "phase": phase},
            "tuple": (position, phase),
        }[self.observation]

    def observation_space(self, params=None):
        position, phase = spaces.Box(-10.0, 10.0, (2,)), spaces.Discrete(3)
        return {
            "box": position,
            "grid": spaces.Box(0, 2, (2, 3), jnp.int32),
            "dict": spaces.Dict({"position": position, "phase": phase}),
            "tuple": spaces.Tuple((position, phase)),
        }[self.observation]

    def action_space(self, params=None):
        return self.actions


UNBOUNDED = Walk("box", spaces.Box(-np.inf, np.inf, (2,)))


def random_linear(policy):
    """Variables of a linear policy with random numbers in them, and its weights and biases."""
    variables = policy.init(jax.random.key(0))
    leaves, structure = jax.tree.flatten(variables)
    rng = np.random.default_rng(0)
    leaves = [jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) for leaf in leaves]
    kernel = next(np.asarray(leaf) for leaf in leaves if leaf.ndim == 2)
    bias = next(np.asarray(leaf) for leaf in leaves if leaf.ndim == 1)
    return jax.tree.unflatten(structure, leaves), kernel, bias


def policy_of(**fields):
    return bind(pgjax.Config(**fields), 0).policy


def distribution_of(policy, variables, obs):
    return policy.apply(variables, obs, policy.initial_memory())[0]


def initial_distribution(config):
    bound = bind(config, 0)
    obs, _ = bound.environment.reset(jax.random.key(0))
    return distribution_of(bound.policy, bound.policy.init(jax.random.key(1)), obs)


@pytest.mark.parametrize(
    ("env", "distribution", "expected"),
    [
        ("CartPole-v1", "auto", Categorical),
        ("CartPole-v1", "categorical", Categorical),
        ("Pendulum-v1", "auto", TanhNormal),
        ("Pendulum-v1", "normal", Normal),
        ("PointRobot-misc", "auto", TanhNormal),
        (UNBOUNDED, "auto", Normal),
        (UNBOUNDED, "normal", Normal),
    ],
)
def test_the_action_space_chooses_the_head(env, distribution, expected):
    config = pgjax.Config(env=env, network=LINEAR, distribution=distribution)
    assert type(initial_distribution(config)) is expected


@pytest.mark.parametrize(
    ("env", "distribution"),
    [
        ("CartPole-v1", "normal"),
        ("CartPole-v1", "tanh_normal"),
        ("Pendulum-v1", "categorical"),
        (UNBOUNDED, "tanh_normal"),
        (Walk("box", spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2)))), "beta"),
    ],
)
def test_a_head_that_cannot_cover_the_actions_is_refused_by_name(env, distribution):
    name = env if isinstance(env, str) else "Walk"
    with pytest.raises(TypeError, match=name):
        policy_of(env=env, network=LINEAR, distribution=distribution)


def test_an_unknown_distribution_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'tanh_normal'"):
        policy_of(env="Pendulum-v1", distribution="tanhnormal")


class Near(Counter):
    """One step; what it pays is how near the actions are to the best ones."""

    def __init__(self, low, high, best, dtype=jnp.float32):
        super().__init__(1, 1)
        self.box = spaces.Box(np.array(low), np.array(high), np.shape(low), dtype)
        self.best = np.array(best, np.float32)

    def step_env(self, key, state, action, params):
        assert action.dtype == self.box.dtype
        obs, state, _, done, info = super().step_env(key, state, action, params)
        return obs, state, -jnp.sum(jnp.abs(action - self.best)), done, info

    def action_space(self, params=None):
        return self.box


INF = np.inf
BOXES = {
    "some": (
        Near([5.0, -INF, 100.0, -INF], [INF, -3.0, 104.0, INF], [6.5, -4.5, 101.0, 1.0]),
        SquashedNormal,
    ),
    "equal": (Near([1.0, 2.0], [1.0, 4.0], [1.0, 2.5]), TanhNormal),
    "integers": (Near([0, -5, 3], [3, 5, 3], [3, 3, 3], jnp.int32), TanhNormal),
    "all integers": (Near([-(2**31)], [2**31 - 1], [2], jnp.int32), Normal),
    "all floats": (Near([-3.4e38], [3.4e38], [1.0]), Normal),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOXES)
def test_whatever_its_bounds_a_box_is_acted_in_and_learned(name):
    env, kind = BOXES[name]
    config = pgjax.Config(
        env,
        network=LINEAR,
        sampler=pgjax.Episodes(128),
        optimizer=pgjax.Adam(0.1),
        num_updates=40,
    )
    first = initial_distribution(config)
    assert type(first.continuous if "integers" in name else first) is kind
    _, metrics = pgjax.train(jax.random.key(0), config)
    assert metrics.finite.all()
    returns = np.asarray(metrics.episode_return)
    assert returns[-5:].mean() > 0.4 * returns[0]
    if name != "equal":
        pgjax.check_environment(env, num_steps=16)


@pytest.mark.slow
@pytest.mark.parametrize("distribution", ["normal", "beta"])
def test_the_other_heads_take_equal_bounds_and_integers_too(distribution):
    env, _ = BOXES["integers"]
    config = pgjax.Config(env, distribution=distribution, sampler=pgjax.Episodes(4), num_updates=1)
    assert type(initial_distribution(config)) is Rounded
    _, metrics = pgjax.train(jax.random.key(0), config)
    assert metrics.finite.all()
    assert np.isfinite(metrics.entropy).all()


@pytest.mark.parametrize("dtype", [bool, jnp.uint8, jnp.int16])
def test_integers_are_of_their_box_s_dtype_and_all_are_reached(dtype):
    env = Near([0, 1], [1, 1], [0, 1], dtype)
    distribution = initial_distribution(pgjax.Config(env, network=LINEAR))
    noise = jnp.linspace(-3.0, 3.0, 9)[:, None] * jnp.ones((1, 2))
    actions = jax.vmap(lambda x: distribution.environment_action(distribution.sample(x)))(noise)
    assert actions.dtype == dtype
    np.testing.assert_array_equal(np.unique(np.asarray(actions), axis=0), [[0, 1], [1, 1]])


@pytest.mark.slow
@pytest.mark.parametrize("distribution", ["auto", "normal", "beta"])
def test_heads_have_jax_s_default_dtype_and_the_natural_gradient_takes_it(distribution):
    config = pgjax.Config(
        Near([-1.0], [2.0], [0.5], np.float64),
        distribution=distribution,
        network=LINEAR,
        sampler=pgjax.Episodes(4),
        objective=pgjax.ImportanceRatio(),
        ascent=pgjax.TrustRegion(),
        optimizer=pgjax.SGD(1.0),
    )
    jax.config.update("jax_enable_x64", True)
    try:
        state, metrics = pgjax.update(pgjax.init(jax.random.key(0), config), config)
    finally:
        jax.config.update("jax_enable_x64", False)
    assert metrics.finite
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype("float64")}


def test_a_normal_starts_inside_an_only_bound():
    env = Near([5.0, -INF, -INF], [INF, -3.0, INF], [0.0, 0.0, 0.0])
    distribution = initial_distribution(pgjax.Config(env, network=LINEAR, distribution="normal"))
    np.testing.assert_allclose(distribution.mean, [6.0, -4.0, 0.0], atol=0.05)


@pytest.mark.parametrize(
    ("low", "high"), [([1.0, 2.0], [0.0, 3.0]), ([np.nan], [1.0]), ([INF], [INF]), ([-INF], [-INF])]
)
def test_bounds_that_hold_no_action_are_refused(low, high):
    with pytest.raises(ValueError, match="Near: action_space must have low <= high, got Box"):
        pgjax.init(jax.random.key(0), pgjax.Config(Near(low, high, low)))


def test_env_params_may_move_bounds_but_not_remove_them():
    class Moving(Counter):
        def action_space(self, params=None):
            return spaces.Box(0.0, params.lifetime * 1e36, (1,))

    env = Moving()
    pgjax.init(jax.random.key(0), pgjax.Config(env).replace(**{"env_params.lifetime": 7}))
    for lifetime, message in ((-1, "low <= high"), (10**4, "by default")):
        config = pgjax.Config(env).replace(**{"env_params.lifetime": lifetime})
        with pytest.raises(ValueError, match=message):
            pgjax.init(jax.random.key(0), config)


@pytest.mark.slow
def test_a_log_std_out_of_range_is_pulled_back():
    config = pgjax.Config(
        Near([-2.0], [2.0], [0.5]),
        distribution="normal",
        network=LINEAR,
        sampler=pgjax.Episodes(64),
        optimizer=pgjax.Adam(0.05),
    )
    policy = bind(config, 0).policy
    state = pgjax.init(jax.random.key(0), config)

    @jax.jit
    def log_std(value, sign=1.0):
        variables = jax.tree.map(lambda x: x, state.policy_variables)
        variables["params"]["head"]["log_std"] = jnp.full(1, value)
        distribution = distribution_of(policy, variables, jnp.zeros(1))
        return sign * (distribution.log_std[0] - jnp.log(distribution.high[0]))

    xs = [-1e4, -5.2, -5.0, -0.5, 2.0, 2.2, 1e4]
    np.testing.assert_allclose([log_std(x) for x in xs], np.clip(xs, -5.0, 2.0), atol=1e-6)
    slope = jax.jit(jax.grad(log_std))
    slopes = [[slope(x, sign) for x in xs] for sign in (1.0, -1.0)]
    np.testing.assert_array_equal(slopes, [[1, 1, 1, 1, 1, 0, 0], [0, 0, -1, -1, -1, -1, -1]])
    for start in (2.2, 4.0):
        out = state.replace(params=jax.tree.map(lambda x: x, state.params))
        out.params["head"]["log_std"] = jnp.full(1, start)
        for _ in range(60):
            out, _ = pgjax.update(out, config)
        assert out.params["head"]["log_std"][0] < 2.0
    # The natural gradient's curvature is that of the range, on both sides of its ends.
    natural = config.replace(
        objective=pgjax.ImportanceRatio(), ascent=pgjax.TrustRegion(), optimizer=pgjax.SGD(1.0)
    )
    out = pgjax.init(jax.random.key(0), natural)
    out.params["head"]["log_std"] = jnp.full(1, 2.2)
    after, metrics = pgjax.update(out, natural)
    assert metrics.finite
    assert 0.0 < 2.2 - after.params["head"]["log_std"][0] < 1.0


def test_a_normal_on_a_narrow_box_is_narrow_in_action_units():
    config = pgjax.Config(env="PointRobot-misc", network=LINEAR, distribution="normal")
    distribution = initial_distribution(config)
    np.testing.assert_allclose(distribution.high, 0.1, rtol=1e-6)
    assert (np.exp(distribution.log_std) < 0.1).all()
    np.testing.assert_allclose(distribution.mean, 0.0, atol=0.01)


def test_a_normal_on_an_asymmetric_box_starts_in_its_middle():
    walk = Walk("box", spaces.Box(jnp.array([2.0, -1.0]), jnp.array([4.0, 1.0]), (2,)))
    distribution = initial_distribution(
        pgjax.Config(env=walk, network=LINEAR, distribution="normal")
    )
    np.testing.assert_allclose(distribution.mean, [3.0, 0.0], atol=0.05)
    np.testing.assert_allclose(distribution.low, [2.0, -1.0])
    np.testing.assert_allclose(distribution.high, [4.0, 1.0])


@pytest.mark.parametrize("distribution", ["tanh_normal", "normal"])
def test_bounds_that_are_arrays_are_read_while_tracing_as_they_are_otherwise(distribution):
    config = pgjax.Config(env="PointRobot-misc", network=LINEAR, distribution=distribution)
    traced = jax.jit(lambda: initial_distribution(config))()
    otherwise = initial_distribution(config)
    assert type(traced) is type(otherwise)
    chex.assert_trees_all_close(traced, otherwise, rtol=1e-5, atol=1e-6)


def test_a_box_of_any_shape_is_flattened_into_the_linear_policy():
    bound = bind(pgjax.Config(env="Catch-bsuite", network=LINEAR), 0)
    environment, policy = bound.environment, bound.policy
    variables, kernel, bias = random_linear(policy)
    obs, _ = environment.reset(jax.random.key(0))
    assert obs.shape == (10, 5)
    logits = distribution_of(policy, variables, obs).logits
    np.testing.assert_allclose(logits, np.ravel(obs) @ kernel + bias, rtol=1e-5)


def test_a_discrete_observation_picks_its_row_of_the_linear_policy():
    policy = policy_of(env="FrozenLake-misc", network=LINEAR)
    variables, kernel, bias = random_linear(policy)
    assert kernel.shape == (16, 4)
    for obs in (0, 7, 15):
        logits = distribution_of(policy, variables, jnp.int32(obs)).logits
        np.testing.assert_allclose(logits, kernel[obs] + bias, rtol=1e-5)


@pytest.mark.parametrize(
    ("env", "obs", "flat"),
    [
        (
            Walk("grid"),
            jnp.array([[1, 2, 0], [5, 7, 3]], jnp.int32),
            [1.0, 2.0, 0.0, 5.0, 7.0, 3.0],
        ),
        # The leaves of a dict come in the order of its names: phase, then position.
        (
            Walk("dict"),
            {"position": jnp.array([2.0, -1.0]), "phase": jnp.int32(1)},
            [0.0, 1.0, 0.0, 2.0, -1.0],
        ),
        (Walk("tuple"), (jnp.array([2.0, -1.0]), jnp.int32(1)), [2.0, -1.0, 0.0, 1.0, 0.0]),
    ],
    ids=["integers", "dict", "tuple"],
)
def test_observations_are_encoded_leaf_by_leaf(env, obs, flat):
    policy = policy_of(env=env, network=LINEAR)
    variables, kernel, bias = random_linear(policy)
    logits = distribution_of(policy, variables, obs).logits
    np.testing.assert_allclose(logits, np.array(flat) @ kernel + bias, rtol=1e-5)


def test_a_dict_space_reads_an_observation_that_is_a_record_too():
    @struct.dataclass
    class Observation:
        position: jax.Array
        phase: jax.Array

    space = Walk("dict").observation_space()
    encoded = encode(Observation(jnp.array([2.0, -1.0]), jnp.int32(2)), space)
    np.testing.assert_array_equal(encoded["position"], [2.0, -1.0])
    np.testing.assert_array_equal(encoded["phase"], [0.0, 0.0, 1.0])


def test_nested_observations_go_through_a_whole_update():
    config = pgjax.Config(
        env=Walk("dict"), network=LINEAR, sampler=pgjax.Episodes(num_trajectories=3)
    )
    state = pgjax.init(jax.random.key(0), config)
    trajectories = pgjax.sample_trajectories(jax.random.key(1), state, config)
    position, phase = trajectories.obs["position"], trajectories.obs["phase"]
    np.testing.assert_array_equal(position[:, 0], [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    np.testing.assert_array_equal(phase[:, 0], [0, 1, 2, 0])
    after, metrics = pgjax.update(state, config)
    assert metrics.finite
    assert metrics.gradient_norm > 0
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, state.params)
    assert any(jax.tree.leaves(changed))


class Doubled(nn.Module):
    """A user's network: twice the position, and nothing else of a Dict observation."""

    @nn.compact
    def __call__(self, obs):
        return 2.0 * obs["position"]


class Matrix(nn.Module):
    def __call__(self, obs):
        return jnp.stack([obs, obs])


class Pair(nn.Module):
    def __call__(self, obs):
        return obs, obs


class Scalar(nn.Module):
    def __call__(self, obs):
        return jnp.sum(obs)


def test_any_flax_module_serves_as_the_network_and_sees_the_structured_observation():
    policy = policy_of(env=Walk("dict"), network=Doubled())
    variables, kernel, bias = random_linear(policy)
    position = np.array([2.0, -1.0])
    for phase in (0, 2):
        obs = {"position": jnp.asarray(position, jnp.float32), "phase": jnp.int32(phase)}
        logits = distribution_of(policy, variables, obs).logits
        np.testing.assert_allclose(logits, 2.0 * position @ kernel + bias, rtol=1e-5)


@pytest.mark.parametrize("network", [Matrix(), Pair(), Scalar()], ids=lambda n: type(n).__name__)
def test_a_network_that_gives_no_vector_is_refused_by_name(network):
    config = pgjax.Config(env="CartPole-v1", network=network)
    with pytest.raises(ValueError, match=f"{type(network).__name__} gave"):
        pgjax.init(jax.random.key(0), config)


@pytest.mark.parametrize(
    "env",
    [
        "CartPole-v1",
        "Catch-bsuite",
        "FrozenLake-misc",
        "Breakout-MinAtar",
    ],
)
def test_the_initial_policy_is_nearly_uniform(env):
    bound = bind(pgjax.Config(env=env), 0)
    environment, policy = bound.environment, bound.policy

    @jax.jit
    def initial_probabilities(start_key, params_key):
        obs, _ = environment.reset(start_key)
        return jax.nn.softmax(distribution_of(policy, policy.init(params_key), obs).logits)

    for seed in range(3):
        probabilities = initial_probabilities(*jax.random.split(jax.random.key(seed)))
        uniform = np.full(environment.action_space.n, 1 / environment.action_space.n)
        np.testing.assert_allclose(probabilities, uniform, rtol=0.05)


def test_the_initial_policy_depends_on_the_key_alone():
    policy = policy_of(env="CartPole-v1", network=pgjax.MLP(hidden_sizes=(4,)))
    first, again, other = (policy.init(jax.random.key(seed)) for seed in (0, 0, 1))
    kernels = [
        [np.asarray(leaf) for leaf in jax.tree.leaves(variables) if leaf.ndim == 2]
        for variables in (first, again, other)
    ]
    for a, b, c in zip(*kernels, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).all()


ORTHOGONAL = """
import flax.linen as nn, jax, jax.numpy as jnp, numpy as np, pgjax

class Orthogonal(nn.Module):
    @nn.compact
    def __call__(self, obs):
        for _ in range(4):
            obs = nn.tanh(nn.Dense(64, kernel_init=nn.initializers.orthogonal())(obs))
        return obs

config = pgjax.Config(env="CartPole-v1", network=Orthogonal())
keys = jax.random.split(jax.random.key(0), 256)
states = jax.vmap(pgjax.init, in_axes=(0, None))(keys, config)
alone = pgjax.init(keys[7], config)
for batch, single in zip(jax.tree.leaves(states.params), jax.tree.leaves(alone.params)):
    np.testing.assert_allclose(batch[7], single, atol=1e-5)
squares = [x for x in jax.tree.leaves(states.params) if x.shape == (256, 64, 64)]
assert len(squares) == 3
for kernels in squares:
    assert len(np.unique(np.asarray(kernels).reshape(256, -1), axis=0)) == 256
    grams = np.einsum("kij,kil->kjl", kernels, kernels)
    np.testing.assert_allclose(grams, np.broadcast_to(np.eye(64), grams.shape), atol=1e-4)
print("done")
"""


@pytest.mark.slow
def test_many_seeds_of_an_orthogonally_initialised_network_do_not_hang():
    # In a process of its own: what this guards against is a call that never comes back.
    root = pathlib.Path(pgjax.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", ORTHOGONAL],
        cwd=root,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "done", result.stderr
