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
    """A value as the mean of a distribution over K places, learned by classification.

        V(s) = Σ_k p_k(s) z_k,    p(s) = softmax of the network's outputs,
        loss = −Σ_k q_k(target) log p_k(s),

    z_1 … z_K evenly from −L to L; q, "two-hot", is on the two places next to the target, with the
    target for its mean. At its least, p is the mean of q over the targets of a state, and V their
    mean: what regression finds. On the way, the gradient of a step is bounded by the distance
    of p from q, not by the target's magnitude, so that outliers do less.

    z is in the units of `Critic`, standard deviations of the targets around their mean, so that no
    scale or offset of rewards needs another L. A target beyond L counts as L: biased then. At most
    a share 1 / L² of all targets can be farther than L standard deviations from their mean.

    Targets, units, passes and reports are those of `Critic`, and so is a network of its own; in the
    policy's network there is `SharedCritic` only, by regression.

    Attributes:
      network: a Flax module as for the policy; None: the policy's architecture, its own parameters.
        It sees what a policy with a memory remembers, and then is an `MLP` unless given.
      learning_rate: α ≥ 0, of `optax.adam`.
      epochs: passes over the trajectories in each update, ≥ 1.
      minibatches: gradient steps in each pass, ≥ 1.
      td_lambda: λ in [0, 1]; 1: the return to the episode's end, where it has one.
      num_bins: K ≥ 2 places.
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
        """Means, float[…], in units, of distributions given by logits [… K]."""
        places = jnp.linspace(-self.limit, self.limit, self.num_bins)
        return jnp.dot(jax.nn.softmax(output), places, precision="highest")

    def lesson_loss(
        self, state: CriticState, output: Float[Array, "*A K"], lesson: PyTree
    ) -> Float[Array, ""]:
        """The step's loss, float[].

        Args:
          output: logits [K]; of all actions, [A, K].
          lesson: the action, the target and what was said before the update; reward units.
        """
        action, target, _ = lesson
        logits = output[action] if output.ndim > 1 else output
        wanted = two_hot(state.in_units(target) / self.limit, self.num_bins)
        return -jnp.sum(wanted * jax.nn.log_softmax(logits))


def two_hot(value: Scalar, num_bins: int) -> Float[Array, " {num_bins}"]:
    """The distribution on the two of `num_bins` places, evenly from −1 to 1, next to a value, with
    the value, float[], for its mean; on the last place for one beyond: float[num_bins].

    >>> import jax.numpy as jnp
    >>> print(two_hot(jnp.array(0.25), 5))
    [0.  0.  0.5 0.5 0. ]
    """
    place = (jnp.clip(value, -1.0, 1.0) + 1.0) * (0.5 * (num_bins - 1))
    return jnp.maximum(0.0, 1.0 - jnp.abs(jnp.arange(num_bins) - place))
