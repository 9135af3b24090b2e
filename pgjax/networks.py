"""Networks: from one observation to a vector of features. Any Flax Linen module will do."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pgjax.components import unknown
from pgjax.environments import spaces
from pgjax.types import Array, PyTree

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}


class Dense(nn.Module):
    """x W + b for one vector x, arranged so that its gradient is fast on a CPU.

    Over a batch, the sum that is the gradient of b costs as much as a product, unless it is a row
    of one: [x, 1] [W; b]. And the gradient of a product with two columns takes as long as one with
    64, unless it is two products with one column.

    Attributes:
      features: columns of W.
      kernel_init: W's initialiser; b starts at 0.
    """

    features: int
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """float[n] -> float[features]."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[0], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if self.features == 2:
            return jnp.stack([x @ kernel[:, 0], x @ kernel[:, 1]]) + bias
        return jnp.append(x, jnp.ones((), x.dtype)) @ jnp.concatenate([kernel, bias[None]])


class MLP(nn.Module):
    """Dense layers with an activation after each: x ← act(x W + b).

    The observation's leaves are flattened and concatenated first. `hidden_sizes=()` passes the
    observation on, which makes the policy linear (softmax-linear, for discrete actions).

    Attributes:
      hidden_sizes: widths of the layers.
      activation: "tanh", "relu", "elu", "gelu" or "silu".

    Source of the shape: Schulman et al. (2017), two layers of 64 tanh units.
    """

    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: str = "tanh"

    @nn.compact
    def __call__(self, obs: PyTree) -> Array:
        """One observation, a pytree of arrays, to features float[hidden_sizes[-1]]."""
        x = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(obs)])
        for width in self.hidden_sizes:
            x = ACTIVATIONS[self.activation](Dense(width)(x))
        return x


def check(network: Any) -> None:
    """Raises unless `network` is a Flax module, hashable, and if an MLP, a possible one."""
    if not isinstance(network, nn.Module):
        raise TypeError(f"network must be a flax.linen.Module instance, got {network!r}")
    if not isinstance(network, MLP):
        return
    sizes = network.hidden_sizes
    if not isinstance(sizes, tuple) or not all(isinstance(n, int) and n >= 1 for n in sizes):
        raise ValueError(f"network.hidden_sizes must be a tuple of positive integers, got {sizes}")
    if network.activation not in ACTIVATIONS:
        given = network.activation
        raise ValueError(unknown(f"network.activation {given!r}", given, ACTIVATIONS))


def encode(obs: PyTree, space: Any) -> PyTree:
    """One observation as float arrays: one-hot for Discrete, the same shape for Box, leaf by leaf.

    Raises:
      TypeError: a space that is not Box, Discrete, Dict or Tuple of those.
    """
    if isinstance(space, spaces.Discrete):
        return jax.nn.one_hot(obs, space.n)
    if isinstance(space, spaces.Box):
        return jnp.asarray(obs, float) if not _is_float(obs) else jnp.asarray(obs)
    if isinstance(space, spaces.Dict):
        read = obs.__getitem__ if isinstance(obs, Mapping) else lambda name: getattr(obs, name)
        return {name: encode(read(name), child) for name, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(encode(o, child) for o, child in zip(obs, space.spaces, strict=True))
    raise TypeError(f"observation_space must be made of Box, Discrete, Dict, Tuple; got {space!r}")


def _is_float(x: Array) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)
