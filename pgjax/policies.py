"""Stochastic policies π_θ(a | s): a network, and a head that the action space chooses."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from pgjax import heads, networks, normalizers
from pgjax.distributions import Distribution
from pgjax.environments import Environment
from pgjax.heads import Head
from pgjax.types import Array, PyTree, Remembered

DISTRIBUTIONS = heads.DISTRIBUTIONS
_NORMALIZER = "normalizer"


class PolicyModule(nn.Module):
    """A network and a head on top of it: one encoded observation -> distribution parameters."""

    network: nn.Module
    head: nn.Module

    def __call__(self, obs: PyTree, memory: PyTree = None) -> tuple[tuple[Array, ...], PyTree]:
        """The parameters and the memory after the observation, None of a network without one.

        Raises:
          ValueError: the network does not give one vector of floats.
        """
        if networks.has_memory(self.network):
            features, memory = self.network(obs, memory)
        else:
            features = self.network(obs)
        return self.head(networks.vector("network", self.network, features)), memory


class Policy(NamedTuple):
    """A stochastic policy as pure functions of its variables; one observation at a time.

    What the policy sees of a step is the observation, or, with a memory, `Remembered`.

    Attributes:
      init: key -> Flax variables, {"params": θ, other collections…}.
      begin: obs -> what it sees of an episode's first observation.
      follow: (variables, seen, obs) -> what it sees next, after `seen`.
      encode: (variables, seen) -> the same in floats, for a network.
      apply: (variables, seen) -> Distribution.
      replay: (variables, seen [n, …], valid bool[n]) -> Distribution, each leaf [n, …]. With a
        memory: [n, L, …] and bool[n, L], windows of L rows, in which the memory is computed anew
        from the first row's on, and is what was seen wherever an episode starts.
      window: L, or None without a memory; 0: all rows.
      observe: (variables, seen [T, m, …], valid bool[T, m]) -> variables whose statistics of
        observations have seen these.
      stuck: (seen [T, m, …], valid bool[T, m]) -> bool[], whether in a step that was taken a mask
        allowed no action.
      noise: (key, batch_shape) -> the noise that `Distribution.sample` takes, one per action.
    """

    init: Callable[[Array], PyTree]
    begin: Callable[[PyTree], PyTree]
    follow: Callable[[PyTree, PyTree, PyTree], PyTree]
    encode: Callable[[PyTree, PyTree], PyTree]
    apply: Callable[[PyTree, PyTree], Distribution]
    replay: Callable[[PyTree, PyTree, Array], Distribution]
    window: int | None
    observe: Callable[[PyTree, PyTree, Array], PyTree]
    stuck: Callable[[PyTree, Array], Array]
    noise: Callable[[Array, tuple[int, ...]], Array]


def build(
    environment: Environment,
    network: nn.Module,
    distribution: str = "auto",
    normalize_observations: bool = False,
) -> Policy:
    """The policy of a network for an environment.

    Args:
      environment: its spaces decide the encoding and the head.
      network: any Flax module from one encoded observation to features float[n]; if it has a
        method `initial_memory`, from an observation and a memory to features and a memory.
      distribution: as for `heads.of`.
      normalize_observations: whether the network sees observations relative to the running mean
        and standard deviation of those seen in training.

    Raises:
      TypeError: an action space that the distribution cannot cover, a network that is no module.
    """
    networks.check(network)
    head = heads.of(environment, distribution)
    mask_space = heads.mask_space(environment.observation_space)
    if mask_space is not None:
        head.check_mask(environment.name, mask_space)
    module = PolicyModule(network, head.module())
    functions = _Functions(environment, module, head, normalize_observations)
    recurrent = functions.recurrent
    return Policy(
        init=functions.init,
        begin=functions.begin,
        follow=functions.follow,
        encode=functions.encode,
        apply=functions.apply,
        replay=functions.replay,
        window=(getattr(network, "window", None) or 0) if recurrent else None,
        observe=functions.observe,
        stuck=functions.stuck,
        noise=head.noise,
    )


class _Functions(NamedTuple):
    """What the functions of a `Policy` share; they are its methods, where they are not trivial."""

    environment: Environment
    module: PolicyModule
    head: Head
    normalizes: bool

    @property
    def recurrent(self) -> bool:
        return networks.has_memory(self.module.network)

    def mask(self, obs: PyTree) -> PyTree:
        return heads.mask(obs, self.environment.observation_space)

    def plain(self, obs: PyTree) -> PyTree:
        return networks.encode(obs, heads.without_mask(self.environment.observation_space))

    def encoded(self, variables: PyTree, obs: PyTree) -> PyTree:
        """An observation in floats, normalised if it is to be."""
        plain = self.plain(obs)
        return normalizers.normalized(variables[_NORMALIZER], plain) if self.normalizes else plain

    def init(self, key: Array) -> PyTree:
        obs = jax.eval_shape(self.environment.reset, jax.random.key(0))[0]
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), obs)
        first = self.plain(zeros)
        memory = [self.module.network.initial_memory()] if self.recurrent else []
        variables = networks.initial("network", self.module, key, first, *memory)
        if self.normalizes:
            variables = {**variables, _NORMALIZER: normalizers.init(first)}
        return variables

    def begin(self, obs: PyTree) -> PyTree:
        return Remembered(obs, self.module.network.initial_memory()) if self.recurrent else obs

    def run(self, variables: PyTree, obs: PyTree, memory: PyTree) -> tuple[Distribution, PyTree]:
        """The distribution, and the memory after the observation."""
        ours = {name: found for name, found in variables.items() if name != _NORMALIZER}
        parameters, memory = self.module.apply(ours, self.encoded(variables, obs), memory)
        return self.head.distribution(parameters, self.mask(obs)), memory

    def follow(self, variables: PyTree, seen: PyTree, obs: PyTree) -> PyTree:
        if not self.recurrent:
            return obs
        return Remembered(obs, self.run(variables, seen.obs, seen.memory)[1])

    def encode(self, variables: PyTree, seen: PyTree) -> PyTree:
        if not self.recurrent:
            return self.encoded(variables, seen)
        return {"obs": self.encoded(variables, seen.obs), "memory": seen.memory}

    def apply(self, variables: PyTree, seen: PyTree) -> Distribution:
        parts = (seen.obs, seen.memory) if self.recurrent else (seen, None)
        return self.run(variables, *parts)[0]

    def replay(self, variables: PyTree, seen: PyTree, valid: Array) -> Distribution:
        if self.recurrent:
            return jax.vmap(self.replay_window, (None, 0, 0))(variables, seen, valid)
        return jax.vmap(self.apply, (None, 0))(variables, seen)

    def replay_window(self, variables: PyTree, seen: PyTree, valid: Array) -> Distribution:
        """Of one window, [L, …]."""

        def row(memory, inputs):
            seen, starts = inputs
            memory = jax.tree.map(lambda old, x: jnp.where(starts, x, old), memory, seen.memory)
            distribution, memory = self.run(variables, seen.obs, memory)
            return memory, distribution

        first = jax.tree.map(lambda x: x[0], seen.memory)
        # A row that follows one in which nothing was done is an episode's first.
        starts = jnp.append(True, ~valid[:-1])
        return jax.lax.scan(row, first, (seen, starts))[1]

    def observe(self, variables: PyTree, seen: PyTree, valid: Array) -> PyTree:
        if not self.normalizes:
            return variables
        obs = seen.obs if self.recurrent else seen
        plain = jax.vmap(jax.vmap(self.plain))(obs)
        return {**variables, _NORMALIZER: normalizers.add(variables[_NORMALIZER], plain, valid)}

    def stuck(self, seen: PyTree, valid: Array) -> Array:
        obs = seen.obs if self.recurrent else seen
        return jnp.any(valid & self.head.excludes_all(self.mask(obs)))
