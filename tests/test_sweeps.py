"""Sweeps: each run is what `train` gives, wherever and beside whatever it ran."""

import os
import pathlib
import subprocess
import sys
import textwrap
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgjax
from pgjax.runs import sweep_group, sweep_plan
from pgjax.study import memory_estimate
from pgjax.training.config import checked

CONFIG = pgjax.Config("Catch-bsuite", num_updates=3).replace(**{"sampler.num_trajectories": 8})
RATES = [1e-3, 1e-2, 1e-1]
STEPS = [1, 2, 3, 4, 5]


def assert_is_train(member, key, num_seeds):
    seed = jax.random.split(key, num_seeds)[member.seed]
    state, metrics = pgjax.train(seed, member.config)
    for found, expected in ((member.state.params, state.params), (member.metrics, metrics)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5), found, expected
        )


@pytest.mark.parametrize("devices", [1, pytest.param(4, marks=pytest.mark.devices(4))])
def test_every_run_is_what_train_gives(devices):
    key = jax.random.key(3)
    grid = {"optimizer.learning_rate": RATES, "estimator.discount": [0.9, 1.0]}
    mesh = None if devices == 1 else pgjax.make_mesh(devices)
    found = pgjax.sweep(key, CONFIG, grid, num_seeds=3, mesh=mesh)
    assert found.axes == ("optimizer.learning_rate", "estimator.discount", "seed")
    assert found.shape == (3, 2, 3)
    assert found.num_programs == 1
    state, metrics = found
    assert metrics.episode_return.shape == (3, 2, 3, 3)
    assert {leaf.shape[:3] for leaf in jax.tree.leaves(state)} == {(3, 2, 3)}
    for index in ((0, 0, 0), (1, 1, 2), (2, 0, 1)):
        member = found.at(*index)
        assert member.setting["optimizer.learning_rate"] == RATES[index[0]]
        assert member.config.estimator.discount == [0.9, 1.0][index[1]]
        assert_is_train(member, key, 3)
        jax.tree.map(
            lambda a, b, index=index: np.testing.assert_array_equal(a[index], b),
            state.params,
            member.state.params,
        )


def test_static_values_are_programs_of_their_own():
    key = jax.random.key(0)
    grid = {"network.hidden_sizes": [(8,), (4, 4)], "optimizer.learning_rate": [1e-2, 1e-1]}
    found = pgjax.sweep(key, CONFIG, grid, num_seeds=2)
    assert found.num_programs == 2
    for index in ((0, 1, 1), (1, 0, 0)):
        assert_is_train(found.at(*index), key, 2)
    with pytest.raises(ValueError, match="differ in shape"):
        found.state  # noqa: B018


def test_physics_are_floats_too():
    config = pgjax.Config("CartPole-v1", num_updates=2).replace(**{"sampler.num_trajectories": 4})
    found = pgjax.sweep(jax.random.key(0), config, {"env_params.gravity": [5.0, 20.0]}, 2)
    assert found.num_programs == 1
    assert found.at(1, 0).config.env_params.gravity == 20.0
    assert_is_train(found.at(1, 1), jax.random.key(0), 2)


def test_runs_go_block_after_block_when_memory_is_short():
    needed = pgjax.memory_estimate(CONFIG).total
    whole = pgjax.sweep(jax.random.key(0), CONFIG, {"optimizer.learning_rate": RATES}, 3)
    parts = pgjax.sweep(
        jax.random.key(0), CONFIG, {"optimizer.learning_rate": RATES}, 3, memory_limit=4 * needed
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        parts.metrics,
        whole.metrics,
    )


@pytest.mark.devices(4)
def test_blocks_are_equal_and_have_a_share_for_every_device():
    keys = jax.random.split(jax.random.key(0), 10)
    group = sweep_group.Group([checked(CONFIG)], keys, pgjax.make_mesh(4))
    assert [group.block_size(most) for most in (100, 10, 9, 4, 1)] == [12, 12, 8, 4, 4]


def test_solved_seeds_stay_as_they_are():
    key, target = jax.random.key(0), -0.3
    config = CONFIG.replace(num_updates=40)
    found = pgjax.sweep(key, config, {"optimizer.learning_rate": [1e-3, 1e-2]}, 4, None, target)
    made = np.asarray(found.state.num_updates)
    assert len(set(made[1])) > 2
    assert made.max() < 40
    for seed in range(4):
        member, number = found.at(1, seed), int(made[1, seed])
        returns = member.metrics.episode_return
        assert returns[number - 1] >= target or number == 40
        assert (returns[: number - 1] < target).all()
        assert (returns[number:] == returns[number - 1]).all()
        shorter = member._replace(
            config=member.config.replace(num_updates=number),
            metrics=jax.tree.map(lambda rows, number=number: rows[:number], member.metrics),
        )
        assert_is_train(shorter, key, 4)


