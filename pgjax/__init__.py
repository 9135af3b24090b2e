"""pgjax: policy gradients as pure functions."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgjax import tabular
    from pgjax.adapters import from_brax, from_craftax, from_navix
    from pgjax.checking import check_environment
    from pgjax.checkpoints import load, save
    from pgjax.components import component
    from pgjax.config import Config
    from pgjax.critics import Critic
    from pgjax.estimators import GAE, ActionValue, RewardToGo, TotalReturn
    from pgjax.evaluation import evaluate
    from pgjax.finite_mdp import FiniteMDP
    from pgjax.gymnasium_bridge import evaluate_in_gymnasium
    from pgjax.memory import MemoryEstimate, memory_estimate
    from pgjax.networks import CNN, MLP, CriticInputs, MemoryNetwork, Select
    from pgjax.objectives import (
        ClippedRatio,
        NaturalGradient,
        Probability,
        ProbabilityRatio,
        ProbabilityTimesReturn,
        ScoreFunction,
        SummedProbabilityTimesReturn,
    )
    from pgjax.optimizers import SGD, Adam
    from pgjax.parallel import make_mesh
    from pgjax.presets import actor_critic, natural_policy_gradient, ppo, preset, reinforce
    from pgjax.recurrent import LinearCell, MinGRU, Recurrent
    from pgjax.rendering import render
    from pgjax.rollout import Episodes, Segments
    from pgjax.runs import Progress, Run, resume, run
    from pgjax.schedules import Schedule, Share
    from pgjax.statistics import gradient_statistics
    from pgjax.sweeps import Sweep, sweep
    from pgjax.training import init, policy_gradient, sample_trajectories, train, update
    from pgjax.types import (
        Evaluation,
        GradientStatistics,
        Metrics,
        Remembered,
        TrainResult,
        TrainState,
        Trajectories,
    )

__version__ = "0.1.0"

__all__ = [
    "CNN",
    "GAE",
    "MLP",
    "SGD",
    "ActionValue",
    "Adam",
    "ClippedRatio",
    "Config",
    "Critic",
    "CriticInputs",
    "Episodes",
    "Evaluation",
    "FiniteMDP",
    "GradientStatistics",
    "LinearCell",
    "MemoryEstimate",
    "MemoryNetwork",
    "Metrics",
    "MinGRU",
    "NaturalGradient",
    "Probability",
    "ProbabilityRatio",
    "ProbabilityTimesReturn",
    "Progress",
    "Recurrent",
    "Remembered",
    "RewardToGo",
    "Run",
    "Schedule",
    "ScoreFunction",
    "Segments",
    "Select",
    "Share",
    "SummedProbabilityTimesReturn",
    "Sweep",
    "TotalReturn",
    "TrainResult",
    "TrainState",
    "Trajectories",
    "actor_critic",
    "check_environment",
    "component",
    "evaluate",
    "evaluate_in_gymnasium",
    "from_brax",
    "from_craftax",
    "from_navix",
    "gradient_statistics",
    "init",
    "load",
    "make_mesh",
    "memory_estimate",
    "natural_policy_gradient",
    "policy_gradient",
    "ppo",
    "preset",
    "reinforce",
    "render",
    "resume",
    "run",
    "sample_trajectories",
    "save",
    "sweep",
    "tabular",
    "train",
    "update",
]

# Imported when first used: gymnax starts JAX's devices when it is imported, and what must come
# before that, such as `jax.distributed.initialize`, could not follow `import pgjax` otherwise.
_MODULES = {
    "adapters": ("from_brax", "from_craftax", "from_navix"),
    "checking": ("check_environment",),
    "checkpoints": ("load", "save"),
    "components": ("component",),
    "config": ("Config",),
    "critics": ("Critic",),
    "estimators": ("GAE", "ActionValue", "RewardToGo", "TotalReturn"),
    "evaluation": ("evaluate",),
    "finite_mdp": ("FiniteMDP",),
    "gymnasium_bridge": ("evaluate_in_gymnasium",),
    "memory": ("MemoryEstimate", "memory_estimate"),
    "networks": ("CNN", "MLP", "CriticInputs", "MemoryNetwork", "Select"),
    "objectives": (
        "ClippedRatio",
        "NaturalGradient",
        "Probability",
        "ProbabilityRatio",
        "ProbabilityTimesReturn",
        "ScoreFunction",
        "SummedProbabilityTimesReturn",
    ),
    "optimizers": ("SGD", "Adam"),
    "parallel": ("make_mesh",),
    "presets": ("actor_critic", "natural_policy_gradient", "ppo", "preset", "reinforce"),
    "recurrent": ("LinearCell", "MinGRU", "Recurrent"),
    "rollout": ("Episodes", "Segments"),
    "rendering": ("render",),
    "runs": ("Progress", "Run", "resume", "run"),
    "schedules": ("Schedule", "Share"),
    "statistics": ("gradient_statistics",),
    "sweeps": ("Sweep", "resume_sweep", "sweep"),
    "training": ("init", "policy_gradient", "sample_trajectories", "train", "update"),
    "types": (
        "Evaluation",
        "GradientStatistics",
        "Metrics",
        "Remembered",
        "TrainResult",
        "TrainState",
        "Trajectories",
    ),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"pgjax.{_HOMES[name]}"), name)
    try:
        return importlib.import_module(f"pgjax.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"pgjax.{name}":
            raise
        raise AttributeError(f"module 'pgjax' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return [*globals(), *__all__]
