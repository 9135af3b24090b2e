"""pgjax: policy gradients as pure functions."""

from pgjax import tabular
from pgjax.checkpoints import load, save
from pgjax.components import component
from pgjax.config import Config
from pgjax.estimators import RewardToGo, TotalReturn
from pgjax.evaluation import evaluate
from pgjax.finite_mdp import FiniteMDP
from pgjax.networks import MLP
from pgjax.objectives import (
    Probability,
    ProbabilityRatio,
    ProbabilityTimesReturn,
    ScoreFunction,
    SummedProbabilityTimesReturn,
)
from pgjax.optimizers import SGD, Adam
from pgjax.rollout import Episodes
from pgjax.runs import run
from pgjax.statistics import gradient_statistics
from pgjax.training import init, policy_gradient, sample_trajectories, train, update
from pgjax.types import (
    Evaluation,
    GradientStatistics,
    Metrics,
    TrainResult,
    TrainState,
    Trajectories,
)

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "Config",
    "Episodes",
    "Evaluation",
    "FiniteMDP",
    "GradientStatistics",
    "Metrics",
    "Probability",
    "ProbabilityRatio",
    "ProbabilityTimesReturn",
    "RewardToGo",
    "ScoreFunction",
    "SummedProbabilityTimesReturn",
    "TotalReturn",
    "TrainResult",
    "TrainState",
    "Trajectories",
    "component",
    "evaluate",
    "gradient_statistics",
    "init",
    "load",
    "policy_gradient",
    "run",
    "sample_trajectories",
    "save",
    "tabular",
    "train",
    "update",
]
