"""Networks with a memory: an RNN cell over a network's features of each observation."""

import abc
from typing import Any, TypeGuard

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.components import check_int, knows_fields
from pgjax.core.contracts import is_array, is_float_of, require, require_values
from pgjax.core.names import nearest, shown
from pgjax.core.types import Array, PyTree
from pgjax.policies.networks import (
    MLP,
    Dense,
    MemoryNetwork,
    Select,
    apply_module,
    check_without_memory,
    scanned,
    vector,
)


class LinearCell(nn.RNNCellBase, abc.ABC):
    """An RNN cell that is linear in its memory, so that a window's rows need no loop.

        h_t = a_t ⊙ h_{t−1} + b_t,    h = 0 at an episode's start,

    with a_t and b_t functions of the input alone. Two steps combine into one of the same form,
    (a_1, b_1) then (a_2, b_2) into (a_1 a_2, a_2 b_1 + b_2). The combination is associative, so
    that L steps are computed in O(log L) rounds. At an episode's start, a_t is set to 0. The
    features are h.

    To write your own cell, subclass this and define `coefficients`, which returns a_t and b_t.

    Attributes:
      features: numbers in the memory h.

    Source: Martin & Cundy (2018), Parallelizing linear recurrent neural nets over sequence length;
      resets: Lu et al. (2023), Structured state space models for in-context reinforcement learning.
    """

    features: int

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        knows_fields(cls)

    def check(self, path: str) -> None:
        """Raises TypeError or ValueError if a field's value is not allowed."""

    @abc.abstractmethod
    def coefficients(self, inputs: Array) -> tuple[Array, Array]:
        """One input float[n] -> a float[features], in [0, 1] lest h grow, and b float[features]."""

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> Array:
        """Zeros, float[*batch, features], for inputs of shape [*batch, n]."""
        return jnp.zeros((*input_shape[:-1], self.features))

    @property
    def num_feature_axes(self) -> int:
        """Inputs are vectors."""
        return 1

    def __call__(self, carry: Array, inputs: Array) -> tuple[Array, Array]:
        """One step: h_{t−1} and one input -> h_t, as the memory and as the features."""
        a, b = self.checked_coefficients(inputs)
        h = a * carry + b
        return h, h

    def checked_coefficients(self, inputs: Array) -> tuple[Array, Array]:
        """`coefficients`; raises ValueError unless they are two arrays float[features]."""
        pair = self.coefficients(inputs)
        require_values("cell", self, "coefficients", ("a", "b"), pair)
        for name, x in zip("ab", pair, strict=True):
            contract = f"{name} float[features] with features = {self.features}"
            require(is_float_of(x, (self.features,)), "cell", self, "coefficients", contract, x)
        return pair

    def replay(self, carry: Array, inputs: Array, starts: Array) -> tuple[Array, Array]:
        """L consecutive steps, by an associative scan.

        Args:
          carry: h before the first step, float[features].
          inputs: float[L, n].
          starts: bool[L]; whether an episode starts at the step, so that h_{t−1} is 0.

        Returns:
          The last h, float[features], and all h, float[L, features].
        """
        cell, variables = self.unbind()
        a, b = jax.vmap(
            lambda row: apply_module(cell, variables, row, method="checked_coefficients")
        )(inputs)
        a = jnp.where(starts[:, None], 0.0, a)
        b = b.at[0].add(a[0] * carry)
        _, h = jax.lax.associative_scan(_combine, (a, b))
        return h[-1], h


