"""Critics with a network of their own, fitted after the policy has used them."""

import abc
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from pgjax.core.chunks import Chunk, check_minibatches, minibatches, per_step, summed
from pgjax.core.components import check_hashable, record, static
from pgjax.core.contracts import is_float_of, is_real_of, require
from pgjax.core.types import Array, PyTree, Scalar, Trajectories
from pgjax.critics import units
from pgjax.critics.base import BaseCritic, BoundCritic, Setting
from pgjax.critics.learned import Learned
from pgjax.critics.regression import LAST_INIT
from pgjax.critics.units import CriticState
from pgjax.estimators.estimator import Values
from pgjax.policies import distributions, networks
from pgjax.policies.networks import CriticInputs


class ValueModule(nn.Module):
    """A network with a linear output of some shape, () for one value."""

    network: nn.Module
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, inputs: PyTree) -> Array:
        """One encoded observation (with the action, for Q of continuous ones) -> float[*shape]."""
        layer = networks.Dense(math.prod(self.shape), kernel_init=LAST_INIT, name="values")
        features = networks.vector("critic.network", self.network, self.network(inputs))
        return layer(features).reshape(self.shape)


class NetworkCritic(BaseCritic, abc.ABC):
    """Base of the settings of critics with their own network; a subclass defines the loss.

    A subclass declares the fields below, with its defaults.

    Attributes:
      network: a Flax module as for the policy; None: the policy's architecture, with separate
        parameters.
      learning_rate: α ≥ 0, of `optax.adam`.
      epochs: passes over the trajectories in each update, ≥ 1.
      minibatches: gradient steps in each pass, ≥ 1.
      td_lambda: λ of the targets, in [0, 1].
      output_shape: the shape of the network's output for one value; () for the value itself.
    """

    network: nn.Module | None
    learning_rate: float
    epochs: int
    minibatches: int
    td_lambda: float

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the network's output for one value."""
        return ()

    def value(self, output: Array) -> Array:
        """Values in the network's units, float[…], from its outputs, [… *output_shape]."""
        return output

    @abc.abstractmethod
    def lesson_loss(self, state: CriticState, output: Array, lesson: PyTree) -> Array:
        """The step's loss, float[]; see `Regression`."""

    def bound(self, setting: Setting) -> BoundCritic:
        """The critic, with a network of its own."""
        # The critic's network has no memory: the policy's memory is one of its inputs.
        default = networks.without_memory(setting.policy.module.network)
        network = default if self.network is None else self.network
        num_actions = setting.policy.head.num_actions
        values_states = setting.estimator.critic == "states"
        values = () if num_actions is None or values_states else (num_actions,)
        shape = self.output_shape
        right = isinstance(shape, tuple) and all(isinstance(n, int) and n >= 1 for n in shape)
        require(right, "critic", self, "output_shape", "a tuple of positive integers", shape)
        return Fitted(self, setting, ValueModule(network, values + shape))

    def check_network(self, path: str) -> None:
        """Raises TypeError or ValueError unless `network` is a hashable module without memory."""
        if self.network is not None:
            check_hashable(f"{path}.network", self.network)
            networks.check_without_memory(f"{path}.network", self.network)

    def check_steps(self, path: str, steps: int) -> None:
        """Raises ValueError if there are more minibatches than steps."""
        check_minibatches(path, self.minibatches, type(self)().minibatches, steps)

    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.adam(self.learning_rate)


