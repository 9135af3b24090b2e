"""Networks: from one observation to a vector of features. Any Flax Linen module will do."""

import abc
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import InvalidRngError, ModifyScopeVariableError

from pgjax.core.components import check_int, knows_fields, unknown
from pgjax.core.contracts import alike, is_array, is_real, require, require_arrays, said
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
    """Base of pgjax's own modules: a module that checks its fields."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        knows_fields(cls)

    def check(self, path: str) -> None:
        """Raises TypeError or ValueError if a field's value is not allowed."""


def applied(
    module: nn.Module, variables: PyTree, *inputs: PyTree, method: str | None = None
) -> Any:
    """A module's outputs; Flax types them as if collections that change might come with them."""
    return module.apply(variables, *inputs, method=method)


class MemoryNetwork(Network, abc.ABC):
    """A network with a memory: from one observation and a memory to features and a memory.

    The memory is a pytree of arrays, whose structure, shapes and dtypes stay as they are at an
    episode's start. A module of your own subclasses this; `Recurrent` is one.

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
        """What a critic's network is unless given: it sees the memory beside the observation."""
        return MLP()

    def replay(self, obs: PyTree, memory: PyTree, starts: Array) -> tuple[Array, PyTree]:
        """The rows of a window one after another; gradients go back through all of them.

        Args:
          obs: encoded observations, each leaf [L, …].
          memory: the one before the window's first row.
          starts: bool[L]; where an episode starts, at which the memory is `initial_memory()`.

        Returns:
          Features float[L, n], and the memory after the last row.
        """
        module, variables = self.unbind()
        return scanned(
            lambda memory, row: applied(module, variables, row, memory)[::-1],
            (memory, self.initial_memory()),
            (obs, starts),
        )


