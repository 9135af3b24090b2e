import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from pgjax.policies.distributions import (
    Beta,
    Categorical,
    Normal,
    Rounded,
    SquashedNormal,
    TanhNormal,
)

# A correct sampler fails a test at this level once in a thousand seeds; the seeds are fixed.
LEVEL = 1e-3

LOGITS = [[0.0, 0.0], [1.0, -2.0, 0.5], [3.0, -3.0, 0.0, 0.25, 7.0]]
MEANS_AND_STDS = [(0.0, 1.0), (-1.5, 0.2), (0.7, 1.8)]


def normal(mean, std, low=-np.inf, high=np.inf, kind=Normal):
    mean, std, low, high = (jnp.asarray(x, float) for x in (mean, std, low, high))
    return kind(mean, jnp.log(std), low, high)


def tanh_normal(mean, std, low, high):
    return normal(mean, std, low, high, kind=TanhNormal)


def draw(distribution, seed, number):
    noise = distribution.noise(jax.random.key(seed), (number, *jnp.shape(mean_of(distribution))))
    return jax.jit(jax.vmap(distribution.sample))(noise)


def mean_of(distribution):
    return distribution.mean if hasattr(distribution, "mean") else 0.0


def log_slope(u, low, high):
    """log da/du by NumPy, where it is far from saturation."""
    return np.log((high - low) / 2) + np.log1p(-(np.tanh(u) ** 2))


@pytest.mark.parametrize("logits", LOGITS)
def test_categorical_agrees_with_scipy(logits):
    distribution = Categorical(jnp.array(logits))
    expected = special.log_softmax(logits)
    for action in range(len(logits)):
        result = distribution.log_prob(jnp.int32(action))
        np.testing.assert_allclose(result, expected[action], rtol=1e-5)
    entropy = stats.entropy(special.softmax(logits))
    np.testing.assert_allclose(distribution.entropy(), entropy, rtol=1e-5)


def test_categorical_does_not_depend_on_a_constant_in_the_logits():
    for action in range(3):
        shifted = Categorical(jnp.array([1.0, -2.0, 0.5]) + 100.0).log_prob(action)
        original = Categorical(jnp.array([1.0, -2.0, 0.5])).log_prob(action)
        np.testing.assert_allclose(shifted, original, rtol=1e-5)


def test_normal_agrees_with_scipy_summed_over_dimensions():
    mean, std = np.array([[0.0, -1.5, 0.7]]), np.array([[1.0, 0.2, 1.8]])
    action = np.array([[0.3, -1.0, -4.0]])
    distribution = normal(mean, std)
    expected = stats.norm.logpdf(action, mean, std).sum()
    np.testing.assert_allclose(distribution.log_prob(jnp.asarray(action)), expected, rtol=1e-5)
    expected = stats.norm.entropy(mean, std).sum()
    np.testing.assert_allclose(distribution.entropy(), expected, rtol=1e-5)


def test_normal_scores_the_action_as_sampled_and_clips_it_for_the_environment():
    distribution = normal([0.0, 0.0], [1.0, 1.0], [-1.0, -1.0], [1.0, 1.0])
    action = jnp.array([3.0, -2.0])
    np.testing.assert_array_equal(distribution.environment_action(action), [1.0, -1.0])
    expected = stats.norm.logpdf(action).sum()
    np.testing.assert_allclose(distribution.log_prob(action), expected, rtol=1e-6)
    np.testing.assert_allclose(
        normal([0.0], [1.0], [-1.0], [1.0]).sample(jnp.array([3.0])), [3.0], rtol=1e-6
    )


def test_tanh_normal_density_is_that_of_scipy_after_the_change_of_variables():
    mean, std = np.array([0.0, -1.5, 0.7]), np.array([1.0, 0.2, 1.8])
    low, high = np.array([-2.0, 0.0, -0.1]), np.array([2.0, 5.0, 0.3])
    distribution = tanh_normal(mean, std, low, high)
    for u in ([0.0, 0.0, 0.0], [0.3, -1.0, -2.5], [-3.0, 1.0, 3.0]):
        expected = stats.norm.logpdf(u, mean, std) - log_slope(np.array(u), low, high)
        result = distribution.log_prob(jnp.array(u))
        np.testing.assert_allclose(result, expected.sum(), rtol=1e-5)


