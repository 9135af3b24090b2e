"""Critics: learned values of states, V(s), or of actions, Q(s, a); of observations as encoded."""

import flax.linen as nn
import jax.numpy as jnp
import optax
from flax import struct

from pgjax import networks
from pgjax.components import Component, component, option
from pgjax.types import Array, PyTree

# How much of the targets' mean and spread one update replaces, once there are ten.
_SLOWEST_RATE = 0.1
# The least standard deviation of targets, relative to their mean.
_LEAST_SCALE = 1e-2
_LOSSES = {
    "squared": lambda error: 0.5 * jnp.square(error),
    "huber": optax.losses.huber_loss,
}


@struct.dataclass
class CriticState:
    """What a critic has learned.

    Attributes:
      params: of its network, whose outputs are values in units of `scale` around `centre`.
      opt_state: the Optax state.
      centre, scale: float[], reward units; running mean and standard deviation of the targets.
      num_fits: int32[]; how often it was fitted.
    """

    params: PyTree
    opt_state: PyTree
    centre: Array
    scale: Array
    num_fits: Array


class ValueModule(nn.Module):
    """A network with a linear output: `outputs` values, or one, a scalar, if that is None."""

    network: nn.Module
    outputs: int | None

    @nn.compact
    def __call__(self, inputs: PyTree) -> Array:
        """One encoded observation (with the action, for Q of continuous ones) -> values."""
        values = networks.Dense(self.outputs or 1, name="values")(self.network(inputs))
        return values if self.outputs else values[0]


@component
class Critic(Component):
    """How a value is learned: by regression on λ-returns, after the policy has used it.

        target_t = V(s_t) + Σ_k (γλ)ᵏ δ_{t+k},    δ as in `GAE`,

    γ that of the estimator. The critic that an update's weights come from has not seen that
    update's trajectories. With a Monte Carlo estimator time limits end the value, as they end its
    returns; with the others they do not.

    The network's output is in units of the targets' running standard deviation around their running
    mean, so that no scale of rewards needs another learning rate. Rewards are never scaled.

    Reports `explained_variance`, 1 − Var(target − V) / Var(target), and `value_loss`, the mean of
    (target − V)², reward units²: both before fitting, on trajectories that it has not seen.

    Attributes:
      network: a Flax module as for the policy; None: the policy's architecture, its own parameters.
        It sees what a policy with a memory remembers, and then is an `MLP` unless given.
      learning_rate: α ≥ 0, of `optax.adam`.
      epochs: passes over the trajectories in each update, ≥ 1.
      minibatches: gradient steps in each pass, ≥ 1.
      td_lambda: λ in [0, 1]; 1: the return to the episode's end, where it has one.
      loss: "squared" or "huber", of the error in units of the targets' standard deviation.
      value_clip: if a number ε ≥ 0, a step counts no more once its value has moved by ε standard
        deviations from what it was before the update: PPO's value clipping.

    Source: Sutton & Barto (2018), chapter 12; scaling: van Hasselt et al. (2016), Learning values
      across many orders of magnitude, without their rescaling of the last layer; clipping:
      Schulman et al. (2017), their code.
    """

    network: nn.Module | None = None
    learning_rate: float = option(1e-3, low=0.0)
    epochs: int = option(4, low=1)
    minibatches: int = option(4, low=1)
    td_lambda: float = option(0.95, low=0.0, high=1.0)
    loss: str = option("squared", choices=tuple(_LOSSES))
    value_clip: float | None = option(None, low=0.0)

    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.adam(self.learning_rate)

    def init(self, key: Array, module: ValueModule, inputs: PyTree) -> CriticState:
        """A critic of mean 0 and scale 1 that has learned nothing; `inputs` as the module's."""
        params = module.init(key, inputs)["params"]
        zero = jnp.zeros(())
        return CriticState(params, self.optimizer().init(params), zero, zero + 1.0, jnp.int32(0))

    def descend(self, gradient: PyTree, state: CriticState) -> CriticState:
        """One step of the optimizer."""
        updates, opt_state = self.optimizer().update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state.replace(params=params, opt_state=opt_state)

    def step_loss(self, value: Array, old: Array, target: Array) -> Array:
        """The loss of one step; all three in the network's units."""
        loss = _LOSSES[self.loss](value - target)
        if self.value_clip is None:
            return loss
        near = old + jnp.clip(value - old, -self.value_clip, self.value_clip)
        return jnp.maximum(loss, _LOSSES[self.loss](near - target))


def rescaled(state: CriticState, mean: Array, deviation: Array) -> CriticState:
    """The critic in the units of newer targets, given their mean and standard deviation.

    Its values move with them: to where the targets are, before a step is made.
    """
    rate = jnp.maximum(1.0 / (state.num_fits + 1.0), _SLOWEST_RATE)
    centre = state.centre + rate * (mean - state.centre)
    spread = jnp.square(deviation) + (1.0 - rate) * jnp.square(mean - state.centre)
    square = state.scale**2 + rate * (spread - state.scale**2)
    # Targets that are all alike have no scale of their own.
    scale = jnp.maximum(jnp.sqrt(jnp.maximum(square, 0.0)), _LEAST_SCALE * jnp.abs(centre))
    scale = jnp.where(scale > 0.0, scale, 1.0)
    return state.replace(centre=centre, scale=scale)


def value(module: ValueModule, state: CriticState, inputs: PyTree) -> Array:
    """Values of one observation, reward units."""
    return state.centre + state.scale * module.apply({"params": state.params}, inputs)
