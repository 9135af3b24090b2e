"""An environment among the leaves of a config or of a wrapper: a pytree, or part of the program."""

import dataclasses
from typing import Any

import jax

from pgjax.environments import interface
from pgjax.environments.interface import Environment


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Program:
    """An id or an object that JAX does not look into: no leaves, told apart by `version`."""

    env: Any

    def tree_flatten(self):
        return (), (self.env, interface.version(self.env))

    @classmethod
    def tree_unflatten(cls, static, children):
        return cls(static[0])


def to_node(env: Any) -> Any:
    """An environment as a pytree."""
    return env if isinstance(env, Environment) and env.is_pytree else Program(env)


def from_node(node: Any) -> Any:
    """The inverse of `to_node`, for any leaves."""
    return node.env if isinstance(node, Program) else node
