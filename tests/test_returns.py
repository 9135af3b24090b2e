import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.estimators.returns import advantages, reward_to_go, total_return

# Around eight, by which the recursion is unrolled, and beyond it.
LENGTHS = (1, 2, 7, 8, 9, 30)


def random_trajectory(length: int):
    rng = np.random.default_rng(length)
    rewards = rng.normal(size=length).astype(np.float32)
    discounts = rng.uniform(0.5, 1.0, size=length).astype(np.float32)
    return rewards, discounts, np.float32(rng.normal())


def slow_reward_to_go(rewards, discounts, bootstrap_value):
    """Σ_{k ≥ t} (Π_{t ≤ j < k} d_j) r_k, the bootstrap value standing for r_T."""
    paid = [*(float(r) for r in rewards), float(bootstrap_value)]
    returns = []
    for t in range(len(rewards)):
        terms = []
        for k in range(t, len(paid)):
            factor = 1.0
            for j in range(t, k):
                factor *= float(discounts[j])
            terms.append(factor * paid[k])
        returns.append(sum(terms))
    return returns


@pytest.mark.parametrize(("discount", "expected"), [(1.0, 7.0), (0.5, 1.0 + 1.0 + 1.0), (0.0, 1.0)])
def test_total_return_by_hand(discount, expected):
    assert total_return(jnp.array([1.0, 2.0, 4.0]), jnp.array(discount)) == expected


def test_total_return_of_constant_rewards_is_the_geometric_series():
    discount, length = 0.9, 12
    expected = (1 - discount**length) / (1 - discount)
    np.testing.assert_allclose(
        total_return(jnp.ones(length), jnp.array(discount)), expected, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("discounts", "bootstrap_value", "expected"),
    [
        ([0.5, 0.5, 0.5], 8.0, [4.0, 6.0, 8.0]),
        ([0.5, 0.5, 0.0], 8.0, [3.0, 4.0, 4.0]),
        ([1.0, 0.0, 1.0], 8.0, [3.0, 2.0, 12.0]),
        ([0.0, 0.0, 0.0], 8.0, [1.0, 2.0, 4.0]),
    ],
)
def test_reward_to_go_by_hand(discounts, bootstrap_value, expected):
    returns = reward_to_go(
        jnp.array([1.0, 2.0, 4.0]), jnp.array(discounts), jnp.array(bootstrap_value)
    )
    np.testing.assert_array_equal(returns, expected)


@pytest.mark.parametrize("length", LENGTHS)
def test_reward_to_go_agrees_with_the_double_sum(length):
    rewards, discounts, bootstrap_value = random_trajectory(length)
    returns = reward_to_go(
        jnp.asarray(rewards), jnp.asarray(discounts), jnp.asarray(bootstrap_value)
    )
    expected = slow_reward_to_go(rewards, discounts, bootstrap_value)
    np.testing.assert_allclose(returns, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", LENGTHS)
def test_total_return_agrees_with_the_discounted_sum(length):
    rewards, _, _ = random_trajectory(length)
    expected = sum(0.9**t * float(r) for t, r in enumerate(rewards))
    result = total_return(jnp.asarray(rewards), jnp.array(0.9))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", LENGTHS)
def test_total_return_is_the_first_reward_to_go(length):
    rewards, _, _ = random_trajectory(length)
    to_go = reward_to_go(jnp.asarray(rewards), jnp.full(length, 0.9), jnp.array(0.0))
    np.testing.assert_allclose(
        total_return(jnp.asarray(rewards), jnp.array(0.9)), to_go[0], rtol=1e-6
    )


def test_rewards_before_a_step_do_not_change_its_reward_to_go():
    rewards, discounts, bootstrap_value = (jnp.asarray(x) for x in random_trajectory(9))
    changed = reward_to_go(rewards.at[:4].set(100.0), discounts, bootstrap_value)
    original = reward_to_go(rewards, discounts, bootstrap_value)
    np.testing.assert_array_equal(changed[4:], original[4:])
    assert (changed[:4] != original[:4]).all()


def test_zeros_appended_after_the_end_change_nothing():
    rewards, discount = jnp.array([1.0, -2.0, 4.0]), jnp.array(0.75)
    longer = jnp.concatenate([rewards, jnp.zeros(10)])
    assert total_return(longer, discount) == total_return(rewards, discount)


def test_vmap_agrees_with_one_trajectory_at_a_time():
    rng = np.random.default_rng(0)
    rewards, discounts, bootstraps = (
        jnp.asarray(rng.uniform(size=shape), jnp.float32) for shape in ((9, 4), (9, 4), (4,))
    )
    batched = jax.vmap(reward_to_go, in_axes=(1, 1, 0), out_axes=1)(rewards, discounts, bootstraps)
    for i in range(4):
        alone = reward_to_go(rewards[:, i], discounts[:, i], bootstraps[i])
        np.testing.assert_allclose(batched[:, i], alone, rtol=1e-6)


def test_advantages_by_hand():
    # Side by side: not ended; terminated at the second step, truncated there, both at once.
    at_the_second = jnp.zeros((3, 4), bool).at[1]
    terminated = at_the_second.set(jnp.array([False, True, False, True]))
    truncated = at_the_second.set(jnp.array([False, False, True, True]))
    rewards = jnp.tile(jnp.array([1.0, 2.0, 4.0])[:, None], (1, 4))
    values = jnp.tile(jnp.array([10.0, 20.0, 30.0, 40.0])[:, None], (1, 4))
    found = advantages(rewards, values, terminated, truncated, 0.5, 0.5)
    # The errors are 1, −3 and −6, but −18 where it terminates; a quarter of the next is added.
    expected = [[-0.125, -3.5, 0.25, -3.5], [-4.5, -18.0, -3.0, -18.0], [-6.0, -6.0, -6.0, -6.0]]
    np.testing.assert_array_equal(found, expected)


WRONG_SHAPES = [
    ((3, 1), (3, 1), ()),
    ((3,), (2,), ()),
    ((2,), (3,), ()),
    ((3,), (), ()),
    ((3,), (3,), (1,)),
    ((), (), ()),
]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shapes", WRONG_SHAPES)
def test_reward_to_go_names_the_shapes_that_do_not_fit(shapes, compiled):
    # As it is in use, where annotations are not checked before.
    own = inspect.unwrap(reward_to_go)
    function = jax.jit(own) if compiled else own
    given = ", ".join(str(list(shape)) for shape in shapes)
    with pytest.raises(ValueError, match=re.escape(given)):
        function(*(jnp.ones(shape) for shape in shapes))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shapes", [((3, 1), ()), ((3,), (3,)), ((), ())])
def test_total_return_names_the_shapes_that_do_not_fit(shapes, compiled):
    own = inspect.unwrap(total_return)
    function = jax.jit(own) if compiled else own
    given = ", ".join(str(list(shape)) for shape in shapes)
    with pytest.raises(ValueError, match=re.escape(given)):
        function(*(jnp.ones(shape) for shape in shapes))
