"""MuJoCo Playground: robots and DeepMind's control suite, simulated by MJX."""

import subprocess
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.environments.suites.adapted import Adapted, unbounded
from pgjax.environments.suites.suite import Suite, downloading, imported

_Physics = Literal["jax", "warp"]


class Playground(Suite):
    """`playground/CartpoleBalance`, with the options `limit` and `impl`.

    - The package has the control suite. Robots need the models of MuJoCo Menagerie, which
      Playground downloads with git when the first of them is made.
    - An environment's `done` terminates. Playground's time limit is in the wrapper that it trains
      with: here, `limit`.
    - A simulation that diverges terminates, and what of its last observation and reward is not
      finite is 0, since one NaN voids a whole update.
    - An observation with several entries, "state" and "privileged_state", stays a Dict: `Select`
      gives a policy and a critic their own.
    - Actions are in [-1, 1]. A step is one of the environment's own: `action_repeat` in its config
      is for Playground's wrapper.

    Source: Zakka et al. (2025), MuJoCo Playground.
    """

    name, extra, module = "playground", "playground", "mujoco_playground"

    def names(self) -> Sequence[str]:
        """The control suite, and the robots of locomotion and manipulation."""
        return sorted(imported("mujoco_playground", self.extra).registry.ALL_ENVS)

    def make(self, name: str, limit: int | None = None, impl: _Physics = "jax") -> Adapted:
        """The environment of a name.

        Args:
          name: as for `mujoco_playground.registry.load`, "CartpoleBalance" for instance.
          limit: steps until an episode is truncated; None: `episode_length` in its config.
          impl: MJX's implementation of the physics; "warp" needs an NVIDIA GPU.
        """
        registry = imported("mujoco_playground", self.extra).registry
        env = _loaded(registry, name, impl)
        steps = registry.get_default_config(name).episode_length if limit is None else limit

        def reset(key: Array) -> tuple[PyTree, PyTree]:
            state = env.reset(key)
            return state.obs, state

        def step(key: Array, state: PyTree, action: Array) -> tuple:
            after = env.step(state, action)
            (obs, reward), diverged = _finite((after.obs, after.reward))
            return obs, after, reward, (after.done > 0) | diverged

        obs = jax.eval_shape(reset, jax.random.key(0))[0]
        actions = spaces.Box(-1.0, 1.0, (env.action_size,))
        return Adapted(name, reset, step, unbounded(obs), actions, steps)


def _loaded(registry: Any, name: str, impl: _Physics) -> Any:
    models = "MuJoCo Menagerie, the robots' models", "github.com/deepmind/mujoco_menagerie by git"
    with downloading(*models, subprocess.CalledProcessError, OSError):
        return registry.load(name, config_overrides={"impl": impl})


def _finite(numbers: PyTree) -> tuple[PyTree, Array]:
    """The numbers with 0 for those that are not finite, and whether there were any."""
    finite = jax.tree.map(jnp.isfinite, numbers)
    everything = jnp.stack([jnp.all(leaf) for leaf in jax.tree.leaves(finite)]).all()
    return jax.tree.map(lambda x, known: jnp.where(known, x, 0), numbers, finite), ~everything
