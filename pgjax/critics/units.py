"""The units of a critic's values, and its targets: what learned critics share."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Bool, Float, Int, Int32

from pgjax.core.chunks import mean_over
from pgjax.core.trees import exponent, norm
from pgjax.core.types import Array, PyTree, Record, Scalar, Trajectories
from pgjax.estimators.estimator import Estimator, Values
from pgjax.estimators.returns import advantages

# The targets' mean and spread are those of the last ten updates, or of so many steps if those are
# more: a few hundred steps tell little, and values move with every change of their units.
_LEAST_UPDATES = 10
_LEAST_STEPS = 25_600
# The unit of targets that are all alike, relative to their mean; and how many times the rounding
# error of that mean their standard deviation must be, for them not to be.
_ALIKE_UNIT = 1e-2
_ROUNDINGS = 8


@struct.dataclass
class CriticState(Record):
    """What a critic has learned.

    Attributes:
      params: of its network, whose outputs are values in units of `unit` around `centre`.
      opt_state: the Optax state.
      centre, scale: float[], reward units; running mean and standard deviation of the targets.
      num_fits: int32[]; how often it was fitted.
    """

    params: PyTree
    opt_state: PyTree
    centre: Float[Array, ""]
    scale: Float[Array, ""]
    num_fits: Int32[Array, ""]

    @property
    def unit(self) -> Float[Array, ""]:
        """float[], reward units; `scale`, or, where all targets were alike, a share of the mean.

        0 before anything is known of the targets: all values are 0 then, whatever the network says.
        """
        size = jnp.abs(self.centre)
        differ = self.scale > _ROUNDINGS * jnp.finfo(self.scale.dtype).eps * size
        alike = jnp.where(size > 0.0, _ALIKE_UNIT * size, jnp.sign(self.num_fits).astype(float))
        return jnp.where(differ, self.scale, alike)

    def in_units(self, value: Array) -> Array:
        """A value in the network's units."""
        return (value - self.centre) / self.unit

    def in_rewards(self, output: Array) -> Array:
        """What the network says, in reward units."""
        return self.centre + self.unit * output


def unknown(params: PyTree, opt_state: PyTree) -> CriticState:
    """A critic that has seen no targets."""
    zero = jnp.zeros(())
    return CriticState(params, opt_state, zero, zero, jnp.int32(0))


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


def prepared(
    state: CriticState, trajectories: Trajectories, estimator: Estimator, trace: Scalar
) -> CriticState:
    """The state, with the units of these trajectories' targets for a critic that has none yet.

    They are targets with V = 0, λ-sums of rewards. Monte Carlo estimators promise that weights do
    not depend on what the critic has seen in the same update, and begin with V = 0.
    """
    if not estimator.bootstraps:
        return state
    valid = trajectories.valid
    nothing = jnp.zeros((valid.shape[0] + 1, valid.shape[1]))
    found = targets(trajectories, nothing, estimator, trace)
    informed = rescaled(state, *mean_and_deviation(found, valid), jnp.sum(valid))
    first = state.num_fits == 0
    return jax.tree.map(lambda new, old: jnp.where(first, new, old), informed, state)


def lesson(
    state: CriticState,
    trajectories: Trajectories,
    values: Values,
    estimator: Estimator,
    trace: Scalar,
) -> tuple[CriticState, tuple[Array, Array], dict[str, Array]]:
    """The state in the units of the targets; targets and what was predicted, float[T, m]; and what
    a critic says of its errors before it is fitted."""
    wanted = targets(trajectories, values.state, estimator, trace)
    predicted = values.state[:-1]
    if values.action is not None:
        discrete = values.probability is not None
        predicted = of_taken(values.action, trajectories.action) if discrete else values.action
    valid = trajectories.valid
    mean, deviation = mean_and_deviation(wanted, valid)
    report = _report(wanted - predicted, deviation, valid)
    state = rescaled(state, mean, deviation, jnp.sum(valid))
    return state.replace(num_fits=state.num_fits + 1), (wanted, predicted), report


def targets(
    trajectories: Trajectories, values: Array, estimator: Estimator, trace: Scalar
) -> Array:
    """λ-returns of each step: float[T, m], given V of every row and of the one after the last."""
    terminated, truncated = trajectories.terminated, trajectories.truncated
    if not estimator.bootstraps:
        terminated = terminated | truncated
    errors = advantages(
        trajectories.reward, values, terminated, truncated, estimator.discount, trace
    )
    return values[:-1] + errors


def of_taken(
    values: Float[Array, "*steps A"], action: Int[Array, "*steps"]
) -> Float[Array, "*steps"]:
    """The value of the action that was taken, int32[...], among those of all actions, [..., A]."""
    return jnp.sum(values * jax.nn.one_hot(action, values.shape[-1], dtype=values.dtype), axis=-1)


def mean_and_deviation(
    values: Float[Array, "*steps"], valid: Bool[Array, "*steps"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Over valid steps; float[] both, whatever the values' magnitude."""
    power = exponent(jnp.where(valid, values, 0.0))
    scaled = jnp.ldexp(values, -power)
    mean = mean_over(scaled, valid)
    deviation = jnp.sqrt(mean_over(jnp.square(scaled - mean), valid))
    return jnp.ldexp(mean, power), jnp.ldexp(deviation, power)


def _report(error: Array, deviation: Array, valid: Array) -> dict[str, Array]:
    """What a critic says of its errors before it is fitted, given the targets' deviation."""
    bias, unexplained = mean_and_deviation(error, valid)
    share = unexplained / jnp.where(deviation > 0, deviation, 1.0)
    loss = jnp.square(bias) + jnp.square(unexplained)
    return {"explained_variance": 1.0 - jnp.square(share), "value_loss": loss}
