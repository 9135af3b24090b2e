"""An `Environment` with gymnax's interface."""

from typing import Any

import jax
import jax.numpy as jnp

from pgjax.core.types import Array, PyTree
from pgjax.environments.environment import Environment, name_of


class AsGymnax:
    """An `Environment` with gymnax's interface, for what looks at that: resets itself."""

    def __init__(self, env: Environment) -> None:
        self.env, self.name, self.default_params = env, name_of(env), {}

    def __hash__(self) -> int:
        return hash(self.env)

    def observation_space(self, params: PyTree) -> Any:
        """The environment's own."""
        return self.env.observation_space

    def action_space(self, params: PyTree) -> Any:
        """The environment's own."""
        return self.env.action_space

    def reset(self, key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        """The environment's own."""
        return self.env.bind().reset(key)

    def step(self, key: Array, env_state: PyTree, action: PyTree, params: PyTree) -> tuple:
        """Six values, with an automatic reset."""
        step_key, reset_key = jax.random.split(key)
        after = self.env.bind().step(step_key, env_state, action)
        start = self.reset(reset_key, {})
        ended = after.terminated | after.truncated
        obs, env_state = jax.tree.map(
            lambda new, old: jnp.where(ended, new, old), start, (after.obs, after.env_state)
        )
        info = {"final_observation": after.obs}
        return obs, env_state, after.reward, after.terminated, after.truncated, info
