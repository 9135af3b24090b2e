"""The units of a critic's values, and its targets; shared by all learned critics."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Bool, Float, Int, Int32

from pgjax.core.chunks import mean_over
from pgjax.core.trees import exponent, norm
from pgjax.core.types import Array, PyTree, Record, Scalar, Trajectories
from pgjax.estimators.estimator import Estimator, Values
from pgjax.estimators.returns import advantages

# The targets' mean and deviation are averages over the last ten updates, or, if that is longer,
# over so many steps: a few hundred steps are noisy, and a change of units changes all values.
_MIN_UPDATES = 10
_MIN_STEPS = 25_600
# The unit of targets that are all equal, relative to their mean. They count as equal if their
# standard deviation is at most so many rounding errors of the mean.
_EQUAL_UNIT = 1e-2
_ROUNDINGS = 8


@struct.dataclass
class CriticState(Record):
    """The state of a critic.

    Attributes:
      params: its network's parameters; the network's outputs are values in units of `unit` around
        `centre`.
      opt_state: the Optax state.
      centre, scale: float[], reward units; running mean and standard deviation of the targets.
      num_fits: int32[]; the number of fits so far.
    """

    params: PyTree
    opt_state: PyTree
    centre: Float[Array, ""]
    scale: Float[Array, ""]
    num_fits: Int32[Array, ""]

    @property
    def unit(self) -> Float[Array, ""]:
        """float[], reward units; `scale`, or, if all targets were equal, a share of their mean.

        0 before the first targets, so that all values are 0 whatever the network's outputs are.
        """
        size = jnp.abs(self.centre)
        differ = self.scale > _ROUNDINGS * jnp.finfo(self.scale.dtype).eps * size
        has_fits = jnp.sign(self.num_fits).astype(float)
        equal_unit = jnp.where(size > 0.0, _EQUAL_UNIT * size, has_fits)
        return jnp.where(differ, self.scale, equal_unit)

    def in_units(self, value: Array) -> Array:
        """Converts a value from reward units to the network's."""
        return (value - self.centre) / self.unit

    def in_rewards(self, output: Array) -> Array:
        """Converts a value from the network's units to reward units."""
        return self.centre + self.unit * output


def initial_state(params: PyTree, opt_state: PyTree) -> CriticState:
    """The state of a critic before any targets."""
    zero = jnp.zeros(())
    return CriticState(params, opt_state, zero, zero, jnp.int32(0))


def rescaled(state: CriticState, mean: Array, deviation: Array, number: Array) -> CriticState:
    """The state in the units of new targets, given their mean, standard deviation and number.

    The critic's values move with the units, towards the new targets, before any gradient step.
    """
    min_rate = jnp.minimum(1.0 / _MIN_UPDATES, number / _MIN_STEPS)
    rate = jnp.maximum(1.0 / (state.num_fits + 1.0), min_rate)
    shift = mean - state.centre
    # var ← (1 − rate) var + rate (deviation² + (1 − rate) shift²), of numbers of any magnitude.
    kept, moved = jnp.sqrt(1.0 - rate), jnp.sqrt(rate * (1.0 - rate)) * shift
    scale = norm((kept * state.scale, jnp.sqrt(rate) * deviation, moved))
    return state.replace(centre=state.centre + rate * shift, scale=scale)


def prepared(
    state: CriticState, trajectories: Trajectories, estimator: Estimator, td_lambda: Scalar
) -> CriticState:
    """The state, which before the first fit gets the units of these trajectories' targets.

    These are targets with V = 0, λ-sums of rewards. With a Monte Carlo estimator the state is not
    changed, and the first values are 0: its weights must not depend on what the critic learns from
    the same update.
    """
    if not estimator.bootstraps:
        return state
    valid = trajectories.valid
    zero_values = jnp.zeros((valid.shape[0] + 1, valid.shape[1]))
    first_targets = targets(trajectories, zero_values, estimator, td_lambda)
    first_state = rescaled(state, *mean_and_deviation(first_targets, valid), jnp.sum(valid))
    is_first = state.num_fits == 0
    return state.replace(
        centre=jnp.where(is_first, first_state.centre, state.centre),
        scale=jnp.where(is_first, first_state.scale, state.scale),
    )


def lesson(
    state: CriticState,
    trajectories: Trajectories,
    values: Values,
    estimator: Estimator,
    td_lambda: Scalar,
) -> tuple[CriticState, tuple[Array, Array], dict[str, Array]]:
    """The state in the targets' units; targets and predicted values, float[T, m] each; and the
    metrics of the errors before the fit."""
    target = targets(trajectories, values.state, estimator, td_lambda)
    predicted = values.state[:-1]
    if values.action is not None:
        discrete = values.probability is not None
        predicted = action_value(values.action, trajectories.action) if discrete else values.action
    valid = trajectories.valid
    mean, deviation = mean_and_deviation(target, valid)
    report = _report(target - predicted, deviation, valid)
    state = rescaled(state, mean, deviation, jnp.sum(valid))
    return state.replace(num_fits=state.num_fits + 1), (target, predicted), report


def targets(
    trajectories: Trajectories, values: Array, estimator: Estimator, td_lambda: Scalar
) -> Array:
    """Each step's λ-return, float[T, m], given V of each row and of the final observation."""
    terminated, truncated = trajectories.terminated, trajectories.truncated
    if not estimator.bootstraps:
        terminated = terminated | truncated
    errors = advantages(
        trajectories.reward, values, terminated, truncated, estimator.discount, td_lambda
    )
    return values[:-1] + errors


def action_value(
    values: Float[Array, "*steps A"], action: Int[Array, "*steps"]
) -> Float[Array, "*steps"]:
    """Selects an action's value, int32[...], among the values of all actions, [..., A]."""
    return jnp.sum(values * jax.nn.one_hot(action, values.shape[-1], dtype=values.dtype), axis=-1)


def mean_and_deviation(
    values: Float[Array, "*steps"], valid: Bool[Array, "*steps"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean and standard deviation over valid steps, float[] each; correct for any magnitude."""
    power = exponent(jnp.where(valid, values, 0.0))
    scaled = jnp.ldexp(values, -power)
    mean = mean_over(scaled, valid)
    deviation = jnp.sqrt(mean_over(jnp.square(scaled - mean), valid))
    return jnp.ldexp(mean, power), jnp.ldexp(deviation, power)


def _report(error: Array, deviation: Array, valid: Array) -> dict[str, Array]:
    """Metrics of the errors before the fit, given the targets' standard deviation."""
    bias, unexplained = mean_and_deviation(error, valid)
    share = unexplained / jnp.where(deviation > 0, deviation, 1.0)
    loss = jnp.square(bias) + jnp.square(unexplained)
    return {"explained_variance": 1.0 - jnp.square(share), "value_loss": loss}
