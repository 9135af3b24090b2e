"""Networks with a memory: a network, and an RNN cell over what it makes of each observation."""

import abc
from typing import Any, TypeGuard

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.components import check_int, knows_fields
from pgjax.core.contracts import is_array, is_float_of, require, require_values
from pgjax.core.names import nearest
from pgjax.core.types import Array, PyTree
from pgjax.policies.networks import (
    MLP,
    Dense,
    MemoryNetwork,
    Select,
    applied,
    check_without_memory,
    scanned,
    vector,
)


class LinearCell(nn.RNNCellBase, abc.ABC):
    """An RNN cell that is linear in its memory, so that a window's rows need no loop.

        h_t = a_t ⊙ h_{t−1} + b_t,    h = 0 at an episode's start,

    with a_t and b_t functions of the input alone. Two steps are one step of the same kind,
    (a_1, b_1) then (a_2, b_2) being (a_1 a_2, a_2 b_1 + b_2), and that is associative: L steps are
    computed in O(log L) rounds. A start sets its a_t to 0. The features are h.

    A cell of your own subclasses this and says what a_t and b_t are.

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
        """One step: h_{t−1} and one input -> h_t, twice: the memory and the features."""
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
        """Steps one after another, by an associative scan.

        Args:
          carry: h before the first, float[features].
          inputs: float[L, n].
          starts: bool[L]; where h_{t−1} is 0 instead.

        Returns:
          The last h, float[features], and all of them, float[L, features].
        """
        cell, variables = self.unbind()
        a, b = jax.vmap(lambda row: applied(cell, variables, row, method="checked_coefficients"))(
            inputs
        )
        a = jnp.where(starts[:, None], 0.0, a)
        b = b.at[0].add(a[0] * carry)
        _, h = jax.lax.associative_scan(_one_after_another, (a, b))
        return h[-1], h


def _one_after_another(
    first: tuple[Array, Array], second: tuple[Array, Array]
) -> tuple[Array, Array]:
    return first[0] * second[0], second[0] * first[1] + second[1]


class MinGRU(LinearCell):
    """A minimal GRU: z = σ(W_z x + b_z),  h_t = (1 − z) ⊙ h_{t−1} + z ⊙ (W_h x + b_h).

    b_z starts at −log(τ_i − 1), where feature i forgets at the rate z_i = 1/τ_i if W_z x is 0. The
    τ_i are from 2 steps to `longest`, even on a logarithmic scale: gradients reach that far back.

    Attributes:
      features: numbers in the memory h.
      longest: steps, ≥ 2; the largest τ.

    Source: Feng et al. (2024), Were RNNs all we needed?; b_z: Tallec & Ollivier (2018), Can
      recurrent neural networks warp time?, there random and uniform.
    """

    longest: int = 100

    def check(self, path: str) -> None:
        """Raises unless `longest` is possible."""
        check_int(f"{path}.longest", self.longest, 2)

    @nn.compact
    def coefficients(self, inputs: Array) -> tuple[Array, Array]:
        """a = 1 − z and b = z ⊙ (W_h x + b_h), of one input float[n]."""
        steps = jnp.geomspace(2.0, self.longest, self.features)
        bias = lambda *_: -jnp.log(steps - 1.0)
        z = nn.sigmoid(Dense(self.features, bias_init=bias, name="update")(inputs))
        return 1.0 - z, z * Dense(self.features, name="candidate")(inputs)


class Recurrent(MemoryNetwork):
    """A memory over a network, for what one observation does not say: an RNN cell, step by step.

        c_t, y_t = cell(c_{t−1}, network(o_t))

    The features are y, which of most cells is the memory c or a half of it. An episode starts with
    the cell's `initialize_carry`, zeros. The gradient goes back through the rows of a window, and
    from there on the memory is taken as it was when the trajectory was sampled. In a window the
    network sees all rows at once, only the cell one after another; a `LinearCell` needs no loop.

    Attributes:
      network: a module as for a policy without memory.
      features: numbers in y, for a cell that is given as a class.
      window: steps that gradients go back through; None: all of an update's.
      cell: the class of an RNN cell, `nn.GRUCell`, `nn.LSTMCell`, `nn.OptimizedLSTMCell`,
        `nn.MGUCell`, `nn.SimpleCell` (of Flax) or `pgjax.MinGRU`, made with `features`; or an
        instance, `nn.LSTMCell(32)`, whose own count.

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
        """An `MLP`, of the same entries of the observation."""
        return Select(self.network.names) if isinstance(self.network, Select) else MLP()

    def initial_memory(self) -> PyTree:
        """The cell's memory at an episode's start, in JAX's default float."""
        cell = (
            self.cell if isinstance(self.cell, nn.Module) else self.cell(self.features, parent=None)
        )
        carry = cell.initialize_carry(jax.random.key(0), (1,))
        return jax.tree.map(lambda x: x.astype(jnp.result_type(float)), carry)

    def __call__(self, obs: PyTree, memory: PyTree) -> tuple[Array, PyTree]:
        """One observation and the memory before it -> y float[n], and the memory after it."""
        inputs = vector("network.network", self.network, self.network(obs))
        cell = self._cell()
        outputs = cell(memory, inputs)
        require_values("cell", cell, "__call__", ("the memory after", "features"), outputs)
        after, features = outputs
        return features, _in_dtypes_of(memory, after)

    def replay(self, obs: PyTree, memory: PyTree, starts: Array) -> tuple[Array, PyTree]:
        """`MemoryNetwork.replay` with the network applied to all rows at once."""
        network, network_variables = self.network.unbind()
        inputs = jax.vmap(lambda row: applied(network, network_variables, row))(obs)
        cell, variables = self._cell().unbind()
        if isinstance(cell, LinearCell):
            after, features = applied(cell, variables, memory, inputs, starts, method="replay")
            return features, _in_dtypes_of(memory, after)

        def step(memory: PyTree, row: Array) -> tuple[PyTree, Array]:
            after, features = applied(cell, variables, memory, row)
            return _in_dtypes_of(memory, after), features

        return scanned(step, (memory, self.initial_memory()), (inputs, starts))

    @nn.compact
    def _cell(self) -> nn.Module:
        return self.cell if isinstance(self.cell, nn.Module) else self.cell(self.features)


