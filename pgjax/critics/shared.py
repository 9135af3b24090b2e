"""A critic that shares the policy's network."""

import flax.linen as nn
import jax.numpy as jnp

from pgjax.core.components import component, option, record
from pgjax.core.types import Array, PyTree, Scalar
from pgjax.critics import units
from pgjax.critics.base import BoundCritic, Setting
from pgjax.critics.learned import Learned
from pgjax.critics.regression import LAST_INIT, LOSSES, Regression
from pgjax.critics.units import CriticState
from pgjax.estimators.estimator import Estimator, Values
from pgjax.policies import distributions, networks
from pgjax.policies.heads import Head


class ValueOutput(nn.Module):
    """A linear layer with `outputs` values, or, if that is None, one scalar."""

    outputs: int | None

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """float[n] -> float[outputs] or float[]."""
        values = networks.Dense(self.outputs or 1, kernel_init=LAST_INIT)(features)
        return values if self.outputs else values[0]


@component
class SharedCritic(Regression):
    """A value that is a second output of the policy's network, learned in the same gradient.

        objective(θ) − c · (1/m) Σ_i Σ_t loss(V_θ(s_t), target_t)

    with the objective's sums (means over steps, for `Segments`), and with targets, units and
    reports as for `Critic`. It needs one pass through one network, where a `Critic` has another
    network, other passes and another optimizer. But the value's gradient changes the policy's
    features, and both share the learning rate and the bound on the gradient.

    It does not work with `TrustRegion`, which bounds the change of the policy only, nor with
    `ActionValue` unless actions are discrete, since the policy's network does not see the action.

    Attributes:
      value_coefficient: c ≥ 0.
      td_lambda: λ in [0, 1]; 1: the return to the episode's end, if the trajectory reaches it.
      loss: "squared" or "huber", of the error in units of the targets' standard deviation.
      value_clip: as for `Critic`.

    Source: Mnih et al. (2016), A3C; Schulman et al. (2017), eq. 9.
    """

    value_coefficient: float = option(0.5, low=0.0)
    td_lambda: float = option(0.95, low=0.0, high=1.0)
    loss: str = option("squared", choices=tuple(LOSSES))
    value_clip: float | None = option(None, low=0.0)

    def bound(self, setting: Setting) -> BoundCritic:
        """The critic, in the policy's network."""
        return Shared(self, setting)

    def policy_module(self, estimator: Estimator, head: Head) -> nn.Module:
        """The second output."""
        if estimator.critic != "actions":
            return ValueOutput(None)
        if head.num_actions is None:
            raise TypeError(
                f"critic SharedCritic() gives {type(estimator).__name__} no value of an action in "
                f"{head}, which the policy's network does not see: use critic=Critic()"
            )
        return ValueOutput(head.num_actions)


@record
class Shared(Learned):
    """A `SharedCritic` in its setting."""

    critic: SharedCritic
    setting: Setting

    joint = True

    @property
    def td_lambda(self) -> Scalar:
        """λ of the targets."""
        return self.critic.td_lambda

    def start(self, key: Array) -> CriticState:
        """The state before any targets; the parameters are the policy's."""
        return units.initial_state((), ())

    def values(self, state: CriticState, obs: PyTree, memory: PyTree, action: PyTree) -> Values:
        """The step's value, and the probability of each action."""
        outputs = self.setting.policy.outputs(self.setting.variables, obs, memory)
        value = state.in_rewards(outputs.value)
        if self.setting.estimator.critic == "states":
            return Values(value)
        probability = distributions.probabilities(outputs.distribution)
        return Values(jnp.sum(probability * value), value, probability)

    def loss(self, state: CriticState, output: PyTree, lesson: PyTree) -> Array:
        """The step's loss, times c."""
        return self.critic.value_coefficient * self.critic.lesson_loss(state, output, lesson)
