"""Exported policies act as the original does: every network, memory and head; the card."""

import re
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import Counter, Spaces
from test_agent import HYBRID, MASKED, Observes

import pgjax
from pgjax.cli.main import main
from pgjax.core import distribution
from pgjax.environments.interface import spaces
from pgjax.runs.export import agreement, exporting, numpy_module, stablehlo_program
from pgjax.runs.export.traced import Exported, Inputs
from pgjax.study.acting import Deployed
from pgjax.training.config import bind, checked


class Loops(nn.Module):
    """A network of one's own: convolution, pooling, a scan, a while loop, a branch, an index."""

    @nn.compact
    def __call__(self, obs):
        grid = nn.Conv(2, (3, 2), strides=(2, 1), feature_group_count=1)(obs)
        grid = nn.max_pool(grid, (2, 2), padding="SAME") + nn.avg_pool(grid, (2, 2), padding="SAME")
        x = grid.ravel()

        def halved(carry):
            return carry[0] + 1, carry[1] / 2

        rows, last = jax.lax.scan(lambda c, row: (c + row, c * row), jnp.float32(0.5), x)
        _, x = jax.lax.while_loop(lambda carry: carry[0] < 3, halved, (0, x + rows))
        x = jax.lax.cond(last[0] > 0, jnp.negative, jnp.abs, x)
        place = jnp.argmin(x)
        picked = jax.lax.dynamic_slice(x, (place,), (2,))
        return jnp.cumsum(jnp.append(x.at[0].get() * x[:3], jax.lax.erf(picked)) ** 3, axis=0)


def box(low, high, dtype=np.float32):
    return spaces.Box(np.array(low), np.array(high), (2,), dtype)


SMALL = pgjax.MLP((4,))
IMAGE = Observes(spaces.Box(0.0, 1.0, (5, 4, 2)))
CELLS = (nn.GRUCell, nn.LSTMCell, nn.OptimizedLSTMCell, nn.MGUCell, nn.SimpleCell, pgjax.MinGRU)
NETWORKS = {
    **{cell.__name__: pgjax.Recurrent(SMALL, 3, cell=cell) for cell in CELLS},
    **{name: pgjax.MLP((4,), activation=name) for name in ("relu", "elu", "gelu", "silu")},
}
BOXES = {
    "normal": (box([-1, -1], [1, 1]), "normal"),
    "tanh_normal": (box([-1, -1], [1, 2]), "auto"),
    "beta": (box([-1, -1], [1, 1]), "beta"),
    "unbounded": (box([-np.inf] * 2, [np.inf] * 2), "auto"),
    "one bound": (box([0, -np.inf], [np.inf, 3]), "auto"),
    "integers": (box([0, -3], [5, 3], np.int32), "auto"),
    "multi_discrete": (spaces.MultiDiscrete([3, 2]), "auto"),
    "multi_binary": (spaces.MultiBinary(3), "auto"),
    "tuple": (spaces.Tuple((spaces.Discrete(2), box([-1, -1], [1, 1]))), "auto"),
}
SERVICES = {"normalize_observations": True, "time_aware": True}
CONFIGS = {
    **{name: pgjax.Config(Counter(), network=x, **SERVICES) for name, x in NETWORKS.items()},
    **{
        name: pgjax.Config(Spaces(None, space), distribution=distribution, network=SMALL)
        for name, (space, distribution) in BOXES.items()
    },
    "cnn": pgjax.Config("Breakout-MinAtar", network=pgjax.CNN((2,), hidden_sizes=(4,))),
    "masked": pgjax.Config(Observes(MASKED, HYBRID), network=SMALL, time_aware=True),
}


def policy_of(config, deterministic):
    """The export's original with random weights: nothing is compiled to initialise them."""
    policy, draw = bind(checked(config), 0).policy, np.random.default_rng(0)

    def number(path, x):
        value = np.asarray(draw.normal(size=x.shape), x.dtype)
        return np.abs(value) if "variance" in jax.tree_util.keystr(path) else value

    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    variables = jax.tree_util.tree_map_with_path(number, shapes)
    return Exported(Deployed(policy, variables), deterministic)


def random_inputs(policy, draw):
    def number(x):
        if np.dtype(x.dtype).kind == "f":
            return np.asarray(draw.uniform(size=x.shape), x.dtype)
        return np.asarray(draw.integers(0, 2, x.shape), x.dtype)

    inputs = jax.tree.map(number, policy.example())
    if isinstance(inputs.obs, dict) and "action_mask" in inputs.obs:
        inputs.obs["action_mask"]["gear"][0] = True  # never all excluded
    return inputs


def both(policies, folder):
    """The results of originals, compiled together, and of their exports."""
    draw, pairs = np.random.default_rng(1), []
    batches = [[random_inputs(policy, draw) for _ in range(4)] for policy in policies]
    stacked = [jax.tree.map(lambda *x: np.stack(x), *batch) for batch in batches]
    run = jax.jit(lambda inputs: [jax.vmap(p)(x) for p, x in zip(policies, inputs, strict=True)])
    for number, (policy, expected) in enumerate(zip(policies, run(stacked), strict=True)):
        path = folder / str(number)
        path.mkdir()
        numpy_module.write(policy, path, "A policy.")
        act = numpy_module.load(path)
        pairs += [
            (act(*inputs), jax.tree.map(lambda x, row=row: x[row], expected))
            for row, inputs in enumerate(batches[number])
        ]
    return pairs


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_numpy_acts_as_the_original(config, tmp_path):
    flags = (True,) if config.distribution == "beta" else (True, False)
    for result, expected in both([policy_of(config, flag) for flag in flags], tmp_path):
        assert jax.tree.structure(result) == jax.tree.structure(expected)
        for x, y in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
            assert np.asarray(x).dtype == y.dtype
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_numpy_has_the_operations_of_networks_of_ones_own(tmp_path):
    config = pgjax.Config(IMAGE, network=Loops())
    policy = policy_of(config, True)
    for result, expected in both([policy], tmp_path):
        np.testing.assert_array_equal(result[0], expected[0])


