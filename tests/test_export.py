"""Exported policies act as the original does: every network, memory and head; the card."""

import functools
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
from pgjax.runs.export import agreement, exporting, numpy_module, onnx_model, stablehlo_program
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


def acted(policies):
    """Originals, compiled together, with inputs, the same stacked, and results, stacked."""
    draw = np.random.default_rng(1)
    batches = [[random_inputs(policy, draw) for _ in range(4)] for policy in policies]
    stacked = [jax.tree.map(lambda *x: np.stack(x), *batch) for batch in batches]
    run = jax.jit(lambda inputs: [jax.vmap(p)(x) for p, x in zip(policies, inputs, strict=True)])
    return list(zip(policies, batches, stacked, run(stacked), strict=True))


@functools.cache
def originals(name):
    """`acted` for the mode and, if it has noise of NumPy's, the sample of a config's policy."""
    flags = (True,) if name == "beta" else (True, False)
    return acted([policy_of(CONFIGS[name], flag) for flag in flags])


def numpy_pairs(originals, folder):
    """The results of exports to NumPy, and of their originals."""
    pairs = []
    for number, (policy, batch, _, expected) in enumerate(originals):
        path = folder / str(number)
        path.mkdir()
        numpy_module.write(policy, path, "A policy.")
        act = numpy_module.load(path)
        pairs += [
            (act(*inputs), jax.tree.map(lambda x, row=row: x[row], expected))
            for row, inputs in enumerate(batch)
        ]
    return pairs


@pytest.mark.parametrize("name", CONFIGS)
def test_numpy_acts_as_the_original(name, tmp_path):
    for result, expected in numpy_pairs(originals(name), tmp_path):
        assert jax.tree.structure(result) == jax.tree.structure(expected)
        for x, y in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
            assert np.asarray(x).dtype == y.dtype
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def onnx_pairs(originals, folder):
    """The results of exports to ONNX for n observations and for one, and of their originals."""
    runtime = pytest.importorskip("onnxruntime")
    for policy, batch, stacked, expected in originals:
        onnx_model.write(policy, folder, "A policy.")
        session = runtime.InferenceSession(folder / "policy.onnx")
        places = [place.name for place in session.get_inputs()]
        results = session.run(None, dict(zip(places, jax.tree.leaves(stacked), strict=True)))
        first = onnx_model.load(folder)(*batch[0])
        yield from zip(results, first, jax.tree.leaves(expected), strict=True)