def test_the_best_is_the_best_seed_of_the_best_setting():
    config = CONFIG.replace(num_updates=60)
    grid = {"optimizer.learning_rate": [0.0, 1e-2]}
    found = pgjax.sweep(jax.random.key(0), config, grid, num_seeds=4)
    returns = found.final_returns(updates=10)
    assert returns.shape == (2, 4)
    np.testing.assert_allclose(
        returns[1, 2], found.at(1, 2).metrics.episode_return[-10:].mean(), rtol=1e-5
    )
    best = found.best(updates=10)
    assert best.setting == {"optimizer.learning_rate": 1e-2}
    assert best.seed == returns[1].argmax()


def test_no_finished_episode_is_never_the_best():
    config = CONFIG.replace(**{"sampler.horizon": 3})
    found = pgjax.sweep(jax.random.key(0), config, {"optimizer.learning_rate": [0.1]}, 2)
    assert np.isfinite(found.final_returns()).all()  # the horizon truncates, which finishes them


@pytest.mark.parametrize("devices", [1, 2])
def test_256_seeds_with_any_initialiser_do_not_hang(devices):
    # jaxlib's CPU backend can hang for good in concurrent batched QR factorisations, which is what
    # vmapped orthogonal initialisers would be. A process of its own, so that a hang can be ended.
    program = f"""
        import jax
        jax.config.update("jax_num_cpu_devices", {devices})
        import flax.linen as nn, pgjax

        class Orthogonal(nn.Module):
            @nn.compact
            def __call__(self, x):
                for _ in range(4):
                    x = nn.tanh(nn.Dense(64, kernel_init=nn.initializers.orthogonal())(x))
                return x

        config = pgjax.Config("CartPole-v1", network=Orthogonal(), num_updates=1)
        config = config.replace(sampler=pgjax.Episodes(2, horizon=4))
        mesh = pgjax.make_mesh({devices})
        grid = {{"optimizer.learning_rate": [1e-2]}}
        print(pgjax.sweep(jax.random.key(0), config, grid, 256, mesh).metrics.finite.all())
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "at least one of"),
        ([("optimizer.learning_rate", [1.0])], "at least one of"),
        ({"optimizer.learning_rate": []}, "at least one value"),
        ({"optimizer.learning_rate": 0.1}, "at least one value"),
        ({"distribution": "auto"}, "at least one value"),
        ({"num_updates": [1, 2]}, "must not hold num_updates"),
        ({"optimizer.learning_rat": [0.1]}, "did you mean 'optimizer.learning_rate'"),
        ({"optimizer.learning_rate": [0.1, -1.0]}, "finite number at least 0"),
        ({"sampler.num_trajectories": [8, 0]}, "at least 1"),
    ],
)
def test_bad_grids(grid, message):
    with pytest.raises(ValueError, match=message):
        pgjax.sweep(jax.random.key(0), CONFIG, grid, num_seeds=2)


def rates(value):
    return pgjax.Schedule(optax.constant_schedule, value=value)


REPEATED = {
    "floats": ("optimizer.learning_rate", [1e-2, 1e-3, 0.001], r"0\.001"),
    "of other types": (
        "optimizer.learning_rate",
        [0.5, np.float32(0.5)],
        r"0\.5 = np\.float32\(0\.5\)",
    ),
    "arrays": (
        "env_params.reward_timestep",
        [np.array(STEPS), jnp.array(STEPS)],
        "array.* = Array.*",
    ),
    "tuples": ("network.hidden_sizes", [(8,), (4,), (8,)], r"\(8,\)"),
    "components": ("estimator", [pgjax.GAE(), pgjax.GAE(gae_lambda=0.95)], r"GAE\(.*\)"),
    "schedules": ("optimizer.learning_rate", [rates(0.1), rates(0.1)], r"Schedule\(.*\)"),
    "one object": ("network", [CONFIG.network] * 2, r"MLP\(.*\)"),
}


@pytest.mark.parametrize(("path", "values", "shown"), REPEATED.values(), ids=REPEATED)
def test_a_value_that_stands_in_a_grid_twice_is_refused(path, values, shown):
    config = pgjax.Config("DiscountingChain-bsuite")
    grid = {"sampler.num_trajectories": [2, 4], path: values}
    with pytest.raises(ValueError, match=rf"^grid\['{path}'\] has {shown} twice; num_seeds rep.*"):
        pgjax.sweep(jax.random.key(0), config, grid, num_seeds=2)
    plan = sweep_plan.Plan(jax.random.key(0), config, {path: tuple(values[:1])}, 2, 1.0, None)
    assert len(plan.configs) == 1


def test_bad_index():
    found = pgjax.sweep(jax.random.key(0), CONFIG, {"optimizer.learning_rate": [0.1]}, 2)
    with pytest.raises(IndexError, match=r"one index for each of optimizer.learning_rate, seed"):
        found.at(0)
    with pytest.raises(IndexError):
        found.at(0, 2)


def test_a_seed_that_does_not_fit():
    huge = CONFIG.replace(**{"sampler.num_trajectories": 10**6})
    grid = {"optimizer.learning_rate": [0.1]}
    with pytest.raises(ValueError, match=r"needs .* GiB, .*num_trajectories is 1000000, \d+ w"):
        pgjax.sweep(jax.random.key(0), huge, grid, num_seeds=2)
    with pytest.raises(ValueError, match="no number of trajectories fits"):
        pgjax.sweep(jax.random.key(0), CONFIG, grid, num_seeds=2, memory_limit=1000)


# For a process of its own, whose programs take a user's memory: operations are fused as theirs
# are. The level of optimization changes only the machine code.
_FUSED = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}

_MEMORY = """
import jax, numpy as np, pgjax
from pgjax.runs import run_program
from pgjax.study import memory_estimate as memory
from pgjax.training import training
from pgjax.training.config import checked

