"""Presets: a config for each algorithm, and a tuned config for each environment."""

import math
from collections.abc import Callable
from typing import Any

import optax

from pgjax.ascents.optimizers import SGD, Adam
from pgjax.ascents.passes import Passes
from pgjax.ascents.trust_region import TrustRegion
from pgjax.core.components import check_int, unknown
from pgjax.core.schedules import Schedule, Share
from pgjax.environments import interface
from pgjax.estimators.gae import GAE
from pgjax.objectives.clipped_ratio import ClippedRatio
from pgjax.objectives.importance_ratio import ImportanceRatio
from pgjax.objectives.score_function import ScoreFunction
from pgjax.policies.networks import MLP
from pgjax.policies.recurrent import Recurrent
from pgjax.sampling.segments import Segments
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


def _falling(start: float, share: float = 1.0) -> Schedule:
    """A schedule from a value linearly to 0 over a share of the updates, however many there are."""
    numbers = {"init_value": start, "end_value": 0.0, "transition_steps": Share(share)}
    return Schedule(optax.linear_schedule, **numbers)


def _decaying(rate: float, updates: int) -> dict[str, Any]:
    """So many updates, with a learning rate that falls to 0 over them."""
    return {"optimizer.learning_rate": _falling(rate), "num_updates": updates}


def _episodes(number: int) -> dict[str, Any]:
    return {"sampler.num_trajectories": number}


def _memory(size: int) -> dict[str, Any]:
    return {"network": Recurrent(MLP((size,)), size)}


def _segments(num_envs: int, length: int) -> dict[str, Any]:
    return {"sampler.num_envs": num_envs, "sampler.length": length}


# Without a bound, a few large steps undo the learning of a high rate. It is below most gradients'
# norms, so that mostly their direction counts.
_CLIPPED = {"optimizer.max_gradient_norm": 0.5 / 128}
_NORMALIZED = {"normalize_observations": True}
_CONTINUOUS = {"distribution": "normal", **_NORMALIZED}
_MINATAR = {
    "network": MLP((64, 64), "relu"),
    "objective.entropy_coefficient": 0.01,
    "ascent.minibatches": 8,
    "critic.minibatches": 8,
    **_CLIPPED,
    **_segments(64, 128),
    **_decaying(5e-3, 1220),  # ten million steps
}

# Results of `benchmarks/tune.py`: each environment's algorithm, and the changes to its config.
_TUNED: dict[str, tuple[str, dict[str, Any]]] = {
    "CartPole-v1": ("reinforce", {}),
    "Acrobot-v1": (
        "ppo",
        {
            **_NORMALIZED,
            "estimator.discount": 1.0,
            **_CLIPPED,
            **_segments(32, 128),
            **_decaying(2e-2, 240),
        },
    ),
    "Pendulum-v1": (
        "ppo",
        {
            **_CONTINUOUS,
            "estimator.discount": 0.95,
            "estimator.gae_lambda": 0.9,
            **_segments(32, 200),
            "ascent.epochs": 10,
            "ascent.max_kl": 0.03,
            "ascent.minibatches": 16,
            "critic.epochs": 5,
            "critic.minibatches": 16,
            **_decaying(1e-3, 150),
        },
    ),
    "MountainCar-v0": (
        "ppo",
        {
            **_NORMALIZED,
            "estimator.gae_lambda": 1.0,
            **_CLIPPED,
            **_segments(64, 128),
            **_decaying(5e-3, 120),
        },
    ),
    "MountainCarContinuous-v0": (
        "ppo",
        {**_CONTINUOUS, "estimator.discount": 0.999, **_segments(64, 128), **_decaying(1e-3, 100)},
    ),
    "Breakout-MinAtar": ("ppo", _MINATAR),
    # An action's effect shows within a few steps; a λ near 1 adds the noise of many more.
    "Asterix-MinAtar": ("ppo", {**_MINATAR, "estimator.gae_lambda": 0.25}),
    "Freeway-MinAtar": ("ppo", {**_MINATAR, "estimator.gae_lambda": 0.5}),
    "SpaceInvaders-MinAtar": ("ppo", _MINATAR),
    # Two million steps: they take three times as long as other games'.
    "Seaquest-MinAtar": (
        "ppo",
        {**_MINATAR, "estimator.gae_lambda": 0.5, **_decaying(5e-3, 244)},
    ),
    "Catch-bsuite": ("reinforce", _decaying(1e-2, 200)),
    "DeepSea-bsuite": ("reinforce", {**_episodes(1024), **_decaying(3e-3, 100)}),
    "MemoryChain-bsuite": (
        "reinforce",
        {**_memory(32), **_episodes(128), "sampler.horizon": 8, **_decaying(1e-2, 100)},
    ),
    "UmbrellaChain-bsuite": ("reinforce", {**_episodes(512), **_decaying(1e-2, 100)}),
    "DiscountingChain-bsuite": (
        "reinforce",
        {
            **_episodes(256),
            "objective.entropy_coefficient": _falling(0.03, 0.5),
            "optimizer.learning_rate": 2e-2,
            "num_updates": 120,
        },
    ),
    "SimpleBandit-bsuite": ("reinforce", {**_episodes(128), **_decaying(1e-2, 60)}),
    "FourRooms-misc": (
        "ppo",
        {
            "estimator.discount": 0.98,
            "objective.entropy_coefficient": 0.03,
            **_segments(128, 64),
            **_decaying(3e-3, 120),
        },
    ),
    "FrozenLake-misc": (
        "ppo",
        {"estimator.discount": 1.0, **_segments(128, 64), **_decaying(3e-3, 120)},
    ),
    "MetaMaze-misc": (
        "ppo",
        {
            **_memory(64),
            "estimator.gae_lambda": 0.5,
            "objective.entropy_coefficient": 0.01,
            **_segments(128, 50),
            **_decaying(1e-3, 150),
        },
    ),
    "PointRobot-misc": (
        "ppo",
        {
            **_memory(64),
            "distribution": "normal",
            "estimator.discount": 0.97,
            **_segments(128, 100),
            **_decaying(3e-3, 150),
        },
    ),
    "BernoulliBandit-misc": (
        "reinforce",
        {**_memory(32), "estimator.discount": 0.9, **_episodes(128), **_decaying(5e-3, 100)},
    ),
    "GaussianBandit-misc": ("reinforce", {**_memory(32), **_episodes(128), **_decaying(1e-2, 60)}),
    "Reacher-misc": ("ppo", {**_CONTINUOUS, **_segments(64, 100), **_decaying(3e-3, 150)}),
    "Swimmer-misc": ("ppo", {**_CONTINUOUS, **_segments(64, 100), **_decaying(3e-3, 150)}),
    "Pong-misc": ("ppo", {**_MINATAR, **_decaying(1e-3, 30)}),
}


def tuned() -> tuple[str, ...]:
    """The ids that have a preset."""
    return tuple(_TUNED)


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
    return _TUNED[env][0]


def preset(env: str, **changes: Any) -> Config:
    """The best config that tuning found for a gymnax environment.

    Args:
      env: a gymnax id.
      changes: as for `reinforce`.

    Raises:
      ValueError: an unknown id, or an environment without a tuned config.
    """
    interface.make(env)
    env = interface.canonical(env)
    if env not in _TUNED:
        raise ValueError(unknown(f"preset {env!r}: nothing was tuned for it", env, _TUNED))
    name, tuned = _TUNED[env]
    return ALGORITHMS[name](env, **tuned).replace(**changes)
