"""What drawings need of an environment inside of wrappers: its state, observation, parameters."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from PIL import Image

from pgjax.core.keys import is_key
from pgjax.core.types import Array, PyTree
from pgjax.environments.around import Around
from pgjax.environments.interface import Environment, Step


class Scene(NamedTuple):
    """A state of the core environment, what it showed there, and the episode's parameters."""

    env_state: PyTree
    obs: PyTree
    params: PyTree


@dataclasses.dataclass(frozen=True)
class Recorded(Around):
    """A core environment whose states are `Scene`s."""

    env: Environment

    def bind(self, env_params: PyTree = None) -> Environment:
        return Recorded(self.inner.bind(env_params))

    def reset(self, key: Array) -> tuple[PyTree, Scene]:
        obs, env_state = self.inner.reset(key)
        return obs, self._scene(env_state, obs)

    def step(self, key: Array, env_state: Scene, action: PyTree) -> Step:
        step = self.inner.step(key, env_state.env_state, action)
        return step._replace(env_state=self._scene(step.env_state, step.obs))

    def _scene(self, env_state: PyTree, obs: PyTree) -> Scene:
        params = jax.tree.map(lambda x: x if is_key(x) else jnp.asarray(x), self.params)
        return Scene(env_state, obs, params)


def scene(env_state: PyTree) -> Scene:
    """The scene in a state that wrappers have put around it."""
    nodes = jax.tree.leaves(env_state, is_leaf=lambda node: isinstance(node, Scene))
    return next(node for node in nodes if isinstance(node, Scene))


class Camera(NamedTuple):
    """What makes pictures of episodes.

    Attributes:
      core: the core environment -> the one that is played, whose states are `Scene`s.
      picture: the scene before a step, the step's index, the episode's index -> its picture.
      seconds_per_step: the time that a step takes, as the picture shows it.
      close: to be called once the pictures are made.
    """

    core: Callable[[Environment], Environment]
    picture: Callable[[Scene, int, int], Image.Image]
    seconds_per_step: float
    close: Callable[[], None]
