"""Rewards cut off below and above."""

import jax.numpy as jnp

from pgjax.core.components import component, is_traced, option
from pgjax.core.types import Array, PyTree
from pgjax.environments.interface import Environment, Step
from pgjax.environments.wrappers.wrapper import Wrapper, WrapperState


@component
class ClippedReward(Wrapper):
    """Rewards clipped into [low, high] for learning. Biased: another problem than the one inside.

        r′_t = min(max(r_t, low), high)

    The policy is improved for these rewards, and the metrics of training report their returns.
    Evaluations report the true ones: `evaluate`, `evaluate_in_gymnasium`, `render`, and those of
    the commands.

    Attributes:
      low, high: reward units; low ≤ high.

    Source: Mnih et al. (2015), Human-level control through deep reinforcement learning, methods.
    """

    low: float = option(-1.0)
    high: float = option(1.0)

    def check(self, path: str) -> None:
        """Raises unless low ≤ high."""
        super().check(path)
        if not is_traced(self.low) and not is_traced(self.high) and self.low > self.high:
            raise ValueError(
                f"{path}.low must be at most {path}.high = {self.high}, got {self.low}"
            )

    def step(self, key: Array, env_state: WrapperState, action: PyTree) -> Step:
        """The step inside, its reward clipped."""
        step = super().step(key, env_state, action)
        return step._replace(reward=jnp.clip(step.reward, self.low, self.high))

    def with_true_rewards(self) -> Environment:
        """What is inside."""
        return self.inner.with_true_rewards()
