"""What critics that learn from λ-returns have in common."""

import abc

import jax
import jax.numpy as jnp

from pgjax.core.chunks import per_row
from pgjax.core.parallel import on_shares
from pgjax.core.types import Array, PyTree, Scalar, Trajectories
from pgjax.critics import units
from pgjax.critics.base import BoundCritic, Setting
from pgjax.critics.units import CriticState
from pgjax.estimators.estimator import Values


class Learned(BoundCritic, abc.ABC):
    """A critic whose targets are λ-returns, in units of their running standard deviation.

    A `record`, since it goes through `shard_map` as an argument.

    Attributes:
      setting: where it stands.
    """

    setting: Setting

    @property
    @abc.abstractmethod
    def trace(self) -> Scalar:
        """λ of its targets, float[]."""

    @abc.abstractmethod
    def values(self, state: CriticState, obs: PyTree, memory: PyTree, action: PyTree) -> Values:
        """The step's values."""

    def prepared(self, state: CriticState, trajectories: Trajectories) -> CriticState:
        """The state with its first units, if it has none yet."""
        return units.prepared(state, trajectories, self.setting.estimator, self.trace)

    def evaluate(self, critic_state: CriticState, trajectories: Trajectories) -> Values:
        """Values of all rows, those after a whole episode's end as that of its last observation."""
        ragged, mesh = self.setting.ragged, self.setting.mesh

        def share(critic, state, steps, needed, final_steps):
            def each(inputs):
                return jax.vmap(lambda *step: critic.values(state, *step))(*inputs)

            found, final = per_row(each, steps, needed), each(final_steps).state
            values = jnp.where(needed, found.state, final) if ragged else found.state
            return found._replace(state=jnp.concatenate([values, final[None]]))

        tau = trajectories
        steps = tau.obs, tau.memory, tau.action
        # In a stream, the rows between two episodes are looked at too.
        needed = tau.valid | (not ragged)
        # The final observation comes with no action: any will do, since of a critic of actions only
        # the value of the state is read there.
        final_steps = tau.final_obs, tau.final_memory, jax.tree.map(lambda x: x[-1], tau.action)
        shares = on_shares(share, mesh, (None, None, 1, 1, 0), 1)
        return shares(self, critic_state, steps, needed, final_steps)

    def lesson(
        self, state: CriticState, trajectories: Trajectories, values: Values
    ) -> tuple[CriticState, PyTree, dict[str, Array]]:
        """Each step's action, its target, and the values before this lesson."""
        estimator = self.setting.estimator
        state, pair, report = units.lesson(state, trajectories, values, estimator, self.trace)
        return state, (trajectories.action, *pair), report
