"""Wrappers that change each observation by itself, leaf by leaf."""

import abc
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from pgjax.core.components import is_traced
from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.environments.interface import Step
from pgjax.environments.wrappers.wrapper import Wrapper, WrapperState


class ObservationWrapper(Wrapper, abc.ABC):
    """A wrapper that changes each observation by itself: the leaves of Dict and Tuple one by one.

    The entry "action_mask" stays as it is.
    """

    @abc.abstractmethod
    def changed_space(self, part: str, space: Any) -> Any:
        """The space of a leaf of the observations; raises TypeError or ValueError, with the part in
        front, where the wrapper does not fit a space."""

    @abc.abstractmethod
    def changed(self, space: Any, leaf: Array) -> Array:
        """A leaf of an observation, an array such as [height, width, channels]; `space` is that of
        the leaf as it is given."""

    @property
    def observation_space(self) -> Any:
        """The space of the changed observations."""
        part = f"{self.name}: the observation"
        return each_space(self.changed_space, self.inner.observation_space, part)

    def check_fit(self) -> None:
        """Raises unless every leaf of the observations can be changed."""
        _ = self.observation_space

    def begin(self, key: Array, obs: PyTree) -> tuple[PyTree, PyTree]:
        """The first observation, changed."""
        return each_leaf(self.changed, self.inner.observation_space, obs), ()

    def step(self, key: Array, env_state: WrapperState, action: PyTree) -> Step:
        """The step inside with its observation changed."""
        step = super().step(key, env_state, action)
        obs = each_leaf(self.changed, self.inner.observation_space, step.obs)
        return step._replace(obs=obs)


def each_space(change: Callable[[str, Any], Any], space: Any, part: str) -> Any:
    """A space with each leaf changed by `change(part, leaf)`, but for an "action_mask"."""
    parts = spaces.children(space)
    if parts is None:
        return change(part, space)
    changed = {
        name: child if name == spaces.MASK else each_space(change, child, f"{part}[{name!r}]")
        for name, child in parts.items()
    }
    return spaces.joined(space, changed, True)


def each_leaf(change: Callable, space: Any, obs: PyTree, *others: PyTree) -> PyTree:
    """An observation with each leaf changed by `change(space, leaf, *others)`; an "action_mask"
    stays that of `obs`."""
    parts = spaces.children(space)
    if parts is None:
        return change(space, jnp.asarray(obs), *others)
    changed = {}
    for name, child in parts.items():
        leaf, *rest = (spaces.entry(value, name) for value in (obs, *others))
        changed[name] = leaf if name == spaces.MASK else each_leaf(change, child, leaf, *rest)
    return spaces.joined(space, changed)


def numpy_for(*bounds: Any) -> ModuleType:
    """NumPy for bounds that are numbers, also while something else is traced; else JAX's."""
    return jnp if any(map(is_traced, bounds)) else np


def image(part: str, space: Any) -> spaces.Box:
    """The space; raises TypeError unless it is of images, [height, width, channels]."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 3:
        raise TypeError(
            f"{part} must be an image, a Box of the shape (height, width, channels), "
            f"got {spaces.text(space)}"
        )
    return space
