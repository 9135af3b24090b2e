"""Evaluation in Gymnasium of policies trained with pgjax: the same problem in independent code."""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core import schedules
from pgjax.core.components import unknown
from pgjax.core.names import shown
from pgjax.core.types import Array, Evaluation, TrainState
from pgjax.environments import interface, spaces
from pgjax.environments.wrappers import wrapper
from pgjax.environments.wrappers.clipped_reward import ClippedReward
from pgjax.environments.wrappers.randomized import Randomized
from pgjax.environments.wrappers.sign_reward import SignReward
from pgjax.study import memory_estimate
from pgjax.study.acting import Acting
from pgjax.study.evaluation import bootstrap_interval
from pgjax.training.config import Config, bind, check_key, checked
from pgjax.training.training import ACTING, check_state


def evaluate_in_gymnasium(
    key: Array,
    state: TrainState,
    config: Config,
    env_id: str | None = None,
    num_episodes: int = 128,
    deterministic: bool = False,
) -> Evaluation:
    """`evaluate` in Gymnasium's own environment, made once for each episode.

    Args:
      key: one `jax.random.key`, of the actions and of the environments' seeds.
      state: the policy's; its observation statistics are not updated.
      config: the one that the policy was trained with; episodes end at its horizon at the latest.
      env_id: as for `gymnasium.make`; None: that of `config.env`.
      num_episodes, deterministic: as for `evaluate`.

    Returns:
      As for `evaluate`.

    Raises:
      ValueError, TypeError: as for `evaluate`, and an unknown id (the message names the nearest),
        one with other observations or actions, or a config with a wrapper that changes more than
        rewards and parameters.

    >>> import jax, pgjax
    >>> config = pgjax.Config(env="CartPole-v1")
    >>> state = pgjax.init(jax.random.key(0), config)
    >>> evaluate_in_gymnasium(jax.random.key(1), state, config, num_episodes=4).returns.shape
    (4,)
    """
    check_key(key)
    config = checked(config)
    check_state(state, config, ACTING)
    memory_estimate.check_episodes("num_episodes", config, num_episodes)
    play_key, bootstrap_key = jax.random.split(key)
    _check_unwrapped(config.env)
    envs = [_make(env_id, config) for _ in range(num_episodes)]
    _check_spaces(envs[0], schedules.resolve(config, state.num_updates))
    returns, lengths = _play(play_key, state, config, envs, deterministic)
    interval = bootstrap_interval(bootstrap_key, returns)
    return Evaluation(returns, lengths, jnp.mean(returns), interval)


def _play(key, state, config, envs: list, deterministic: bool) -> tuple[Array, Array]:
    """One episode in each environment: returns float[n] and lengths int32[n]."""
    seed_key, key = jax.random.split(key)
    seeds = jax.random.randint(seed_key, (len(envs),), 0, np.iinfo(np.int32).max).tolist()
    latest = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
    returns, lengths = np.zeros(len(envs)), np.zeros(len(envs), np.int32)
    running = np.ones(len(envs), bool)
    acting, horizon = Acting(state, config), bind(config, state.num_updates).horizon()
    memory = acting.initial_memory(len(envs))
    for time in range(horizon):
        obs = jax.tree.map(lambda *leaves: np.stack(leaves), *latest)
        step_key = jax.random.fold_in(key, time)
        actions, memory = acting.act(obs, memory, step_key, deterministic)
        for i in np.flatnonzero(running):
            action = jax.tree.map(lambda x, i=i: x[i], actions)
            latest[i], reward, terminated, truncated, _ = envs[i].step(action)
            returns[i], lengths[i] = returns[i] + reward, time + 1
            running[i] = not (terminated or truncated)
        if not running.any():
            break
    for env in envs:
        env.close()
    return jnp.asarray(returns, float), jnp.asarray(lengths)


def _make(env_id: str | None, config: Config) -> gymnasium.Env:
    name = config.env if env_id is None else env_id
    if not isinstance(name, str):
        raise ValueError(f"env_id must be given: config.env is no id, but {shown(name)}")
    try:
        return gymnasium.make(name)
    except gymnasium.error.UnregisteredEnv:
        known = [*gymnasium.registry]
        raise ValueError(unknown(f"Gymnasium environment {shown(name)}", name, known)) from None


def _check_unwrapped(env: Any) -> None:
    """Raises ValueError where the policy was trained in a wrapper that Gymnasium lacks.

    An evaluation is of true rewards, and in Gymnasium of its own parameters.
    """
    for layer in wrapper.layers(env):
        if not isinstance(layer, ClippedReward | SignReward | Randomized):
            raise ValueError(
                f"evaluate_in_gymnasium plays without wrappers, and config.env has "
                f"{type(layer).__name__}: write it for Gymnasium and train in "
                "pgjax.from_gymnasium(make), or call evaluate"
            )


def _check_spaces(env: gymnasium.Env, config: Config) -> None:
    """Raises ValueError unless the spaces are those of the config's environment."""
    trained_in = interface.bind(config.env, config.env_params)
    env_id = env.spec.id if env.spec else repr(env)
    for name in ("observation_space", "action_space"):
        label = f"{name} of {env_id}"
        expected, given = getattr(trained_in, name), getattr(env, name)
        if not spaces.alike(expected, spaces.read(label, given), name == "action_space"):
            raise ValueError(
                f"{label} must be that of {trained_in.name}, {expected!r}, got {shown(given)}"
            )
