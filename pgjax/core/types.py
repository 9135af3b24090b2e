"""The records that flow through pgjax, each a pytree of arrays.

Axes: T steps (the horizon), m trajectories. Time comes first.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import jax
from flax import struct
from jaxtyping import Bool, Float, Int32, Key, UInt32

Array = jax.Array
PyTree = Any
Scalar = int | float | Float[Array, ""]  # traced or not


class Record:
    """Base of the records; `flax.struct.dataclass` makes `replace`, which its types leave out."""

    if TYPE_CHECKING:

        def replace(self, **changes: Any) -> Self:
            """A copy with the given fields changed."""
            ...


@struct.dataclass
class Trajectories(Record):
    """m trajectories side by side. `Episodes` samples whole episodes of lengths H_1 … H_m ≤ T,

        τ_i = (s_0, a_0, r_0, …, s_{H_i−1}, a_{H_i−1}, r_{H_i−1}, s_{H_i}),

    `Segments` T rows of a stream of episodes. In both, row t + 1 holds the observation that step t
    led to: an episode's last observation has its own row, in which no action is taken. T = 6:

        row            0   1   2   3   4   5 | final_obs
        Episodes, H=4  s0  s1  s2  s3  s4  · | s4         valid in rows 0–3, terminated in row 3
        Segments       s7  s8  s9  s0  s1  s2| s3         s9 ends an episode: row 2 is not valid

    Attributes:
      obs: pytree of [T, m, …], the environment's own dtypes; s_t, before action a_t.
      memory: pytree of [T, m, …]; the policy's memory before it sees s_t; () if it has none.
      action: pytree of [T, m, …]; a_t as the policy sampled it, before any clipping.
      log_prob: float[T, m], nats; log π(a_t | s_t) as it was sampled.
      reward: float[T, m], reward units; r_t follows a_t; 0 where not valid.
      valid: bool[T, m]; whether an action was taken in row t: in whole episodes, t < H_i.
      terminated: bool[T, m]; the environment ended the episode at this step.
      truncated: bool[T, m]; a time limit ended it: the environment's own or the sampler's.
        May be true together with `terminated`, which then counts.
      final_obs: pytree of [m, …]; the observation of row T: in whole episodes, s_{H_i}.
      final_memory: pytree of [m, …]; the policy's memory before it sees `final_obs`.
    """

    obs: PyTree
    memory: PyTree
    action: PyTree
    log_prob: Float[Array, "T m"]
    reward: Float[Array, "T m"]
    valid: Bool[Array, "T m"]
    terminated: Bool[Array, "T m"]
    truncated: Bool[Array, "T m"]
    final_obs: PyTree
    final_memory: PyTree


# Which axis of each field counts trajectories.
_FIRST: PyTree = 0
_SECOND: PyTree = 1
TRAJECTORY_AXES = Trajectories(*[_SECOND] * 8, final_obs=_FIRST, final_memory=_FIRST)


@struct.dataclass
class TrainState(Record):
    """The state that training carries from one update to the next.

    Attributes:
      params: the policy's parameters θ, a pytree of float arrays.
      variables: the policy's other Flax collections; they are not differentiated.
      opt_state: the Optax state.
      key: the key that the next update splits.
      num_updates: int32[]; updates made.
      env_steps: uint32[]; valid environment steps taken. It wraps at 2³² = 4.29e9 steps.
      critic: the critic's state, such as a `CriticState`; () if the estimator needs no critic.
      objective: the objective's own state, such as a penalty's factor; () for most.
      streams: the state of the sampler's streams, each leaf [m, …]; () for whole episodes.
    """

    params: PyTree
    variables: PyTree
    opt_state: PyTree
    key: Key[Array, ""]
    num_updates: Int32[Array, ""]
    env_steps: UInt32[Array, ""]
    critic: PyTree = ()
    objective: PyTree = ()
    streams: PyTree = ()

    @property
    def policy_variables(self) -> PyTree:
        """The variables that the policy's `apply` takes: the params and the other collections."""
        return {"params": self.params, **self.variables}


@struct.dataclass
class Metrics(Record):
    """Scalars that describe one update; `train` stacks them to [num_updates].

    Attributes:
      episode_return: float; mean undiscounted return R(τ) of the episodes that finished, reward
        units; NaN where none did.
      episode_length: float; their mean length in steps; NaN where none did.
      num_episodes: int32; how many finished.
      env_steps: uint32; cumulative valid environment steps, this update's included.
      entropy: float; mean entropy of π(· | s_t) over valid steps, nats.
      gradient_norm: float; global 2-norm of the estimated gradient, before any clipping.
      objective: float; value of the m-trajectory objective whose gradient was taken.
      finite: bool; whether all numbers are finite: the rewards, the objective, entropy, gradient
        and its norm, and the whole next state, the optimizers' states and the streams' last
        observations included; and whether every mask allowed an action. If not, the update is not
        made: parameters, optimizer, statistics and critic do not change, streams with a number
        that is not finite begin another episode, and the next update has other trajectories.
      extra: metrics of some objectives, ascents and critics, float each, by name: see their own
        docstrings.
    """

    episode_return: Float[Array, "*updates"]
    episode_length: Float[Array, "*updates"]
    num_episodes: Int32[Array, "*updates"]
    env_steps: UInt32[Array, "*updates"]
    entropy: Float[Array, "*updates"]
    gradient_norm: Float[Array, "*updates"]
    objective: Float[Array, "*updates"]
    finite: Bool[Array, "*updates"]
    extra: dict[str, Float[Array, "*updates"]] = struct.field(default_factory=dict)


class TrainResult(NamedTuple):
    """The result of `train`: the final state, and metrics with a leading [num_updates] axis."""

    state: TrainState
    metrics: Metrics


@struct.dataclass
class Evaluation(Record):
    """Returns of n independent episodes under a fixed policy.

    Attributes:
      returns: float[n]; undiscounted return of each episode, reward units.
      lengths: int32[n]; steps in each episode.
      mean: float[]; the mean return.
      interval: float[2]; 95 % bootstrap percentile interval of the mean.
    """

    returns: Float[Array, " n"]
    lengths: Int32[Array, " n"]
    mean: Float[Array, ""]
    interval: Float[Array, "2"]


@struct.dataclass
class GradientStatistics(Record):
    """Moments of n independent gradient estimates g_1 … g_n.

    Attributes:
      mean: pytree like `params`; ĝ = (1/n) Σ g_k.
      variance: pytree like `params`; unbiased variance of each coordinate of one estimate.
      total_variance: float[]; the sum of `variance` over all coordinates, E‖g − ĝ‖².
      signal_to_noise: float[]; ‖ĝ‖ / √total_variance.
      cosine: float[]; mean over k of cos(g_k, reference).
      num_samples: int32[]; n.
    """

    mean: PyTree
    variance: PyTree
    total_variance: Float[Array, ""]
    signal_to_noise: Float[Array, ""]
    cosine: Float[Array, ""]
    num_samples: Int32[Array, ""]
