"""Presets: a config for each algorithm, and a tuned config for each environment."""

import math
import re
from collections.abc import Callable
from typing import Any

from pgjax.ascents.optimizers import SGD, Adam
from pgjax.ascents.passes import Passes
from pgjax.ascents.trust_region import TrustRegion
from pgjax.core.components import check_int
from pgjax.core.names import shown, unknown
from pgjax.environments import interface
from pgjax.estimators.gae import GAE
from pgjax.objectives.clipped_ratio import ClippedRatio
from pgjax.objectives.importance_ratio import ImportanceRatio
from pgjax.objectives.score_function import ScoreFunction
from pgjax.sampling.segments import Segments
from pgjax.training import tuned_settings
from pgjax.training.config import Config


def reinforce(env: str | Any, **changes: Any) -> Config:
    """REINFORCE: whole episodes, rewards to go against a leave-one-out baseline. No critic.

    Args:
      env: as for `Config`.
      changes: fields and dotted paths, as for `Config.replace`.

    Source: Williams (1992).
    """
    return Config(env=env).replace(**changes)


def actor_critic(env: str | Any, **changes: Any) -> Config:
    """Advantage actor-critic (A2C): one gradient step for each segment of many environments.

    Args, as for `reinforce`.

    Source: Mnih et al. (2016), A3C, its synchronous form.
    """
    return Config(
        env=env,
        sampler=Segments(num_envs=64, length=16),
        estimator=GAE(standardize=True),
        objective=ScoreFunction(entropy_coefficient=0.01),
        optimizer=Adam(learning_rate=3e-3),
        num_updates=500,
    ).replace(**changes)


def ppo(env: str | Any, **changes: Any) -> Config:
    """Proximal policy optimization: several passes over each segment, ratios clipped.

    Args, as for `reinforce`.

    Source: Schulman et al. (2017).
    """
    return Config(
        env=env,
        sampler=Segments(num_envs=64, length=64),
        estimator=GAE(standardize=True),
        objective=ClippedRatio(),
        ascent=Passes(),
        optimizer=Adam(learning_rate=2e-3),
        num_updates=120,
    ).replace(**changes)


def natural_policy_gradient(env: str | Any, **changes: Any) -> Config:
    """The natural gradient within a trust region (TRPO).

    Args, as for `reinforce`.

    Source: Kakade (2001); Schulman et al. (2015).
    """
    return Config(
        env=env,
        sampler=Segments(num_envs=64, length=128),
        estimator=GAE(standardize=True),
        objective=ImportanceRatio(),
        ascent=TrustRegion(),
        optimizer=SGD(learning_rate=1.0),
        num_updates=60,
    ).replace(**changes)


def with_total_steps(config: Config, total_steps: int) -> Config:
    """The config with as many updates as take so many environment steps; the last one is whole.

    Raises:
      ValueError: whole episodes, whose steps cannot be known beforehand; less than one step.
    """
    check_int("total_steps", total_steps, 1)
    steps = config.sampler.num_steps
    if steps is None:
        raise ValueError(
            f"total_steps needs sampler=Segments(…): an update of {type(config.sampler).__name__} "
            "takes as many steps as its episodes last; give num_updates"
        )
    return config.replace(num_updates=math.ceil(total_steps / steps))


ALGORITHMS = {
    "reinforce": reinforce,
    "actor_critic": actor_critic,
    "ppo": ppo,
    "natural_policy_gradient": natural_policy_gradient,
}
# Other names of these algorithms.
_ALIASES = {
    "a2c": "actor_critic",
    "advantage_actor_critic": "actor_critic",
    "npg": "natural_policy_gradient",
    "natural_gradient": "natural_policy_gradient",
    "trpo": "natural_policy_gradient",
    "vpg": "reinforce",
}
# How many processes step an environment on the host changes no number.
_PROCESSES = re.compile(r"\?processes=\d+$")


def tuned() -> tuple[str, ...]:
    """The ids of gymnax that have a preset."""
    return tuple(tuned_settings.GYMNAX)


def suites_tuned() -> tuple[str, ...]:
    """The ids of other suites that have a preset."""
    return tuple(tuned_settings.SUITES)


def hosts_tuned() -> tuple[str, ...]:
    """The ids of environments on the host that have a preset."""
    return tuple(tuned_settings.HOST)


def maker(name: str) -> Callable[..., Config]:
    """The function that makes an algorithm's config; in any case, by its usual names, or "preset".

    Raises:
      ValueError: an unknown name; the message names the nearest.
    """
    makers = {**ALGORITHMS, "preset": preset}
    plain = name.lower().replace("-", "_")
    plain = _ALIASES.get(plain, plain)
    if plain not in makers:
        raise ValueError(unknown(f"algorithm {name!r}", name, (*makers, *_ALIASES)))
    return makers[plain]


def algorithm(env: str) -> str:
    """The name of the algorithm in an environment's preset."""
    return _tuned()[env][0]


def preset(env: str, **changes: Any) -> Config:
    """The best config that tuning found for an environment.

    Args:
      env: an id of gymnax, or one that `suites_tuned` or `hosts_tuned` has; of the last with
        `?processes=N` too.
      changes: as for `reinforce`.

    Raises:
      ValueError: an unknown id, or an environment without a tuned config.
      TypeError: an environment object, for which nothing can have been tuned.
      ImportError: the environment's suite is not installed.
    """
    if not isinstance(env, str):
        raise TypeError(
            f"preset takes the id of an environment, as 'CartPole-v1', got {shown(env)}: "
            "nothing was tuned for an object; ppo(env) takes one"
        )
    interface.make(env)
    env = interface.canonical(env)
    task = _PROCESSES.sub("", env)
    if task not in _tuned():
        raise ValueError(unknown(f"preset {env!r}: nothing was tuned for it", env, _tuned()))
    name, tuned = _tuned()[task]
    return ALGORITHMS[name](env, **tuned).replace(**changes)


def _tuned() -> dict[str, tuple[str, dict[str, Any]]]:
    return {**tuned_settings.GYMNAX, **tuned_settings.SUITES, **tuned_settings.HOST}