def beta(a, b, low, high):
    return Beta(*(jnp.asarray(x, float) for x in (a, b, low, high)))


def test_beta_agrees_with_scipy_summed_over_dimensions():
    a, b = np.array([1.0, 2.5, 7.0]), np.array([3.0, 1.0, 5.5])
    low, high = np.array([-2.0, 0.0, -0.1]), np.array([2.0, 5.0, 0.3])
    distribution, exact = beta(a, b, low, high), stats.beta(a, b, low, high - low)
    x = jnp.array([0.25, 0.5, 0.75])
    action = distribution.environment_action(x)
    np.testing.assert_allclose(action, [-1.0, 2.5, 0.2], rtol=1e-6)
    np.testing.assert_allclose(
        distribution.log_prob(x), exact.logpdf(np.asarray(action)).sum(), rtol=1e-5
    )
    np.testing.assert_allclose(distribution.entropy(), exact.entropy().sum(), rtol=1e-5)


def test_the_mode_of_a_beta_is_where_its_density_is_highest_and_inside():
    a, b = [1.2, 2.0, 1.0, 3.0, 1.0], [1.3, 3.0, 1.0, 1.0, 2.0]
    with jax.debug_nans(True):  # not even one that is selected away, where α = β = 1
        modes = beta(a, b, np.zeros(5), np.ones(5)).mode()
    np.testing.assert_allclose(modes, [0.4, 1 / 3, 0.5, 1 - 1e-6, 1e-6], rtol=1e-6)
    assert modes[3] < 1.0


def test_samples_of_a_beta_pass_a_kolmogorov_smirnov_test_in_every_dimension():
    a, b = np.array([1.0, 2.5, 7.0]), np.array([3.0, 1.0, 5.5])
    distribution = beta(a, b, np.zeros(3), np.ones(3))
    samples = jax.vmap(distribution.sample)(distribution.noise(jax.random.key(5), (2000, 3)))
    assert samples.shape == (2000, 3)
    for x, *parameters in zip(np.asarray(samples).T, a, b, strict=True):
        assert stats.kstest(x, stats.beta(*parameters).cdf).pvalue > LEVEL
    assert np.abs(np.corrcoef(np.asarray(samples).T) - np.eye(3)).max() < 0.1


def test_the_divergence_of_categoricals_agrees_with_scipy():
    one, other = np.array([1.0, -2.0, 0.5]), np.array([0.0, 0.25, -1.0])
    expected = stats.entropy(special.softmax(one), special.softmax(other))
    found = Categorical(jnp.array(one)).divergence(Categorical(jnp.array(other)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["normal", "tanh_normal", "beta"])
def test_divergences_are_integrals_summed_over_dimensions(kind):
    ones, others = [(0.5, 1.25), (2.0, 3.0)], [(1.75, 0.5), (4.0, 1.5)]
    exact = stats.beta if kind == "beta" else stats.norm
    make = {"normal": normal, "tanh_normal": tanh_normal, "beta": beta}[kind]
    if kind == "beta":
        ones, x = [(1.5, 4.0), (3.0, 2.0)], np.linspace(0.0, 1.0, 100_001)[1:-1]
    else:
        x = np.linspace(-40.0, 40.0, 100_001)
    expected = 0.0
    for one, other in zip(ones, others, strict=True):
        log_ratio = exact(*one).logpdf(x) - exact(*other).logpdf(x)
        expected += integrate.trapezoid(exact(*one).pdf(x) * log_ratio, x)
    first, second = (make(*np.array(p).T, -np.ones(2), 3 * np.ones(2)) for p in (ones, others))
    np.testing.assert_allclose(first.divergence(second), expected, rtol=1e-4)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.3), (0.5, 1.0), (-1.0, 0.7)])
def test_tanh_normal_density_integrates_to_one_over_the_actions(mean, std):
    low, high = -1.0, 3.0
    log_prob = jax.jit(tanh_normal(mean, std, low, high).log_prob)

    def density(action):
        u = np.arctanh(2 * (action - low) / (high - low) - 1)
        return np.exp(float(log_prob(np.float32(u))))

    total, _ = integrate.quad(density, low, high, epsabs=1e-5, epsrel=1e-5)
    np.testing.assert_allclose(total, 1.0, atol=2e-5)


