"""Actions that the environment now and then repeats."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.core.components import component, option
from pgjax.core.keys import derived
from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.environments.interface import Step
from pgjax.environments.wrappers.wrapper import Wrapper, WrapperState


class LastAction(NamedTuple):
    """What the environment inside was given last, and whether it was given anything yet."""

    action: PyTree
    given: Array


@component
class StickyActions(Wrapper):
    """The environment repeats its last action with probability ς, in place of the one it is given.

        A_t = A_{t−1} with probability ς, else a_t;    A_0 = a_0

    A is what the environment inside gets, so that an action may be repeated several times. The
    first action of an episode is free. Trajectories hold the a_t of the policy, whose score they
    need. Actions of any space; a repeated one is not held against an "action_mask". With ς = 0, all
    numbers are those without the wrapper.

    Attributes:
      probability: ς in [0, 1].

    Source: Machado et al. (2018), Revisiting the Arcade Learning Environment, section 5.
    """

    probability: float = option(0.25, low=0.0, high=1.0)

    def begin(self, key: Array, obs: PyTree) -> tuple[PyTree, LastAction]:
        """The start inside; no action yet."""
        shapes = spaces.example(self.inner.action_space)
        none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return obs, LastAction(none, jnp.bool_(False))

    def step(self, key: Array, env_state: WrapperState, action: PyTree) -> Step:
        """The step inside with the action, or the last one."""
        last = env_state.own
        repeats = jax.random.bernoulli(derived(key, "sticky actions"), self.probability)
        repeats &= last.given
        action = jax.tree.map(
            lambda old, new: jnp.where(repeats, old, new).astype(old.dtype), last.action, action
        )
        step = super().step(key, env_state, action)
        own = LastAction(action, jnp.bool_(True))
        return step._replace(env_state=step.env_state._replace(own=own))