for env, num_seeds, changes in (
    ("CartPole-v1", 1, {}),
    ("CartPole-v1", 4, {"sampler.num_trajectories": 256}),
    ("Breakout-MinAtar", 2, {"sampler.num_trajectories": 16}),
    ("Pendulum-v1", 8, {"network.hidden_sizes": (256, 256)}),
):
    config = checked(pgjax.Config(env).replace(**changes))
    keys = jax.random.split(jax.random.key(0), num_seeds)
    same = {"varies": (False,) * len(jax.tree.leaves(config)), "mesh": None}
    state = run_program._init_runs.eval_shape(keys, config, **same)
    until = training.StopRule(np.int32(0), np.float32(np.inf), np.bool_(False))
    inputs = (state, config, np.zeros(num_seeds, bool), until)
    found = run_program._advance_runs.lower(*inputs, **same).compile().memory_analysis()
    taken = found.temp_size_in_bytes + found.output_size_in_bytes + found.argument_size_in_bytes
    taken -= found.alias_size_in_bytes
    print(memory.memory_estimate(config, num_seeds).total / taken)
"""


def test_the_memory_estimate_is_what_the_program_takes():
    command = [sys.executable, "-c", _MEMORY]
    found = subprocess.run(command, env=_FUSED, capture_output=True, text=True, check=True)
    ratios = [float(line) for line in found.stdout.split()]
    assert len(ratios) == 4
    assert all(0.8 < ratio < 1.7 for ratio in ratios), ratios


_ACTIONS = """
import sys

sys.path.insert(0, "tests")
import jax, pgjax
from environments_for_tests import Counter
from pgjax.study import memory_estimate as memory
from pgjax.environments import spaces
from pgjax.training import training
from pgjax.training.config import checked

class Many(Counter):
    def __init__(self, n):
        super().__init__()
        self.n = n

    def action_space(self, params=None):
        return spaces.Discrete(self.n)

for n, make in ((2, pgjax.Config), (100, pgjax.ppo), (1000, pgjax.Config), (10_000, pgjax.ppo)):
    config = checked(make(Many(n)))
    lowered = training._train.lower(jax.random.key(0), config, None)
    found = lowered.compile().memory_analysis()
    taken = found.temp_size_in_bytes + found.output_size_in_bytes + found.argument_size_in_bytes
    print(memory.memory_estimate(config).total / taken)
"""


def test_the_memory_estimate_holds_for_any_number_of_actions():
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", _ACTIONS]
    root = pathlib.Path(__file__).parents[1]
    found = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=True)
    ratios = [float(line) for line in found.stdout.split()]
    assert len(ratios) == 4
    assert all(0.75 < ratio < 1.25 for ratio in ratios), ratios


def test_available_is_what_accelerators_have_left_or_the_host_where_they_do_not_say(monkeypatch):
    def devices(*stats):
        return [types.SimpleNamespace(memory_stats=lambda found=found: found) for found in stats]

    host = memory_estimate.available_bytes()
    two = {"bytes_limit": 100, "bytes_in_use": 30}, {"bytes_limit": 50, "bytes_in_use": 10}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: devices(*two))
    assert memory_estimate.available_bytes() == 110
    monkeypatch.setattr(jax, "local_devices", lambda: devices(two[0], None))
    assert 0.5 * host < memory_estimate.available_bytes() < 2 * host


def test_the_memory_estimate_counts_seeds():
    one, ten = (memory_estimate.memory_estimate(CONFIG, number) for number in (1, 10))
    assert ten.trajectories == 10 * one.trajectories
    assert (ten.state, ten.metrics) == (10 * one.state, 10 * one.metrics)
    # Ten take their gradients one after another, and one's trajectories are copied for that.
    assert one.working + one.trajectories < ten.working < 10 * one.working + one.trajectories
    assert one.total == sum(one)
    with pytest.raises(ValueError, match="num_seeds"):
        memory_estimate.memory_estimate(CONFIG, 0)
