"""What a critic makes of trajectories, and how it learns from them."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from pgjax import critics
from pgjax.chunks import Chunk, mean_over, minibatches, per_row, summed
from pgjax.config import Config
from pgjax.critics import CriticState, ValueModule
from pgjax.environments import spaces
from pgjax.estimators import Values
from pgjax.networks import MLP, has_memory
from pgjax.parallel import on_shares
from pgjax.returns import advantages
from pgjax.trees import exponent
from pgjax.types import Array, PyTree, TrainState, Trajectories


def init(key: Array, config: Config, variables: PyTree) -> CriticState | tuple[()]:
    """A critic that has learned nothing; () where the estimator needs none, or knows it all."""
    if not _learned(config):
        return ()
    environment, policy = config.build()
    obs, _ = jax.eval_shape(environment.reset, jax.random.key(0))
    obs = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), obs)
    inputs = policy.encode(variables, policy.begin(obs))
    if _takes_action(config):
        inputs = _with_action(inputs, jnp.zeros(environment.action_space.shape))
    return config.critic.init(key, _module(config), inputs)


def prepared(state: TrainState, trajectories: Trajectories, config: Config) -> TrainState:
    """The state, with the units of these trajectories' targets for a critic that has none yet.

    They are targets with V = 0, λ-sums of rewards. Monte Carlo estimators promise that weights do
    not depend on what the critic has seen in the same update, and begin with V = 0.
    """
    if not _learned(config) or not config.estimator.bootstraps:
        return state
    valid = trajectories.valid
    nothing = jnp.zeros((valid.shape[0] + 1, valid.shape[1]))
    _, targets = _targets(trajectories, Values(nothing), config)
    critic = critics.rescaled(state.critic, *_mean_and_deviation(targets, valid), jnp.sum(valid))
    first = state.critic.num_fits == 0
    critic = jax.tree.map(lambda new, old: jnp.where(first, new, old), critic, state.critic)
    return state.replace(critic=critic)


def evaluate(
    state: TrainState, trajectories: Trajectories, config: Config, mesh: Mesh | None = None
) -> Values | None:
    """The values that the estimator needs; None where it needs none.

    A critic of the user's own, with `evaluate(critic_state, trajectories)`, says them itself.
    """
    if config.estimator_critic is None:
        return None
    if hasattr(config.critic, "evaluate"):
        return config.critic.evaluate(state.critic, trajectories)

    def share(state, config, steps, needed, final_steps):
        def each(inputs):
            return jax.vmap(lambda obs, action: _values(state, obs, action, config))(*inputs)

        found, final = per_row(each, steps, needed), each(final_steps).state
        values = found.state
        if config.sampler.whole_episodes:
            values = jnp.where(needed, values, final)
        return found._replace(state=jnp.concatenate([values, final[None]]))

    steps = trajectories.obs, trajectories.action
    # In a stream, the rows between two episodes are looked at too.
    needed = trajectories.valid | (not config.sampler.whole_episodes)
    # The final observation comes with no action: any will do, since of a critic of actions only the
    # value of the state is read there.
    final_steps = trajectories.final_obs, trajectories.action[-1]
    shares = on_shares(share, mesh, (None, None, 1, 1, 0), 1)
    return shares(state.replace(streams=()), config, steps, needed, final_steps)


def fit(
    key: Array,
    state: TrainState,
    trajectories: Trajectories,
    values: Values | None,
    config: Config,
    mesh: Mesh | None,
) -> tuple[CriticState | tuple[()], dict[str, Array]]:
    """The critic after these trajectories, and its report."""
    if not _learned(config):
        return state.critic, {}
    predicted, targets = _targets(trajectories, values, config)
    valid = trajectories.valid
    mean, deviation = _mean_and_deviation(targets, valid)
    report = _report(targets - predicted, deviation, valid)
    critic = critics.rescaled(state.critic, mean, deviation, jnp.sum(valid))
    critic = critic.replace(num_fits=critic.num_fits + 1)
    data = trajectories.obs, trajectories.action, targets, predicted

    def step(critic, batch):
        gradient = _gradient(critic, state.policy_variables, *batch, config, mesh)
        return config.critic.descend(gradient, critic), None

    def epoch(critic, key_data):
        key = jax.random.wrap_key_data(key_data, impl=impl)
        batches = minibatches(key, data, valid, config.critic.minibatches, mesh)
        return jax.lax.scan(step, critic, batches)[0], None

    # The keys' data: under `vmap`, JAX's check of key reuse takes a scan's keys for used ones.
    impl, keys = jax.random.key_impl(key), jax.random.split(key, config.critic.epochs)
    return jax.lax.scan(epoch, critic, jax.random.key_data(keys))[0], report


def _mean_and_deviation(values: Array, valid: Array) -> tuple[Array, Array]:
    """Over valid steps; float[] both, whatever the values' magnitude."""
    power = exponent(jnp.where(valid, values, 0.0))
    scaled = jnp.ldexp(values, -power)
    mean = mean_over(scaled, valid)
    deviation = jnp.sqrt(mean_over(jnp.square(scaled - mean), valid))
    return jnp.ldexp(mean, power), jnp.ldexp(deviation, power)


