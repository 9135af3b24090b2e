"""Stochastic policies π_θ(a | s): a network, and the head of the environment's action space."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import ScopeParamShapeError

from pgjax.core import chunks
from pgjax.core.components import record, static
from pgjax.core.contracts import is_real, require, require_values
from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.environments.interface import Environment
from pgjax.policies import heads, networks, normalizers
from pgjax.policies.distributions import Distribution
from pgjax.policies.heads import Head

NORMALIZER = "normalizer"  # the collection of its statistics
_REMEMBERED = ("features", "the memory after")


class Outputs(NamedTuple):
    """A policy's outputs for one observation.

    Attributes:
      distribution: π(· | s), over the action as it is sampled.
      value: the network's output for a `SharedCritic`, float[] or float[A]; () if it has none.
      memory: the memory after the observation.
    """

    distribution: Distribution
    value: PyTree
    memory: PyTree


class PolicyModule(nn.Module):
    """A network and a head on top of it: one encoded observation -> distribution parameters."""

    network: nn.Module
    head: nn.Module
    value: nn.Module | None = None

    def __call__(self, obs: PyTree, memory: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        """The parameters, the value module's output (() without one), and the next memory.

        Raises:
          ValueError: the network's features are not one vector of floats, or its next memory has
            another structure, shape or dtype than its initial one.
        """
        if networks.has_memory(self.network):
            outputs = self.network(obs, memory)
            require_values("network", self.network, "__call__", _REMEMBERED, outputs)
            features, next_memory = outputs
            memory = networks.checked_memory("network", self.network, memory, next_memory)
        else:
            features = self.network(obs)
        features = networks.vector("network", self.network, features)
        value = () if self.value is None else self.value(features)
        return self.head(features), value, memory

    def replay(self, obs: PyTree, memory: PyTree, starts: Array) -> tuple[PyTree, PyTree]:
        """Parameters and values of a window's rows, [L, …]; see `MemoryNetwork.replay`."""
        outputs = self.network.replay(obs, memory, starts)
        require_values("network", self.network, "replay", _REMEMBERED, outputs)
        features, rows = outputs[0], len(starts)
        right = is_real(features) and jnp.ndim(features) == 2 and features.shape[0] == rows
        contract = f"features float[L, n] of L = {rows} rows, as many as __call__ gives"
        require(right, "network", self.network, "replay", contract, features)
        try:
            value = () if self.value is None else _map_rows(self.value, features)
            return _map_rows(self.head, features), value
        except ScopeParamShapeError:
            require(False, "network", self.network, "replay", contract, features)
            raise


def _map_rows(module: nn.Module, features: Array) -> PyTree:
    """A bound module's outputs for each row of float[L, n]."""
    module, variables = module.unbind()
    return jax.vmap(lambda row: networks.apply_module(module, variables, row))(features)


