"""The settings that tuning found: gymnax's environments, those of other suites, and MuJoCo's."""

from typing import Any

import optax

from pgjax.core.schedules import Schedule, Share
from pgjax.policies.networks import MLP
from pgjax.policies.recurrent import Recurrent


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


def _passes(epochs: int, minibatches: int) -> dict[str, Any]:
    """So many of both, for the policy and for the critic."""
    numbers = {"epochs": epochs, "minibatches": minibatches}
    return {f"{part}.{name}": n for part in ("ascent", "critic") for name, n in numbers.items()}


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

# Sparse rewards: chance has to find the goal first.
_GRIDWORLD = {"objective.entropy_coefficient": 0.01, **_NORMALIZED}

# Results of `benchmarks/tune.py`: each environment's algorithm, and the changes to its config.
GYMNAX: dict[str, tuple[str, dict[str, Any]]] = {
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
    "Seaquest-MinAtar": ("ppo", {**_MINATAR, "estimator.gae_lambda": 0.5}),
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
    # The second arm costs 1 a pull on average: without a bonus most seeds stop pulling it before
    # they have learned to stop after a bad pull only.
    "GaussianBandit-misc": (
        "reinforce",
        {
            **_memory(32),
            **_episodes(256),
            "objective.entropy_coefficient": _falling(1.0, 0.5),
            **_decaying(1e-2, 150),
        },
    ),
    "Reacher-misc": ("ppo", {**_CONTINUOUS, **_segments(64, 100), **_decaying(3e-3, 150)}),
    "Swimmer-misc": ("ppo", {**_CONTINUOUS, **_segments(64, 100), **_decaying(3e-3, 150)}),
    "Pong-misc": ("ppo", {**_MINATAR, **_decaying(1e-3, 30)}),
}

# What `benchmarks/suite_returns.py` trains: settings that learn, with no search behind them yet.
SUITES: dict[str, tuple[str, dict[str, Any]]] = {
    "navix/Navix-Empty-5x5-v0": ("ppo", {**_GRIDWORLD, **_decaying(2e-3, 75)}),
    "navix/Navix-Empty-8x8-v0": ("ppo", {**_GRIDWORLD, **_decaying(2e-3, 120)}),
    "navix/Navix-DoorKey-5x5-v0": ("ppo", {**_GRIDWORLD, **_decaying(2e-3, 240)}),
    "navix/Navix-DoorKey-8x8-v0?limit=640": (
        "ppo",
        {**_GRIDWORLD, **_segments(64, 128), **_decaying(2e-3, 360)},
    ),
    "jumanji/Snake-v1?size=6": ("ppo", {**_GRIDWORLD, **_decaying(2e-3, 240)}),
    "jumanji/Cleaner-v0": ("ppo", {**_GRIDWORLD, **_segments(64, 100), **_decaying(2e-3, 300)}),
    "brax/inverted_pendulum": (
        "ppo",
        {**_CONTINUOUS, **_segments(64, 100), **_decaying(1e-3, 60)},
    ),
}

# Many small steps: an environment on the host takes longer than a gradient.
_MUJOCO = {
    **_CONTINUOUS,
    "network": MLP((256, 256), "relu"),
    **_passes(epochs=10, minibatches=16),
    **_segments(8, 256),
    **_decaying(3e-4, 489),  # a million steps
}

# What `benchmarks/host.py` trains, beside another library.
HOST: dict[str, tuple[str, dict[str, Any]]] = {
    "gymnasium/HalfCheetah-v5": (
        "ppo",
        {**_MUJOCO, "estimator.discount": 0.98, "estimator.gae_lambda": 0.92},
    ),
    "gymnasium/Hopper-v5": ("ppo", _MUJOCO),
    # A swimmer's stroke pays long after it began.
    "gymnasium/Swimmer-v5": (
        "ppo",
        {**_MUJOCO, "estimator.discount": 0.9999, "estimator.gae_lambda": 0.98},
    ),
}