def _combine(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    return first[0] * second[0], second[0] * first[1] + second[1]


class MinGRU(LinearCell):
    """A minimal GRU: z = σ(W_z x + b_z),  h_t = (1 − z) ⊙ h_{t−1} + z ⊙ (W_h x + b_h).

    b_z starts at −log(τ_i − 1): feature i then forgets at the rate z_i = 1/τ_i if W_z x is 0. The
    τ_i run from 2 steps to `longest`, evenly on a logarithmic scale: gradients reach that far back.

    Attributes:
      features: numbers in the memory h.
      longest: steps, ≥ 2; the largest τ.

    Source: Feng et al. (2024), Were RNNs all we needed?; b_z: Tallec & Ollivier (2018), Can
      recurrent neural networks warp time?, there random and uniform.
    """

    longest: int = 100

    def check(self, path: str) -> None:
        """Raises unless `longest` is an integer of at least 2."""
        check_int(f"{path}.longest", self.longest, 2)

    @nn.compact
    def coefficients(self, inputs: Array) -> tuple[Array, Array]:
        """a = 1 − z and b = z ⊙ (W_h x + b_h) for one input float[n]."""
        steps = jnp.geomspace(2.0, self.longest, self.features)
        bias = lambda *_: -jnp.log(steps - 1.0)
        z = nn.sigmoid(Dense(self.features, bias_init=bias, name="update")(inputs))
        return 1.0 - z, z * Dense(self.features, name="candidate")(inputs)


class Recurrent(MemoryNetwork):
    """A network followed by an RNN cell, whose memory holds what one observation does not show.

        c_t, y_t = cell(c_{t−1}, network(o_t))

    The features are y: in most cells, the memory c or a half of it. An episode starts with the
    cell's `initialize_carry`, zeros. The gradient goes back through the rows of a window, and stops
    at the memory that was stored, when the trajectory was sampled, before the window's first row.
    In a window the network is applied to all rows at once, and the cell to one row after another; a
    `LinearCell` needs no loop.

    Attributes:
      network: a module as for a policy without memory.
      features: numbers in y, for a cell that is given as a class.
      window: steps that gradients go back through; None: all of an update's.
      cell: the class of an RNN cell, `nn.GRUCell`, `nn.LSTMCell`, `nn.OptimizedLSTMCell`,
        `nn.MGUCell`, `nn.SimpleCell` (of Flax) or `pgjax.MinGRU`, which gets `features`; or an
        instance, `nn.LSTMCell(32)`, which has its own.

    Source: Cho et al. (2014), gated recurrent units; Hochreiter & Schmidhuber (1997), LSTM.
    """

    network: nn.Module = MLP((64,))
    features: int = 64
    window: int | None = None
    cell: type[nn.Module] | nn.Module = nn.GRUCell

    def check(self, path: str) -> None:
        """Raises unless the sizes are positive and the cell is an RNN cell of vectors."""
        check_int(f"{path}.features", self.features, 1)
        check_without_memory(f"{path}.network", self.network)
        check_cell(f"{path}.cell", self.cell, self.features)

    @nn.nowrap
    def without_memory(self) -> nn.Module:
        """An `MLP` that sees the same entries of the observation as the network."""
        return Select(self.network.names) if isinstance(self.network, Select) else MLP()

    def initial_memory(self) -> PyTree:
        """The cell's memory at an episode's start, in JAX's default float."""
        cell = _detached(self.cell, self.features)
        carry = cell.initialize_carry(jax.random.key(0), (1,))
        return jax.tree.map(lambda x: x.astype(jnp.result_type(float)), carry)

    def __call__(self, obs: PyTree, memory: PyTree) -> tuple[Array, PyTree]:
        """One observation and the memory before it -> y float[n], and the memory after it."""
        inputs = vector("network.network", self.network, self.network(obs))
        cell = self._cell()
        outputs = cell(memory, inputs)
        require_values("cell", cell, "__call__", ("the memory after", "features"), outputs)
        next_memory, features = outputs
        return features, _cast_like(memory, next_memory)

    def replay(self, obs: PyTree, memory: PyTree, starts: Array) -> tuple[Array, PyTree]:
        """`MemoryNetwork.replay` with the network apply_module to all rows at once."""
        network, network_variables = self.network.unbind()
        inputs = jax.vmap(lambda row: apply_module(network, network_variables, row))(obs)
        cell, variables = self._cell().unbind()
        if isinstance(cell, LinearCell):
            arguments = memory, inputs, starts
            last_memory, features = apply_module(cell, variables, *arguments, method="replay")
            return features, _cast_like(memory, last_memory)

        def step(memory: PyTree, row: Array) -> tuple[PyTree, Array]:
            next_memory, features = apply_module(cell, variables, memory, row)
            return _cast_like(memory, next_memory), features

        return scanned(step, (memory, self.initial_memory()), (inputs, starts))

    @nn.compact
    def _cell(self) -> nn.Module:
        return self.cell if isinstance(self.cell, nn.Module) else self.cell(self.features)


def _detached(cell: Any, features: int) -> Any:
    """A cell that is no other module's part: the given instance, or a new one of the class."""
    return cell if isinstance(cell, nn.Module) else cell(features, parent=None)


def _cast_like(memory: PyTree, next_memory: PyTree) -> PyTree:
    """The next memory in the dtypes of the memory: a cell may have another precision."""
    if jax.tree.structure(memory) != jax.tree.structure(next_memory):
        return next_memory
    return jax.tree.map(lambda old, x: x.astype(old.dtype), memory, next_memory)


_CELLS = {
    name: f"nn.{name}"
    for name in ("GRUCell", "LSTMCell", "OptimizedLSTMCell", "MGUCell", "SimpleCell")
} | {"MinGRU": "pgjax.MinGRU"}
# Cells' names without the word "Cell".
_SHORT = {name.removesuffix("Cell").lower(): name for name in _CELLS} | {"rnn": "SimpleCell"}


def check_cell(path: str, cell: object, features: int) -> None:
    """Raises unless `cell` is an RNN cell of vectors, or its class, with a fixed first memory.

    Raises:
      TypeError: it is no such cell, or its class needs more than `features`.
      ValueError: its memory starts with random numbers.
    """
    if not _is_cell(cell):
        raise TypeError(f"{path} must be an RNN cell or the class of one, got {_nearest(cell)}")
    try:
        instance = _detached(cell, features)
    except TypeError as error:
        raise TypeError(
            f"{path}: {cell.__name__} needs more than features; give an instance ({error})"
        ) from None
    check_int(f"{path}.features", instance.features, 1)
    if isinstance(instance, LinearCell):
        instance.check(path)
    name = _class_name(instance)
    if instance.num_feature_axes != 1:
        raise TypeError(f"{path} must take vectors, and {name} takes grids; nn.LSTMCell does")
    with jax.ensure_compile_time_eval():
        keys = jax.random.key(0), jax.random.key(1)
        memories = [jax.tree.leaves(instance.initialize_carry(key, (1,))) for key in keys]
        if not all(map(is_array, memories[0])):
            raise TypeError(f"{path}: {name}.initialize_carry must give arrays")
        is_fixed = all(np.array_equal(x, y) for x, y in zip(*memories, strict=True))
    if not is_fixed:
        raise ValueError(
            f"{path} starts with a random memory, {name}(carry_init=…); an episode's "
            "start must not be random: leave carry_init out"
        )


def _is_cell(cell: object) -> TypeGuard[type[nn.RNNCellBase] | nn.RNNCellBase]:
    if isinstance(cell, type):
        return issubclass(cell, nn.RNNCellBase)
    return isinstance(cell, nn.RNNCellBase)


def _nearest(cell: object) -> str:
    """The end of a message: the wrong cell, the most likely right one, and all known ones."""
    name = cell if isinstance(cell, str) else _class_name(cell)
    given = f"{name}(…)" if isinstance(cell, nn.Module) else shown(cell)
    likely = _SHORT.get(name.lower()) or (nearest(name, _CELLS) or [None])[0]
    hint = f"did you mean {_CELLS[likely]}? " if likely else ""
    return f"{given}; {hint}known: {', '.join(_CELLS.values())}"


def _class_name(cell: object) -> str:
    return (cell if isinstance(cell, type) else type(cell)).__name__
