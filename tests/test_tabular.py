import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax


def chain(horizon=3, terminal=None):
    """State 0 moves on to 1 by action 1; state 1 pays 1 for ever."""
    transition = np.zeros((2, 2, 2))
    transition[0, 0, 0] = transition[0, 1, 1] = transition[1, :, 1] = 1.0
    return pgjax.FiniteMDP(transition, [[0.0, 0.0], [1.0, 1.0]], [1.0, 0.0], horizon, terminal)


def test_expected_return_by_hand():
    p = jnp.array([[0.5, 0.5], [1.0, 0.0]])
    # Moving at t = 0 leaves two payments, at t = 1 one, at t = 2 none.
    np.testing.assert_allclose(pgjax.tabular.expected_return(p, chain()), 0.5 * 2 + 0.25 * 1)
    discounted = pgjax.tabular.expected_return(p, chain(), discount=0.5)
    np.testing.assert_allclose(discounted, 0.5 * (0.5 + 0.25) + 0.25 * 0.25)


def test_terminal_states_end_the_payments():
    p = jnp.full((2, 2), 0.5)
    ended = chain(terminal=[False, True])
    assert float(pgjax.tabular.expected_return(p, ended)) == 0.0


def test_action_values_by_hand():
    p = jnp.full((2, 2), 0.5)
    values = pgjax.tabular.action_values(p, chain(horizon=2))
    np.testing.assert_allclose(values[1], [[0, 0], [1, 1]])
    np.testing.assert_allclose(values[0], [[0, 1], [2, 2]])


def test_policy_gradient_equals_finite_differences():
    config = pgjax.Config(env=chain(), network=pgjax.MLP(()))
    state = pgjax.init(jax.random.key(0), config)
    gradient = pgjax.tabular.policy_gradient(state, config)

    def utility(bias):
        params = {"head": {"Dense_0": {**state.params["head"]["Dense_0"], "bias": bias}}}
        p = pgjax.tabular.action_probabilities(state.replace(params=params), config)
        return float(pgjax.tabular.expected_return(p, config.env))

    bias, step = state.params["head"]["Dense_0"]["bias"], 0.05
    for i in range(2):
        e = step * jnp.eye(2)[i]
        slope = (utility(bias + e) - utility(bias - e)) / (2 * step)
        np.testing.assert_allclose(gradient["head"]["Dense_0"]["bias"][i], slope, atol=2e-3)


def test_a_shorter_horizon_is_taken_from_the_sampler():
    config = pgjax.Config(env=chain(horizon=5), network=pgjax.MLP(()))
    short = config.replace(**{"sampler.horizon": 3})
    state = pgjax.init(jax.random.key(0), config)
    of_three = pgjax.tabular.policy_gradient(state, config.replace(env=chain(horizon=3)))
    found = pgjax.tabular.policy_gradient(state, short)
    jax.tree.map(np.testing.assert_allclose, found, of_three)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transition": np.ones((2, 2))}, "transition must have shape"),
        ({"transition": np.ones((2, 2, 2))}, "transition must hold probabilities"),
        ({"reward": np.ones(2)}, "reward must have shape"),
        ({"initial": [0.5, 0.4]}, "initial must hold probabilities"),
        ({"horizon": 0}, "horizon must be at least 1"),
        ({"terminal": [True, False]}, "terminal state"),
    ],
)
def test_tables_that_cannot_be_are_refused(changes, message):
    good = {"transition": np.full((2, 2, 2), 0.5), "reward": np.zeros((2, 2))}
    good |= {"initial": [1.0, 0.0], "horizon": 2}
    with pytest.raises(ValueError, match=message):
        pgjax.FiniteMDP(**(good | changes))


def test_only_finite_mdps_are_tabular():
    config = pgjax.Config(env="CartPole-v1")
    with pytest.raises(TypeError, match="FiniteMDP"):
        pgjax.tabular.policy_gradient(pgjax.init(jax.random.key(0), config), config)


def test_probabilities_of_another_shape_are_refused():
    mdp = pgjax.FiniteMDP(np.full((2, 2, 2), 0.5), np.zeros((2, 2)), [1.0, 0.0], horizon=2)
    with pytest.raises(ValueError, match=r"shape \[S, A\] = \[2, 2\], got \[3\]"):
        inspect.unwrap(pgjax.tabular.action_values)(np.ones(3) / 3, mdp)


def test_an_argument_that_a_finite_mdp_does_not_have():
    message = "FiniteMDP has no field 'horizn'; did you mean 'horizon'"
    with pytest.raises(TypeError, match=message):
        pgjax.FiniteMDP([[[1.0]]], [[0.0]], [1.0], horizn=1)
