"""The parts of a config, bound to each other once, for the functions of an update."""

import jax.numpy as jnp
from jax.sharding import Mesh

from pgjax.ascents.ascent import Ascent
from pgjax.ascents.optimizers import Optimizer
from pgjax.core.components import record, static
from pgjax.core.contracts import require
from pgjax.core.types import Array, PyTree
from pgjax.critics.base import Absent, BaseCritic, BoundCritic, Setting
from pgjax.environments.interface import Environment
from pgjax.estimators.estimator import Estimator
from pgjax.objectives.objective import Objective
from pgjax.policies.policy import Policy
from pgjax.sampling.rollout import Actor
from pgjax.sampling.sampler import Sampler, horizon


@record
class Bound:
    """The parts of a config at an update: schedules are numbers, the policy knows its environment.

    A pytree: numbers are leaves, the rest is part of the program. It passes through `jit`, `vmap`,
    `shard_map` and loops as an argument.

    Attributes:
      mesh: the devices that trajectories are divided over, or None.
    """

    environment: Environment
    policy: Policy
    sampler: Sampler
    estimator: Estimator
    critic: BaseCritic
    objective: Objective
    ascent: Ascent
    optimizer: Optimizer
    mesh: Mesh | None = static()

    def actor(self, variables: PyTree, deterministic: bool | Array = False) -> Actor:
        """The policy with these variables, acting in the environment."""
        return Actor(self.environment, self.policy, variables, jnp.asarray(deterministic))

    def critic_at(self, variables: PyTree) -> BoundCritic:
        """The critic in a setting with the policy's variables."""
        if self.estimator.critic is None:
            return Absent()
        ragged = self.sampler.whole_episodes
        setting = Setting(self.policy, variables, self.estimator, ragged, self.mesh)
        critic = self.critic.bound(setting)
        require(isinstance(critic, BoundCritic), "critic", self.critic, "bound", _BOUND, critic)
        return critic

    def horizon(self) -> int:
        """The longest whole episode, in steps."""
        return horizon(self.sampler, self.environment)


_BOUND = "a critic in its setting, derived from pgjax.BoundCritic"
