"""The common part of critics that learn from λ-returns."""

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
      setting: the parts of the update that it works with.
    """

    setting: Setting

    @property
    @abc.abstractmethod
    def td_lambda(self) -> Scalar:
        """λ of its targets, float[]."""

    @abc.abstractmethod
    def values(self, state: CriticState, obs: PyTree, memory: PyTree, action: PyTree) -> Values:
        """The step's values."""

    def prepared(self, state: CriticState, trajectories: Trajectories) -> CriticState:
        """The state with its first units, if it has none yet."""
        return units.prepared(state, trajectories, self.setting.estimator, self.td_lambda)

    def evaluate(self, critic_state: CriticState, trajectories: Trajectories) -> Values:
        """Values of all rows; rows after a whole episode's end get its last observation's value."""
        ragged, mesh = self.setting.ragged, self.setting.mesh

        def share(critic, state, steps, needed, final_steps):
            def values_of(inputs):
                return jax.vmap(lambda *step: critic.values(state, *step))(*inputs)

            values, final_value = per_row(values_of, steps, needed), values_of(final_steps).state
            state_values = jnp.where(needed, values.state, final_value) if ragged else values.state
            return values._replace(state=jnp.concatenate([state_values, final_value[None]]))

        tau = trajectories
        steps = tau.obs, tau.memory, tau.action
        # In a stream, the rows between two episodes are needed too: they have last observations.
        needed = tau.valid | (not ragged)
        # The final observation has no action. Any action serves, since only the value of the state
        # is used there.
        final_steps = tau.final_obs, tau.final_memory, jax.tree.map(lambda x: x[-1], tau.action)
        shares = on_shares(share, mesh, (None, None, 1, 1, 0), 1)
        return shares(self, critic_state, steps, needed, final_steps)

    def lesson(
        self, state: CriticState, trajectories: Trajectories, values: Values
    ) -> tuple[CriticState, PyTree, dict[str, Array]]:
        """The state in the targets' units; each step's action, target and value; and a report."""
        estimator, td_lambda = self.setting.estimator, self.td_lambda
        state, lesson, report = units.lesson(state, trajectories, values, estimator, td_lambda)
        return state, (trajectories.action, *lesson), report
