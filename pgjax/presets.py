"""Starting points: a config for each algorithm, and one tuned for each environment."""

from typing import Any

from pgjax import environments
from pgjax.components import unknown
from pgjax.config import Config
from pgjax.estimators import GAE
from pgjax.objectives import ClippedRatio, NaturalGradient, ScoreFunction
from pgjax.optimizers import SGD, Adam
from pgjax.rollout import Segments


def reinforce(env: str | Any, **changes: Any) -> Config:
    """REINFORCE: whole episodes, rewards to go against a leave-one-out baseline. No critic.

    Args:
      env: as for `Config`.
      changes: dotted paths, as for `Config.replace`; names without a dot, too.

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
        objective=NaturalGradient(),
        optimizer=SGD(learning_rate=1.0),
        num_updates=60,
    ).replace(**changes)


ALGORITHMS = {
    "reinforce": reinforce,
    "actor_critic": actor_critic,
    "ppo": ppo,
    "natural_policy_gradient": natural_policy_gradient,
}


# What `benchmarks/tune.py` found, by environment: the algorithm, and what differs from its config.
_TUNED: dict[str, tuple[str, dict[str, Any]]] = {}


def tuned() -> tuple[str, ...]:
    """The ids that have a preset."""
    return tuple(_TUNED)


def algorithm(env: str) -> str:
    """The name of the algorithm in an environment's preset."""
    return _TUNED[env][0]


def preset(env: str, **changes: Any) -> Config:
    """The config that does best on a gymnax environment, of those that we tried.

    Args:
      env: a gymnax id.
      changes: as for `reinforce`.

    Raises:
      ValueError: an unknown id, or an environment that nothing was tuned for.
    """
    environments.make(env)
    if env not in _TUNED:
        raise ValueError(unknown(f"preset {env!r}: nothing was tuned for it", env, _TUNED))
    name, tuned = _TUNED[env]
    return ALGORITHMS[name](env, **tuned).replace(**changes)
