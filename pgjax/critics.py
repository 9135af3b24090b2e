"""Critics: learned values of states, V(s), or of actions, Q(s, a); of observations as encoded."""

import flax.linen as nn
import jax.numpy as jnp
import optax
from flax import struct

from pgjax import networks
from pgjax.components import Component, component, option
from pgjax.trees import norm
from pgjax.types import Array, PyTree

# The targets' mean and spread are those of the last ten updates, or of so many steps if those are
# more: a few hundred steps tell little, and values move with every change of their units.
_LEAST_UPDATES = 10
_LEAST_STEPS = 25_600
# The unit of targets that are all alike, relative to their mean; and how many times the rounding
# error of that mean their standard deviation must be, for them not to be.
_ALIKE_UNIT = 1e-2
_ROUNDINGS = 8
# A small last layer starts with the mean everywhere: what an untrained network says would be
# standardised into weights as large as any.
_LAST_INIT = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
_LOSSES = {
    "squared": lambda error: 0.5 * jnp.square(error),
    "huber": optax.losses.huber_loss,
}


@struct.dataclass
class CriticState:
    """What a critic has learned.

    Attributes:
      params: of its network, whose outputs are values in units of `unit` around `centre`.
      opt_state: the Optax state.
      centre, scale: float[], reward units; running mean and standard deviation of the targets.
      num_fits: int32[]; how often it was fitted.
    """

    params: PyTree
    opt_state: PyTree
    centre: Array
    scale: Array
    num_fits: Array

    @property
    def unit(self) -> Array:
        """float[], reward units; `scale`, or, where all targets were alike, a share of the mean.

        0 before anything is known of the targets: all values are 0 then, whatever the network says.
        """
        size = jnp.abs(self.centre)
        differ = self.scale > _ROUNDINGS * jnp.finfo(self.scale.dtype).eps * size
        alike = jnp.where(size > 0.0, _ALIKE_UNIT * size, jnp.sign(self.num_fits).astype(float))
        return jnp.where(differ, self.scale, alike)


class ValueModule(nn.Module):
    """A network with a linear output: `outputs` values, or one, a scalar, if that is None."""

    network: nn.Module
    outputs: int | None

    @nn.compact
    def __call__(self, inputs: PyTree) -> Array:
        """One encoded observation (with the action, for Q of continuous ones) -> values."""
        layer = networks.Dense(self.outputs or 1, kernel_init=_LAST_INIT, name="values")
        features = networks.vector("critic.network", self.network, self.network(inputs))
        values = layer(features)
        return values if self.outputs else values[0]


@component
class Critic(Component):
    """How a value is learned: by regression on λ-returns, after the policy has used it.

        target_t = V(s_t) + Σ_k (γλ)ᵏ δ_{t+k},    δ as in `GAE`,

    γ that of the estimator. The critic that an update's weights come from has not seen that
    update's trajectories. With a Monte Carlo estimator time limits end the value, as they end its
    returns; with the others they do not.

    The network's output is in units of the targets' running standard deviation around their
    running mean, so that no scale or offset of rewards needs another learning rate. Rewards are
    never scaled. Before its first fit a critic knows no units. With a Monte Carlo estimator its
    values are 0 then. With one that bootstraps, mean and deviation are those of the first update's
    targets with V = 0; its weights depend on them.

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
        """A critic that has seen no targets; `inputs` as the module's."""
        variables = networks.initial("critic.network", module, key, inputs)
        params = variables.pop("params")
        if variables:
            raise ValueError(
                f"critic.network must have parameters only, got the collections {[*variables]}"
            )
        zero = jnp.zeros(())
        return CriticState(params, self.optimizer().init(params), zero, zero, jnp.int32(0))

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


def rescaled(state: CriticState, mean: Array, deviation: Array, number: Array) -> CriticState:
    """The critic in the units of newer targets, given their mean, standard deviation and number.

    Its values move with them: to where the targets are, before a step is made.
    """
    slowest = jnp.minimum(1.0 / _LEAST_UPDATES, number / _LEAST_STEPS)
    rate = jnp.maximum(1.0 / (state.num_fits + 1.0), slowest)
    shift = mean - state.centre
    # var ← (1 − rate) var + rate (deviation² + (1 − rate) shift²), of numbers of any magnitude.
    kept, moved = jnp.sqrt(1.0 - rate), jnp.sqrt(rate * (1.0 - rate)) * shift
    scale = norm((kept * state.scale, jnp.sqrt(rate) * deviation, moved))
    return state.replace(centre=state.centre + rate * shift, scale=scale)


def value(module: ValueModule, state: CriticState, inputs: PyTree) -> Array:
    """Values of one observation, reward units."""
    return state.centre + state.unit * module.apply({"params": state.params}, inputs)