def _report(error: Array, deviation: Array, valid: Array) -> dict[str, Array]:
    """What a critic says of its errors before it is fitted, given the targets' deviation."""
    bias, unexplained = _mean_and_deviation(error, valid)
    share = unexplained / jnp.where(deviation > 0, deviation, 1.0)
    loss = jnp.square(bias) + jnp.square(unexplained)
    return {"explained_variance": 1.0 - jnp.square(share), "value_loss": loss}


def _gradient(critic, variables, data, valid, config, mesh) -> PyTree:
    """Of the mean loss of the valid steps of a minibatch."""
    context, ragged = (critic, variables, config), config.sampler.whole_episodes
    gradient = summed(_summed_loss_gradient, context, data, valid, ragged, mesh)
    return jax.tree.map(lambda x: x / jnp.maximum(jnp.sum(valid), 1), gradient)


def _summed_loss_gradient(context: Any, chunk: Chunk) -> PyTree:
    critic, variables, config = context
    module = _module(config)

    def loss(params):
        def one(obs, action, target, old):
            inputs = _inputs(variables, obs, action, config)
            output = module.apply({"params": params}, inputs)
            if output.ndim:
                chosen = jax.nn.one_hot(action, output.shape[0], dtype=output.dtype)
                output = jnp.sum(output * chosen)
            old, target = ((x - critic.centre) / critic.unit for x in (old, target))
            return config.critic.step_loss(output, old, target)

        return jnp.sum(jnp.where(chunk.valid, jax.vmap(one)(*chunk.data), 0.0))

    return jax.grad(loss)(critic.params)


def _targets(trajectories: Trajectories, values: Values, config: Config) -> tuple[Array, Array]:
    """What the critic says of each step, and what it should say: float[T, m] both."""
    estimator, reward = config.estimator, trajectories.reward
    terminated, truncated = trajectories.terminated, trajectories.truncated
    if not estimator.bootstraps:
        terminated = terminated | truncated
    errors = advantages(
        reward, values.state, terminated, truncated, estimator.discount, config.critic.td_lambda
    )
    predicted = values.state[:-1]
    targets = predicted + errors
    if values.action is None:
        return predicted, targets
    if values.probability is None:
        return values.action, targets
    index = trajectories.action[..., None]
    return jnp.take_along_axis(values.action, index, axis=-1)[..., 0], targets


def _values(state: TrainState, obs: PyTree, action: Array, config: Config) -> Values:
    """Of one step; `state` a scalar."""
    variables, critic, module = state.policy_variables, state.critic, _module(config)

    def value(inputs):
        return critics.value(module, critic, inputs)

    if config.estimator_critic == "states":
        return Values(value(_inputs(variables, obs, action, config)))
    policy = config.build()[1]
    distribution = policy.apply(variables, obs)
    if not _takes_action(config):
        q = value(policy.encode(variables, obs))
        probability = distribution.probabilities()
        return Values(jnp.sum(probability * q), q, probability)
    of_action = value(_inputs(variables, obs, action, config))
    return Values(value(_inputs(variables, obs, distribution.mode(), config)), of_action)


def _inputs(variables: PyTree, obs: PyTree, action: Array, config: Config) -> PyTree:
    """What the critic's network sees of a step."""
    _, policy = config.build()
    encoded = policy.encode(variables, obs)
    if not _takes_action(config):
        return encoded
    legal = policy.apply(variables, obs).environment_action(action)
    return _with_action(encoded, legal)


def _with_action(encoded: PyTree, action: Array) -> PyTree:
    return {"obs": encoded, "action": action}


def _learned(config: Config) -> bool:
    """Whether values are learned here: the estimator needs some, and the critic is no oracle."""
    return config.estimator_critic is not None and not hasattr(config.critic, "evaluate")


def _module(config: Config) -> ValueModule:
    space = config.build()[0].action_space
    every = config.estimator_critic == "actions" and isinstance(space, spaces.Discrete)
    # What a policy with a memory remembers is among the critic's inputs; it needs none of its own.
    policys = MLP() if has_memory(config.network) else config.network
    network = policys if config.critic.network is None else config.critic.network
    return ValueModule(network, space.n if every else None)


def _takes_action(config: Config) -> bool:
    """Whether the critic's network sees the action: Q of actions that are not discrete."""
    space = config.build()[0].action_space
    return config.estimator_critic == "actions" and not isinstance(space, spaces.Discrete)
