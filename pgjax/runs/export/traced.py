"""A policy's action as a program of JAX's primitives, with its weights and inputs by name."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from pgjax.core.components import record, static
from pgjax.core.trees import map_children
from pgjax.core.types import PyTree, TrainState
from pgjax.policies.heads import Head, JointHead
from pgjax.study.acting import Deployed
from pgjax.study.acting_inputs import plain
from pgjax.training.config import Config, bind, checked
from pgjax.training.training import ACTING, check_state


class Inputs(NamedTuple):
    """The inputs of an exported policy, one observation's.

    Attributes:
      obs: as dicts and tuples of arrays.
      memory: a tuple of arrays, empty for a policy without a memory.
      noise: a tuple of arrays, empty for a policy that takes the mode.
    """

    obs: PyTree
    memory: tuple
    noise: tuple


@record
class Exported:
    """A policy to export; a pytree of its numbers.

    Attributes:
      deployed: the policy with its variables.
      deterministic: whether actions are modes; else samples, from noise that is an input.
    """

    deployed: Deployed
    deterministic: bool = static()

    def __call__(self, inputs: Inputs) -> tuple[PyTree, tuple]:
        """The action, as dicts and tuples, and the next memory, a tuple."""
        policy, structure = self.deployed.policy, jax.tree.structure(self.initial())
        memory = jax.tree.unflatten(structure, inputs.memory)
        noise = None
        if not self.deterministic:
            noise = jax.tree.unflatten(self.noise_structure(), inputs.noise)
        action, memory = self.deployed.act_once(inputs.obs, memory, noise)
        action = plain(action, policy.environment.action_space)
        return action, tuple(jax.tree.leaves(memory))

    def initial(self) -> PyTree:
        """The memory at an episode's start."""
        return self.deployed.initial_memory()

    def example(self) -> Inputs:
        """Shapes and dtypes of the inputs."""
        environment = self.deployed.environment
        obs = jax.eval_shape(environment.reset, jax.random.key(0))[0]
        memory = tuple(jax.tree.leaves(jax.eval_shape(self.initial)))
        noise = () if self.deterministic else tuple(jax.tree.leaves(self._noise()))
        return Inputs(plain(obs, environment.observation_space), memory, noise)

    def batch(self) -> Inputs:
        """`example` for n observations, any number: shapes begin with a symbol."""
        (number,) = export.symbolic_shape("n")
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((number, *x.shape), x.dtype), self.example()
        )

    def noise_kinds(self) -> tuple[str, ...]:
        """How each array of noise is drawn, as a method of NumPy's `Generator`.

        Raises:
          ValueError: noise that is no array of uniform or normal numbers.
        """
        if self.deterministic:
            return ()
        return tuple(jax.tree.leaves(_noise_kinds(self.deployed.policy.head)))

    def noise_structure(self) -> Any:
        """The structure of the noise as the head takes it; that of () for modes."""
        return jax.tree.structure(() if self.deterministic else self._noise())

    def _noise(self) -> PyTree:
        return jax.eval_shape(lambda key: self.deployed.policy.noise(key, ()), jax.random.key(0))


def exported(state: TrainState, config: Config, deterministic: bool) -> Exported:
    """The policy of a state, to be exported.

    Raises:
      ValueError, TypeError: state and config do not belong together, or samples need noise that is
        neither uniform nor normal.
    """
    config = checked(config)
    check_state(state, config, ACTING)
    policy = bind(config, state.num_updates).policy
    policy = jax.tree.map(jnp.asarray, policy)
    result = Exported(Deployed(policy, state.policy_variables), deterministic)
    result.noise_kinds()
    return result


def weights(exported: Exported) -> tuple[list[str], list[Any], Callable]:
    """The numbers of a policy: their names, their values, and the policy as a function of them."""
    paths, structure = jax.tree_util.tree_flatten_with_path(exported.deployed)
    names = [_name(jax.tree_util.keystr(path)) for path, _ in paths]

    def call(values: list, inputs: Inputs) -> tuple[PyTree, tuple]:
        deployed = jax.tree.unflatten(structure, values)
        return Exported(deployed, exported.deterministic)(inputs)

    return names, [leaf for _, leaf in paths], call


def save_memory(exported: Exported, path: Path) -> None:
    """Writes the memory at an episode's start: the arrays memory_0, memory_1, …, of NumPy."""
    initial = enumerate(jax.tree.leaves(exported.initial()))
    memory: dict[str, Any] = {f"memory_{i}": np.asarray(x) for i, x in initial}
    np.savez(path, **memory)


def _name(path: str) -> str:
    """A path as a name of Python: ".variables['params']['head']['bias']" is "head_bias"."""
    words = [word for word in re.split(r"\W+", path) if word]
    dropped = ("variables", "params", "policy", "environment")
    return "_".join(word for word in words if word not in dropped) or "number"


def _noise_kinds(head: Head) -> PyTree:
    if isinstance(head, JointHead):
        return map_children(_noise_kinds, head.parts)
    if "Categorical" in head.family:
        return "random"
    if "Normal" in head.family:
        return "standard_normal"
    raise ValueError(
        f"samples of {head.family} are drawn by rejection, from a key and not from noise that "
        "could be an input: export the mode, deterministic=True (--deterministic)"
    )