def _made(cell: type[nn.Module] | nn.Module, features: int) -> nn.Module:
    """The cell, or one of its class that is no module's part."""
    return cell if isinstance(cell, nn.Module) else cell(features, parent=None)


def _in_dtypes_of(memory: PyTree, after: PyTree) -> PyTree:
    """A memory that a cell of another precision gave, in the dtypes that it had before."""
    if jax.tree.structure(memory) != jax.tree.structure(after):
        return after
    return jax.tree.map(lambda old, x: x.astype(old.dtype), memory, after)


_CELLS = {
    name: f"nn.{name}"
    for name in ("GRUCell", "LSTMCell", "OptimizedLSTMCell", "MGUCell", "SimpleCell")
} | {"MinGRU": "pgjax.MinGRU"}
# What a cell is called without the word.
_SHORT = {name.removesuffix("Cell").lower(): name for name in _CELLS} | {"rnn": "SimpleCell"}


def check_cell(path: str, cell: object, features: int) -> None:
    """Raises unless `cell` is an RNN cell of vectors, or the class of one, that starts the same
    always.

    Raises:
      TypeError: it is none, or cannot be made from `features` alone.
      ValueError: its memory starts with random numbers.
    """
    if not _is_cell(cell):
        raise TypeError(f"{path} must be an RNN cell or the class of one, got {_nearest(cell)}")
    try:
        made = _made(cell, features)
    except TypeError as error:
        raise TypeError(
            f"{path}: {cell.__name__} needs more than features; give an instance ({error})"
        ) from None
    check_int(f"{path}.features", made.features, 1)
    if isinstance(made, LinearCell):
        made.check(path)
    if made.num_feature_axes != 1:
        name = _class_name(made)
        raise TypeError(f"{path} must take vectors, and {name} takes grids; nn.LSTMCell does")
    with jax.ensure_compile_time_eval():
        one, other = (
            jax.tree.leaves(made.initialize_carry(jax.random.key(seed), (1,))) for seed in (0, 1)
        )
        if not all(map(is_array, one)):
            raise TypeError(f"{path}: {_class_name(made)}.initialize_carry must give arrays")
        same = all(np.array_equal(x, y) for x, y in zip(one, other, strict=True))
    if not same:
        raise ValueError(
            f"{path} starts with a random memory, {_class_name(made)}(carry_init=…); an episode's "
            "start must not be random: leave carry_init out"
        )


def _is_cell(cell: object) -> TypeGuard[type[nn.RNNCellBase] | nn.RNNCellBase]:
    if isinstance(cell, type):
        return issubclass(cell, nn.RNNCellBase)
    return isinstance(cell, nn.RNNCellBase)


def _nearest(cell: object) -> str:
    """What was given and the cells that there are, the nearest first."""
    name = cell if isinstance(cell, str) else _class_name(cell)
    given = f"{name}(…)" if isinstance(cell, nn.Module) else repr(cell).partition("\n")[0]
    likely = _SHORT.get(name.lower()) or (nearest(name, _CELLS) or [None])[0]
    hint = f"did you mean {_CELLS[likely]}? " if likely else ""
    return f"{given}; {hint}known: {', '.join(_CELLS.values())}"


def _class_name(cell: object) -> str:
    return (cell if isinstance(cell, type) else type(cell)).__name__
