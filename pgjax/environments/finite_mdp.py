"""A finite Markov decision process as a gymnax environment, small enough to solve exactly."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from pgjax.core.components import check_int, knows_fields
from pgjax.core.types import Array
from pgjax.environments import spaces
from pgjax.environments.gymnax_objects import EnvParams, EnvState, GymnaxEnvironment


@struct.dataclass
class MDPParams(EnvParams):
    """The tables of a finite MDP; traced, so they can be swept over.

    Attributes:
      transition: float[S, A, S]; p(s' | s, a).
      reward: float[S, A]; R(s, a), reward units.
      initial: float[S]; p(s_0).
      terminal: bool[S]; states whose entry ends the episode.
      max_steps_in_episode: the horizon H, steps.
    """

    transition: Any = None
    reward: Any = None
    initial: Any = None
    terminal: Any = None


@struct.dataclass
class MDPState(EnvState):
    """The current state, int32[], and the time."""

    state: Any = None


@knows_fields
class FiniteMDP(GymnaxEnvironment):
    """A finite MDP with horizon H: s_0 ~ initial, s' ~ p(· | s, a), r = R(s, a).

    Observations are one-hot, float[S]. An episode is truncated after H steps, and terminated
    earlier on entering a `terminal` state. `pgjax.tabular` computes its exact utility and gradient.

    Args:
      transition: [S, A, S], rows that sum to one.
      reward: [S, A], reward units.
      initial: [S], sums to one.
      horizon: H ≥ 1, steps.
      terminal: optional bool[S]; no episode may start in a terminal state.

    Raises:
      ValueError: shapes that do not fit, rows that are not probabilities.
      TypeError: a horizon that is not an integer, an argument of another name.

    >>> import pgjax
    >>> bandit = pgjax.FiniteMDP([[[1.0], [1.0]]], [[0.0, 1.0]], [1.0], horizon=1)
    >>> bandit.num_actions
    2
    """

    def __init__(self, transition, reward, initial, horizon: int, terminal=None):
        transition, reward, initial = (
            np.asarray(x, dtype=float) for x in (transition, reward, initial)
        )
        if transition.ndim != 3 or transition.shape[0] != transition.shape[2]:
            raise ValueError(f"transition must have shape [S, A, S], got {transition.shape}")
        num_states, num_actions, _ = transition.shape
        terminal = np.zeros(num_states, bool) if terminal is None else np.asarray(terminal, bool)
        _check_shape("reward", reward, (num_states, num_actions))
        _check_shape("initial", initial, (num_states,))
        _check_shape("terminal", terminal, (num_states,))
        _check_probabilities("transition", transition)
        _check_probabilities("initial", initial)
        check_int("horizon", horizon, 1)
        if initial[terminal].any():
            raise ValueError("initial gives probability to a terminal state")
        self._num_states, self._num_actions = num_states, num_actions
        self._tables = {
            "transition": transition,
            "reward": reward,
            "initial": initial,
            "terminal": terminal,
        }
        self._horizon = int(horizon)

    @property
    def default_params(self) -> MDPParams:
        """The tables as arrays of JAX's default float type."""
        tables = {name: jnp.asarray(table) for name, table in self._tables.items()}
        return MDPParams(max_steps_in_episode=self._horizon, **tables)

    def reset_env(self, key: Array, params: MDPParams) -> tuple[Array, MDPState]:
        """Draws s_0: its one-hot vector, float[S], and the state."""
        state = _draw(key, params.initial)
        return self.get_obs(state), MDPState(time=0, state=state)

    def step_env(self, key: Array, state: MDPState, action: int | float | Array, params: MDPParams):
        """Draws s' ~ p(· | s, a); `action` is int32[], the reward float[]."""
        reward = params.reward[state.state, action]
        following = _draw(key, params.transition[state.state, action])
        after = MDPState(time=state.time + 1, state=following)
        return self.get_obs(following), after, reward, params.terminal[following], {}

    def get_obs(self, state: Array, params=None, key=None) -> Array:
        """The one-hot vector of a state: float[S]."""
        return jax.nn.one_hot(state, self._num_states)

    def is_terminated(self, state: MDPState, params: MDPParams) -> Array:
        """Whether the state is terminal."""
        return params.terminal[state.state]

    @property
    def name(self) -> str:
        """'FiniteMDP'."""
        return "FiniteMDP"

    @property
    def num_actions(self) -> int:
        """A."""
        return self._num_actions

    def action_space(self, params: MDPParams | None = None) -> spaces.Discrete:
        """Discrete(A)."""
        return spaces.Discrete(self._num_actions)

    def observation_space(self, params: MDPParams | None = None) -> spaces.Box:
        """One-hot vectors."""
        return spaces.Box(0.0, 1.0, (self._num_states,))


def _draw(key: Array, probabilities: Array) -> Array:
    # log 0 = −inf is a probability of exactly zero.
    return jax.random.categorical(key, jnp.log(probabilities)).astype(jnp.int32)


def _check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {list(shape)}, got {list(array.shape)}")


def _check_probabilities(name: str, array: np.ndarray) -> None:
    if not (array >= 0).all() or not np.allclose(array.sum(axis=-1), 1.0, atol=1e-5):
        raise ValueError(f"{name} must hold probabilities that sum to 1 along the last axis")