@pytest.mark.parametrize("std", [0.1, 0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("mean", [0.0, 1.0, -4.0])
def test_tanh_normal_entropy_agrees_with_numerical_integration(mean, std):
    low, high = -0.5, 2.5
    u = np.linspace(mean - 12 * std, mean + 12 * std, 200_001)
    log_density = stats.norm.logpdf(u, mean, std)
    slope = np.log((high - low) / 2) + 2 * (np.log(2) - np.logaddexp(u, -u))
    expected = -integrate.trapezoid(np.exp(log_density) * (log_density - slope), u)
    result = tanh_normal(mean, std, low, high).entropy()
    np.testing.assert_allclose(result, expected, atol=1e-3, rtol=0)


def test_tanh_normal_entropy_adds_over_dimensions():
    both = tanh_normal([0.0, 1.0], [0.5, 1.5], [-1.0, 0.0], [1.0, 5.0]).entropy()
    first = tanh_normal([0.0], [0.5], [-1.0], [1.0]).entropy()
    second = tanh_normal([1.0], [1.5], [0.0], [5.0]).entropy()
    np.testing.assert_allclose(both, first + second, rtol=1e-6)


@pytest.mark.parametrize("logits", LOGITS)
def test_categorical_frequencies_pass_a_chi_square_test(logits):
    number = 20_000
    actions = np.asarray(draw(Categorical(jnp.array(logits)), seed=0, number=number))
    counts = np.bincount(actions, minlength=len(logits))
    expected = special.softmax(logits) * number
    # The test's approximation needs a few expected counts in every cell.
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    keep = expected > 0
    assert stats.chisquare(observed[keep], expected[keep]).pvalue > LEVEL


def test_categorical_never_takes_an_action_without_probability():
    distribution = Categorical(jnp.array([-1e4, 0.0, -1e4, 0.0, -1e4]))
    assert set(np.asarray(draw(distribution, seed=1, number=1000))) == {1, 3}
    assert distribution.sample(jnp.array(0.0)) == 1
    assert distribution.sample(jnp.array(1 - 2**-23)) == 3


@pytest.mark.parametrize(("mean", "std"), MEANS_AND_STDS)
def test_normal_samples_pass_a_kolmogorov_smirnov_test(mean, std):
    samples = np.asarray(draw(normal(mean, std, -1.0, 1.0), seed=2, number=5000))
    assert stats.kstest(samples, stats.norm(mean, std).cdf).pvalue > LEVEL


@pytest.mark.parametrize(("mean", "std"), MEANS_AND_STDS)
def test_tanh_normal_actions_pass_a_kolmogorov_smirnov_test(mean, std):
    low, high = -1.0, 3.0
    distribution = tanh_normal(mean, std, low, high)
    samples = draw(distribution, seed=3, number=5000)
    actions = np.asarray(jax.vmap(distribution.environment_action)(samples), np.float64)

    def cumulative(action):
        return stats.norm(mean, std).cdf(np.arctanh(2 * (action - low) / (high - low) - 1))

    assert stats.kstest(actions, cumulative).pvalue > LEVEL


@pytest.mark.parametrize(
    "distribution",
    [
        Categorical(jnp.array([1.0, -2.0, 0.5])),
        normal([0.3, -1.0], [0.2, 1.5]),
        tanh_normal([0.3, -1.0], [0.2, 1.5], [-1.0, 0.0], [1.0, 5.0]),
    ],
    ids=lambda d: type(d).__name__,
)
def test_entropy_is_the_mean_surprise_of_samples(distribution):
    number = 20_000
    surprise = -np.asarray(jax.vmap(distribution.log_prob)(draw(distribution, 4, number)))
    standard_error = surprise.std() / np.sqrt(number)
    assert abs(surprise.mean() - float(distribution.entropy())) < 3.3 * standard_error


def test_modes_by_hand():
    assert Categorical(jnp.array([0.0, 3.0, 1.0])).mode() == 1
    np.testing.assert_allclose(normal([0.3, -2.0], [1.0, 2.0]).mode(), [0.3, -2.0], rtol=1e-6)
    squashed = tanh_normal([0.0, np.arctanh(0.5)], [1.0, 2.0], [-1.0, 0.0], [3.0, 4.0])
    np.testing.assert_allclose(squashed.environment_action(squashed.mode()), [1.0, 3.0], rtol=1e-6)


@pytest.mark.parametrize("kind", [Normal, TanhNormal])
def test_environment_action_is_legal_however_extreme_the_sample(kind):
    # In float32, −1.4 + (0.8 − −1.4) is more than 0.8.
    low, high = jnp.array([-0.1, 0.0, -1.4, 1e-3]), jnp.array([0.3, 0.1, 0.8, 1e4])
    distribution = kind(jnp.zeros(4), jnp.zeros(4), low, high)
    extremes = [-1e30, -50.0, -9.0, -1.0, 0.0, 1.0, 9.0, 50.0, 1e30]
    samples = jnp.concatenate(
        [
            jnp.tile(jnp.array(extremes)[:, None], (1, 4)),
            10 * jax.random.normal(jax.random.key(0), (1000, 4)),
        ]
    )
    actions = np.asarray(jax.vmap(distribution.environment_action)(samples))
    assert (actions >= np.asarray(low)).all()
    assert (actions <= np.asarray(high)).all()
    np.testing.assert_array_equal(actions[0], low)
    np.testing.assert_array_equal(actions[len(extremes) - 1], high)


def test_tanh_normal_reaches_both_ends_of_the_range_in_order():
    distribution = tanh_normal(0.0, 1.0, -2.0, 2.0)
    samples = jnp.linspace(-4.0, 4.0, 101)
    actions = np.asarray(jax.vmap(distribution.environment_action)(samples))
    assert (np.diff(actions) > 0).all()
    np.testing.assert_allclose(actions[50], 0.0, atol=1e-6)
    np.testing.assert_allclose(actions[[0, 100]], 2 * np.tanh([-4.0, 4.0]), rtol=1e-6)


@pytest.mark.parametrize("u", [-50.0, 50.0])
@pytest.mark.parametrize("kind", [Normal, TanhNormal])
def test_normals_stay_finite_far_from_the_mean(kind, u):
    low, high = jnp.array(-2.0), jnp.array(2.0)

    def log_prob(mean, log_std, u):
        return kind(mean, log_std, low, high).log_prob(u)

    for log_std in (-5.0, 0.0, 2.0):
        arguments = jnp.array(0.0), jnp.array(log_std), jnp.array(u)
        value, slopes = jax.value_and_grad(log_prob, argnums=(0, 1, 2))(*arguments)
        assert np.isfinite([value, *slopes]).all()
        scaled = u / np.exp(log_std)
        expected = [scaled / np.exp(log_std), scaled**2 - 1]
        np.testing.assert_allclose(slopes[:2], expected, rtol=1e-5)


@pytest.mark.parametrize("u", [-50.0, 50.0])
def test_tanh_normal_log_prob_is_exact_where_tanh_is_saturated(u):
    # log(1 − tanh² u) = 2 log(2 / (eᵘ + e⁻ᵘ)), which is 2 log 2 − 2|u| there.
    expected = stats.norm.logpdf(u, 40.0, 5.0) - np.log(2.0) - (2 * np.log(2) - 2 * abs(u))
    result = tanh_normal(40.0, 5.0, -2.0, 2.0).log_prob(jnp.array(u))
    np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("mean", [-50.0, 0.0, 50.0])
def test_tanh_normal_entropy_and_its_slope_stay_finite(mean):
    def entropy(mean, log_std):
        return TanhNormal(mean, log_std, jnp.array(-2.0), jnp.array(2.0)).entropy()

    for log_std in (-5.0, 0.0, 2.0):
        value, slopes = jax.value_and_grad(entropy, argnums=(0, 1))(
            jnp.array(mean), jnp.array(log_std)
        )
        assert np.isfinite([value, *slopes]).all()


@pytest.mark.parametrize("action", [0, 1, 2])
def test_categorical_stays_finite_at_extreme_logits(action):
    logits = jnp.array([1e4, -1e4, 0.0])
    value, slope = jax.value_and_grad(lambda x: Categorical(x).log_prob(action))(logits)
    assert value == [0.0, -2e4, -1e4][action]
    np.testing.assert_array_equal(slope, np.eye(3)[action] - [1.0, 0.0, 0.0])
    entropy, slope = jax.value_and_grad(lambda x: Categorical(x).entropy())(logits)
    assert entropy == 0.0
    np.testing.assert_array_equal(slope, 0.0)


def test_the_score_of_every_distribution_has_mean_zero():
    # E[∇ log π] = 0: by a sum over actions, and by quadrature over u.
    logits = jnp.array([1.0, -2.0, 0.5])
    scores = jax.vmap(lambda a: jax.grad(lambda x: Categorical(x).log_prob(a))(logits))(
        jnp.arange(3)
    )
    np.testing.assert_allclose(jax.nn.softmax(logits) @ scores, 0.0, atol=1e-6)
    u = jnp.linspace(-8.0, 8.0, 2001)
    for kind in (Normal, TanhNormal):

        def log_prob(mean, log_std, u, kind=kind):
            return kind(mean, log_std, jnp.array(-2.0), jnp.array(2.0)).log_prob(u)

        scores = jax.vmap(jax.grad(log_prob, argnums=(0, 1)), (None, None, 0))(
            jnp.array(0.0), jnp.array(0.0), u
        )
        for score in scores:
            mean_score = integrate.trapezoid(stats.norm.pdf(u) * np.asarray(score), u)
            np.testing.assert_allclose(mean_score, 0.0, atol=1e-5)


def test_categorical_never_takes_a_last_action_of_probability_zero():
    logits = jax.random.normal(jax.random.key(0), (1000, 3)).at[:, 2].set(-1e4)
    highest = jnp.float32(1 - 2**-23)
    actions = jax.vmap(lambda x: Categorical(x).sample(highest))(logits)
    assert set(np.asarray(actions).tolist()) == {1}


def test_distributions_with_the_same_fields_are_different_programs():
    fields = (jnp.zeros(1), jnp.zeros(1), -jnp.ones(1), jnp.ones(1))
    structures = [jax.tree.structure(kind(*fields)) for kind in (Normal, TanhNormal)]
    assert structures[0] != structures[1]
    assert jax.tree.map(lambda x: x + 1, Normal(*fields)) == Normal(*(x + 1 for x in fields))


RANGES = [(5.0, np.inf), (-np.inf, -3.0), (-np.inf, np.inf), (-1.0, 3.0)]


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.3), (-1.5, 1.0), (2.0, 1.8)])
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_a_squashed_normal_is_scipy_s_normal_after_the_change_of_variables(low, high, mean, std):
    distribution = normal([mean], [std], [low], [high], SquashedNormal)
    u = np.linspace(mean - 9 * std, mean + 9 * std, 20_001)
    squash, slope = {
        (True, True): lambda: (1 + 2 * np.tanh(u), np.log(2) - 2 * np.log(np.cosh(u))),
        (True, False): lambda: (low + np.logaddexp(0, u), u - np.logaddexp(0, u)),
        (False, True): lambda: (high - np.logaddexp(0, -u), -np.logaddexp(0, u)),
        (False, False): lambda: (u, 0 * u),
    }[np.isfinite(low), np.isfinite(high)]()
    at = jnp.asarray(u, jnp.float32)[:, None]
    actions = jax.vmap(distribution.environment_action)(at)[:, 0]
    np.testing.assert_allclose(actions, squash, rtol=1e-5, atol=1e-5)
    surprise = slope - stats.norm.logpdf(u, mean, std)
    np.testing.assert_allclose(jax.vmap(distribution.log_prob)(at), -surprise, rtol=1e-4, atol=1e-4)
    expected = integrate.trapezoid(stats.norm.pdf(u, mean, std) * surprise, u)
    np.testing.assert_allclose(distribution.entropy(), expected, atol=1e-3)


