"""Evaluation of a policy: returns of independent episodes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from pgjax.core.types import Array, Evaluation, TrainState
from pgjax.environments.host import failure
from pgjax.sampling import rollout
from pgjax.study import memory_estimate
from pgjax.training.config import Config, bind, check_key, checked
from pgjax.training.training import ACTING, check_state

_NUM_RESAMPLES = 2000
_PERCENTILES = (2.5, 97.5)
# Far from the small numbers by which `jax.random.split` makes keys.
_EVALUATION = 0x5EED


def evaluation_key(seed: int) -> Key[Array, ""]:
    """A key for evaluations of the run with this seed; training uses no key derived from it."""
    return jax.random.fold_in(jax.random.key(seed), _EVALUATION)


def evaluate(
    key: Key[Array, ""],
    state: TrainState,
    config: Config,
    num_episodes: int = 128,
    deterministic: bool = False,
) -> Evaluation:
    """An estimate of U(θ) = E[R(τ)], undiscounted, from whole episodes up to the horizon.

    R(τ) is of the environment's own rewards, whatever wrapper edits those that are learned from.

    Args:
      key: one `jax.random.key`; the training key in `state` is neither used nor changed.
      state: the policy's; its observation statistics are not updated.
      config: environment, network and horizon.
      num_episodes: n ≥ 1.
      deterministic: take each distribution's mode instead of a sample.

    Returns:
      Returns, lengths, their mean and the 95 % bootstrap percentile interval of the mean.

    Raises:
      ValueError, TypeError: before compilation, for an argument that cannot be.

    >>> import jax, pgjax
    >>> config = pgjax.Config(env="Catch-bsuite")
    >>> state = pgjax.init(jax.random.key(0), config)
    >>> pgjax.evaluate(jax.random.key(1), state, config, num_episodes=16).returns.shape
    (16,)
    """
    check_key(key)
    config = checked(config)
    check_state(state, config, ACTING)
    memory_estimate.check_episodes("num_episodes", config, num_episodes)
    how = int(num_episodes), jnp.bool_(deterministic)
    return failure.call(_evaluate, key, state, config, *how)


@functools.partial(jax.jit, static_argnums=3)
def _evaluate(key, state, config, num_episodes, deterministic) -> Evaluation:
    episode_key, bootstrap_key = jax.random.split(key)
    bound = bind(config, state.num_updates)
    actor = bound.actor(state.policy_variables, deterministic)
    actor = dataclasses.replace(actor, environment=bound.environment.with_true_rewards())

    def add(sums, first_step, steps):
        returns, lengths = sums
        return returns + jnp.sum(steps.reward, 0), lengths + jnp.sum(steps.valid, 0, jnp.int32)

    keys = jax.random.split(episode_key, num_episodes)
    keys, start = actor.begin(keys, jnp.ones(num_episodes, bool))
    zeros = (jnp.zeros(num_episodes), jnp.zeros(num_episodes, jnp.int32))
    limits = rollout.episode_limits(bound.horizon())
    *_, (returns, lengths) = rollout.unroll(actor, keys, start, limits, zeros, add)
    interval = bootstrap_interval(bootstrap_key, returns)
    return Evaluation(returns, lengths, jnp.mean(returns), interval)


def bootstrap_interval(key: Key[Array, ""], values: Float[Array, " n"]) -> Float[Array, "2"]:
    """95 % percentile interval of the mean, from 2000 resamples.

    Args:
      key: one `jax.random.key`.
      values: float[n].

    Returns:
      float[2]; low, high.

    Source: Efron & Tibshirani (1993), section 13.3.
    """
    n = values.shape[0]

    def resampled_mean(key):
        return jnp.mean(values[jax.random.randint(key, (n,), 0, n)])

    means = jax.lax.map(resampled_mean, jax.random.split(key, _NUM_RESAMPLES))
    return jnp.percentile(means, jnp.asarray(_PERCENTILES))
