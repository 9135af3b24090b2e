"""Stochastic policies π_θ(a | s): a network, and a head that the action space chooses."""

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

_NORMALIZER = "normalizer"
_REMEMBERED = ("features", "the memory after")


class Outputs(NamedTuple):
    """What a policy makes of one observation.

    Attributes:
      distribution: π(· | s), over the action as it is sampled.
      value: what the network says of the state's value, float[] or float[A]; () of one that says
        nothing.
      memory: after the observation.
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
        """The parameters, the value's output, () without one, and the memory after the observation.

        Raises:
          ValueError: the network does not give one vector of floats, or a memory unlike the first.
        """
        if networks.has_memory(self.network):
            outputs = self.network(obs, memory)
            require_values("network", self.network, "__call__", _REMEMBERED, outputs)
            features, after = outputs
            memory = networks.kept("network", self.network, memory, after)
        else:
            features = self.network(obs)
        features = networks.vector("network", self.network, features)
        value = () if self.value is None else self.value(features)
        return self.head(features), value, memory

    def replay(self, obs: PyTree, memory: PyTree, starts: Array) -> tuple[PyTree, PyTree]:
        """Parameters and value's outputs of a window, [L, …]; see `MemoryNetwork.replay`."""
        outputs = self.network.replay(obs, memory, starts)
        require_values("network", self.network, "replay", _REMEMBERED, outputs)
        features, rows = outputs[0], len(starts)
        right = is_real(features) and jnp.ndim(features) == 2 and features.shape[0] == rows
        contract = f"features float[L, n] of L = {rows} rows, as many as __call__ gives"
        require(right, "network", self.network, "replay", contract, features)
        try:
            value = () if self.value is None else _for_rows(self.value, features)
            return _for_rows(self.head, features), value
        except ScopeParamShapeError:
            require(False, "network", self.network, "replay", contract, features)
            raise


def _for_rows(module: nn.Module, features: Array) -> PyTree:
    """A bound module's outputs of float[L, n]."""
    module, variables = module.unbind()
    return jax.vmap(lambda row: networks.applied(module, variables, row))(features)


