"""A trained policy that acts, from a state, a folder or the zoo."""

import os
from typing import Self

from pgjax.runs import checkpoints
from pgjax.study.acting import Acting
from pgjax.training.config import Config


class Agent(Acting):
    """A trained policy that acts: an observation, or a batch, to the environment's legal action.

    Normalisation of observations, masks, memory and the time of a `time_aware` config are its own
    business. It is compiled at the first call and for each other shape; agents of one config share
    their programs.

    Args:
      state: the policy's, from `init`, `update`, `train` or `load`.
      config: the one that it was trained with.

    Attributes:
      environment: the environment whose observations `act` takes: the config's, in its wrappers.
        `environment.reset(key)` and `environment.step(key, env_state, action)` play it.

    Raises:
      ValueError, TypeError: state and config do not belong together.

    >>> import jax, numpy as np, pgjax
    >>> config = pgjax.Config(env="CartPole-v1")
    >>> agent = pgjax.Agent(pgjax.init(jax.random.key(0), config), config)
    >>> action, memory = agent.act(np.zeros(4, np.float32))
    >>> actions, memory = agent.act(np.zeros((8, 4), np.float32), key=jax.random.key(1))
    >>> int(action) in (0, 1), actions.shape
    (True, (8,))
    """

    @classmethod
    def load(
        cls, path: str | os.PathLike, config: Config | None = None, env: str | None = None
    ) -> Self:
        """The agent of a run folder, a checkpoint, or a policy that comes with pgjax.

        Args:
          path: a run folder, a checkpoint, or the name of a policy of `zoo`: "zoo/CartPole-v1".
          config: needed only where the saved one holds objects of the user's own that acting needs:
            an environment object, a Flax module.
          env: `module:factory`, to import for an environment of the user's own; with it `config` is
            needed for other objects only.

        Raises:
          ValueError: as for `load_policy`.
        """
        return cls(*checkpoints.load_policy(path, config, env))