@record
class Fitted(Learned):
    """A `NetworkCritic` in its setting."""

    critic: NetworkCritic
    setting: Setting
    module: ValueModule = static()

    def start(self, key: Array) -> CriticState:
        """The state before any targets."""
        policy, variables = self.setting.policy, self.setting.variables
        obs, memory = policy.blank_obs(), policy.initial_memory()
        action = jax.tree.map(jnp.zeros_like, policy.apply(variables, obs, memory)[0].mode())
        inputs = self._inputs(variables, obs, memory, action)
        variables = networks.initial_variables("critic.network", self.module, key, inputs)
        params = variables.pop("params")
        if variables:
            raise ValueError(
                f"critic.network must have parameters only, got the collections {[*variables]}"
            )
        optimizer = self.critic.optimizer()
        right = isinstance(optimizer, optax.GradientTransformation)
        contract = "an optax.GradientTransformation"
        require(right, "critic", self.critic, "optimizer", contract, optimizer)
        return units.initial_state(params, optimizer.init(params))

    @property
    def td_lambda(self) -> Scalar:
        """λ of the targets."""
        return self.critic.td_lambda

    def fit(
        self, key: Array, state: CriticState, trajectories: Trajectories, lesson: PyTree
    ) -> CriticState:
        """The state after `epochs` passes over the targets."""
        tau, mesh, settings = trajectories, self.setting.mesh, self.critic
        data = tau.obs, tau.memory, lesson

        def step(state, batch):
            return self._descend(self._gradient(state, *batch), state), None

        def epoch(state, key_data):
            key = jax.random.wrap_key_data(key_data, impl=impl)
            batches = minibatches(key, data, tau.valid, settings.minibatches, mesh)
            return jax.lax.scan(step, state, batches)[0], None

        # The keys' data: under `vmap`, JAX's check of key reuse takes a scan's keys for used ones.
        impl, keys = jax.random.key_impl(key), jax.random.split(key, settings.epochs)
        return jax.lax.scan(epoch, state, jax.random.key_data(keys))[0]

    def values(self, state: CriticState, obs: PyTree, memory: PyTree, action: PyTree) -> Values:
        """The step's values."""
        policy, variables = self.setting.policy, self.setting.variables

        def value(action):
            inputs = self._inputs(variables, obs, memory, action)
            output = networks.apply_module(self.module, {"params": state.params}, inputs)
            return state.in_rewards(self._value(output))

        if self.setting.estimator.critic == "states":
            return Values(value(action))
        distribution, _ = policy.apply(variables, obs, memory)
        if policy.head.num_actions is None:
            of_action = value(action)
            return Values(value(distribution.mode()), of_action)
        q, probability = value(action), distributions.probabilities(distribution)
        return Values(jnp.sum(probability * q), q, probability)

    def _inputs(self, variables: PyTree, obs: PyTree, memory: PyTree, action: PyTree) -> PyTree:
        """The network's inputs for a step, with the action for Q of actions that are no list."""
        policy = self.setting.policy
        encoded_obs, encoded_action = policy.encode(variables, obs), ()
        if self.setting.estimator.critic == "actions" and policy.head.num_actions is None:
            distribution, _ = policy.apply(variables, obs, memory)
            encoded_action = policy.head.encode(distribution.environment_action(action))
        if not jax.tree.leaves((encoded_action, memory)):
            return encoded_obs
        return CriticInputs(encoded_action, memory, encoded_obs)

    def _value(self, output: Array) -> Array:
        """Values in the network's units; raises ValueError unless the critic gives those."""
        value = self.critic.value(output)
        shape = output.shape[: output.ndim - len(self.critic.output_shape)]
        contract = f"real numbers of shape {shape}"
        require(is_real_of(value, shape), "critic", self.critic, "value", contract, value)
        return value

    def _loss(self, state: CriticState, output: Array, lesson: PyTree) -> Array:
        """The step's loss; raises ValueError unless it is one float."""
        loss, contract = self.critic.lesson_loss(state, output, lesson), "one step's loss, float[]"
        require(is_float_of(loss, ()), "critic", self.critic, "lesson_loss", contract, loss)
        return loss

    def _gradient(self, state: CriticState, data: PyTree, valid: Array) -> PyTree:
        """The gradient of the mean loss over a minibatch's valid steps."""
        ragged, mesh = self.setting.ragged, self.setting.mesh
        gradient = summed(_summed_loss_gradient, (self, state), data, valid, ragged, mesh)
        number = jnp.maximum(jnp.sum(valid), 1)
        return jax.tree.map(lambda x: x / number, gradient)

    def _descend(self, gradient: PyTree, state: CriticState) -> CriticState:
        """The state after one step of the optimizer."""
        updates, opt_state = self.critic.optimizer().update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state.replace(params=params, opt_state=opt_state)

    def summed_loss(self, params: PyTree, state: CriticState, chunk: Chunk) -> Array:
        """The sum of the losses over the valid steps of a chunk."""
        variables = self.setting.variables

        def step_loss(obs, memory, lesson):
            inputs = self._inputs(variables, obs, memory, lesson[0])
            output = networks.apply_module(self.module, {"params": params}, inputs)
            return self._loss(state, output, lesson)

        losses = per_step(step_loss, chunk.valid)(*chunk.data)
        return jnp.sum(jnp.where(chunk.valid, losses, 0.0))


def _summed_loss_gradient(context: tuple[Fitted, CriticState], chunk: Chunk) -> PyTree:
    fitted, state = context
    return jax.grad(fitted.summed_loss)(state.params, state, chunk)