def test_dimensions_of_a_squashed_normal_add_up_and_diverge_like_their_normals():
    low, high = np.array(RANGES).T
    mean, std = np.array([0.5, -1.0, 2.0, 0.0]), np.array([0.3, 1.0, 0.5, 1.5])
    one = normal(mean, std, low, high, SquashedNormal)
    other = normal(mean + 1.0, 2.0 * std, low, high, SquashedNormal)
    parts = [
        normal([m], [s], [a], [b], SquashedNormal)
        for m, s, a, b in zip(mean, std, low, high, strict=True)
    ]
    np.testing.assert_allclose(one.entropy(), sum(p.entropy() for p in parts), rtol=1e-5)
    scores = sum(p.log_prob(jnp.array([0.25])) for p in parts)
    np.testing.assert_allclose(one.log_prob(jnp.full(4, 0.25)), scores, rtol=1e-5)
    ratio = np.log(2.0) + (std**2 + 1.0) / (2 * 4 * std**2) - 0.5
    np.testing.assert_allclose(one.divergence(other), ratio.sum(), rtol=1e-5)


@pytest.mark.parametrize("u", [-1e4, -60.0, 0.0, 60.0, 1e4])
def test_a_squashed_normal_is_legal_and_finite_however_extreme_the_action(u):
    low, high = (jnp.array(x) for x in zip(*RANGES, strict=True))
    distribution = SquashedNormal(jnp.zeros(4), jnp.zeros(4), low, high)
    action = distribution.environment_action(jnp.full(4, u))
    assert ((action >= low) & (action <= high)).all()
    score = jax.grad(lambda mean: SquashedNormal(mean, jnp.zeros(4), low, high).log_prob(
        jnp.full(4, u)
    ))(jnp.zeros(4))  # fmt: skip
    slope = jax.grad(lambda x: jnp.sum(distribution.environment_action(x)))(jnp.full(4, u))
    assert np.isfinite(score).all()
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("kind", [normal, tanh_normal, beta], ids=["normal", "tanh", "beta"])
def test_a_dimension_with_equal_bounds_is_certain_and_counts_for_nothing(kind):
    def pair(parameters):
        return [kind(*x.T, low, high) for x, low, high in (
            (parameters, [-1.0, 2.0], [3.0, 2.0]), (parameters[:1], [-1.0], [3.0])
        )]  # fmt: skip

    def numbers(parameters):
        both, alone = pair(parameters)
        action = jnp.array([0.25, 0.75])
        others = pair(parameters + 1.0)
        return [
            (x.log_prob(a), x.entropy(), x.divergence(y))
            for x, y, a in ((both, others[0], action), (alone, others[1], action[:1]))
        ]

    parameters = jnp.array([[1.5, 2.0], [3.0, 1.25]])
    np.testing.assert_allclose(*numbers(parameters), rtol=1e-6)
    slopes = jax.grad(lambda x: jnp.sum(jnp.stack(numbers(x)[0])))(parameters)
    assert np.isfinite(slopes).all()
    np.testing.assert_array_equal(slopes[1], 0.0)
    assert pair(parameters)[0].environment_action(jnp.array([0.25, 0.75]))[1] == 2.0


