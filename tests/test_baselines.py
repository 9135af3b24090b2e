import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.estimators.baselines import BASELINES, MIN_TRAJECTORIES, leave_one_out, mean, none

SEEDS = range(5)


def random_values(seed: int):
    """Values of [4 steps, 6 trajectories]; at each step another number of them is valid."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(4, 6)).astype(np.float32)
    valid = rng.uniform(size=(4, 6)) < rng.uniform(size=(4, 1))
    return values, valid


def slow_mean(values, valid, i):
    counted = [float(v) for v, ok in zip(values, valid, strict=True) if ok]
    return sum(counted) / len(counted)


def slow_leave_one_out(values, valid, i):
    others = [float(values[j]) for j in range(len(values)) if valid[j] and j != i]
    return sum(others) / len(others) if others else 0.0


def test_every_baseline_by_hand_with_all_valid():
    values, valid = jnp.array([1.0, 2.0, 6.0]), jnp.ones(3, bool)
    np.testing.assert_array_equal(none(values, valid), [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(mean(values, valid), [3.0, 3.0, 3.0])
    np.testing.assert_array_equal(leave_one_out(values, valid), [4.0, 3.5, 1.5])


def test_every_baseline_by_hand_with_one_invalid():
    values, valid = jnp.array([1.0, 100.0, 6.0]), jnp.array([True, False, True])
    np.testing.assert_array_equal(none(values, valid), [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(mean(values, valid), [3.5, 3.5, 3.5])
    np.testing.assert_array_equal(leave_one_out(values, valid)[np.array([0, 2])], [6.0, 1.0])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("baseline", "slow"), [(mean, slow_mean), (leave_one_out, slow_leave_one_out)]
)
def test_agrees_with_a_loop_over_the_valid_ones(baseline, slow, seed):
    values, valid = random_values(seed)
    result = baseline(jnp.asarray(values), jnp.asarray(valid))
    for t, i in np.argwhere(valid):
        expected = slow(values[t], valid[t], i)
        np.testing.assert_allclose(result[t, i], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_what_stands_where_not_valid_does_not_matter(name):
    values, valid = random_values(0)
    spoiled = np.where(valid, values, np.nan)
    clean = BASELINES[name](jnp.asarray(values), jnp.asarray(valid))
    result = BASELINES[name](jnp.asarray(spoiled), jnp.asarray(valid))
    np.testing.assert_array_equal(np.asarray(result)[valid], np.asarray(clean)[valid])


def test_leave_one_out_does_not_depend_on_the_own_value():
    values, valid = jnp.array([3.0, -1.0, 4.0, 2.0]), jnp.array([True, True, False, True])
    before = leave_one_out(values, valid)
    for i in (0, 1, 3):
        after = leave_one_out(values.at[i].add(64.0), valid)
        assert after[i] == before[i]
        others = np.array([j for j in (0, 1, 3) if j != i])
        assert (after[others] != before[others]).all()


def test_leave_one_out_has_no_derivative_by_the_own_value():
    values, _ = random_values(1)
    slopes = jax.jacobian(leave_one_out)(jnp.asarray(values[0]), jnp.ones(6, bool))
    np.testing.assert_allclose(slopes, (np.ones((6, 6)) - np.eye(6)) / 5, rtol=1e-6)


def test_mean_contains_the_own_value_once_in_n():
    slopes = jax.jacobian(mean)(jnp.array([3.0, -1.0, 4.0, 2.0]), jnp.ones(4, bool))
    np.testing.assert_array_equal(slopes, np.full((4, 4), 0.25))


def test_one_valid_trajectory_leaves_no_others_and_is_its_own_mean():
    values, valid = jnp.array([5.0, 7.0, 9.0]), jnp.array([False, True, False])
    assert leave_one_out(values, valid)[1] == 0.0
    assert mean(values, valid)[1] == 7.0


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_no_valid_trajectory_gives_zeros_and_no_nan(name):
    result = BASELINES[name](jnp.array([5.0, 7.0]), jnp.zeros(2, bool))
    np.testing.assert_array_equal(result, [0.0, 0.0])


@pytest.mark.parametrize("seed", SEEDS)
def test_mean_leaves_the_share_of_leave_one_out_that_its_docstring_says(seed):
    values, valid = random_values(seed)
    number = valid.sum(axis=-1, keepdims=True)
    valid_values, valid_mask = jnp.asarray(values), jnp.asarray(valid)
    shrunk = (
        (number - 1) / np.maximum(number, 1) * (values - leave_one_out(valid_values, valid_mask))
    )
    rest = np.where(number == 1, 0.0, shrunk)
    result = values - mean(valid_values, valid_mask)
    np.testing.assert_allclose(np.asarray(result)[valid], rest[valid], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_rows_are_independent_of_each_other(name):
    values, valid = (jnp.asarray(x) for x in random_values(2))
    rows = jnp.stack([BASELINES[name](v, ok) for v, ok in zip(values, valid, strict=True)])
    np.testing.assert_allclose(BASELINES[name](values, valid), rows, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["mean", "leave_one_out"])
def test_the_least_number_of_trajectories_is_the_first_that_a_baseline_does_something_with(name):
    def does_something(number):
        values = 2.0 ** jnp.arange(number)
        rest = values - BASELINES[name](values, jnp.ones(number, bool))
        return bool(jnp.any(rest != 0.0) & jnp.any(rest != values))

    assert next(m for m in range(1, 5) if does_something(m)) == MIN_TRAJECTORIES[name]


def test_a_single_trajectory_will_do_where_none_is_compared_with_another():
    assert MIN_TRAJECTORIES["none"] == MIN_TRAJECTORIES["value"] == 1
