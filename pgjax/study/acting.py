"""A policy at work: from an observation to the environment's legal action."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.components import check_int, record
from pgjax.core.types import Array, PyTree, TrainState
from pgjax.environments import spaces
from pgjax.environments.interface import Environment
from pgjax.environments.time_aware import Timed
from pgjax.policies.policy import Policy
from pgjax.study import acting_inputs
from pgjax.training.config import Config, bind, check_key, checked
from pgjax.training.training import ACTING, check_state


class TimedMemory(NamedTuple):
    """The memory of a policy that knows the time.

    Attributes:
      policy: its network's memory, () if it has none.
      time: int32[]; steps since the episode's start.
    """

    policy: PyTree
    time: Array


@record
class Deployed:
    """A policy with its variables, as pure functions of the environment's own observations."""

    policy: Policy
    variables: PyTree

    @property
    def environment(self) -> Environment:
        """The environment whose observations are acted on: without the time."""
        environment = self.policy.environment
        return environment.inner if isinstance(environment, Timed) else environment

    def initial_memory(self) -> PyTree:
        """The memory at an episode's start."""
        memory = self.policy.initial_memory()
        timed = isinstance(self.policy.environment, Timed)
        return TimedMemory(memory, jnp.int32(0)) if timed else memory

    def act(self, obs: PyTree, memory: PyTree, key: Array | None = None) -> tuple[PyTree, PyTree]:
        """The actions for one observation or a batch, modes without a key; and the next memory.

        Raises:
          ValueError, TypeError: while tracing, for inputs that are none of the environment's.
        """
        space = self.environment.observation_space
        batch = acting_inputs.batch_of(obs, space)
        example = jax.eval_shape(self.environment.reset, jax.random.key(0))[0]
        acting_inputs.check_obs(obs, space, example, batch)
        acting_inputs.check_memory(memory, self.initial_memory(), batch)
        obs, example = (acting_inputs.plain(tree, space) for tree in (obs, example))
        obs = jax.tree.map(lambda x, expected: jnp.asarray(x, expected.dtype), obs, example)
        number = () if batch is None else (batch,)
        noise = None if key is None else self.policy.noise(key, number)
        act_each = self.act_once if batch is None else jax.vmap(self.act_once)
        return act_each(obs, memory, noise)

    def act_once(self, obs: PyTree, memory: PyTree, noise: PyTree) -> tuple[PyTree, PyTree]:
        """The action for one observation, the mode without noise, and the next memory."""
        environment = self.policy.environment
        inner, after = memory, lambda memory: memory
        if isinstance(environment, Timed):
            # After the last step that training knew, the time stays.
            time = jnp.minimum(memory.time, environment.time_limit)
            obs, inner = environment.timed(obs, time), memory.policy
            after = lambda inner: TimedMemory(inner, time + 1)
        distribution, inner = self.policy.apply(self.variables, obs, inner)
        action = distribution.mode() if noise is None else distribution.sample(noise)
        return distribution.environment_action(action), after(inner)


class Acting:
    """A policy that acts: an observation, or a batch, to the environment's legal action.

    Compiled at the first call, and for each other shape; agents of one config share the programs.

    Attributes:
      environment: the environment whose observations it takes: that of the config, in its
        wrappers. `environment.reset(key)` and `environment.step(key, env_state, action)` play it.
    """

    def __init__(self, state: TrainState, config: Config) -> None:
        config = checked(config)
        check_state(state, config, ACTING)
        policy = bind(config, state.num_updates).policy
        deployed = Deployed(policy, state.policy_variables)
        self.environment = deployed.environment
        self._space = self.environment.observation_space
        leaves, structure = jax.tree.flatten(deployed)
        self._program, self._leaves = _program(structure), [jnp.asarray(leaf) for leaf in leaves]
        self._initial: dict[int | None, PyTree] = {None: deployed.initial_memory()}
        self._remembers = bool(jax.tree.leaves(self._initial[None]))

    def initial_memory(self, batch: int | None = None) -> PyTree:
        """The memory at an episode's start: arrays, or () for a policy without one.

        Args:
          batch: n ≥ 1, for arrays [n, …] of n episodes; None: of one.

        Raises:
          ValueError, TypeError: another `batch`.
        """
        if batch not in self._initial:
            check_int("batch", batch, 1)
            # Numbers also where something else is traced, as they are kept.
            with jax.ensure_compile_time_eval():
                repeated = jax.tree.map(
                    lambda x: jnp.broadcast_to(x, (batch, *x.shape)), self._initial[None]
                )
            self._initial = {None: self._initial[None], batch: repeated}
        return self._initial[batch]

    def act(
        self,
        obs: PyTree,
        memory: PyTree = None,
        key: Array | None = None,
        deterministic: bool | None = None,
    ) -> tuple[PyTree, PyTree]:
        """The action for an observation, and the memory for the next one.

        The observation is one of `environment`, as it gives it: normalisation, the mask in an entry
        "action_mask", memory and time are the agent's own business. The action is legal: inside a
        Box's bounds, an integer that a mask allows.

        Args:
          obs: one observation, or a batch of n, each array with a first axis; of NumPy or JAX.
          memory: from the call with the observation before; None at an episode's start.
          key: one `jax.random.key`, for sampling; another for each call.
          deterministic: whether to take the distribution's mode; None: without a key.

        Returns:
          The action, or n of them, of NumPy if the observation is, else of JAX; and the memory,
          of JAX, () for a policy without one.

        Raises:
          ValueError: another shape, an entry that is missing or too many, another memory.
          TypeError: another kind of numbers; sampling without a key.
        """
        deterministic = key is None if deterministic is None else bool(deterministic)
        if not deterministic:
            if key is None:
                raise TypeError("deterministic=False samples, which needs key=jax.random.key(seed)")
            check_key(key)
        if isinstance(obs, (list, tuple)) and spaces.children(self._space) is None:
            obs = np.asarray(obs)
        if memory is None:
            memory = self._start(obs) if self._remembers else ()
        arguments = obs, memory, None if deterministic else key
        try:
            action, memory = self._program(self._leaves, *arguments)
        except (TypeError, ValueError):
            acting_inputs.check_arrays("obs", obs)
            acting_inputs.check_arrays("memory", memory)
            raise
        return (action if _of_jax(obs) else jax.tree.map(_as_numpy, action)), memory

    def _start(self, obs: PyTree) -> PyTree:
        return self.initial_memory(acting_inputs.batch_of(obs, self._space))


@functools.lru_cache(maxsize=64)
def _program(structure: Any) -> Callable:
    """The compiled `Deployed.act` of all policies with this structure."""

    def act(leaves: list, obs: PyTree, memory: PyTree, key: Array | None):
        return jax.tree.unflatten(structure, leaves).act(obs, memory, key)

    return jax.jit(act)


def _of_jax(obs: PyTree) -> bool:
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(obs))


def _as_numpy(x: Array) -> Any:
    """A NumPy array; a number where it has no axes, which can be a key of a dict, as in a table."""
    return np.asarray(x)[()]
