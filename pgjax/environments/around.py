"""An environment around another one, which has its properties."""

import dataclasses
from collections.abc import Callable
from typing import Any

from pgjax.core.types import PyTree
from pgjax.environments.environment import Environment


@dataclasses.dataclass(frozen=True)
class Around(Environment):
    """An environment around another one; by itself it changes nothing but steps and starts.

    Attributes:
      env: what is inside, as it was given.
    """

    env: Any

    is_pytree = True

    @property
    def inner(self) -> Environment:
        """The environment inside."""
        return self.env

    @property
    def name(self) -> str:
        """The name of what is inside."""
        return self.inner.name

    @property
    def limit(self) -> int | None:
        """The time limit inside, in steps, or None."""
        return self.inner.limit

    @property
    def observation_space(self) -> Any:
        """The space inside."""
        return self.inner.observation_space

    @property
    def action_space(self) -> Any:
        """The space inside."""
        return self.inner.action_space

    @property
    def bounds(self) -> Any:
        """Those inside."""
        return self.inner.bounds

    @property
    def params(self) -> PyTree:
        """The parameters of what is inside, or None."""
        return self.inner.params

    @property
    def on_host(self) -> bool:
        """Whether what is inside calls the host."""
        return self.inner.on_host

    def with_core(self, change: Callable[[Environment], Environment]) -> Environment:
        """The same around a changed core."""
        return dataclasses.replace(self, env=self.inner.with_core(change))

    def with_true_rewards(self) -> Environment:
        """The same without the wrappers inside that edit rewards."""
        return dataclasses.replace(self, env=self.inner.with_true_rewards())
