"""The head of a Tuple or Dict of actions: one head for each part."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from pgjax.core.components import record
from pgjax.core.names import shown
from pgjax.core.trees import map_children
from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.policies.action_heads.head import Head, covers, make, register
from pgjax.policies.distributions import Joint


class Parts(nn.Module):
    """Several modules of the same features.

    Attributes:
      parts: a tuple or frozen dict of modules.
    """

    parts: Any

    def __call__(self, features: Array) -> PyTree:
        """float[features] -> each module's outputs, in a tuple or dict."""
        if isinstance(self.parts, Mapping):
            return {name: part(features) for name, part in self.parts.items()}
        return tuple(part(features) for part in self.parts)


@record
class JointHead(Head):
    """Tuple and Dict: the parts of an action are independent, given the observation.

    Attributes:
      parts: a tuple or dict of heads; parameters, noise, actions and masks have that structure.
    """

    parts: Any

    def __str__(self) -> str:
        if isinstance(self.parts, dict):
            return f"Dict({', '.join(f'{name}: {part}' for name, part in self.parts.items())})"
        return f"Tuple({', '.join(map(str, self.parts))})"

    @property
    def family(self) -> str:
        names = (name for part in self._named.values() for name in part.family.split(", "))
        return ", ".join(dict.fromkeys(names))

    def module(self) -> nn.Module:
        """float[features] -> a tuple or dict of the parts' parameters."""
        modules = map_children(lambda part: part.module(), self.parts)
        return Parts(FrozenDict(modules) if isinstance(modules, dict) else modules)

    def distribution(self, parameters: PyTree, mask: PyTree = None) -> Joint:
        def part_distribution(part, parameters, mask):
            return part.distribution(parameters, mask)

        return Joint(map_children(part_distribution, self.parts, parameters, self._masks(mask)))

    def noise(self, key: Array, shape: tuple[int, ...]) -> PyTree:
        """Each part's noise."""
        return map_children(lambda part, key: part.noise(key, shape), self.parts, self._keys(key))

    def random_action(self, key: Array) -> PyTree:
        """Each part's random action."""
        return map_children(lambda part, key: part.random_action(key), self.parts, self._keys(key))

    def encode(self, action: PyTree) -> Array:
        """The parts' encodings, one after another: float[k]."""
        encoded = map_children(lambda part, action: part.encode(action), self.parts, action)
        return jnp.concatenate(jax.tree.leaves(encoded))

    def check_mask(self, part: str, mask_space: Any) -> None:
        """Raises unless a mask is a Dict with entries for some parts, or a Tuple with one for each
        part, where an empty Tuple stands for no mask."""
        parts, masks = self._named, spaces.children(mask_space)
        same_container = isinstance(spaces.joined(mask_space, {}), type(self.parts))
        if masks is None or not same_container:
            raise ValueError(
                f"{part} must be a {self._container}, as the actions {self}, "
                f"got {shown(mask_space)}"
            )
        if unknown := sorted(masks.keys() - parts.keys()):
            raise ValueError(f"{part}[{unknown[0]!r}] is for no part of the actions {self}")
        if self._container == "Tuple" and len(masks) != len(parts):
            raise ValueError(
                f"{part} must have {len(parts)} entries, as the actions {self}, got {len(masks)}; "
                "an empty Tuple stands for no mask"
            )
        for name, mask in masks.items():
            if spaces.children(mask) != {}:
                parts[name].check_mask(f"{part}[{name!r}]", mask)

    def excludes_all(self, mask: PyTree) -> Array:
        excluded = map_children(
            lambda part, mask: part.excludes_all(mask), self.parts, self._masks(mask)
        )
        return functools.reduce(jnp.logical_or, jax.tree.leaves(excluded))

    def _masks(self, mask: PyTree) -> Any:
        """Each part's mask, or None."""
        if mask is None:
            return map_children(lambda part: None, self.parts)
        full = {name: mask.get(name) for name in self.parts} if isinstance(mask, dict) else mask
        return map_children(lambda child: child if jax.tree.leaves(child) else None, full)

    def _keys(self, key: Array) -> Any:
        keys = iter(jax.random.split(key, len(self.parts)))
        return map_children(lambda part: next(keys), self.parts)

    @property
    def _container(self) -> str:
        return "Dict" if isinstance(self.parts, dict) else "Tuple"

    @property
    def _named(self) -> dict[Any, Head]:
        return dict(self.parts if isinstance(self.parts, dict) else enumerate(self.parts))


@register(spaces.Dict)
@register(spaces.Tuple)
def _joint(part: str, space: Any, bounds: Any, distribution: str) -> JointHead:
    """The distribution applies to the parts that it covers, "auto" to the others."""
    children = spaces.children(space)
    if not children:
        raise TypeError(f"{part}: actions must have at least one part, got {shown(space)}")
    parts = {}
    for name, child in children.items():
        path = f"{part}[{name!r}]"
        part_distribution = distribution if covers(path, child, distribution) else "auto"
        parts[name] = make(path, child, bounds[name], part_distribution)
    return JointHead(spaces.joined(space, parts))