@pytest.mark.parametrize("name", CONFIGS)
def test_onnx_acts_as_the_original_on_any_number(name, tmp_path):
    for results, first, expected in onnx_pairs(originals(name), tmp_path):
        assert (results.dtype, results.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(results, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(first, expected[0], rtol=1e-5, atol=1e-5)


def test_networks_of_ones_own_have_loops_and_convolutions(tmp_path):
    config = pgjax.Config(IMAGE, network=Loops())
    looped = acted([policy_of(config, True)])
    for result, expected in numpy_pairs(looped, tmp_path):
        np.testing.assert_array_equal(result[0], expected[0])
    for results, _, expected in onnx_pairs(looped, tmp_path):
        np.testing.assert_array_equal(results, expected)


def convolved(x):
    """A convolution of a dilated kernel, in groups."""
    kernel = jnp.arange(12.0).reshape(3, 1, 4)
    layout, move = ("NWC", "WIO", "NWC"), {"rhs_dilation": (2,), "feature_group_count": 2}
    x = jnp.outer(x, x[:2])[None]
    return jax.lax.conv_general_dilated(x, kernel, (2,), "SAME", dimension_numbers=layout, **move)


# Operations of x float[n] and whole numbers i int[n], n = 5.
OPERATIONS = (
    lambda x, i: jnp.log1p(jnp.abs(x)) + jnp.expm1(x) + jnp.exp2(x) + jax.nn.gelu(x),
    lambda x, i: jnp.fmod(x, 0.3) + jnp.square(x) + x**-2 + x**3 + jax.lax.rsqrt(x**2 + 1),
    lambda x, i: jnp.round(3 * x) + jax.lax.round(3 * x) + jnp.sign(x) + jnp.floor(2 * x),
    lambda x, i: jnp.isfinite(1 / (x - x[0])) & (x != x[1]) ^ ~(x > 0.1),
    lambda x, i: jax.lax.clamp(jnp.float32(-0.2), x, jnp.float32(0.2)) + jnp.clip(x, x[1], 1.0),
    lambda x, i: jnp.stack([jnp.any(x > 0), jnp.all(x > 0), jnp.any(x > x)]),
    lambda x, i: jnp.stack([x.sum(), x.max(), x.min(), x.prod(), x[0].sum()]) + x.argmin(),
    lambda x, i: x[::-1] + jnp.flip(x[1:4]).sum() + jax.lax.cumsum(x, reverse=True),
    lambda x, i: jnp.pad(x, (1, 2), constant_values=3.0) + jnp.roll(jnp.pad(x, (3, 0)), 2),
    lambda x, i: jnp.concatenate(jnp.split(jnp.stack([x, x + 1], 1), [2])[::-1]).ravel(),
    lambda x, i: sum(jnp.unstack(jnp.outer(x, x), axis=1)),
    lambda x, i: jnp.einsum("ij,kjl->lki", jnp.outer(x, x), jnp.ones((2, 5, 3)) * x[0]),
    lambda x, i: jnp.outer(x, x) @ x + jnp.dot(x, x) + jnp.tri(5) @ x,
    lambda x, i: x[i] + x[jnp.array([3, 0, 1, 1, 9])] + jnp.outer(x, x)[:, 1] + x.at[-1].get(),
    lambda x, i: x.at[i + 3].get(mode="fill", fill_value=7.0) + jnp.take(x, i, mode="clip"),
    lambda x, i: jnp.take_along_axis(jnp.outer(x, x), i[:, None], 1)[:, 0] + jnp.outer(x, x)[i, i],
    lambda x, i: jax.lax.dynamic_slice(jnp.outer(x, x), (2, i[0]), (2, 3)),
    lambda x, i: jax.lax.dynamic_slice(jnp.outer(x, x), (4, jnp.argmax(x)), (5, 1)),
    lambda x, i: (i % 3 + i // 2 - jax.lax.div(-i, 2 + i)) & 5 | (2 ^ ~i),
    lambda x, i: jax.lax.select_n(i % 3, x, -x, 2 * x) + jnp.where(x[0] > 0, x > 0, x < 0),
    lambda x, i: jnp.arange(5) * x + jax.lax.broadcasted_iota(jnp.int32, (5, 5), 0)[2],
    lambda x, i: jnp.sin(x) + jnp.cos(x) + jnp.tan(x) + jnp.arcsin(x / 9) + jnp.arctan(x),
    lambda x, i: jnp.sinh(x) + jnp.cosh(x) + jnp.arcsinh(x) + jnp.arctanh(x / 9),
    lambda x, i: jax.lax.fori_loop(0, 3, lambda k, y: y * x + k, x),
    lambda x, i: jax.lax.scan(lambda y, row: (y * row, y), x[0], x, reverse=True)[1],
    lambda x, i: nn.avg_pool(jnp.outer(x, x)[:, :, None], (2, 3), (1, 2), padding="SAME"),
    lambda x, i: convolved(x),
)


def test_onnx_has_the_operations_of_numpy():
    runtime, draw = pytest.importorskip("onnxruntime"), np.random.default_rng(0)
    rows = {"x": draw.normal(size=(3, 5)).astype(np.float32), "i": draw.integers(0, 5, (3, 5))}
    rows["i"] = rows["i"].astype(np.int32)
    (number,) = jax.export.symbolic_shape("n")
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((number, 5), x.dtype), rows)
    call = lambda obs: tuple(operation(obs["x"], obs["i"]) for operation in OPERATIONS)
    inputs = Inputs(shapes, (), ())
    model = onnx_model.model_of([], [], lambda _, inputs: (call(inputs.obs), ()), inputs, "")
    session = runtime.InferenceSession(model.SerializeToString())
    results = session.run(None, {f"obs_{name}": x for name, x in rows.items()})
    expected = jax.jit(jax.vmap(call))(rows)
    for number, (x, y) in enumerate(zip(results, expected, strict=True)):
        assert (x.dtype, x.shape) == (y.dtype, y.shape), number
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5, err_msg=str(number))


class Transformed(nn.Module):
    """Has an operation that exports have not."""

    def __call__(self, obs):
        return jnp.fft.rfft(obs).real


def test_what_cannot_be_exported_is_named(tmp_path):
    policy = policy_of(pgjax.Config(Counter(), network=Transformed()), True)
    with pytest.raises(ValueError, match="the policy's operation 'fft' has no counterpart in NumP"):
        numpy_module.write(policy, tmp_path, "")
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="the policy's operation 'fft' has no counterpart in ONNX"):
        onnx_model.write(policy, tmp_path, "")
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


@pytest.mark.parametrize(
    ("form", "package", "extra"),
    [(stablehlo_program, "flatbuffers", "stablehlo"), (onnx_model, "onnxruntime", "onnx")],
)
def test_a_format_without_its_extra_names_it(form, package, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(distribution.MissingExtra, match=rf"install 'pgjax-rl\[{extra}\]'"):
        form.write(policy_of(CONFIGS["relu"], True), tmp_path, "")


def test_the_example_of_an_onnx_card_acts(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    policy = policy_of(CONFIGS["masked"], False)
    onnx_model.write(policy, tmp_path, "A policy.")
    inputs = random_inputs(policy, np.random.default_rng(0))
    rows = [np.asarray(x)[None] for x in jax.tree.leaves(inputs)]
    names = dict(zip((name for name, _ in onnx_model._places(inputs)), rows, strict=True))
    code = onnx_model.use(policy)
    assert "# action_force, action_gear, next_memory_0\n" in code
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    assert names["memory"]["memory_0"].tolist() == [1]


def test_onnx_names_a_dtype_that_it_has_not(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    config = pgjax.Config(Counter(), network=nn.Dense(3, dtype=jnp.bfloat16))
    with pytest.raises(ValueError, match=r"computes in bfloat16, .* give its network float32"):
        onnx_model.write(policy_of(config, True), tmp_path, "")
    sides = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, []) for name in "xy"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Erf", ["x"], ["y"])], "erf", sides[:1], sides[1:]
    )
    opset = [onnx.helper.make_opsetid("", onnx_model.OPSET)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "policy.onnx"
    )
    with pytest.raises(ValueError, match=r"ONNX Runtime cannot run the policy: .*Erf"):
        onnx_model.load(tmp_path)


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
