"""The contract of heads, and the registry that chooses the head of an action space."""

import abc
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from pgjax.core.contracts import describe
from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.policies.action_heads import trial
from pgjax.policies.distributions import Distribution

# The action space that each named distribution needs.
_NEEDS = {
    "categorical": "Discrete actions",
    "normal": "a Box",
    "tanh_normal": "a Box",
    "beta": "a Box",
}
DISTRIBUTIONS = ("auto", *_NEEDS)

# (part of an environment, for messages; space; `Environment.bounds` of it; distribution) -> Head
_Maker = Callable[[str, Any, Any, str], "Head"]
_MAKERS: dict[type, tuple[_Maker, tuple[str, ...]]] = {}


class Head(abc.ABC):
    """An action space and the family of distributions over it.

    A head is a pytree (`components.record`): bounds are leaves, as they may follow traced
    parameters of the environment; sizes and shapes are static.
    """

    @abc.abstractmethod
    def __str__(self) -> str:
        """The action space in short, such as "Discrete(2)"."""

    @property
    @abc.abstractmethod
    def family(self) -> str:
        """The distribution's name, such as "Categorical"."""

    @property
    def num_actions(self) -> int | None:
        """n, if the actions are 0 … n−1, so that a Q critic gives all their values; else None."""
        return None

    @abc.abstractmethod
    def module(self) -> nn.Module:
        """A Flax module without memory: features float[n] -> the parameters, a pytree of arrays."""

    @abc.abstractmethod
    def distribution(self, parameters: PyTree, mask: PyTree = None) -> Distribution:
        """The distribution of one action.

        Args:
          parameters: the module's output for one observation.
          mask: the observation's entry "action_mask", where 0 or False excludes an action; or None.
        """

    @abc.abstractmethod
    def noise(self, key: Array, shape: tuple[int, ...]) -> PyTree:
        """Noise for `Distribution.sample`, each leaf [*shape, …]: independent for each action."""

    @abc.abstractmethod
    def random_action(self, key: Array) -> PyTree:
        """A random action for the environment: uniform in dimensions with two bounds, |N(0, 1)|
        away from an only bound, N(0, 1) without bounds."""

    @abc.abstractmethod
    def encode(self, action: PyTree) -> Array:
        """One environment action as the input of a Q critic: float[k]."""

    def check_mask(self, part: str, mask_space: Any) -> None:
        """Raises unless a mask of this space fits the actions; `part` begins the message."""
        del mask_space
        raise TypeError(f"{part} needs Discrete actions, not {self}")

    def excludes_all(self, mask: PyTree) -> Array:
        """Whether masks, each leaf [..., n], exclude every action of the space or of one of its
        parts: bool[...]; None excludes none."""
        del mask
        return jnp.bool_(False)


def register(space_class: type, distributions: tuple[str, ...] = ()) -> Callable[[_Maker], _Maker]:
    """Decorates the function that makes the heads of a class of spaces.

    It takes a name for messages, the space, its part of `Environment.bounds`, and the distribution.

    Args:
      space_class: the class; `spaces.register` makes it one that environments may have.
      distributions: the distributions, besides "auto", that the head can have.
    """

    def decorate(maker: _Maker) -> _Maker:
        _check_maker(maker)
        _MAKERS[space_class] = maker, distributions
        return maker

    return decorate


def make(part: str, space: Any, bounds: Any, distribution: str) -> Head:
    """The head of a space, as for `heads.of`."""
    maker, _ = _registered(part, space)
    if distribution != "auto" and not covers(part, space, distribution):
        needed = _NEEDS[distribution]
        raise TypeError(f"{part}: distribution {distribution!r} needs {needed}, not {space!r}")
    head = maker(part, space, bounds, distribution)
    if not isinstance(head, Head):
        raise TypeError(f"{part}: {maker.__name__} must make a pgjax.Head, got {describe(head)}")
    if not type(head).__module__.startswith("pgjax."):
        trial.check(head, space)
    return head


def _check_maker(maker: _Maker) -> None:
    try:
        inspect.signature(maker).bind("part", "space", "bounds", "distribution")
    except TypeError:
        taken = ", ".join(inspect.signature(maker).parameters)
        raise TypeError(
            "heads.register decorates a function of (part, space, bounds, distribution), and "
            f"{maker.__name__} takes ({taken})"
        ) from None


def covers(part: str, space: Any, distribution: str) -> bool:
    """Whether a space, or some part of it, can have the distribution."""
    parts = spaces.children(space)
    if parts is None:
        return distribution in _registered(part, space)[1]
    return any(covers(f"{part}[{n!r}]", child, distribution) for n, child in parts.items())


def _registered(part: str, space: Any) -> tuple[_Maker, tuple[str, ...]]:
    """The maker and the distributions that were registered for a space's class."""
    # The class that was registered last comes first, as in `spaces.read`.
    for space_class, entry in reversed(_MAKERS.items()):
        if isinstance(space, space_class):
            return entry
    names = ", ".join(sorted(space_class.__name__ for space_class in _MAKERS))
    raise TypeError(f"{part}: no policy head for the actions {space!r}, only {names}")
