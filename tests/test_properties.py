"""What holds for all inputs, tried on random ones: oracles in NumPy and SciPy, and invariances."""

import dataclasses
import functools
import itertools
import json
import types
import typing
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, special, stats

import pgjax
from pgjax import Values
from pgjax.core import chunks
from pgjax.core.components import hints
from pgjax.environments import interface
from pgjax.estimators.returns import advantages, reward_to_go, total_return
from pgjax.policies import heads, networks
from pgjax.policies.distributions import Beta, Categorical, Normal, TanhNormal
from pgjax.runs import config_json
from pgjax.training import registry, updates
from pgjax.training.config import bind, checked

settings.register_profile("properties", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("properties")
few = settings(max_examples=15)

T, M, A = 6, 4, 3  # steps, trajectories, actions: one shape each, so that all compile once
# A correct sampler fails at this level once in 100 000 examples.
LEVEL = 1e-5

unit = st.floats(0, 1, width=32)
weights_of = jax.jit(lambda estimator, *inputs: estimator.weights(*inputs))


def floats(shape, size=10):
    return arrays(np.float32, shape, elements=st.floats(-size, size, width=32))


def flags(shape):
    return arrays(bool, shape)


@st.composite
def episodes(draw):
    """Whole episodes, some of them empty; how each ended: by itself, by the limit, or by both."""
    ragged = st.lists(st.integers(0, T), min_size=M, max_size=M)
    lengths = np.array(draw(ragged | st.just([T] * M)))
    time = np.arange(T)[:, None]
    last, valid = time == lengths - 1, time < lengths
    terminated = draw(flags(M))
    truncated = draw(flags(M)) | ~terminated
    return trajectories(draw, valid, last & terminated, last & truncated)


@st.composite
def segments(draw):
    """Rows of streams, ended anywhere; the row after an end is not valid."""
    ends = np.array(draw(flags((2, T, M))))
    valid = np.ones((T, M), bool)
    for t, i in itertools.product(range(T), range(M)):
        valid[t, i] = not (t and ends[:, t - 1, i].any())
        ends[:, t, i] &= valid[t, i]
    return trajectories(draw, valid, *ends)


def trajectories(draw, valid, terminated, truncated):
    return pgjax.Trajectories(
        obs=draw(floats((T, M, 4), 2)),
        memory=(),
        action=draw(arrays(np.int32, (T, M), elements=st.integers(0, 1))),
        log_prob=np.full((T, M), -0.7, np.float32),
        reward=np.where(valid, draw(floats((T, M))), np.float32(0)),
        valid=valid,
        terminated=terminated,
        truncated=truncated,
        final_obs=np.zeros((M, 4), np.float32),
        final_memory=(),
    )


@st.composite
def values(draw):
    """Of states and of A actions, with the policy's probabilities."""
    probability = special.softmax(draw(floats((T, M, A), 3)), axis=-1)
    return Values(draw(floats((T + 1, M))), draw(floats((T, M, A))), probability)


def slow_advantage(tau, state, gamma, trace, t, i):
    """Σ_k (γλ)^(k−t) δ_k, up to the first end."""
    total, factor = 0.0, 1.0
    for k in range(t, T):
        following = 0.0 if tau.terminated[k, i] else float(state[k + 1, i])
        total += factor * (float(tau.reward[k, i]) + gamma * following - float(state[k, i]))
        factor *= gamma * trace
        if tau.terminated[k, i] or tau.truncated[k, i]:
            break
    return total


# Discounts that a float32 holds exactly; hypothesis refuses others.
@given(
    floats(T), arrays(np.float32, T, elements=st.sampled_from([0.0, 0.5, 0.96875, 1.0])), floats(())
)
def test_rewards_to_go_are_sums_of_products(rewards, discounts, bootstrap):
    found = jax.jit(reward_to_go)(rewards, discounts, bootstrap)
    paid = np.append(rewards, bootstrap).astype(float)
    expected = [
        sum(np.prod(discounts[t:k], dtype=float) * paid[k] for k in range(t, T + 1))
        for t in range(T)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    if len(set(discounts)) == 1:
        first = found[0] - np.prod(discounts, dtype=float) * bootstrap
        whole = jax.jit(total_return)(rewards, discounts[0])
        np.testing.assert_allclose(whole, first, rtol=1e-4, atol=1e-4)


@given(segments(), floats((T + 1, M)), unit, unit)
def test_advantages_are_sums_of_errors_up_to_the_first_end(tau, state, gamma, trace):
    ends = tau.terminated, tau.truncated
    found = jax.jit(advantages)(tau.reward, state, *ends, gamma, trace)
    for t, i in np.ndindex(T, M):
        expected = slow_advantage(tau, state, gamma, trace, t, i)
        np.testing.assert_allclose(found[t, i], expected, rtol=1e-4, atol=1e-3)


@given(episodes(), values(), unit)
def test_gae_with_the_whole_trace_is_the_return_that_the_end_leaves_less_the_value(
    tau, found, gamma
):
    weights = weights_of(pgjax.GAE(gamma, 1.0), tau, found)
    last_value = np.where(tau.terminated, 0, np.where(tau.truncated, found.state[1:], 0))
    paid = tau.reward + gamma * last_value
    for t, i in np.argwhere(tau.valid):
        expected = sum(gamma**k * float(x) for k, x in enumerate(paid[t:, i]))
        expected -= float(found.state[t, i])
        np.testing.assert_allclose(weights[t, i], expected, rtol=1e-4, atol=1e-3)


ESTIMATORS = [
    pgjax.TotalReturn(0.9, "leave_one_out"),
    pgjax.RewardToGo(0.9, "leave_one_out"),
    pgjax.RewardToGo(1.0, "mean"),
    pgjax.RewardToGo(1.0, "value"),
    pgjax.GAE(0.9, 0.8),
    pgjax.ActionValue(all_actions=True),
]
every_estimator = pytest.mark.parametrize(
    "estimator", [*ESTIMATORS, pgjax.GAE(0.9, 0.8, standardize=True)], ids=repr
)


def inputs(estimator, tau, found):
    return (tau,) if estimator.critic is None else (tau, found)


def each(function, tree):
    """Of every leaf whose second axis counts trajectories."""
    return jax.tree.map(lambda x: function(x) if np.ndim(x) > 1 else x, tree)


@every_estimator
@few
@given(tau=episodes(), found=values(), order=st.permutations(range(M)))
def test_permuted_trajectories_have_permuted_weights(estimator, tau, found, order):
    weights = weights_of(estimator, *inputs(estimator, tau, found))
    permuted = each(lambda x: x[:, order], (tau.replace(final_obs=()), found))
    again = weights_of(estimator, *inputs(estimator, *permuted))
    np.testing.assert_allclose(again, weights[:, np.array(order)], rtol=1e-4, atol=1e-3)


@every_estimator
@few
@given(tau=episodes(), found=values())
def test_rows_in_which_nothing_is_done_change_no_weight(estimator, tau, found):
    weights = weights_of(estimator, *inputs(estimator, tau, found))
    padded = each(lambda x: pad(x, x[-1:]), tau.replace(final_obs=()))
    nothing = {"valid": False, "terminated": False, "truncated": False, "reward": 0.0}
    padded = padded.replace(**{n: set_after(getattr(padded, n), x) for n, x in nothing.items()})
    again = weights_of(estimator, *inputs(estimator, padded, each(lambda x: pad(x, x[-1:]), found)))
    np.testing.assert_allclose(again[:T], weights, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(again[T:], 0.0)


def pad(x, rows):
    return np.concatenate([x, rows, rows])


def set_after(x, value):
    x = np.array(x)
    x[T:] = value
    return x


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@few
@given(tau=episodes(), found=values(), scale=st.floats(0.1, 100))
def test_scaled_rewards_and_values_scale_weights(estimator, tau, found, scale):
    scaled = tau.replace(reward=tau.reward * np.float32(scale))
    in_units = found._replace(
        state=found.state * np.float32(scale), action=found.action * np.float32(scale)
    )
    weights = weights_of(estimator, *inputs(estimator, tau, found))
    again = weights_of(estimator, *inputs(estimator, scaled, in_units))
    np.testing.assert_allclose(again, scale * weights, rtol=1e-4, atol=1e-3 * scale)


@given(tau=episodes(), reward=st.floats(-1e4, 1e4, width=32))
def test_returns_that_are_all_equal_are_standardized_to_nothing(tau, reward):
    paid = np.where(tau.terminated | tau.truncated, np.float32(reward), np.float32(0))
    estimator = pgjax.RewardToGo(baseline="none", standardize=True)
    np.testing.assert_array_equal(weights_of(estimator, tau.replace(reward=paid)), 0.0)


@given(at=st.tuples(st.integers(0, T - 1), st.integers(0, M - 1)), tau=segments(), found=values())
def test_one_valid_step_alone_is_not_standardized(at, tau, found):
    valid = np.zeros((T, M), bool)
    valid[at] = True
    weights = weights_of(pgjax.GAE(standardize=True), tau.replace(valid=valid), found)
    np.testing.assert_array_equal(weights, weights_of(pgjax.GAE(), tau.replace(valid=valid), found))


# The gradient, of a softmax-linear policy, whose own is known: Σ w (1_a − π) ⊗ s.
POLICY = {"network": pgjax.MLP(())}
SAMPLERS = {"episodes": pgjax.Episodes(M, horizon=T), "segments": pgjax.Segments(M, T)}


@pgjax.component
class Rewards(pgjax.Estimator):
    """Each step's own reward: any weights can be given so."""

    def weights(self, trajectories):
        return trajectories.reward


@functools.cache
def gradient_in(sampler, chunk_size=256, devices=None):
    """trajectories, weights -> gradient, compiled with chunks of that size; and the parameters."""
    config = checked(
        pgjax.Config("CartPole-v1", sampler=SAMPLERS[sampler], estimator=Rewards(), **POLICY)
    )
    state = pgjax.init(jax.random.key(0), config)
    bound = bind(config, 0, None if devices is None else pgjax.make_mesh(devices))

    @jax.jit
    def gradient(params, tau, weights):
        surrogate = updates.task(state, tau.replace(reward=weights), bound).surrogate
        return surrogate.gradient(params, surrogate.batch()).direction

    params = state.params
    tau = jax.tree.map(np.zeros_like, EXAMPLE)
    with mock.patch.object(chunks, "_CHUNK_SIZE", chunk_size):
        gradient(params, tau, np.zeros((T, M), np.float32))
    return functools.partial(gradient, params), params


EXAMPLE = pgjax.Trajectories(
    obs=np.zeros((T, M, 4), np.float32),
    memory=(),
    action=np.zeros((T, M), np.int32),
    log_prob=np.zeros((T, M), np.float32),
    reward=np.zeros((T, M), np.float32),
    valid=np.zeros((T, M), bool),
    terminated=np.zeros((T, M), bool),
    truncated=np.zeros((T, M), bool),
    final_obs=np.zeros((M, 4), np.float32),
    final_memory=(),
)


def slow_gradient(params, tau, weights, divisor):
    """{parameter's shape: gradient}."""
    bias, kernel = sorted(map(np.asarray, jax.tree.leaves(params)), key=np.ndim)
    probabilities = special.softmax(tau.obs.astype(float) @ kernel + bias, axis=-1)
    scores = np.eye(2)[tau.action] - probabilities
    scores *= np.where(tau.valid, weights, 0.0)[..., None]
    sums = {(4, 2): np.einsum("tif,tia->fa", tau.obs, scores), (2,): scores.sum((0, 1))}
    return {shape: total / divisor for shape, total in sums.items()}


@pytest.mark.parametrize(
    ("sampler", "chunk_size", "devices"),
    [
        *itertools.product(SAMPLERS, (1, 5, 256), (None,)),
        *(pytest.param(name, 3, 2, marks=pytest.mark.devices(2)) for name in SAMPLERS),
    ],
)
@few
@given(data=st.data(), weights=floats((T, M)), order=st.permutations(range(M)))
def test_the_gradient_is_the_sum_over_steps_in_any_chunks_order_and_on_any_devices(
    sampler, chunk_size, devices, data, weights, order
):
    tau = data.draw(episodes() if sampler == "episodes" else segments())
    gradient, params = gradient_in(sampler, chunk_size, devices)
    divisor = M if sampler == "episodes" else max(1, np.sum(tau.valid))
    expected = slow_gradient(params, tau, weights, divisor)
    permuted = each(lambda x: x[:, order], tau.replace(final_obs=())).replace(
        final_obs=tau.final_obs
    )
    for found in (gradient(tau, weights), gradient(permuted, weights[:, order])):
        for leaf in jax.tree.leaves(found):
            np.testing.assert_allclose(leaf, expected[leaf.shape], rtol=1e-4, atol=1e-3)


@functools.cache
def windowed_sum(length, least, ragged):
    """Of each valid step's number times its row, counted from 1."""

    def weighted(context, chunk):
        numbers, row = chunk.data
        return jnp.sum(jnp.where(chunk.valid, numbers * (row + 1), 0.0))

    @jax.jit
    def total(numbers, valid):
        data = numbers, chunks.row_numbers(valid)
        return chunks.summed(weighted, (), *chunks.windows(data, valid, length), ragged)

    with mock.patch.multiple(chunks, _CHUNK_SIZE=1, _MIN_WINDOWS=least):
        total(np.zeros((T, M), np.float32), np.zeros((T, M), bool))
    return total


@pytest.mark.parametrize(("length", "least"), [(1, 3), (2, 1), (4, 3), (0, 100)])
@pytest.mark.parametrize("ragged", [False, True])
@few
@given(numbers=floats((T, M)), tau=segments())
def test_every_step_counts_once_in_windows_of_any_length(length, least, ragged, numbers, tau):
    found = windowed_sum(length, least, ragged)(numbers, tau.valid)
    expected = np.sum(np.where(tau.valid, numbers, 0.0) * np.arange(1.0, T + 1)[:, None])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


log_std = st.floats(-4, 0.5, width=32)
place = st.floats(-2, 2, width=32)
concentration = st.floats(1, 30, width=32)
KINDS = {
    "normal": (st.tuples(place, log_std), lambda mean, s: Normal(mean, s, -jnp.inf, jnp.inf)),
    "tanh_normal": (st.tuples(place, log_std), lambda m, s: TanhNormal(m, s, LOW, HIGH)),
    "beta": (st.tuples(concentration, concentration), lambda a, b: Beta(a, b, LOW, HIGH)),
}
LOW, HIGH, NUMBER = jnp.float32(-1.0), jnp.float32(3.0), 2000
every_density = pytest.mark.parametrize("kind", KINDS)


@functools.cache
def compiled(kind):
    """Of parameters: log-densities of actions; the entropy; actions that environments get."""
    make = KINDS[kind][1]
    noise = make(0.0, 0.0).noise(jax.random.key(0), (NUMBER,))

    def draw(*parameters):
        distribution = make(*parameters)
        return jax.vmap(lambda x: distribution.environment_action(distribution.sample(x)))(noise)

    return (
        jax.jit(lambda actions, *p: jax.vmap(make(*p).log_prob)(actions)),
        jax.jit(lambda *p: make(*p).entropy()),
        jax.jit(draw),
    )


def grid(kind, first, second):
    """Actions as stored, and as the environment sees them, fine enough to integrate over."""
    if kind == "beta":
        x = np.linspace(1e-6, 1 - 1e-6, 4001)
        return x, -1 + 4 * x
    u = first + np.exp(second) * np.linspace(-9, 9, 4001)
    return u, u if kind == "normal" else -1 + 2 * (np.tanh(u) + 1)


def cumulative(kind, first, second):
    """Of the environment's action, by SciPy."""
    if kind == "beta":
        return stats.beta(first, second, -1, 4).cdf
    normal = stats.norm(first, np.exp(second))
    if kind == "normal":
        return normal.cdf
    return lambda a: normal.cdf(np.arctanh(np.clip((a - 1) / 2, -1, 1)))


@every_density
@few
@given(data=st.data())
def test_densities_integrate_to_one_and_entropies_are_integrals(kind, data):
    parameters = data.draw(KINDS[kind][0])
    log_prob, entropy, _ = compiled(kind)
    stored, seen = grid(kind, *parameters)
    found = np.asarray(log_prob(stored.astype(np.float32), *parameters), float)
    assert abs(integrate.trapezoid(np.exp(found), seen) - 1) < 3e-3
    surprise = -integrate.trapezoid(np.exp(found) * found, seen)
    np.testing.assert_allclose(entropy(*parameters), surprise, atol=2e-2)


@every_density
@few
@given(data=st.data())
def test_samples_pass_a_kolmogorov_smirnov_test(kind, data):
    parameters = data.draw(KINDS[kind][0])
    actions = np.asarray(compiled(kind)[2](*parameters), float)
    with np.errstate(divide="ignore"):
        assert stats.kstest(actions, cumulative(kind, *parameters)).pvalue > LEVEL


@functools.cache
def categorical():
    """Of logits [A]: drawn actions; log-probabilities with gradients; entropy with gradient."""
    noise = Categorical.noise(jax.random.key(0), (NUMBER,))
    return (
        jax.jit(lambda logits: jax.vmap(Categorical(logits).sample)(noise)),
        jax.jit(
            lambda logits: jax.vmap(
                lambda a: jax.value_and_grad(lambda x: Categorical(x).log_prob(a))(logits)
            )(jnp.arange(A))
        ),
        jax.jit(jax.value_and_grad(lambda logits: Categorical(logits).entropy())),
    )


@given(floats(A, 2), flags(A))
def test_a_masked_categorical_is_that_of_the_actions_that_are_left(logits, mask):
    head = heads.CategoricalHead(A)
    masked = head.distribution((jnp.asarray(logits),), jnp.asarray(mask)).logits
    left = mask if mask.any() else np.ones(A, bool)
    expected = special.softmax(np.where(left, logits if mask.any() else 0, -np.inf).astype(float))
    sample, log_probs, entropy = categorical()
    counts = np.bincount(sample(masked), minlength=A)
    assert (counts[~left] == 0).all()
    if left.sum() > 1:
        assert stats.chisquare(counts[left], NUMBER * expected[left]).pvalue > LEVEL
    found, slopes = log_probs(masked)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-4, atol=1e-7)
    assert np.isfinite(found).all()
    assert np.isfinite(slopes).all()
    found, slope = entropy(masked)
    np.testing.assert_allclose(found, stats.entropy(expected), rtol=1e-4, atol=1e-6)
    assert np.isfinite(slope).all()


@functools.cache
def slopes_of(kind):
    make = KINDS[kind][1]

    def log_prob(first, second, action):
        return make(first, second).log_prob(action)

    return jax.jit(jax.value_and_grad(log_prob, argnums=(0, 1, 2)))


@pytest.mark.parametrize("kind", ["normal", "tanh_normal"])
@given(mean=st.floats(-1e3, 1e3), scale=st.floats(-5, 2), action=st.floats(-1e4, 1e4))
def test_normals_are_finite_from_the_least_to_the_largest_log_std(kind, mean, scale, action):
    assert np.isfinite(jax.tree.leaves(slopes_of(kind)(mean, scale, action))).all()


@given(st.floats(1, 1e4), st.floats(1, 1e4), st.floats(0, 1))
def test_betas_are_finite_wherever_an_action_is_stored(alpha, beta, x):
    action = np.clip(np.float32(x), np.float32(1e-6), np.float32(1 - 1e-6))
    assert np.isfinite(jax.tree.leaves(slopes_of("beta")(alpha, beta, action))).all()


def field(hint, metadata):
    """Values that a component's field may have."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    low = metadata.get("low")
    strategies = {
        float: st.floats(low or 0.0, metadata.get("high") or 1e3),
        int: st.integers(low or 1, 99),
        bool: st.booleans(),
        str: st.sampled_from(metadata.get("choices") or sorted(networks.ACTIVATIONS)),
        type(None): st.none(),
        tuple[int, ...]: st.lists(st.integers(1, 99), max_size=3).map(tuple),
    }
    known = [strategies[option] for option in options if option in strategies]
    return st.one_of(known) if known else st.just(pgjax.MLP((5,)))


def component(cls):
    fields = [f for f in dataclasses.fields(cls) if f.name not in ("parent", "name")]
    drawn = {f.name: field(hints(cls)[f.name], f.metadata) for f in fields}
    return st.builds(cls, **drawn)


@st.composite
def configs(draw):
    parts = {
        name: draw(st.sampled_from(list(classes.values())).flatmap(component))
        for name, classes in registry.COMPONENTS.items()
    }
    config = pgjax.Config("CartPole-v1", **parts, num_updates=draw(st.integers(1, 10**6)))
    if draw(st.booleans()):
        config = config.replace(**{"env_params.gravity": draw(st.floats(0, 20))})
    if draw(st.booleans()):
        numbers = {"init_value": draw(unit), "end_value": draw(unit), "transition_steps": 9}
        schedule = pgjax.Schedule(optax.linear_schedule, **numbers)
        config = config.replace(**{"optimizer.learning_rate": schedule})
    return config.replace(
        distribution=draw(st.sampled_from(["auto", "categorical"])),
        normalize_observations=draw(st.booleans()),
        time_aware=draw(st.booleans()),
    )


@given(configs())
def test_any_config_comes_back_from_json_and_from_its_leaves(config):
    data = json.loads(json.dumps(config_json.to_dict(config), allow_nan=False))
    assert config_json.from_dict(data) == config
    leaves, structure = jax.tree.flatten(config)
    assert jax.tree.unflatten(structure, leaves) == config


@given(configs(), configs())
def test_replacing_every_path_makes_the_other_config(one, other):
    changes = {}
    for name in registry.COMPONENTS:
        value = getattr(other, name)
        fields = [f.name for f in dataclasses.fields(value) if f.name not in ("parent", "name")]
        changes |= {name: type(value)()} | {f"{name}.{f}": getattr(value, f) for f in fields}
    changes |= {name: getattr(other, name) for name in (*config_json.PLAIN, "env_params")}
    before = repr(one)
    assert one.replace(**changes) == other
    assert repr(one) == before
    defaults = interface.default_params("CartPole-v1")
    assert one.env_params in (None, defaults.replace(gravity=getattr(one.env_params, "gravity", 0)))
