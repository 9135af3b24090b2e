"""Norms of trees, and whether they are finite."""

import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.core.trees import norm, still_finite


@pytest.mark.parametrize("power", [-126, 0, 124])
def test_a_norm_is_exact_at_both_ends_of_the_range(power):
    tree = [jnp.float32(3.0 * 2.0**power), jnp.array([0.0, 4.0 * 2.0**power], jnp.float32)]
    assert float(norm(tree)) == 5.0 * 2.0**power


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
