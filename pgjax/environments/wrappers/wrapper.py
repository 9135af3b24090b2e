"""The contract of wrappers: an environment around another one."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from pgjax.core.components import Component, check_component, check_hashable, component, node
from pgjax.core.types import Array, PyTree
from pgjax.environments import interface, nodes
from pgjax.environments.around import Around
from pgjax.environments.interface import Environment, Step


class WrapperState(NamedTuple):
    """The state of the environment inside, and what a wrapper itself keeps from step to step."""

    inner: PyTree
    own: PyTree


@component
class Wrapper(Around, Component):
    """An environment around another one; by itself it changes nothing.

    A wrapper of your own derives from this class, is decorated with `pgjax.component`, and
    overrides what it changes: `step`, `begin`, `observation_space`, `action_space` with `bounds`,
    `limit`. What it draws is from a key of its own, `pgjax.core.keys.derived(key, purpose)`, so
    that the environment inside draws the numbers that it draws without the wrapper. Fields are
    options: a float is traced, may be swept over, as "env.probability", and may be a `Schedule`.

    Attributes:
      env: what is inside: an id, an object with gymnax's interface, a `pgjax.Environment`, or
        another wrapper.
    """

    env: Any = node(nodes.to_node, nodes.from_node)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "reset" in vars(cls) and "restart" not in vars(cls):
            raise TypeError(
                f"{cls.__name__} overrides reset, and later episodes start by restart: override "
                "begin, which both call"
            )

    def __post_init__(self) -> None:
        if isinstance(self.env, str):
            object.__setattr__(self, "env", interface.canonical(self.env))

    @property
    def inner(self) -> Environment:
        """The environment inside, bound to its parameters."""
        env = self.env
        return env if isinstance(env, Environment) and env.is_pytree else interface.bind(env)

    @property
    def name(self) -> str:
        """The wrapper's class and the name of what is inside."""
        return f"{type(self).__name__}({self.inner.name})"

    @property
    def default_params(self) -> PyTree:
        """The default parameters of what is inside, or None."""
        return interface.default_params(self.env)

    def begin(self, key: Array, obs: PyTree) -> tuple[PyTree, PyTree]:
        """What an episode starts with, from the first observation inside.

        Args:
          key: that of the reset.
          obs: the first observation inside.

        Returns:
          The first observation, and what the wrapper keeps from step to step.
        """
        return obs, ()

    def reset(self, key: Array) -> tuple[PyTree, WrapperState]:
        """An episode's first observation, and the state; a wrapper overrides `begin` instead."""
        obs, inner = self.inner.reset(key)
        obs, own = self.begin(key, obs)
        return obs, WrapperState(inner, own)

    def step(self, key: Array, env_state: WrapperState, action: PyTree) -> Step:
        """What the action led to; `obs` is the true last one at an episode's end."""
        step = self.inner.step(key, env_state.inner, action)
        return step._replace(env_state=env_state._replace(inner=step.env_state))

    def restart(
        self, key: Array, obs: PyTree, env_state: WrapperState, running: Array
    ) -> tuple[PyTree, WrapperState]:
        """Observation and state as they are while the episode runs, else those of the next one."""
        # The observation inside is not kept: while the episode runs, none is needed.
        blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._inner_obs(key))
        first, inner = self.inner.restart(key, blank, env_state.inner, running)
        first, own = self.begin(key, first)
        obs, own = jax.tree.map(
            lambda x, y: jnp.where(running, x, y), (obs, env_state.own), (first, own)
        )
        return obs, WrapperState(inner, own)

    def _inner_obs(self, key: Array) -> PyTree:
        """Shapes and dtypes of an observation inside."""
        return jax.eval_shape(self.inner.reset, key)[0]

    def resumed(self, env_state: WrapperState, running: Array) -> tuple[WrapperState, Array]:
        """The state inside as an earlier program left it, and whether its episode runs, bool[]."""
        inner, running = self.inner.resumed(env_state.inner, running)
        return env_state._replace(inner=inner), running

    def check_fit(self) -> None:
        """Raises TypeError or ValueError unless the wrapper fits the environment inside."""

    def bind(self, env_params: PyTree = None) -> Self:
        """The same with these parameters inside; None: those that it has."""
        bound = dataclasses.replace(self, env=interface.bind(self.env, env_params))
        bound.check_fit()
        return bound

    def check(self, path: str) -> None:
        """Raises if a field's value is not allowed, here or inside."""
        super().check(path)
        check(f"{path}.env", self.env)

    def __str__(self) -> str:
        given = (f"{name}={value}" for name, value in self._options().items())
        return f"{type(self).__name__}({', '.join((str(self.env), *given))})"

    def _options(self) -> dict[str, Any]:
        """The fields but for `env`, by name."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "env"]
        return {name: getattr(self, name) for name in names}


def layers(env: Any) -> Iterator[Wrapper]:
    """The wrappers of an environment, from the outermost inwards."""
    while isinstance(env, Wrapper):
        yield env
        env = env.env


def core(env: Any) -> Any:
    """What is inside of all wrappers, as it was given."""
    for wrapper in layers(env):
        env = wrapper.env
    return env


def check(path: str, env: Any) -> None:
    """Raises TypeError or ValueError unless a config's environment can be part of a program."""
    if isinstance(env, Wrapper):
        check_component(path, env, Wrapper).check(path)
    else:
        check_hashable(path, env)
