"""Schedules: a config's float as a function of the number of updates made."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from pgjax.types import Array, PyTree


@jax.tree_util.register_pytree_with_keys_class
class Schedule:
    """An Optax schedule whose floats are leaves: other numbers run the same program.

    It may stand wherever a config takes a float: learning rate, entropy, clip range. Update n,
    from 0, uses `make(**arguments)(n)`.

    Args:
      make: makes a schedule, update -> value, from the arguments: any of Optax's, for instance.
      arguments: floats are traced; everything else, step counts too, is part of the program.

    >>> import optax
    >>> rate = Schedule(optax.linear_schedule, init_value=1.0, end_value=0.0, transition_steps=4)
    >>> print(rate.value(1))
    0.75
    """

    def __init__(self, make: Callable[..., Callable], /, **arguments: Any) -> None:
        self.make, self.arguments = make, arguments

    def value(self, update: Any) -> Array:
        """Its value at an update: float[]."""
        return self.make(**self.arguments)(update)

    def tree_flatten_with_keys(self):
        """Leaves: the floats, by name."""
        traced = [name for name, value in self.arguments.items() if not _is_static(value)]
        children = [(jax.tree_util.DictKey(name), self.arguments[name]) for name in traced]
        static = tuple((n, v) for n, v in self.arguments.items() if _is_static(v))
        return children, (self.make, tuple(traced), static)

    @classmethod
    def tree_unflatten(cls, structure: tuple, children: tuple):
        """The inverse of `tree_flatten_with_keys`."""
        make, traced, static = structure
        return cls(make, **dict(zip(traced, children, strict=True)), **dict(static))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"Schedule({getattr(self.make, '__name__', self.make)}, {inside})"

    def __eq__(self, other: Any) -> bool:
        same = isinstance(other, Schedule) and self.make == other.make
        return same and self.arguments == other.arguments

    __hash__ = None


def at(tree: PyTree, update: Any) -> Any:
    """A config, or any tree, with the value of each schedule at an update in its place."""
    return jax.tree.map(
        lambda x: x.value(update) if isinstance(x, Schedule) else x,
        tree,
        is_leaf=lambda x: isinstance(x, Schedule),
    )


def _is_static(value: Any) -> bool:
    return value is None or isinstance(value, (int, np.integer, str, tuple))
