"""A critic with a network of its own, fitted by regression after the policy has used it."""

import flax.linen as nn

from pgjax.core.components import component, option
from pgjax.critics.fitted import NetworkCritic
from pgjax.critics.regression import LOSSES, Regression


@component
class Critic(Regression, NetworkCritic):
    """A value with its own network, fitted by regression on λ-returns after the policy's update.

        target_t = V(s_t) + Σ_k (γλ)ᵏ δ_{t+k},    δ as in `GAE`,

    with γ from the estimator. An update's weights come from the critic before it learns from that
    update's trajectories. With a Monte Carlo estimator time limits end the value, as they end its
    returns; with other estimators they do not.

    The network's output is in units of the targets' running standard deviation around their
    running mean, so that the same learning rate suits any scale or offset of rewards. Rewards are
    never scaled. Before its first fit a critic has no units. With a Monte Carlo estimator, its
    values are then 0. With an estimator that bootstraps, mean and deviation are those of the first
    update's targets with V = 0; that update's weights depend on them.

    Reports `explained_variance`, 1 − Var(target − V) / Var(target), and `value_loss`, the mean of
    (target − V)², reward units²: both before fitting, on trajectories that are new to the critic.

    Attributes:
      network: a Flax module as for the policy; None: the policy's architecture, with separate
        parameters. If the policy has a memory, the critic sees that memory too, and None is an
        `MLP` of the same entries of the observation as the policy's network.
      learning_rate: α ≥ 0, of `optax.adam`.
      epochs: passes over the trajectories in each update, ≥ 1.
      minibatches: gradient steps in each pass, ≥ 1.
      td_lambda: λ in [0, 1]; 1: the return to the episode's end, if the trajectory reaches it.
      loss: "squared" or "huber", of the error in units of the targets' standard deviation.
      value_clip: if a number ε ≥ 0, a step stops counting once its value is ε standard deviations
        from its value before the update: PPO's value clipping.

    Source: Sutton & Barto (2018), chapter 12; scaling: van Hasselt et al. (2016), Learning values
      across many orders of magnitude, without their rescaling of the last layer; clipping:
      Schulman et al. (2017), their code.
    """

    network: nn.Module | None = None
    learning_rate: float = option(1e-3, low=0.0)
    epochs: int = option(4, low=1)
    minibatches: int = option(4, low=1)
    td_lambda: float = option(0.95, low=0.0, high=1.0)
    loss: str = option("squared", choices=tuple(LOSSES))
    value_clip: float | None = option(None, low=0.0)
