"""Norms and magnitudes of trees."""

import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.core.trees import magnitude, norm, still_finite


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0.0, 0.0], 1.0),
        ([1.0, -0.5], 1.0),
        ([0.1, -5.0], 4.0),
        ([7.0], 8.0),
        ([1.2e-38], 2.0**-126),
        ([3e38], 2.0**126),
        ([1.0, np.inf], 1.0),
        ([np.nan, 7.0], 1.0),
    ],
)
def test_a_magnitude_is_the_nearest_power_of_two(numbers, expected):
    assert float(magnitude({"x": jnp.array(numbers, jnp.float32)})) == expected


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_a_norm_is_exact_at_both_ends_of_a_dtypes_range(dtype):
    limits = jnp.finfo(dtype)
    for power in (np.log2(float(limits.tiny)), 0.0, np.floor(np.log2(float(limits.max))) - 3):
        tree = [jnp.array(x, dtype) * jnp.array(2.0**power, dtype) for x in (3.0, [0.0, 4.0])]
        found = norm(tree)
        assert found.dtype == dtype
        assert float(found) == 5.0 * 2.0**power


def test_a_norm_of_two_precisions_keeps_numbers_beyond_the_lower_ones_range():
    tree = [jnp.float32(2.0**80), jnp.array([0.0, 3.0], jnp.float16)]
    assert float(norm(tree)) == 2.0**80


@pytest.mark.parametrize(
    ("name", "index", "number", "expected"),
    [
        ("params", 0, 5.0, True),
        ("params", 1, np.nan, False),
        ("moments", 0, np.inf, False),
        ("best", 0, np.inf, True),  # as before
        ("best", 0, -np.inf, False),
        ("number", 0, 7, True),
    ],
)
def test_a_tree_is_still_finite_unless_a_float_becomes_infinite(name, index, number, expected):
    old = {"params": jnp.zeros(2), "moments": jnp.ones(2), "number": jnp.zeros(1, int)}
    old["best"] = jnp.array([jnp.inf])
    new = {**old, name: old[name].at[index].set(number)}
    assert bool(still_finite(new, old)) == expected
