"""Random configs and command lines, most of them wrong: an answer, or one of our errors.

The environment variable PGJAX_FUZZ multiplies their number, for a long run: PGJAX_FUZZ=5.
"""

import os
import random
import re
import traceback
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from environments_for_tests import Counter as CounterEnv
from environments_for_tests import UnboundedActions

import pgjax
from pgjax.cli.main import main
from pgjax.training import registry
from pgjax.training.config import checked

TIMES = int(os.environ.get("PGJAX_FUZZ", "1"))
OURS = {str(path) for path in Path(pgjax.__file__).parent.rglob("*.py")}
_BAD_FLOATS = (float("nan"), float("inf"), -1.0, 2.0, "0.1", None, True, np.ones(2), [], 1 + 2j)
_BAD_INTS = (0, -3, 2.5, "4", None, True, np.int64(3), 10**12)
_ENVS = (
    "Catch-bsuite",
    "CartPole-v1",
    "Pendulum-v1",
    "FourRooms-misc",
    CounterEnv(),
    UnboundedActions(),
)
_PARTS = ("estimator", "critic", "objective", "ascent", "optimizer")
_BAD_ENVS = ("CartPole-v7", "", 3, None, CounterEnv, object(), [])
_NETWORKS = (
    pgjax.MLP((4,)),
    pgjax.MLP(()),
    pgjax.CNN((2,), 2, (4,)),
    pgjax.Recurrent(pgjax.MLP((4,)), 4),
    pgjax.Recurrent(pgjax.MLP((4,)), 4, window=3),
)
_BAD_NETWORKS = (
    pgjax.MLP((0,)),
    pgjax.MLP((4,), "tahn"),
    pgjax.Recurrent(pgjax.Recurrent()),
    pgjax.CNN(kernel_size=0),
    pgjax.MLP,
    None,
    "MLP",
)


def _field(chance, node):
    """A path to one of a component's fields, and a value: often a possible one."""
    name = chance.choice(list(vars(node)))
    now = getattr(node, name)
    if isinstance(now, bool):
        return name, chance.choice([True, False, True, False, 1, "yes"])
    if isinstance(now, int):
        return name, chance.choice([1, 2, 3, chance.choice(_BAD_INTS)])
    if isinstance(now, float):
        return name, chance.choice([0.0, 0.5, 1.0, np.float32(0.25), chance.choice(_BAD_FLOATS)])
    if isinstance(now, str):
        known = ["none", "mean", "leave_one_out", "value", "squared", "huber", "normal"]
        return name, chance.choice([*known, 3])
    return name, chance.choice([None, 1, 0.5, chance.choice(_BAD_INTS)])


def random_config(chance):
    """One in three parts is wrong, more or less."""
    kinds = registry.COMPONENTS

    def component(field):
        made = chance.choice(list(kinds[field].values()))()
        return made if chance.random() < 0.97 else chance.choice([None, 3, type(made)])

    fields = {
        "env": chance.choice(_ENVS if chance.random() < 0.95 else _BAD_ENVS),
        "network": chance.choice(_NETWORKS if chance.random() < 0.95 else _BAD_NETWORKS),
        "sampler": chance.choice([pgjax.Episodes(4, horizon=3), pgjax.Segments(4, 6)]),
        "num_updates": chance.choice([1, 2, 2, 2, chance.choice(_BAD_INTS)]),
        **{field: component(field) for field in _PARTS},
    }
    if chance.random() < 0.1:
        fields["optimizer"] = chance.choice([optax.rmsprop, optax.adam, optax.adam(1e-3), len])
    config = pgjax.Config(**fields)
    for _ in range(chance.randrange(3)):
        part = chance.choice(["sampler", *_PARTS, ""])
        node = getattr(config, part) if part else None
        if part and not (hasattr(node, "check") and vars(node)):
            continue
        if part:
            name, value = _field(chance, node)
            config = config.replace(**{f"{part}.{name}": value})
        else:
            name = chance.choice(["distribution", "normalize_observations", "time_aware"])
            values = ["auto", "normal", "tanh_normal", "beta", "categorical", True, False, "x", 1]
            config = config.replace(**{name: chance.choice(values)})
    return config


def raised_by(error):
    """The file of the line that raised it."""
    return traceback.extract_tb(error.__traceback__)[-1].filename


def parts_of(config):
    """What a config is composed of: its environment, and the class of each component."""
    return {config.env, *(type(getattr(config, name)) for name in (*_PARTS, "network", "sampler"))}


def test_random_configs_trace_or_give_one_of_our_errors():
    chance, traced, refusals = random.Random(0), Counter(), []
    for _ in range(5000 * TIMES):
        try:
            config = random_config(chance)
            arrays = checked(config)
        except (ValueError, TypeError) as error:
            refusals.append((raised_by(error), str(error)))
            continue
        # Tracing takes a second: enough for each part to be traced with some others.
        if any(traced[part] < TIMES for part in parts_of(config)):
            traced.update(parts_of(config))
            # As arrays: JAX itself refuses Python's whole numbers from 2³¹ on.
            found = jax.eval_shape(pgjax.train, jax.random.key(0), arrays)
            assert found.metrics.episode_return.shape == (config.num_updates,)
    members = {kind for name in _PARTS for kind in registry.COMPONENTS[name].values()}
    assert members.union(_ENVS) <= traced.keys()
    assert 1000 * TIMES < len(refusals) < 4500 * TIMES
    assert {text for file, text in refusals if file not in OURS} == set()


_TEXT = """
    train resume evaluate render plot sweep envs completion trian
    CartPole-v1 Catch-bsuite Catch runs/none . -- -h3 -x bash τ
    --num-updates --seed --sampler.num-trajectories --estimator --grid --name --nan --output --x
    --optimizer.learning-rate --env-params.gravity --devices --network.hidden-sizes --algorithm
    --estimator.baseline --no-time-aware --stop-at-return
    3 -1 0 1e-3 nan inf x ppo GAE none a.png 1e99
    a=1,2 =, optimizer.learning_rate=1e-3,1e-2 estimator.discount=
"""
_WORDS = _TEXT.split()


@pytest.fixture
def nothing_runs(monkeypatch, tmp_path):
    """Commands go as far as they can without training."""
    monkeypatch.chdir(tmp_path)

    def reached(*args, **kwargs):
        raise ValueError("reached")

    for place in ("host_loop.run", "host_loop.resume", "sweeps.sweep"):
        monkeypatch.setattr(f"pgjax.runs.{place}", reached)


def test_random_command_lines_never_show_a_traceback(nothing_runs, capsys, tmp_path):
    chance, reached = random.Random(1), 0
    for _ in range(300 * TIMES):
        words = [chance.choice(_WORDS[:9])] if chance.random() < 0.6 else ["train", "Catch-bsuite"]
        words += [chance.choice(_WORDS) for _ in range(chance.randrange(7))]
        if words[:1] == ["envs"] and len(words) == 1:
            continue
        try:
            code = main(words)
        except SystemExit as stopped:  # --help
            code = stopped.code
        captured = capsys.readouterr()
        assert code in (0, 2), words
        assert "Traceback" not in captured.err
        assert code == 0 or re.match(r"(pgjax: .+\n|usage: )", captured.err or captured.out), words
        reached += "pgjax: reached" in captured.err
    assert reached > 3
    assert not list(tmp_path.rglob("*"))
