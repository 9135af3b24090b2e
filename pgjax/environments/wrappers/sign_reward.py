"""The signs of rewards."""

import jax.numpy as jnp

from pgjax.core.components import component
from pgjax.core.types import Array, PyTree
from pgjax.environments.interface import Environment, Step
from pgjax.environments.wrappers.wrapper import Wrapper, WrapperState


@component
class SignReward(Wrapper):
    """The signs of the rewards, −1, 0 or 1, for learning. Biased: another problem than that inside.

        r′_t = sign(r_t)

    What reports which rewards is as for `ClippedReward`: metrics of training these, evaluations the
    true ones.
    """

    def step(self, key: Array, env_state: WrapperState, action: PyTree) -> Step:
        """The step inside, with the sign of its reward."""
        step = super().step(key, env_state, action)
        return step._replace(reward=jnp.sign(step.reward))

    def with_true_rewards(self) -> Environment:
        """What is inside."""
        return self.inner.with_true_rewards()
