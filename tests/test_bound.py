"""A config's parts, bound to each other once: a pytree that goes wherever arrays go."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgjax
from pgjax.training import updates
from pgjax.training.config import bind, checked

FALLING = pgjax.Schedule(optax.linear_schedule, init_value=1.0, end_value=0.5, transition_steps=10)
CONFIGS = {
    "episodes": pgjax.Config("Catch-bsuite", network=pgjax.MLP(())),
    "time": pgjax.Config("Catch-bsuite", network=pgjax.MLP(()), time_aware=True),
    "box": pgjax.actor_critic("Pendulum-v1", network=pgjax.MLP(()), normalize_observations=True),
    "memory": pgjax.ppo("Catch-bsuite", network=pgjax.Recurrent(pgjax.MLP((4,)), 4)),
    "params": pgjax.Config("Pendulum-v1", network=pgjax.MLP(())).replace(
        **{"env_params.max_torque": 1.5, "sampler.horizon": 5}
    ),
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys(), scope="module")
def case(request):
    config = checked(request.param.replace(**small(request.param)))
    return pgjax.init(jax.random.key(0), config), bind(config, 0)


def small(config):
    segments = isinstance(config.sampler, pgjax.Segments)
    widths = {"sampler.num_envs": 4, "sampler.length": 6}
    return widths if segments else {"sampler.num_trajectories": 4}


def rewards(state, bound):
    return updates.sample(jax.random.key(1), state, bound)[0].reward


def test_it_is_what_it_was_after_a_round_trip(case):
    _, bound = case
    leaves, structure = jax.tree.flatten(bound)
    assert all(isinstance(leaf, jax.Array) or np.ndim(leaf) == 0 for leaf in leaves)
    again = jax.tree.unflatten(structure, leaves)
    assert jax.tree.structure(again) == structure
    assert hash(structure) == hash(jax.tree.structure(again))
    assert again.horizon() == bound.horizon()


@pytest.mark.slow
def test_it_goes_through_jit_loops_and_vmap_as_an_argument(case):
    state, bound = case
    expected = rewards(state, bound)
    np.testing.assert_allclose(jax.jit(rewards)(state, bound), expected, rtol=1e-5)

    def looped(state, bound):
        start = (jnp.int32(0), jnp.zeros_like(expected), bound)
        step = lambda carry: (carry[0] + 1, rewards(state, carry[2]), carry[2])
        return jax.lax.while_loop(lambda carry: carry[0] < 1, step, start)[1]

    np.testing.assert_allclose(jax.jit(looped)(state, bound), expected, rtol=1e-5)
    twice = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), bound)
    found = jax.jit(jax.vmap(rewards, in_axes=(None, 0)))(state, twice)
    np.testing.assert_allclose(found[1], expected, rtol=1e-5)


def test_schedules_are_numbers_at_the_update():
    config = checked(
        pgjax.Config("Catch-bsuite", estimator=pgjax.RewardToGo(discount=FALLING), num_updates=20)
    )
    found = [float(bind(config, update).estimator.discount) for update in (0, 5, 10)]
    assert found == [1.0, 0.75, 0.5]


@pytest.mark.slow
def test_statistics_and_exact_gradients_take_the_schedule_at_the_states_update():
    transition = [[[0.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]
    mdp = pgjax.FiniteMDP(transition, [[1.0, 0.0], [0.0, 3.0]], [1.0, 0.0], horizon=2)
    plain = pgjax.Config(mdp, network=pgjax.MLP(()), estimator=pgjax.TotalReturn(discount=0.75))
    falling = plain.replace(**{"estimator.discount": FALLING, "num_updates": 20})
    state = pgjax.init(jax.random.key(0), plain)
    state = state.replace(num_updates=jnp.int32(5))
    for found in (
        lambda config: pgjax.tabular.policy_gradient(state, config),
        lambda config: pgjax.gradient_statistics(jax.random.key(1), state, config, 8).mean,
    ):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
            found(falling),
            found(plain),
        )


PACKAGE = Path(pgjax.__file__).parent
# What samples, estimates, differentiates, ascends or fits a critic; and what binds it.
FOLDERS = ("core", "policies", "sampling", "estimators", "critics", "objectives", "ascents")
BELOW = [file for name in FOLDERS for file in sorted((PACKAGE / name).rglob("*.py"))]
BELOW += [PACKAGE / "training" / "bound.py", PACKAGE / "training" / "updates.py"]


@pytest.mark.parametrize("file", BELOW, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_what_works_with_parts_does_not_know_the_config(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            assert node.module != "pgjax.training.config"
            assert not (node.module == "pgjax.training" and "config" in names)