@record
class Policy:
    """A stochastic policy as pure functions of its variables; one observation at a time.

    Its memory, `()` for most, is what it knows of the observations before; variables are Flax's,
    {"params": θ, other collections…}.

    Attributes:
      environment: its spaces decide the encoding and the head.
      head: over the environment's actions.
      module: the network, and a head's on top of it.
      normalizes: whether the network sees observations relative to the running mean and standard
        deviation of those seen in training.
    """

    environment: Environment
    head: Head
    module: PolicyModule = static()
    normalizes: bool = static()

    def with_value(self, value: nn.Module | None) -> "Policy":
        """The same, whose network's features also give a value."""
        return dataclasses.replace(self, module=self.module.clone(value=value))

    def init(self, key: Array) -> PyTree:
        """Fresh variables."""
        first = spaces.encode(self.blank_obs(), self._input_space)
        variables = networks.initial("network", self.module, key, first, self.initial_memory())
        if self.normalizes:
            variables = {**variables, _NORMALIZER: normalizers.init(first)}
        return variables

    def blank_obs(self) -> PyTree:
        """An observation of zeros."""
        obs = jax.eval_shape(self.environment.reset, jax.random.key(0))[0]
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), obs)

    def initial_memory(self) -> PyTree:
        """The memory at an episode's start."""
        return networks.initial_memory(self.module.network)

    def apply(self, variables: PyTree, obs: PyTree, memory: PyTree) -> tuple[Distribution, PyTree]:
        """π(· | s) of an observation and the memory before it; and the memory after it.

        Raises:
          ValueError: a memory unlike `initial_memory()`.
        """
        found = self.outputs(variables, obs, memory)
        return found.distribution, found.memory

    def outputs(self, variables: PyTree, obs: PyTree, memory: PyTree) -> Outputs:
        """`apply`, with the network's value of the state beside it.

        Raises:
          ValueError: a memory unlike `initial_memory()`.
        """
        networks.check_given_memory(self.module.network, memory)
        encoded = self.encode(variables, obs)
        parameters, value, memory = networks.applied(
            self.module, _plain(variables), encoded, memory
        )
        return Outputs(self._distribution(parameters, obs), value, memory)

    def encode(self, variables: PyTree, obs: PyTree) -> PyTree:
        """The observation in floats, as the network sees it: without a mask, and normalised if it
        is to be."""
        plain = spaces.encode(obs, self._input_space)
        return normalizers.normalized(variables[_NORMALIZER], plain) if self.normalizes else plain

    def replay(self, variables: PyTree, obs: PyTree, memory: PyTree, valid: Array) -> Outputs:
        """`outputs` of steps as `arranged` has them side by side, [n, …]: of windows [n, L, …], the
        memory is computed anew from the first row's on."""
        if self._window is None:
            return jax.vmap(self.outputs, (None, 0, 0))(variables, obs, memory)
        return jax.vmap(self._replay_window, (None, 0, 0, 0))(variables, obs, memory, valid)

    def arranged(self, data: PyTree, valid: Array) -> tuple[PyTree, Array]:
        """Data and valid, [T, m, …], for `replay`: as they are, or, where a memory is to be
        computed anew, in windows [T / L, m, L, …]."""
        return (data, valid) if self._window is None else chunks.windows(data, valid, self._window)

    def update_statistics(self, variables: PyTree, obs: PyTree, valid: Array) -> PyTree:
        """Variables whose statistics of observations have seen these, [T, m, …]."""
        if not self.normalizes:
            return variables
        plain = jax.vmap(jax.vmap(lambda x: spaces.encode(x, self._input_space)))(obs)
        return {**variables, _NORMALIZER: normalizers.add(variables[_NORMALIZER], plain, valid)}

    def stuck(self, obs: PyTree, valid: Array) -> Array:
        """Whether in a step that was taken, of [T, m, …], a mask allowed no action: bool[]."""
        mask = heads.mask(obs, self.environment.observation_space)
        return jnp.any(valid & self.head.excludes_all(mask))

    def noise(self, key: Array, shape: tuple[int, ...]) -> PyTree:
        """The noise that `Distribution.sample` takes, for actions [*shape]."""
        return self.head.noise(key, shape)

    @property
    def _window(self) -> int | None:
        """Rows in which a memory is computed anew; 0: all; None: there is none to compute."""
        return networks.window(self.module.network)

    @property
    def _input_space(self) -> PyTree:
        """The space of what the network sees."""
        return heads.without_mask(self.environment.observation_space)

    def _distribution(self, parameters: PyTree, obs: PyTree) -> Distribution:
        mask = heads.mask(obs, self.environment.observation_space)
        return self.head.distribution(parameters, mask)

    def _replay_window(
        self, variables: PyTree, obs: PyTree, memory: PyTree, valid: Array
    ) -> Outputs:
        """The outputs of one window, [L, …]."""
        first = jax.tree.map(lambda x: x[0], memory)
        # A row that follows one in which nothing was done is an episode's first.
        starts = jnp.append(False, ~valid[:-1])
        encoded = jax.vmap(lambda one: self.encode(variables, one))(obs)
        inputs = encoded, first, starts
        parameters, value = networks.applied(
            self.module, _plain(variables), *inputs, method="replay"
        )
        return Outputs(jax.vmap(self._distribution)(parameters, obs), value, ())


def _plain(variables: PyTree) -> PyTree:
    """Those of the module."""
    return {name: found for name, found in variables.items() if name != _NORMALIZER}


def build(
    environment: Environment,
    network: nn.Module,
    distribution: str = "auto",
    normalize_observations: bool = False,
) -> Policy:
    """The policy of a network for an environment.

    Args:
      environment: its spaces decide the encoding and the head.
      network: any Flax module from one encoded observation to features float[n]; a `MemoryNetwork`
        from an observation and a memory to features and a memory.
      distribution: see `heads.of`.
      normalize_observations: whether the network sees observations relative to the running mean
        and standard deviation of those seen in training.

    Raises:
      TypeError: an action space that the distribution cannot cover, a network that is no module.
    """
    networks.check(network)
    head = heads.of(environment, distribution)
    heads.check_mask(head, environment.name, environment.observation_space)
    return Policy(environment, head, PolicyModule(network, head.module()), normalize_observations)