class Transformed(nn.Module):
    """Has an operation that NumPy's export has not."""

    def __call__(self, obs):
        return jnp.fft.rfft(obs).real


def test_what_cannot_be_exported_is_named(tmp_path):
    policy = policy_of(pgjax.Config(Counter(), network=Transformed()), True)
    with pytest.raises(ValueError, match="the policy's operation 'fft' has no counterpart in NumP"):
        numpy_module.write(policy, tmp_path, "")
    config = CONFIGS["beta"]
    state = pgjax.init(jax.random.key(0), config)
    with pytest.raises(ValueError, match=r"samples of Beta .*deterministic=True \(--determinist"):
        pgjax.export(state, config, tmp_path / "beta")
    with pytest.raises(ValueError, match="unknown format 'nump'; did you mean 'numpy'"):
        pgjax.export(state, config, tmp_path / "beta", "nump")
    assert not (tmp_path / "beta").exists()


def test_the_module_refuses_other_inputs_and_needs_numpy_alone(tmp_path):
    policy = policy_of(CONFIGS["masked"], False)
    numpy_module.write(policy, tmp_path, "A policy.")
    text = (tmp_path / "policy.py").read_text()
    imported = re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
    assert set(imported) == {"pathlib", "numpy"}
    act, inputs = numpy_module.load(tmp_path), random_inputs(policy, np.random.default_rng(0))
    assert act(*inputs)[0].keys() == {"gear", "force"}
    with pytest.raises(ValueError, match=r"obs\['place'\]: expected the shape \(2,\), got \(3,\)"):
        act({**inputs.obs, "place": np.zeros(3)}, inputs.memory, inputs.noise)
    with pytest.raises(TypeError, match=r"obs\['level'\]: expected int32, got float64"):
        act({**inputs.obs, "level": 0.5}, inputs.memory, inputs.noise)


def test_a_difference_is_found():
    policy = policy_of(CONFIGS["tanh_normal"], True)
    shifted = jax.jit(lambda *inputs: jax.tree.map(lambda x: x + 2e-5, policy(Inputs(*inputs))))
    assert 1e-5 < agreement.largest_difference(policy, shifted) < 3e-5
    assert agreement._difference(np.nan, 1.0) == np.inf
    assert agreement._difference([np.inf, 200.0], [np.inf, 100.0]) == 1.0


@pytest.mark.parametrize(("name", "deterministic"), [("LSTMCell", True), ("masked", False)])
def test_stablehlo_acts_as_the_original_on_any_number(name, deterministic, tmp_path):
    pytest.importorskip("flatbuffers")
    policy, draw = policy_of(CONFIGS[name], deterministic), np.random.default_rng(1)
    stablehlo_program.write(policy, tmp_path, "A policy.")
    inputs = [random_inputs(policy, draw) for _ in range(3)]
    rows = jax.tree.map(lambda *x: np.stack(x), *inputs)
    expected = jax.jit(lambda rows: jax.vmap(policy)(rows))(rows)
    program = jax.export.deserialize(bytearray((tmp_path / "policy.stablehlo").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    results = program.call(*rows[: 2 if deterministic else 3])
    assert jax.tree.structure(results) == jax.tree.structure(expected)
    act = stablehlo_program.load(tmp_path)
    first = act(*inputs[0])
    for x, row, y in zip(*map(jax.tree.leaves, (results, first, expected)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(row, y[0], rtol=1e-5, atol=1e-5)
    start = np.load(tmp_path / "initial_memory.npz")
    with start:
        assert len(start.files) == len(policy.example().memory)


def test_a_format_without_its_extra_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(distribution.MissingExtra, match=r"install 'pgjax-rl\[stablehlo\]'"):
        stablehlo_program.write(policy_of(CONFIGS["relu"], True), tmp_path, "")


@pytest.mark.slow
def test_the_command_writes_a_folder_with_a_card(tmp_path, capsys, monkeypatch):
    config = pgjax.Config("CartPole-v1", network=pgjax.Recurrent(SMALL, 3), time_aware=True)
    pgjax.save(tmp_path / "run", pgjax.init(jax.random.key(0), config), config)
    command = ["export", str(tmp_path / "run"), "--format", "numpy", "--eval-episodes", "8"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert re.search(r"largest difference +\d\S* from the original, on 1000 observations", printed)
    card = (tmp_path / "run" / "numpy" / "README.md").read_text()
    for row in (
        *("environment | CartPole-v1", "memory | [0] float32[3], [1] int32[]"),
        *("noise | float32[] uniform in [0, 1)", "actions | samples, from noise that is an input"),
    ):
        assert f"| {row} |" in card
    assert re.search(r"return \| \d+\S* \(95 %: .*mean of 8 episodes", card)
    assert '"env": "CartPole-v1"' in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    monkeypatch.syspath_prepend(tmp_path / "run" / "numpy")
    names = {"obs": np.zeros(4, np.float32)}
    exec(code, names)
    assert names["action"] in (0, 1)
    assert main(command) == 2
    assert "numpy exists; give another, or remove it" in capsys.readouterr().err
    monkeypatch.setattr(exporting, "largest_difference", lambda *_: 2e-5)
    assert main([*command, "--output", str(tmp_path / "other")]) == 1