def test_rounded_actions_are_integers_of_the_dtype_and_of_equal_share_over_a_uniform():
    low, high = jnp.array([-3], jnp.int8), jnp.array([2], jnp.int8)
    uniform = beta([1.0], [1.0], [-3.5], [2.5])
    actions = jax.vmap(Rounded(uniform, low, high).environment_action)(
        jnp.linspace(0.0, 1.0, 6001)[:, None]
    )
    assert actions.dtype == jnp.int8
    values, counts = np.unique(actions, return_counts=True)
    np.testing.assert_array_equal(values, range(-3, 3))
    assert (abs(counts - 1000) <= 1).all()


def test_rounded_actions_without_bounds_stay_inside_the_dtype():
    low, high = jnp.int32(-(2**31)), jnp.int32(2**31 - 1)
    distribution = Rounded(normal(0.0, 1.0), low, high)
    for action, expected in ((1e20, 2**31 - 1), (-1e20, -(2**31)), (7.6, 8)):
        assert int(distribution.environment_action(jnp.float32(action))) == expected


def test_many_actions_are_drawn_with_their_probabilities_in_linear_memory():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(1000)) * (rng.random(1000) < 0.5)
    probabilities[-200:] = 0.0
    probabilities /= probabilities.sum()
    logits = jnp.log(jnp.asarray(probabilities, jnp.float32))
    uniform = (jnp.arange(200_000) + 0.5) / 200_000
    draws = jax.jit(lambda u: jax.lax.map(Categorical(logits).sample, u, batch_size=1000))
    actions = np.asarray(draws(uniform))
    counts = np.bincount(actions, minlength=1000)
    assert (counts[probabilities == 0.0] == 0).all()
    np.testing.assert_allclose(counts / 200_000, probabilities, atol=2e-5)
    for edge in (0.0, 1 - 2**-24):
        assert probabilities[int(Categorical(logits).sample(jnp.float32(edge)))] > 0
    compiled = jax.jit(lambda x, u: Categorical(x).sample(u)).lower(jnp.zeros(10_000), 0.5)
    assert compiled.compile().memory_analysis().temp_size_in_bytes < 50 * 4 * 10_000
