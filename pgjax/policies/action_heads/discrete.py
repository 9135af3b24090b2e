"""Heads of Discrete, MultiDiscrete and MultiBinary actions."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.components import record, static
from pgjax.core.types import Array
from pgjax.environments import spaces
from pgjax.policies import networks
from pgjax.policies.action_heads.head import Head, register
from pgjax.policies.distributions import Categorical, MultiCategorical

# A small last layer makes the first policy nearly uniform: with sparse rewards, a first batch
# without any reward then costs only time, and does not fix an arbitrary preference for some action.
HEAD_INIT = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")


class Logits(nn.Module):
    """logits = W x + b, one for each of n actions."""

    num_actions: int

    @nn.compact
    def __call__(self, features: Array) -> tuple[Array]:
        """float[features] -> (logits[n],)."""
        return (networks.Dense(self.num_actions, kernel_init=HEAD_INIT)(features),)


@record
class CategoricalHead(Head):
    """Discrete: one of n actions.

    Attributes:
      n: the number of actions.
    """

    n: int = static()

    def __str__(self) -> str:
        return f"Discrete({self.n})"

    @property
    def family(self) -> str:
        return Categorical.__name__

    @property
    def num_actions(self) -> int:
        return self.n

    def module(self) -> nn.Module:
        """float[features] -> (logits[n],)."""
        return Logits(self.n)

    def distribution(self, parameters: tuple[Array], mask: Array | None = None) -> Categorical:
        """The distribution over the actions that the mask, [n], allows.

        If the mask excludes every action, all are equally likely, and an update with such a step
        is not made.

        Raises:
          ValueError: the mask's shape is not [n].
        """
        (logits,) = parameters
        if mask is None:
            return Categorical(logits)
        _check_shape("action_mask", mask.shape, (self.n,), "each of {} actions")
        return Categorical(_masked(logits, mask))

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """float[*shape]."""
        return Categorical.noise(key, shape)

    def random_action(self, key: Array) -> Array:
        """int32[]."""
        return jax.random.randint(key, (), 0, self.n)

    def encode(self, action: Array) -> Array:
        """One-hot: float[n]."""
        return jax.nn.one_hot(action, self.n)

    def check_mask(self, part: str, mask_space: Any) -> None:
        _check_shape(part, getattr(mask_space, "shape", None), (self.n,), "each of {} actions")

    def excludes_all(self, mask: Array | None) -> Array:
        return super().excludes_all(mask) if mask is None else ~jnp.any(mask.astype(bool), axis=-1)


@record
class MultiDiscreteHead(Head):
    """MultiDiscrete and MultiBinary: k integers, the i-th one of n_i.

    Attributes:
      sizes: the n_i; 2 for bits.
      shape: the shape of an action; it has k integers.
      dtype: the dtype of the environment's actions.
      text: the space's `repr`.
    """

    sizes: tuple[int, ...] = static()
    shape: tuple[int, ...] = static()
    dtype: np.dtype = static()
    text: str = static()

    def __str__(self) -> str:
        return self.text

    @property
    def family(self) -> str:
        return MultiCategorical.__name__

    def module(self) -> nn.Module:
        """float[features] -> (logits[sum(sizes)],)."""
        return Logits(sum(self.sizes))

    def distribution(self, parameters: tuple[Array], mask: Array | None = None) -> MultiCategorical:
        """One Categorical for each integer; the mask, [sum(sizes)], has the integers' in order.

        Raises:
          ValueError: the mask has another shape.
        """
        (logits,) = parameters
        if mask is not None:
            self._check("action_mask", mask.shape)
            logits = _masked(logits, mask)
        return MultiCategorical(self._rows(logits, _lowest(logits)), self.shape, self.dtype)

    def noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """float[*shape, *self.shape]."""
        return Categorical.noise(key, (*shape, *self.shape))

    def random_action(self, key: Array) -> Array:
        """The space's dtype, [*shape]."""
        sizes = np.reshape(self.sizes, self.shape)
        return jax.random.randint(key, self.shape, 0, sizes).astype(self.dtype)

    def encode(self, action: Array) -> Array:
        """One-hot vectors, one after another: float[sum(sizes)]."""
        return spaces.one_hots(action, np.array(self.sizes))

    def check_mask(self, part: str, mask_space: Any) -> None:
        self._check(part, getattr(mask_space, "shape", None))

    def excludes_all(self, mask: Array | None) -> Array:
        if mask is None:
            return super().excludes_all(mask)
        return jnp.any(~jnp.any(self._rows(mask.astype(bool), False), axis=-1), axis=-1)

    def _rows(self, flat: Array, fill: Any) -> Array:
        """[..., sum(sizes)] -> [..., k, max(sizes)], with `fill` after the end of short rows."""
        longest, number = max(self.sizes), len(self.sizes)
        if longest * number == flat.shape[-1]:
            return flat.reshape(*flat.shape[:-1], number, longest)
        ends = np.cumsum(self.sizes)[:, None]
        index = ends - np.array(self.sizes)[:, None] + np.arange(longest)
        index = np.where(index < ends, index, flat.shape[-1])
        filled = jnp.concatenate([flat, jnp.full((*flat.shape[:-1], 1), fill, flat.dtype)], axis=-1)
        return jnp.take(filled, index, axis=-1)

    def _check(self, part: str, shape: Any) -> None:
        entries = "all {} values of all parts of an action, one after another"
        _check_shape(part, shape, (sum(self.sizes),), entries)


@register(spaces.Discrete, ("categorical",))
def _discrete(part: str, space: Any, bounds: Any, distribution: str) -> CategoricalHead:
    del part, bounds, distribution
    return CategoricalHead(space.n)


@register(spaces.MultiDiscrete, ("categorical",))
def _multi_discrete(part: str, space: Any, bounds: Any, distribution: str) -> MultiDiscreteHead:
    del part, bounds, distribution
    sizes = tuple(int(n) for n in space.nvec.ravel())
    return MultiDiscreteHead(sizes, space.shape, np.dtype(space.dtype), repr(space))


@register(spaces.MultiBinary, ("categorical",))
def _multi_binary(part: str, space: Any, bounds: Any, distribution: str) -> MultiDiscreteHead:
    del part, bounds, distribution
    sizes = (2,) * math.prod(space.shape)
    return MultiDiscreteHead(sizes, space.shape, np.dtype(space.dtype), repr(space))


def _lowest(logits: Array) -> np.floating:
    # Far below any logit; the difference of two such numbers is finite.
    return jnp.finfo(logits.dtype).min / 4


def _masked(logits: Array, mask: Array) -> Array:
    return jnp.where(mask.astype(bool), logits, _lowest(logits))


def _check_shape(part: str, shape: Any, expected: tuple[int], entries: str) -> None:
    if shape is None or tuple(shape) != expected:
        subject = entries.format(*expected)
        raise ValueError(f"{part} must have one entry for {subject}, shape {expected}, got {shape}")