@record
class Policy:
    """A stochastic policy as pure functions of its variables; one observation at a time.

    Its memory, `()` for most policies, holds what it remembers of an episode's earlier
    observations. Its variables are Flax's, {"params": θ, other collections…}.

    Attributes:
      environment: its spaces decide the encoding and the head.
      head: makes distributions over the environment's actions.
      module: the network, with the head's module on top of it.
      normalizes: whether the network sees observations relative to the running mean and standard
        deviation of all training's observations.
    """

    environment: Environment
    head: Head
    module: PolicyModule = static()
    normalizes: bool = static()

    def with_value(self, value: nn.Module | None) -> "Policy":
        """A copy whose network also predicts a value from its features, by the module `value`."""
        return dataclasses.replace(self, module=self.module.clone(value=value))

    def init(self, key: Array) -> PyTree:
        """Initial variables, drawn with the key."""
        obs = spaces.encode(self.blank_obs(), self._input_space)
        inputs = obs, self.initial_memory()
        variables = networks.initial_variables("network", self.module, key, *inputs)
        if self.normalizes:
            variables = {**variables, NORMALIZER: normalizers.init(obs)}
        return variables

    def blank_obs(self) -> PyTree:
        """An observation of zeros."""
        obs = jax.eval_shape(self.environment.reset, jax.random.key(0))[0]
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), obs)

    def initial_memory(self) -> PyTree:
        """The memory at an episode's start."""
        return networks.initial_memory(self.module.network)

    def apply(self, variables: PyTree, obs: PyTree, memory: PyTree) -> tuple[Distribution, PyTree]:
        """π(· | s), given an observation and the memory before it; and the memory after it.

        Raises:
          ValueError: a memory unlike `initial_memory()`.
        """
        outputs = self.outputs(variables, obs, memory)
        return outputs.distribution, outputs.memory

    def outputs(self, variables: PyTree, obs: PyTree, memory: PyTree) -> Outputs:
        """`apply`, and the value that the network predicts.

        Raises:
          ValueError: a memory unlike `initial_memory()`.
        """
        networks.check_given_memory(self.module.network, memory)
        encoded = self.encode(variables, obs)
        parameters, value, memory = networks.apply_module(
            self.module, _module_variables(variables), encoded, memory
        )
        return Outputs(self._distribution(parameters, obs), value, memory)

    def encode(self, variables: PyTree, obs: PyTree) -> PyTree:
        """The observation in floats, as the network sees it: without its mask, and normalised if
        the policy `normalizes`."""
        encoded = spaces.encode(obs, self._input_space)
        if not self.normalizes:
            return encoded
        return normalizers.normalized(variables[NORMALIZER], encoded)

    def outputs_of_steps(
        self, variables: PyTree, obs: PyTree, memory: PyTree, valid: Array
    ) -> Outputs:
        """`outputs` for n steps, [n, …], or n windows, [n, L, …], from `windowed`.

        In a window, memory starts from the first row's stored memory, is recomputed through the
        window, and is reset where an episode starts.
        """
        if self._window is None:
            return jax.vmap(self.outputs, (None, 0, 0))(variables, obs, memory)
        return jax.vmap(self._window_outputs, (None, 0, 0, 0))(variables, obs, memory, valid)

    def windowed(self, data: PyTree, valid: Array) -> tuple[PyTree, Array]:
        """Data and valid, [T, m, …], in windows [T / L, m, L, …]; unchanged without a memory."""
        return (data, valid) if self._window is None else chunks.windows(data, valid, self._window)

    def update_statistics(self, variables: PyTree, obs: PyTree, valid: Array) -> PyTree:
        """Variables with the observation statistics updated by these observations, [T, m, …]."""
        if not self.normalizes:
            return variables
        encoded = jax.vmap(jax.vmap(lambda x: spaces.encode(x, self._input_space)))(obs)
        return {**variables, NORMALIZER: normalizers.add(variables[NORMALIZER], encoded, valid)}

    def stuck(self, obs: PyTree, valid: Array) -> Array:
        """Whether a mask allowed no action in any of the valid steps [T, m, …]: bool[]."""
        mask = heads.mask(obs, self.environment.observation_space)
        return jnp.any(valid & self.head.excludes_all(mask))

    def noise(self, key: Array, shape: tuple[int, ...]) -> PyTree:
        """The noise that `Distribution.sample` takes, for actions [*shape]."""
        return self.head.noise(key, shape)

    @property
    def _window(self) -> int | None:
        """L, the rows through which memory is recomputed; 0: all rows; None: no memory."""
        return networks.window(self.module.network)

    @property
    def _input_space(self) -> PyTree:
        """The space of the network's inputs: the observation's, without a mask."""
        return heads.without_mask(self.environment.observation_space)

    def _distribution(self, parameters: PyTree, obs: PyTree) -> Distribution:
        mask = heads.mask(obs, self.environment.observation_space)
        return self.head.distribution(parameters, mask)

    def _window_outputs(
        self, variables: PyTree, obs: PyTree, memory: PyTree, valid: Array
    ) -> Outputs:
        """`outputs` for the rows of one window, [L, …]."""
        first_memory = jax.tree.map(lambda x: x[0], memory)
        # A row that follows one without an action is an episode's first.
        starts = jnp.append(False, ~valid[:-1])
        encoded = jax.vmap(lambda row: self.encode(variables, row))(obs)
        inputs = encoded, first_memory, starts
        parameters, value = networks.apply_module(
            self.module, _module_variables(variables), *inputs, method="replay"
        )
        return Outputs(jax.vmap(self._distribution)(parameters, obs), value, ())


def _module_variables(variables: PyTree) -> PyTree:
    """The variables without the observation statistics."""
    return {name: values for name, values in variables.items() if name != NORMALIZER}


def build(
    environment: Environment,
    network: nn.Module,
    distribution: str = "auto",
    normalize_observations: bool = False,
) -> Policy:
    """Builds the policy of a network for an environment.

    Args:
      environment: its spaces decide the encoding and the head.
      network: any Flax module from one encoded observation to features float[n]; a `MemoryNetwork`
        from an observation and a memory to features and a memory.
      distribution: see `heads.of`.
      normalize_observations: whether the network sees observations relative to the running mean
        and standard deviation of all training's observations.

    Raises:
      TypeError: an action space that the distribution cannot cover, a network that is no module.
    """
    networks.check(network)
    head = heads.of(environment, distribution)
    heads.check_mask(head, environment.name, environment.observation_space)
    return Policy(environment, head, PolicyModule(network, head.module()), normalize_observations)
