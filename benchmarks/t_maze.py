"""A T-maze: a sign at the entrance says which way to turn at the end of a long corridor."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from pgjax.environments.interface import EnvParams, EnvState, GymnaxEnvironment, spaces

LEFT, RIGHT, FORWARD = range(3)


@struct.dataclass
class TMazeParams(EnvParams):
    """The corridor's length in steps, from the entrance to the junction, and the time limit."""

    length: int = 50
    max_steps_in_episode: int = 150


@struct.dataclass
class TMazeState(EnvState):
    """Steps from the entrance, and the direction to turn: −1 left, 1 right."""

    position: jax.Array
    way: jax.Array


class TMaze(GymnaxEnvironment):
    """Observes [sign, junction]: −1 or 1 at the entrance and 0 elsewhere; 1 at the junction.

    The actions are to turn left, to turn right and to go forward. The right way at the junction is
    worth 4, the other −0.1, and both end the episode; a wall is worth −0.1. The best return is 4;
    without a memory it is 1.95, the mean of 4 and −0.1.

    Source: Bakker (2002), Reinforcement learning with long short-term memory.
    """

    @property
    def default_params(self) -> TMazeParams:
        return TMazeParams()

    def reset_env(self, key, params):
        way = 2 * jax.random.bernoulli(key).astype(jnp.int32) - 1
        state = TMazeState(time=0, position=jnp.int32(0), way=way)
        return self.observed(state, params), state

    def step_env(self, key, state, action, params):
        at_junction = state.position >= params.length
        turned = action != FORWARD
        solved = at_junction & turned & ((action == RIGHT) == (state.way > 0))
        reward = jnp.where(solved, 4.0, jnp.where(at_junction | turned, -0.1, 0.0))
        position = state.position + (~at_junction & ~turned)
        after = TMazeState(time=state.time + 1, position=position, way=state.way)
        return self.observed(after, params), after, reward, at_junction & turned, {}

    def observed(self, state, params):
        sign = jnp.where(state.position == 0, state.way, 0)
        return jnp.stack([sign, state.position >= params.length]).astype(float)

    def action_space(self, params=None) -> Any:
        return spaces.Discrete(3)

    def observation_space(self, params=None) -> Any:
        return spaces.Box(-1.0, 1.0, (2,))
