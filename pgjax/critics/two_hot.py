"""A critic that learns a distribution over values, by classification."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from pgjax.core.components import component, option
from pgjax.core.types import Array, PyTree, Scalar
from pgjax.critics.fitted import NetworkCritic
from pgjax.critics.units import CriticState


@component
class TwoHotCritic(NetworkCritic):
    """A value that is the mean of a distribution over K points, learned by classification.

        V(s) = Σ_k p_k(s) z_k,    p(s) = softmax of the network's outputs,
        loss = −Σ_k q_k(target) log p_k(s),

    with points z_1 … z_K, evenly from −L to L. q is "two-hot": it is on the two points next to the
    target, and its mean is the target. Where the loss is smallest, p is the mean of q over the
    targets of a state, and V their mean, as in regression. On the way there, the distance of p from
    q bounds a step's gradient, not the target's magnitude, so that outliers have less influence.

    z is in the units of `Critic`, standard deviations of the targets around their mean, so that the
    same L suits any scale or offset of rewards. A target beyond L counts as L, which is biased. At
    most a share 1 / L² of all targets can be farther than L standard deviations from their mean.

    Targets, units, passes and reports are those of `Critic`; it, too, has a network of its own. A
    value in the policy's network is learned by regression only, by `SharedCritic`.

    Attributes:
      network: a Flax module as for the policy; None: the policy's architecture, with separate
        parameters. If the policy has a memory, the critic sees that memory too, and None is an
        `MLP`.
      learning_rate: α ≥ 0, of `optax.adam`.
      epochs: passes over the trajectories in each update, ≥ 1.
      minibatches: gradient steps in each pass, ≥ 1.
      td_lambda: λ in [0, 1]; 1: the return to the episode's end, if the trajectory reaches it.
      num_bins: K ≥ 2 points.
      limit: L ≥ 1, standard deviations of the targets.

    Source: Imani & White (2018), Improving regression performance with distributional losses;
      two-hot: Schrittwieser et al. (2020), MuZero, appendix F; Hafner et al. (2023), DreamerV3.
    """

    network: nn.Module | None = None
    learning_rate: float = option(1e-3, low=0.0)
    epochs: int = option(4, low=1)
    minibatches: int = option(4, low=1)
    td_lambda: float = option(0.95, low=0.0, high=1.0)
    num_bins: int = option(51, low=2)
    limit: float = option(10.0, low=1.0)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(K,)."""
        return (self.num_bins,)

    def value(self, output: Float[Array, "*shape K"]) -> Float[Array, "*shape"]:
        """Means, float[…], in the network's units, of distributions given by logits [… K]."""
        points = jnp.linspace(-self.limit, self.limit, self.num_bins)
        return jnp.dot(jax.nn.softmax(output), points, precision="highest")

    def lesson_loss(
        self, state: CriticState, output: Float[Array, "*A K"], lesson: PyTree
    ) -> Float[Array, ""]:
        """The step's loss, float[].

        Args:
          output: logits [K], or [A, K] for all actions.
          lesson: the action; the target and the value before the update, in reward units.
        """
        action, target, _ = lesson
        logits = output[action] if output.ndim > 1 else output
        target_probabilities = two_hot(state.in_units(target) / self.limit, self.num_bins)
        return -jnp.sum(target_probabilities * jax.nn.log_softmax(logits))


def two_hot(value: Scalar, num_bins: int) -> Float[Array, " {num_bins}"]:
    """The distribution over `num_bins` points, evenly from −1 to 1, whose mean is a value, float[],
    and which is 0 except at the two points next to it; a value beyond counts as ±1.

    Returns:
      float[num_bins].

    >>> import jax.numpy as jnp
    >>> print(two_hot(jnp.array(0.25), 5))
    [0.  0.  0.5 0.5 0. ]
    """
    position = (jnp.clip(value, -1.0, 1.0) + 1.0) * (0.5 * (num_bins - 1))
    return jnp.maximum(0.0, 1.0 - jnp.abs(jnp.arange(num_bins) - position))
