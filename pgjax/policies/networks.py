"""Networks: from one observation to a vector of features. Any Flax Linen module can be one."""

import abc
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import InvalidRngError, ModifyScopeVariableError

from pgjax.core.components import check_int, knows_fields, unknown
from pgjax.core.contracts import describe, is_array, is_real, matches, require, require_arrays
from pgjax.core.names import shown
from pgjax.core.types import Array, PyTree

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}


INITIALIZERS: dict[str, Callable] = {
    "lecun_normal": nn.initializers.lecun_normal(),
    "orthogonal": nn.initializers.orthogonal(2**0.5),
}


class Network(nn.Module):
    """Base of pgjax's networks: a Flax module that checks its fields."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        knows_fields(cls)

    def check(self, path: str) -> None:
        """Raises TypeError or ValueError if a field's value is not allowed."""


def apply_module(
    module: nn.Module, variables: PyTree, *inputs: PyTree, method: str | None = None
) -> Any:
    """A module's outputs, as `Any`: Flax's type for them includes collections that change."""
    return module.apply(variables, *inputs, method=method)


class MemoryNetwork(Network, abc.ABC):
    """A network with a memory: from one observation and a memory to features and a memory.

    The memory is a pytree of arrays, whose structure, shapes and dtypes never change. To write
    your own network with a memory, subclass this; `Recurrent` is one.

    Attributes:
      window: steps that gradients go back through; None: all of an update's.
    """

    window = None  # a subclass may make it a field, `window: int | None = None`

    @abc.abstractmethod
    def initial_memory(self) -> PyTree:
        """The memory at an episode's start; needs no variables."""

    @abc.abstractmethod
    def __call__(self, obs: PyTree, memory: PyTree) -> tuple[Array, PyTree]:
        """One observation and the memory before it -> features float[n], the memory after it."""

    @nn.nowrap
    def without_memory(self) -> nn.Module:
        """The default network of a critic, which sees the policy's memory with the observation."""
        return MLP()

    def replay(self, obs: PyTree, memory: PyTree, starts: Array) -> tuple[Array, PyTree]:
        """Calls the network on a window's rows in order; gradients go back through all of them.

        Args:
          obs: encoded observations, each leaf [L, …].
          memory: the memory before the window's first row.
          starts: bool[L]; whether an episode starts in the row, so that its memory is
            `initial_memory()`.

        Returns:
          Features float[L, n], and the memory after the last row.
        """
        module, variables = self.unbind()
        return scanned(
            lambda memory, row: apply_module(module, variables, row, memory)[::-1],
            (memory, self.initial_memory()),
            (obs, starts),
        )


