"""The contract of an environment: `Environment`, and the `Step` that answers an action."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax.core.keys import is_key
from pgjax.core.names import shown
from pgjax.core.types import Array, PyTree
from pgjax.environments import own_results, spaces, versions


class Step(NamedTuple):
    """What follows an action: s_{t+1} as it truly is, r_t, and how the episode ended, if it did."""

    obs: PyTree
    env_state: PyTree
    reward: Array
    terminated: Array
    truncated: Array


class Environment(abc.ABC):
    """A problem with its parameters bound: a pytree whose leaves are parameters.

    Attributes:
      is_pytree: whether JAX looks inside, for numbers; an object of one's own is part of the
        program.
    """

    is_pytree = False

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The name in messages."""

    @property
    @abc.abstractmethod
    def limit(self) -> int | None:
        """The environment's own time limit in steps, or None."""

    @property
    @abc.abstractmethod
    def observation_space(self) -> Any:
        """A gymnax space; its bounds may be traced."""

    @property
    @abc.abstractmethod
    def action_space(self) -> Any:
        """A gymnax space; its bounds may be traced."""

    @property
    @abc.abstractmethod
    def bounds(self) -> Any:
        """Low and high of a Box of actions, NumPy arrays of its shape, with the environment's
        default parameters; infinite where a dimension has no bound. None for other actions; of a
        Dict or Tuple, a dict or tuple of such."""

    @property
    def params(self) -> PyTree:
        """The parameters as the environment is given them; None: it has none."""
        return None

    @property
    def default_params(self) -> PyTree:
        """The parameters that it is given by default; None: it takes none."""
        return None

    def bind(self, env_params: PyTree = None) -> "Environment":
        """The same with these parameters, ready for JAX to pass around; None: those that it has.

        Raises:
          TypeError: it takes none.
        """
        check_own(self, env_params)
        return Own(self)

    def with_core(self, change: Callable[["Environment"], "Environment"]) -> "Environment":
        """The same around a changed core, the environment inside of all wrappers."""
        return change(self)

    def with_true_rewards(self) -> "Environment":
        """The same without what edits rewards, for evaluations."""
        return self

    @abc.abstractmethod
    def reset(self, key: Array) -> tuple[PyTree, PyTree]:
        """An episode's first observation, and the environment's state."""

    @abc.abstractmethod
    def step(self, key: Array, env_state: PyTree, action: PyTree) -> Step:
        """What the action led to, also at the end of an episode: an automatic reset, where there
        is one, shows only in `env_state`."""

    def restart(
        self, key: Array, obs: PyTree, env_state: PyTree, running: Array
    ) -> tuple[PyTree, PyTree]:
        """Observation and state as they are while the episode runs, else those of the next one.

        Args:
          key: of the reset.
          running: bool[]; whether the episode goes on.
        """
        start = self.reset(key)
        return jax.tree.map(lambda x, y: jnp.where(running, x, y), (obs, env_state), start)

    @property
    def on_host(self) -> bool:
        """Whether its functions call the host, which keeps the environment itself: they then work
        for one device and one training at a time, and a state can be gone on with once."""
        return False

    def resumed(self, env_state: PyTree, running: Array) -> tuple[PyTree, Array]:
        """A state that a program gets from an earlier one, and whether its episode runs, bool[]:
        on the host it may be lost meanwhile."""
        return env_state, running


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Own(Environment):
    """An `Environment` of the user's own, which need not be a pytree: part of the program."""

    env: Environment

    is_pytree = True

    @property
    def name(self) -> str:
        return name_of(self.env)

    @property
    def limit(self) -> int | None:
        return self.env.limit

    @property
    def observation_space(self) -> Any:
        return spaces.read("observation_space", self.env.observation_space)

    @property
    def action_space(self) -> Any:
        return spaces.read("action_space", self.env.action_space)

    @property
    def bounds(self) -> Any:
        return self.env.bounds

    def bind(self, env_params: PyTree = None) -> Environment:
        check_own(self.env, env_params)
        return self

    def reset(self, key: Array) -> tuple[PyTree, PyTree]:
        start = self.env.reset(key)
        own_results.check_start(self.env, "reset", start)
        return jax.tree.map(strong, tuple(start))

    def step(self, key: Array, env_state: PyTree, action: PyTree) -> Step:
        step = self.env.step(key, env_state, action)
        own_results.check_step(self.env, step, Step._fields)
        return as_step(*step)

    def restart(
        self, key: Array, obs: PyTree, env_state: PyTree, running: Array
    ) -> tuple[PyTree, PyTree]:
        start = self.env.restart(key, obs, env_state, running)
        own_results.check_start(self.env, "restart", start)
        return jax.tree.map(strong, tuple(start))

    @property
    def on_host(self) -> bool:
        return self.env.on_host

    def resumed(self, env_state: PyTree, running: Array) -> tuple[PyTree, Array]:
        return self.env.resumed(env_state, running)

    def tree_flatten(self):
        return (), (self.env, versions.of_object(self.env))

    @classmethod
    def tree_unflatten(cls, static, children):
        return cls(static[0])


def check_own(env: Any, env_params: PyTree) -> None:
    """Raises TypeError or ValueError if an `Environment` of the user's own is given parameters, or
    its facts cannot be."""
    if isinstance(env, Environment) and env_params is not None and env.default_params is None:
        raise TypeError(
            f"env_params must be None, as {name_of(env)} is a pgjax.Environment, which has its "
            f"parameters in it, got {shown(env_params)}"
        )
    if isinstance(env, Environment):
        own_results.check_facts(env)


def name_of(env: Any) -> str:
    """An environment's name in messages: its own, or its class's."""
    return str(getattr(env, "name", type(env).__name__))


def as_step(obs: PyTree, env_state: PyTree, reward: Any, terminated: Any, truncated: Any) -> Step:
    """A `Step` of arrays with explicit dtypes."""
    return Step(
        obs=jax.tree.map(strong, obs),
        env_state=jax.tree.map(strong, env_state),
        reward=jnp.asarray(reward, float),
        terminated=jnp.asarray(terminated, bool),
        truncated=jnp.asarray(truncated, bool),
    )


def strong(x: Any) -> Array:
    """An array of an explicit dtype: a weakly typed loop carry would change type after a step."""
    if is_key(x):
        return x
    return jax.lax.convert_element_type(x, jnp.result_type(x))
