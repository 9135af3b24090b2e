"""RNN cells: windows of rows against one step after another, and what is no cell."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax.policies import networks
from pgjax.runs import config_json

CELLS = [
    nn.GRUCell,
    nn.LSTMCell,
    nn.OptimizedLSTMCell(5),
    nn.MGUCell,
    nn.SimpleCell,
    pgjax.MinGRU,
    pgjax.MinGRU(5, longest=7),
]
ROWS = 6
STARTS = {"none": [], "some": [2, 3, ROWS - 1], "first": [0, 4], "all": [*range(ROWS)]}


class Running(pgjax.MemoryNetwork):
    """Remembers the mean of the features of a layer, and how many they are."""

    @nn.compact
    def __call__(self, obs, memory):
        total, count = memory
        total, count = total + nn.Dense(3, param_dtype=obs.dtype)(obs), count + 1
        return total / count, (total, count)

    def initial_memory(self):
        return jnp.zeros(3), jnp.int32(0)


def made(network, seed=0):
    """Parameters that are not those of the start, observations [ROWS, 2], a memory of another."""
    keys = jax.random.split(jax.random.key(seed), 4)
    obs = jax.random.normal(keys[0], (ROWS, 2))
    variables = network.init(keys[1], obs[0], network.initial_memory())
    variables = jax.tree.map(
        lambda x: x + 0.3 * jax.random.normal(keys[2], x.shape, x.dtype), variables
    )
    memory = network.initial_memory()
    for row in jax.random.normal(keys[3], (3, 2)):
        _, memory = network.apply(variables, row, memory)
    return variables, obs, memory


def step_by_step(network, variables, obs, memory, starts):
    features = []
    for t in range(ROWS):
        memory = network.initial_memory() if starts[t] else memory
        row, memory = network.apply(variables, obs[t], memory)
        features.append(row)
    return jnp.stack(features), memory


def replayed(network, variables, obs, memory, starts):
    return network.apply(variables, obs, memory, starts, method="replay")


def and_gradients(function, network, variables, obs, memory, starts):
    """Features and memory after the last row, and gradients of a function of them."""

    def total(variables, obs, memory):
        features, after = function(network, variables, obs, memory, starts)
        floats = [x for x in jax.tree.leaves(after) if jnp.issubdtype(x.dtype, jnp.floating)]
        weights = jnp.cos(jnp.arange(features.size, dtype=features.dtype)).reshape(features.shape)
        number = jnp.sum(weights * features) + sum(jnp.sum(jnp.sin(x)) for x in floats)
        return number, (features, after)

    return jax.grad(total, (0, 1, 2), has_aux=True, allow_int=True)(variables, obs, memory)


def assert_same(found, expected, **tolerance):
    def same(x, y):
        assert x.dtype == y.dtype
        if x.dtype != jax.dtypes.float0:
            np.testing.assert_allclose(x, y, **tolerance)

    jax.tree.map(same, found, expected)


NETWORKS = [Running(), *(pgjax.Recurrent(pgjax.MLP((4,)), 5, cell=cell) for cell in CELLS)]
NAMES = ["Running", *(getattr(cell, "__name__", type(cell).__name__) for cell in CELLS)]


@pytest.mark.slow
@pytest.mark.parametrize("starts", ["none", "some"])
@pytest.mark.parametrize("network", NETWORKS, ids=NAMES)
def test_a_replayed_window_is_one_step_after_another(network, starts):
    inputs = (*made(network), np.isin(np.arange(ROWS), STARTS[starts]))
    found, expected = (and_gradients(f, network, *inputs) for f in (replayed, step_by_step))
    assert_same(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("network", [NETWORKS[0], NETWORKS[-1]], ids=[NAMES[0], NAMES[-1]])
def test_a_window_in_double_precision(network, float64):
    inputs = (*made(network), np.isin(np.arange(ROWS), STARTS["first"]))
    found, expected = (and_gradients(f, network, *inputs) for f in (replayed, step_by_step))
    assert_same(found, expected, rtol=1e-12, atol=1e-12)
    assert all(x.dtype != np.float32 for x in jax.tree.leaves((inputs[2], found[1])))


def test_windows_side_by_side_with_a_memory_of_two_arrays():
    network = NETWORKS[2]
    variables, _, _ = made(network)
    obs, memories = zip(*(made(network, seed)[1:] for seed in range(3)), strict=True)
    obs, memory = jnp.stack(obs), jax.tree.map(lambda *x: jnp.stack(x), *memories)
    starts = np.array([np.isin(np.arange(ROWS), STARTS[name]) for name in ("none", "some", "all")])
    found = jax.vmap(lambda *inputs: replayed(network, variables, *inputs))(obs, memory, starts)
    assert [leaf.shape for leaf in jax.tree.leaves(found)] == [(3, ROWS, 5), (3, 5), (3, 5)]
    for i in range(3):
        alone = step_by_step(network, variables, obs[i], memories[i], starts[i])
        row = jax.tree.map(lambda x, i=i: x[i], found)
        assert_same(row, alone, rtol=2e-5, atol=2e-6)


def test_an_episode_starts_with_the_cells_own_memory():
    cell = nn.LSTMCell(3, carry_init=nn.initializers.constant(0.5))
    for half in pgjax.Recurrent(cell=cell).initial_memory():
        np.testing.assert_array_equal(half, np.full(3, 0.5, np.float32))
    assert pgjax.Recurrent(features=6).initial_memory().shape == (6,)


def test_a_cell_of_low_precision_leaves_the_memory_as_it_was():
    network = pgjax.Recurrent(pgjax.MLP((4,)), cell=nn.GRUCell(5, dtype=jnp.bfloat16))
    variables, obs, memory = made(network)
    assert memory.dtype == jnp.float32
    _, after = replayed(network, variables, obs, memory, np.zeros(ROWS, bool))
    assert after.dtype == jnp.float32


def test_a_minimal_gru_by_hand():
    cell = pgjax.MinGRU(2, longest=4)
    x = jnp.array([0.5, -1.0])
    variables = cell.init(jax.random.key(0), jnp.zeros(2), x)
    update, candidate = variables["params"]["update"], variables["params"]["candidate"]
    np.testing.assert_allclose(update["bias"], [0.0, -np.log(3.0)], rtol=1e-6, atol=1e-6)
    before = np.array([2.0, -3.0])
    z = 1.0 / (1.0 + np.exp(-(x @ update["kernel"] + update["bias"])))
    expected = (1.0 - z) * before + z * (x @ candidate["kernel"])
    memory, features = cell.apply(variables, jnp.asarray(before), x)
    np.testing.assert_allclose(memory, expected, rtol=1e-5)
    np.testing.assert_array_equal(memory, features)


def test_a_linear_cell_must_say_its_coefficients():
    class Nothing(pgjax.LinearCell):
        pass

    with pytest.raises(TypeError, match="coefficients"):
        Nothing(3)


class Fading(pgjax.LinearCell):
    """The sum of the inputs, each half as much with every step."""

    def coefficients(self, inputs):
        return jnp.full(self.features, 0.5), inputs


def test_a_linear_cell_of_ones_own():
    network = pgjax.Recurrent(pgjax.MLP(()), 2, cell=Fading)
    networks.check(network)
    obs = jnp.ones((4, 2))
    features, last = network.apply({}, obs, jnp.full(2, 8.0), np.arange(4) == 2, method="replay")
    np.testing.assert_array_equal(features[:, 0], [5.0, 3.5, 1.0, 1.5])
    np.testing.assert_array_equal(last, features[-1])


class Unmakeable(nn.RNNCellBase):
    width: int


GRID = nn.ConvLSTMCell(4, (3, 3))
RANDOM = nn.GRUCell(4, carry_init=nn.initializers.normal())
WRONG = [
    (
        "lstm",
        TypeError,
        r"cell must be an RNN cell .* got 'lstm'; did you mean nn.LSTMCell\? known",
    ),
    ("minigru", TypeError, r"did you mean pgjax.MinGRU\?"),
    (nn.Dense, TypeError, r"network.cell must be an RNN cell or the class of one"),
    (nn.RNN(nn.GRUCell(3)), TypeError, r"did you mean nn.SimpleCell\?"),
    (None, TypeError, "got None; known: nn.GRUCell, nn.LSTMCell"),
    (nn.ConvLSTMCell, TypeError, "network.cell: ConvLSTMCell needs more than features"),
    (GRID, TypeError, "network.cell must take vectors, and ConvLSTMCell takes grids"),
    (RANDOM, ValueError, "network.cell starts with a random memory"),
    (nn.LSTMCell(0), ValueError, r"network.cell.features must be at least 1, got 0"),
    (pgjax.MinGRU(3, longest=1), ValueError, r"network.cell.longest must be at least 2, got 1"),
]


@pytest.mark.parametrize(("cell", "error", "message"), WRONG, ids=[*range(len(WRONG))])
def test_what_is_no_cell_is_refused_before_compilation(cell, error, message):
    config = pgjax.Config("CartPole-v1", network=pgjax.Recurrent(cell=cell))
    with pytest.raises(error, match=message) as caught:
        pgjax.init(jax.random.key(0), config)
    assert "\n" not in str(caught.value)


def test_a_cell_is_no_network():
    config = pgjax.Config("CartPole-v1", network=nn.LSTMCell(8))
    with pytest.raises(TypeError, match=r"write network=Recurrent\(cell=LSTMCell\)"):
        pgjax.init(jax.random.key(0), config)


class Growing(Running):
    """One whose count becomes a float."""

    def __call__(self, obs, memory):
        features, (total, count) = super().__call__(obs, memory)
        return features, (total, count * 1.0)


def test_a_memory_that_changes_its_kind_is_refused_before_compilation():
    config = pgjax.Config("CartPole-v1", network=Growing())
    message = r"network must keep .* Growing made \('float32\[3\]', 'float32\[\]'\) of .*int32"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda key: pgjax.init(key, config), jax.random.key(0))


def test_a_network_inside_is_named_by_its_path():
    config = pgjax.Config("CartPole-v1", network=pgjax.Recurrent(pgjax.MLP((0,))))
    with pytest.raises(ValueError, match=r"network.network.hidden_sizes must be"):
        pgjax.init(jax.random.key(0), config)


@pytest.mark.parametrize("cell", CELLS, ids=NAMES[1:])
def test_a_config_with_a_cell_is_read_again(cell):
    config = pgjax.Config("CartPole-v1", network=pgjax.Recurrent(cell=cell))
    text = json.dumps(config_json.to_dict(config))
    assert "custom" not in text
    assert config_json.from_dict(json.loads(text)) == config


@pytest.mark.parametrize(
    ("name", "message"), [("os.system", "unknown module"), ("flax.linen.relu", "no Flax module")]
)
def test_a_cell_from_elsewhere_is_not_read(name, message):
    config = pgjax.Config("CartPole-v1", network=pgjax.Recurrent())
    data = config_json.to_dict(config)
    data["network"]["cell"] = {"class": name}
    with pytest.raises(ValueError, match=message):
        config_json.from_dict(data)


def test_a_cell_of_ones_own_is_described():
    config = pgjax.Config("CartPole-v1", network=pgjax.Recurrent(cell=Fading))
    data = config_json.to_dict(config)
    assert data["network"]["cell"] == {"custom": f"{__name__}.Fading"}
    with pytest.raises(ValueError, match="Fading"):
        config_json.from_dict(data)