def scanned(
    step: Callable[[PyTree, PyTree], tuple[PyTree, Array]],
    memories: tuple[PyTree, PyTree],
    rows: tuple[PyTree, Array],
) -> tuple[Array, PyTree]:
    """Scans a step over a window's rows: features float[L, n] and the last memory.

    Args:
      step: (memory, inputs of a row) -> (next memory, features).
      memories: the memory before the first row, and the one at an episode's start.
      rows: the inputs [L, …], and bool[L], whether an episode starts in the row.
    """
    first, initial = memories

    def reset_and_step(memory: PyTree, row: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        inputs, starts = row
        memory = jax.tree.map(lambda start, x: jnp.where(starts, start, x), initial, memory)
        return step(memory, inputs)

    memory, features = jax.lax.scan(reset_and_step, first, rows)
    return features, memory


class Dense(nn.Module):
    """x W + b for one vector x, computed so that its gradient is fast on a CPU.

    Over a batch, the gradient of b is a sum that costs as much as a product; as a row of W it is
    part of one product: [x, 1] [W; b]. The gradient of a product with two columns takes as long as
    one with 64; two products with one column each are faster.

    Attributes:
      features: columns of W.
      kernel_init: initialiser of W.
      bias_init: initialiser of b; zeros by default.
    """

    features: int
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """float[n] -> float[features]."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[0], self.features))
        bias = self.param("bias", self.bias_init, (self.features,))
        if self.features == 2:
            return jnp.stack([x @ kernel[:, 0], x @ kernel[:, 1]]) + bias
        return jnp.append(x, jnp.ones((), x.dtype)) @ jnp.concatenate([kernel, bias[None]])


class MLP(Network):
    """Dense layers with an activation after each: x ← act(x W + b).

    The observation's leaves are flattened and concatenated first. With `hidden_sizes=()` the
    features are the observation, so that the policy is linear (softmax-linear, for discrete
    actions).

    Attributes:
      hidden_sizes: widths of the layers.
      activation: "tanh", "relu", "elu", "gelu" or "silu".
      initializer: W's first value: "lecun_normal", entries of variance 1 / inputs; or "orthogonal",
        √2 times a matrix with orthonormal rows or columns, as in Stable-Baselines3 and CleanRL.

    Source of the shape: Schulman et al. (2017), two layers of 64 tanh units; orthogonal matrices:
      Saxe et al. (2014), Exact solutions to the nonlinear dynamics of learning in deep linear
      neural networks.
    """

    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    initializer: str = "lecun_normal"

    def check(self, path: str) -> None:
        """Raises unless the sizes are positive integers and the names are known."""
        _check_sizes(f"{path}.hidden_sizes", self.hidden_sizes)
        _check_choice(f"{path}.activation", self.activation, ACTIVATIONS)
        _check_choice(f"{path}.initializer", self.initializer, INITIALIZERS)

    @nn.compact
    def __call__(self, obs: PyTree) -> Array:
        """One observation, a pytree of arrays, to features float[hidden_sizes[-1]]."""
        x = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(obs)])
        kernel_init = INITIALIZERS[self.initializer]
        for width in self.hidden_sizes:
            x = ACTIVATIONS[self.activation](Dense(width, kernel_init)(x))
        return x


class CNN(Network):
    """Convolutions over a grid [height, width, channels], then dense layers; an activation after
    each.

    Without padding: a kernel of size k turns a height h into h − k + 1. A convolution is computed
    as one product of its patches, whose gradient is a product too, and fast on a CPU.

    Attributes:
      channels: filters of each convolution.
      kernel_size: k; each convolution is k × k.
      hidden_sizes: widths of the dense layers.
      activation: "tanh", "relu", "elu", "gelu" or "silu".

    Source of the shape: Young & Tian (2019), MinAtar: 16 channels, 3 × 3, then 128 units.
    """

    channels: tuple[int, ...] = (16,)
    kernel_size: int = 3
    hidden_sizes: tuple[int, ...] = (128,)
    activation: str = "relu"

    def check(self, path: str) -> None:
        """Raises unless the sizes are positive integers and the activation is known."""
        _check_sizes(f"{path}.hidden_sizes", self.hidden_sizes)
        _check_sizes(f"{path}.channels", self.channels)
        check_int(f"{path}.kernel_size", self.kernel_size, 1)
        _check_choice(f"{path}.activation", self.activation, ACTIVATIONS)

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        """float[height, width, channels] -> float[hidden_sizes[-1]].

        Raises:
          ValueError: the observation is not a grid, or smaller than the kernels.
        """
        k = self.kernel_size
        if getattr(obs, "ndim", None) != 3:
            shapes = jax.tree.map(jnp.shape, obs)
            raise ValueError(
                f"CNN needs an observation [height, width, channels], got {shapes}; "
                "network=MLP() takes any"
            )
        for channels in self.channels:
            height, width = (size - k + 1 for size in obs.shape[:2])
            if min(height, width) < 1:
                raise ValueError(f"CNN: kernels of {k} do not fit a grid {obs.shape[:2]}")
            views = [obs[i : i + height, j : j + width] for i in range(k) for j in range(k)]
            patches = jnp.concatenate(views, axis=-1)
            kernel = self.param(
                f"kernel_{height}x{width}",
                nn.initializers.lecun_normal(),
                (patches.shape[-1], channels),
            )
            bias = self.param(f"bias_{height}x{width}", nn.initializers.zeros, (channels,))
            obs = ACTIVATIONS[self.activation](patches @ kernel + bias[None, None])
        x = obs.ravel()
        for width in self.hidden_sizes:
            x = ACTIVATIONS[self.activation](Dense(width)(x))
        return x


class CriticInputs(NamedTuple):
    """The inputs of a critic's network, if it sees more than the observation.

    Attributes:
      action: the encoded action, for Q of actions that cannot be listed; else ().
      memory: the policy's memory before the observation; () if it has none.
      obs: the observation as the policy's network sees it.
    """

    action: PyTree = ()
    memory: PyTree = ()
    obs: PyTree = ()


class Select(Network):
    """A network that sees only some entries of a Dict observation.

    With different entries for policy and critic, the critic is privileged: in training it sees
    entries that the policy never sees. The names are those of the environment's entries, in a
    critic too, which still sees an action or the policy's memory with them. For a memory, write
    `Recurrent(Select(names, network))`.

    Attributes:
      names: one entry's name, for a network of that entry; or a tuple of names, for a network of a
        dict of those entries.
      network: a module without memory.

    Source: Pinto et al. (2018), Asymmetric actor critic for image-based robot learning.
    """

    names: str | tuple[str, ...]
    network: nn.Module = MLP()

    def check(self, path: str) -> None:
        """Raises unless the names are different texts and the network has no memory."""
        names = (self.names,) if isinstance(self.names, str) else self.names
        texts = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
        if not (texts and names and len(set(names)) == len(names)):
            raise TypeError(
                f"{path}.names must be a name or a tuple of different names, "
                f"got {shown(self.names)}"
            )
        if has_memory(self.network):
            raise TypeError(
                f"{path}.network must have no memory, got {type(self.network).__name__}; write "
                f"{path}=Recurrent(Select({self.names!r}, …))"
            )
        check(self.network, f"{path}.network")

    def __call__(self, inputs: PyTree) -> Array:
        """One observation, or a critic's inputs -> features.

        Raises:
          ValueError: the observation is no Dict, or lacks one of the names.
        """
        if isinstance(inputs, CriticInputs):
            return self.network(inputs._replace(obs=self._selected(inputs.obs)))
        return self.network(self._selected(inputs))

    def _selected(self, obs: PyTree) -> PyTree:
        path, names = ".".join(self.path), self.names
        if not isinstance(obs, Mapping):
            shapes = jax.tree.map(jnp.shape, obs)
            raise InputError(
                f"{path}: Select needs a Dict observation, got {shapes}; its network takes any"
            )
        for name in (names,) if isinstance(names, str) else names:
            if name not in obs:
                subject = f"entry {name!r} of the observation"
                raise InputError(f"{path}: {unknown(subject, name, sorted(obs))}")
        return obs[names] if isinstance(names, str) else {name: obs[name] for name in names}


class InputError(ValueError):
    """A module cannot take its inputs; the message begins with the module's path in the network."""


def has_memory(network: nn.Module) -> bool:
    """Whether a network is called with a memory."""
    return isinstance(network, MemoryNetwork)


def without_memory(network: nn.Module) -> nn.Module:
    """The network itself if it has no memory, else the one that it names in its place."""
    if not isinstance(network, MemoryNetwork):
        return network
    plain = network.without_memory()
    right = isinstance(plain, nn.Module) and not has_memory(plain)
    require(right, "network", network, "without_memory", "a Flax module without memory", plain)
    return plain


def initial_memory(network: nn.Module) -> PyTree:
    """The memory at an episode's start; () for a network without memory."""
    if not isinstance(network, MemoryNetwork):
        return ()
    memory = network.initial_memory()
    require_arrays("network", network, "initial_memory", memory)
    return jax.tree.map(jnp.asarray, memory)


def check_given_memory(network: nn.Module, memory: PyTree) -> None:
    """Raises ValueError unless a memory is one for a network."""
    if not has_memory(network):
        return
    first = initial_memory(network)
    if not matches(first, memory):
        raise ValueError(
            f"memory must be policy.initial_memory() at an episode's start, {_kinds(first)}, and "
            f"then what apply gave with the last observation, got {_kinds(memory)}"
        )


def window(network: nn.Module) -> int | None:
    """The rows that gradients go back through; 0: all rows; None: the network has no memory."""
    return (network.window or 0) if isinstance(network, MemoryNetwork) else None


def check(network: Any, path: str = "network") -> None:
    """Raises unless `network` is a Flax module and its fields, if it is pgjax's, are allowed."""
    if not isinstance(network, nn.Module):
        raise TypeError(f"{path} must be a flax.linen.Module instance, got {shown(network)}")
    if isinstance(network, nn.RNNCellBase):
        name = type(network).__name__
        raise TypeError(
            f"{path} cannot be {name}, an RNN cell alone; write {path}=Recurrent(cell={name})"
        )
    if isinstance(network, Network):
        network.check(path)
    if isinstance(network, MemoryNetwork) and network.window is not None:
        check_int(f"{path}.window", network.window, 1)


def vector(path: str, network: nn.Module, features: Any) -> Array:
    """Returns a network's features; raises ValueError unless they are one vector."""
    if not is_real(features) or jnp.ndim(features) != 1:
        raise ValueError(
            f"{path} must map one observation to a vector of features, float[n]; "
            f"{type(network).__name__} gave {_kinds(features)}"
        )
    return jnp.asarray(features)


def checked_memory(path: str, network: nn.Module, memory: PyTree, next_memory: PyTree) -> PyTree:
    """Returns a network's next memory; raises ValueError unless it is like the memory before."""
    old, new = _kinds(memory), _kinds(next_memory)
    if old != new:
        raise ValueError(
            f"{path} must keep the structure, shapes and dtypes of its initial_memory(); "
            f"{type(network).__name__} made {new} of {old}"
        )
    return next_memory


def _kinds(tree: PyTree) -> PyTree:
    """Dtypes and shapes of a tree's leaves."""

    def kind(leaf: Any) -> str:
        if not is_array(leaf):
            return describe(leaf)
        return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"

    return jax.tree.map(kind, tree)


def check_without_memory(path: str, network: Any) -> None:
    """Raises as `check` does, and TypeError for a network with a memory."""
    check(network, path)
    if has_memory(network):
        name = type(network).__name__
        raise TypeError(
            f"{path} must map one observation to features, without a memory, got {name}; "
            "MLP() has none"
        )


def _check_sizes(path: str, sizes: Any) -> None:
    if not isinstance(sizes, tuple) or not all(isinstance(n, int) and n >= 1 for n in sizes):
        raise ValueError(f"{path} must be a tuple of positive integers, got {shown(sizes)}")


def _check_choice(path: str, name: Any, choices: Mapping[str, Any]) -> None:
    if name not in choices:
        raise ValueError(unknown(f"{path} {shown(name)}", name, choices))


def initial_variables(path: str, module: nn.Module, key: Array, *inputs: PyTree) -> PyTree:
    """The initial variables of a module whose outputs depend only on them and the inputs.

    Raises:
      ValueError: it draws random numbers, or writes to a collection, whenever it is called.
    """
    # jaxlib's CPU backend can hang on several batched QR factorisations at once, and vmapped
    # orthogonal initialisers are such; one seed after another is safe. Traced values come as
    # arguments: the rule for `vmap` would keep a closure's tracers.
    sequential_init = jax.custom_batching.sequential_vmap(module.init)
    try:
        variables = sequential_init(key, *inputs)
        jax.eval_shape(module.apply, variables, *inputs)
    except InputError as error:
        raise ValueError(path.removesuffix("network") + str(error)) from None
    except InvalidRngError as error:
        raise ValueError(
            f"{path} draws random numbers (rng {_quoted(error, 'PRNG for')}) when it is called; it "
            "must be a function of observation and parameters: use deterministic=True"
        ) from None
    except ModifyScopeVariableError as error:
        raise ValueError(
            f"{path} writes to its collection {_quoted(error, 'collection')} when it is called; it "
            "must be a function of observation and parameters: use nn.LayerNorm, or "
            "normalize_observations=True"
        ) from None
    return variables


def _quoted(error: Exception, word: str) -> str:
    """The quoted name that follows a word in Flax's message."""
    match = re.search(word + r' "(\w+)"', str(error))
    return repr(match[1]) if match else "unnamed"
