"""The last observations side by side."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from pgjax.core.components import component, option
from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.environments.interface import Step
from pgjax.environments.wrappers.observations import each_leaf, each_space, numpy_for
from pgjax.environments.wrappers.wrapper import Wrapper, WrapperState


@component
class FrameStack(Wrapper):
    """The last n observations as one, the oldest first, so that a policy sees what moves.

        obs_t = [o_{t−n+1}, …, o_{t−1}, o_t],    o_k = o_0 for k < 0

    They follow each other along the last axis: images [height, width, c] become
    [height, width, n·c], vectors [d] become [n·d]. What has no axis of channels, a scalar or a
    matrix [height, width], gets one: [n], [height, width, n]. A Discrete becomes a MultiDiscrete.
    The leaves of Dict and Tuple are stacked one by one; an entry "action_mask" stays the latest.
    Dtypes stay.

    Attributes:
      frames: n ≥ 1.

    Source: Mnih et al. (2015), Human-level control through deep reinforcement learning, methods.

    >>> import pgjax
    >>> pgjax.FrameStack("Breakout-MinAtar", 3).observation_space.shape
    (10, 10, 12)
    """

    frames: int = option(4, low=1)

    @property
    def observation_space(self) -> Any:
        """The space of n observations."""
        part = f"{self.name}: the observation"
        return each_space(self._stacked_space, self.inner.observation_space, part)

    def check_fit(self) -> None:
        """Raises TypeError unless every leaf of the observations can be stacked."""
        _ = self.observation_space

    def begin(self, key: Array, obs: PyTree) -> tuple[PyTree, PyTree]:
        """The first observation n times."""
        space = self.inner.observation_space
        frames = each_leaf(lambda _, leaf: jnp.stack([leaf] * self.frames), space, obs)
        return self._stacked(frames), frames

    def step(self, key: Array, env_state: WrapperState, action: PyTree) -> Step:
        """The step inside, its observation the latest of n."""
        step = super().step(key, env_state, action)
        frames = each_leaf(_shifted, self.inner.observation_space, step.obs, env_state.own)
        after = step.env_state._replace(own=frames)
        return step._replace(obs=self._stacked(frames), env_state=after)

    def _stacked(self, frames: PyTree) -> PyTree:
        return each_leaf(lambda _, leaf: _joined(leaf), self.inner.observation_space, frames)

    def _stacked_space(self, part: str, space: Any) -> Any:
        if isinstance(space, spaces.Discrete):
            return spaces.MultiDiscrete([int(space.n)] * self.frames)
        shape = np.shape(_joined(np.zeros((self.frames, *space.shape))))
        if isinstance(space, spaces.Box):
            low, high = (self._bound(side, space.shape) for side in (space.low, space.high))
            return spaces.Box(low, high, shape, space.dtype)
        if isinstance(space, spaces.MultiDiscrete):
            return spaces.MultiDiscrete(self._bound(space.nvec, space.shape), space.dtype)
        if isinstance(space, spaces.MultiBinary):
            return spaces.MultiBinary(shape, space.dtype)
        raise TypeError(f"{part} cannot be stacked: its space is {space!r}")

    def _bound(self, bound: Any, shape: tuple[int, ...]) -> Any:
        """A bound of n observations; one number stays one."""
        if np.ndim(bound) == 0:
            return bound
        return _joined(numpy_for(bound).broadcast_to(bound, (self.frames, *shape)))


def _shifted(space: Any, latest: Array, frames: Array) -> Array:
    """The frames [n, …] after another one."""
    return jnp.concatenate([frames[1:], latest[None]])


def _joined(frames: Any) -> Any:
    """Frames [n, …] along the last axis; along a new one where an observation has no channels."""
    numpy = np if isinstance(frames, np.ndarray) else jnp
    if frames.ndim in (1, 3):
        return numpy.moveaxis(frames, 0, -1)
    last = numpy.moveaxis(frames, 0, -2)
    return last.reshape(*last.shape[:-2], -1)
