"""Optimizers from Optax: those that ask for more than a gradient, and what is refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgjax
from pgjax.training.config import checked

MDP = pgjax.FiniteMDP([[[1.0], [1.0]]], [[0.25, 1.0]], [1.0], horizon=3)


def config_of(make, **changes):
    return pgjax.Config(
        MDP, network=pgjax.MLP(()), sampler=pgjax.Episodes(8), num_updates=5, optimizer=make
    ).replace(**changes)


def recorder(rate):
    """Keeps what it was given, and steps as `optax.sgd`."""

    def update(updates, state, params, *, value, grad, value_fn):
        there = jax.tree.map(lambda x, g: x - 0.01 * g, params, grad)
        seen = value, value_fn(params), jax.grad(value_fn)(params), grad, value_fn(there)
        return jax.tree.map(lambda x: -rate * x, updates), seen

    def init(params):
        zero = jnp.zeros(())
        return zero, zero, params, params, zero

    return optax.GradientTransformationExtraArgs(init, update)


def test_the_loss_is_minus_the_mean_return_and_changes_as_the_objective_does():
    config = config_of(recorder)
    state = pgjax.init(jax.random.key(0), config)
    after, metrics = pgjax.update(state, config)
    value, at_params, slope, grad, elsewhere = after.opt_state
    assert float(value) == pytest.approx(-float(metrics.episode_return), rel=1e-6)
    assert float(at_params) == pytest.approx(float(value), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), slope, grad)
    steps = jax.tree.map(lambda new, old: (new - old) / -0.01, after.params, state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), steps, grad)
    assert elsewhere < value


def plateau(rate):
    return optax.chain(optax.adam(rate), optax.contrib.reduce_on_plateau(patience=1))


def accumulated(rate):
    return optax.MultiSteps(optax.sgd(rate), 2)


TAKEN = {
    "plateau": plateau,
    "polyak": lambda rate: optax.polyak_sgd(max_learning_rate=rate, f_min=-3.0),
    "lbfgs": optax.lbfgs,
    "backtracking": lambda rate: optax.chain(
        optax.sgd(rate), optax.scale_by_backtracking_linesearch(3, store_grad=True)
    ),
    "momo": optax.contrib.momo,
    "sam": lambda rate: optax.contrib.sam(optax.sgd(rate), optax.sgd(rate)),
    "several steps": accumulated,
    "muon": optax.contrib.muon,
    "schedule-free": optax.contrib.schedule_free_adamw,
}


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize(
    ("objective", "ascent"),
    [
        (pgjax.ScoreFunction(), pgjax.GradientStep()),
        (pgjax.ClippedRatio(), pgjax.Passes(epochs=2)),
    ],
)
def test_what_asks_for_more_than_a_gradient_gets_it(name, objective, ascent):
    config = config_of(TAKEN[name], objective=objective, ascent=ascent)
    state, _ = jax.eval_shape(pgjax.train, jax.random.key(0), config)
    assert jax.tree.leaves(state.params)


def test_a_line_search_climbs():
    # Without a baseline the objective has no finite maximum: the search must not run away.
    make = TAKEN["backtracking"]
    _, metrics = pgjax.train(jax.random.key(0), config_of(make, num_updates=30))
    assert metrics.finite.all()
    assert metrics.episode_return[-5:].mean() > metrics.episode_return[:5].mean() + 0.3


def test_several_steps_are_one_of_their_mean_gradient():
    config = config_of(accumulated, num_updates=2)
    state = pgjax.init(jax.random.key(0), config)
    once, _ = pgjax.update(state, config)
    twice, _ = pgjax.update(once, config)
    np.testing.assert_array_equal(*map(first_kernel, (once, state)))
    assert (first_kernel(twice) != first_kernel(once)).any()


def first_kernel(state):
    return next(leaf for leaf in jax.tree.leaves(state.params) if leaf.ndim == 2)


REFUSED = [
    (optax.adam(1e-3), "made already.*give what makes it, for instance optimizer=optax.adam"),
    (optax.MultiSteps(optax.adam(1e-3), 4), "made already.*lambda rate: optax.MultiSteps"),
    (optax.contrib.reduce_on_plateau, "reduce_on_plateau takes factor, not a learning rate"),
    (optax.clip, "clip takes max_delta, not a learning rate"),
    (optax.lookahead, "lookahead takes fast_optimizer, not a learning rate"),
    (lambda rate: optax.lookahead(optax.adam(rate), 5, 0.5), "two sets of parameters"),
    (optax.contrib.dpsgd, "of a learning rate alone: .*l2_norm_clip"),
    (optax.contrib.sophia, "makes no step of these parameters: obj_fn"),
    (lambda rate: None, "must make an optax.GradientTransformation.* made None"),
]


@pytest.mark.parametrize(
    ("make", "message"), REFUSED, ids=lambda x: x if isinstance(x, str) else ""
)
def test_what_cannot_climb_is_refused_in_one_line(make, message):
    with pytest.raises(TypeError, match=f"^optimizer.*{message}") as raised:
        checked(config_of(make))
    assert "\n" not in str(raised.value)