def scanned(
    step: Callable[[PyTree, PyTree], tuple[PyTree, Array]],
    memories: tuple[PyTree, PyTree],
    rows: tuple[PyTree, Array],
) -> tuple[Array, PyTree]:
    """Features float[L, n] and the last memory, of a step from (memory, row) to (memory, features).

    Args:
      memories: before the first row, and at an episode's start.
      rows: the steps' inputs [L, …], and bool[L], whether an episode starts with a row.
    """
    first, initial = memories

    def reset_and_step(memory: PyTree, row: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        inputs, starts = row
        memory = jax.tree.map(lambda start, x: jnp.where(starts, start, x), initial, memory)
        return step(memory, inputs)

    memory, features = jax.lax.scan(reset_and_step, first, rows)
    return features, memory


class Dense(nn.Module):
    """x W + b for one vector x, arranged so that its gradient is fast on a CPU.

    Over a batch, the sum that is the gradient of b costs as much as a product, unless it is a row
    of one: [x, 1] [W; b]. And the gradient of a product with two columns takes as long as one with
    64, unless it is two products with one column.

    Attributes:
      features: columns of W.
      kernel_init: W's initialiser.
      bias_init: b's; it starts at 0.
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

    The observation's leaves are flattened and concatenated first. `hidden_sizes=()` passes the
    observation on, which makes the policy linear (softmax-linear, for discrete actions).

    Attributes:
      hidden_sizes: widths of the layers.
      activation: "tanh", "relu", "elu", "gelu" or "silu".
      initializer: of W: "lecun_normal", entries of variance 1 / inputs; or "orthogonal", √2 times a
        matrix with orthonormal rows or columns, as Stable-Baselines3 and CleanRL begin with.

    Source of the shape: Schulman et al. (2017), two layers of 64 tanh units; orthogonal matrices:
      Saxe et al. (2014), Exact solutions to the nonlinear dynamics of learning in deep linear
      neural networks.
    """

    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    initializer: str = "lecun_normal"

    def check(self, path: str) -> None:
        """Raises unless the sizes are positive integers, and the names known ones."""
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
    """Convolutions over a grid [height, width, channels], then dense layers; act after each.

    No padding: a kernel of k makes a grid of h one of h − k + 1. A convolution is written as one
    product of its patches, whose gradient is a product too, and fast on a CPU.

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
        """Raises unless the sizes are positive integers, and the activation a known one."""
        _check_sizes(f"{path}.hidden_sizes", self.hidden_sizes)
        _check_sizes(f"{path}.channels", self.channels)
        check_int(f"{path}.kernel_size", self.kernel_size, 1)
        _check_choice(f"{path}.activation", self.activation, ACTIVATIONS)

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        """float[height, width, channels] -> float[hidden_sizes[-1]].

        Raises:
          ValueError: not a grid, or one smaller than the kernels.
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
    """What a critic's network sees, where that is more than the observation.

    Attributes:
      action: encoded, for Q of actions that cannot be listed; else ().
      memory: the policy's before the observation, where it has one; else ().
      obs: the observation as the policy's network sees it.
    """

    action: PyTree = ()
    memory: PyTree = ()
    obs: PyTree = ()


class Select(Network):
    """A network that sees only some entries of a Dict observation.

    Different ones for policy and critic make a privileged critic: one that knows, in training, what
    the policy will have to do without. The names are those of the environment's entries, in a
    critic too: what it sees besides the observation, a policy's memory or an action, it still sees.
    With a memory: `Recurrent(Select(names, network))`.

    Attributes:
      names: one entry's name, and the network sees that entry; or a tuple of names, and it sees a
        dict of those.
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
                f"{path}.names must be a name or a tuple of different names, got {self.names!r}"
            )
        if has_memory(self.network):
            raise TypeError(
                f"{path}.network must have no memory, got {type(self.network).__name__}; write "
                f"{path}=Recurrent(Select({self.names!r}, …))"
            )
        check(self.network, f"{path}.network")

    def __call__(self, inputs: PyTree) -> Array:
        """One observation, or what a critic sees of it -> features, of the entries named.

        Raises:
          ValueError: the observation has no entries, or none of a name.
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
                what = f"entry {name!r} of the observation"
                raise InputError(f"{path}: {unknown(what, name, sorted(obs))}")
        return obs[names] if isinstance(names, str) else {name: obs[name] for name in names}


class InputError(ValueError):
    """A module's inputs are not those that it is for; begins with its path inside the whole."""


def has_memory(network: nn.Module) -> bool:
    """Whether a network is called with a memory."""
    return isinstance(network, MemoryNetwork)


def without_memory(network: nn.Module) -> nn.Module:
    """A network of the same kind for what is remembered already: itself, if it has no memory."""
    if not isinstance(network, MemoryNetwork):
        return network
    plain = network.without_memory()
    right = isinstance(plain, nn.Module) and not has_memory(plain)
    require(right, "network", network, "without_memory", "a Flax module without memory", plain)
    return plain


def initial_memory(network: nn.Module) -> PyTree:
    """The memory at an episode's start; () of a network without one."""
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
    if not alike(first, memory):
        raise ValueError(
            f"memory must be policy.initial_memory() at an episode's start, {_kinds(first)}, and "
            f"then what apply gave with the last observation, got {_kinds(memory)}"
        )


def window(network: nn.Module) -> int | None:
    """Rows that gradients go back through: 0: all; None: the network has no memory."""
    return (network.window or 0) if isinstance(network, MemoryNetwork) else None


def check(network: Any, path: str = "network") -> None:
    """Raises unless `network` is a Flax module, and if one of pgjax's, a possible one."""
    if not isinstance(network, nn.Module):
        given = repr(network).partition("\n")[0]
        raise TypeError(f"{path} must be a flax.linen.Module instance, got {given}")
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
    """The features that a network gave, if they are one vector; raises ValueError otherwise."""
    if not is_real(features) or jnp.ndim(features) != 1:
        raise ValueError(
            f"{path} must map one observation to a vector of features, float[n]; "
            f"{type(network).__name__} gave {_kinds(features)}"
        )
    return jnp.asarray(features)


def kept(path: str, network: nn.Module, before: PyTree, after: PyTree) -> PyTree:
    """The memory after an observation, if it is one like that before; raises ValueError if not."""
    kinds = [_kinds(memory) for memory in (before, after)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"{path} must keep the structure, shapes and dtypes of its initial_memory(); "
            f"{type(network).__name__} made {kinds[1]} of {kinds[0]}"
        )
    return after


def _kinds(tree: PyTree) -> PyTree:
    """Dtypes and shapes of a tree's leaves."""

    def kind(leaf: Any) -> str:
        return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}" if is_array(leaf) else said(leaf)

    return jax.tree.map(kind, tree)


def check_without_memory(path: str, network: Any) -> None:
    """`check`, which also refuses a network with a memory: TypeError."""
    check(network, path)
    if has_memory(network):
        name = type(network).__name__
        raise TypeError(
            f"{path} must map one observation to features, without a memory, got {name}; "
            "MLP() has none"
        )


def _check_sizes(path: str, sizes: Any) -> None:
    if not isinstance(sizes, tuple) or not all(isinstance(n, int) and n >= 1 for n in sizes):
        raise ValueError(f"{path} must be a tuple of positive integers, got {sizes}")


def _check_choice(path: str, given: Any, choices: Mapping[str, Any]) -> None:
    if given not in choices:
        raise ValueError(unknown(f"{path} {given!r}", given, choices))


def initial(path: str, module: nn.Module, key: Array, *inputs: PyTree) -> PyTree:
    """The module's variables, if its outputs are a function of them and the inputs alone.

    Raises:
      ValueError: it draws random numbers, or writes to a collection, whenever it is called.
    """
    # jaxlib's CPU backend can hang on several batched QR factorisations at once, which is what
    # vmapped orthogonal initialisers are; one seed after another has none. What is traced comes as
    # an argument: the rule for `vmap` would keep a closure's tracers.
    one_by_one = jax.custom_batching.sequential_vmap(module.init)
    try:
        variables = one_by_one(key, *inputs)
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


def _quoted(error: Exception, before: str) -> str:
    """The name that follows `before` in Flax's message."""
    match = re.search(before + r' "(\w+)"', str(error))
    return repr(match[1]) if match else "unnamed"
