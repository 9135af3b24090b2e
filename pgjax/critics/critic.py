"""A critic with a network of its own, fitted by regression after the policy has used it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from pgjax import networks
from pgjax.chunks import Chunk, check_minibatches, minibatches, per_step, summed
from pgjax.components import component, option, record, static
from pgjax.critics import units
from pgjax.critics.base import BoundCritic, Setting
from pgjax.critics.learned import Learned
from pgjax.critics.regression import LAST_INIT, LOSSES, Regression
from pgjax.critics.units import CriticState
from pgjax.estimators.estimator import Values
from pgjax.networks import CriticInputs
from pgjax.types import Array, PyTree, Trajectories


class ValueModule(nn.Module):
    """A network with a linear output: `outputs` values, or one, a scalar, if that is None."""

    network: nn.Module
    outputs: int | None

    @nn.compact
    def __call__(self, inputs: PyTree) -> Array:
        """One encoded observation (with the action, for Q of continuous ones) -> values."""
        layer = networks.Dense(self.outputs or 1, kernel_init=LAST_INIT, name="values")
        values = layer(networks.vector("critic.network", self.network, self.network(inputs)))
        return values if self.outputs else values[0]


@component
class Critic(Regression):
    """How a value is learned: by regression on λ-returns, after the policy has used it.

        target_t = V(s_t) + Σ_k (γλ)ᵏ δ_{t+k},    δ as in `GAE`,

    γ that of the estimator. The critic that an update's weights come from has not seen that
    update's trajectories. With a Monte Carlo estimator time limits end the value, as they end its
    returns; with the others they do not.

    The network's output is in units of the targets' running standard deviation around their
    running mean, so that no scale or offset of rewards needs another learning rate. Rewards are
    never scaled. Before its first fit a critic knows no units. With a Monte Carlo estimator its
    values are 0 then. With one that bootstraps, mean and deviation are those of the first update's
    targets with V = 0; its weights depend on them.

    Reports `explained_variance`, 1 − Var(target − V) / Var(target), and `value_loss`, the mean of
    (target − V)², reward units²: both before fitting, on trajectories that it has not seen.

    Attributes:
      network: a Flax module as for the policy; None: the policy's architecture, its own parameters.
        It sees what a policy with a memory remembers, and then is an `MLP` unless given, of the
        same entries of the observation as the policy's.
      learning_rate: α ≥ 0, of `optax.adam`.
      epochs: passes over the trajectories in each update, ≥ 1.
      minibatches: gradient steps in each pass, ≥ 1.
      td_lambda: λ in [0, 1]; 1: the return to the episode's end, where it has one.
      loss: "squared" or "huber", of the error in units of the targets' standard deviation.
      value_clip: if a number ε ≥ 0, a step counts no more once its value has moved by ε standard
        deviations from what it was before the update: PPO's value clipping.

    Source: Sutton & Barto (2018), chapter 12; scaling: van Hasselt et al. (2016), Learning values
      across many orders of magnitude, without their rescaling of the last layer; clipping:
      Schulman et al. (2017), their code.
    """

    network: nn.Module | None = None
    learning_rate: float = option(1e-3, low=0.0)
    epochs: int = option(4, low=1)
    minibatches: int = option(4, low=1)
    td_lambda: float = option(0.95, low=0.0, high=1.0)
    loss: str = option("squared", choices=tuple(LOSSES))
    value_clip: float | None = option(None, low=0.0)

    def bound(self, setting: Setting) -> BoundCritic:
        """The critic, with a network of its own."""
        return Fitted(self, setting, self._module(setting))

    def check_network(self, path: str) -> None:
        """Raises TypeError or ValueError unless its network can be one."""
        if self.network is not None:
            networks.check_hashable(f"{path}.network", self.network)
            networks.check_without_memory(f"{path}.network", self.network)

    def check_steps(self, path: str, steps: int) -> None:
        """Raises ValueError if there are more minibatches than steps."""
        check_minibatches(path, self.minibatches, type(self)().minibatches, steps)

    def _module(self, setting: Setting) -> ValueModule:
        # What a policy with a memory remembers is among the inputs; it needs none of its own.
        policys = networks.without_memory(setting.policy.module.network)
        network = policys if self.network is None else self.network
        every = setting.estimator.critic == "actions"
        return ValueModule(network, setting.policy.head.num_actions if every else None)

    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.adam(self.learning_rate)


@record
class Fitted(Learned):
    """A `Critic` in its setting."""

    critic: Critic
    setting: Setting
    module: ValueModule = static()

    def start(self, key: Array) -> CriticState:
        """A critic that has seen no targets."""
        policy, variables = self.setting.policy, self.setting.variables
        obs, memory = policy.blank_obs(), policy.initial_memory()
        action = jax.tree.map(jnp.zeros_like, policy.apply(variables, obs, memory)[0].mode())
        inputs = self._inputs(variables, obs, memory, action)
        variables = networks.initial("critic.network", self.module, key, inputs)
        params = variables.pop("params")
        if variables:
            raise ValueError(
                f"critic.network must have parameters only, got the collections {[*variables]}"
            )
        return units.unknown(params, self.critic.optimizer().init(params))

    @property
    def trace(self) -> Array:
        """λ."""
        return self.critic.td_lambda

    def fit(
        self, key: Array, state: CriticState, trajectories: Trajectories, lesson: PyTree
    ) -> CriticState:
        """Some passes of regression on the targets."""
        tau, mesh, settings = trajectories, self.setting.mesh, self.critic
        data = tau.obs, tau.memory, lesson

        def step(state, batch):
            return self._descended(self._gradient(state, *batch), state), None

        def epoch(state, key_data):
            key = jax.random.wrap_key_data(key_data, impl=impl)
            batches = minibatches(key, data, tau.valid, settings.minibatches, mesh)
            return jax.lax.scan(step, state, batches)[0], None

        # The keys' data: under `vmap`, JAX's check of key reuse takes a scan's keys for used ones.
        impl, keys = jax.random.key_impl(key), jax.random.split(key, settings.epochs)
        return jax.lax.scan(epoch, state, jax.random.key_data(keys))[0]

    def values(self, state: CriticState, obs: PyTree, memory: PyTree, action: PyTree) -> Values:
        """Of one step."""
        policy, variables = self.setting.policy, self.setting.variables

        def value(action):
            inputs = self._inputs(variables, obs, memory, action)
            return state.in_rewards(self.module.apply({"params": state.params}, inputs))

        if self.setting.estimator.critic == "states":
            return Values(value(action))
        distribution, _ = policy.apply(variables, obs, memory)
        if self.module.outputs is None:
            of_action = value(action)
            return Values(value(distribution.mode()), of_action)
        q, probability = value(action), distribution.probabilities()
        return Values(jnp.sum(probability * q), q, probability)

    def _inputs(self, variables: PyTree, obs: PyTree, memory: PyTree, action: PyTree) -> PyTree:
        """What the network sees of a step: Q of actions that it cannot list, the action too."""
        policy = self.setting.policy
        encoded, seen = policy.encode(variables, obs), ()
        if self.setting.estimator.critic == "actions" and self.module.outputs is None:
            distribution, _ = policy.apply(variables, obs, memory)
            seen = policy.head.encode(distribution.environment_action(action))
        more = jax.tree.leaves((seen, memory))
        return CriticInputs(seen, memory, encoded) if more else encoded

    def _gradient(self, state: CriticState, data: PyTree, valid: Array) -> PyTree:
        """Of the mean loss of the valid steps of a minibatch."""
        ragged, mesh = self.setting.ragged, self.setting.mesh
        gradient = summed(_summed_loss_gradient, (self, state), data, valid, ragged, mesh)
        return jax.tree.map(lambda x: x / jnp.maximum(jnp.sum(valid), 1), gradient)

    def _descended(self, gradient: PyTree, state: CriticState) -> CriticState:
        """One step of the optimizer."""
        updates, opt_state = self.critic.optimizer().update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state.replace(params=params, opt_state=opt_state)

    def summed_loss(self, params: PyTree, state: CriticState, chunk: Chunk) -> Array:
        """Over the valid steps of a chunk."""
        variables = self.setting.variables

        def one(obs, memory, lesson):
            inputs = self._inputs(variables, obs, memory, lesson[0])
            output = self.module.apply({"params": params}, inputs)
            return self.critic.lesson_loss(state, output, lesson)

        losses = per_step(one, chunk)(*chunk.data)
        return jnp.sum(jnp.where(chunk.valid, losses, 0.0))


def _summed_loss_gradient(context: tuple[Fitted, CriticState], chunk: Chunk) -> PyTree:
    fitted, state = context
    return jax.grad(fitted.summed_loss)(state.params, state, chunk)
