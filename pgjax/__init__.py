"""pgjax: policy gradients as pure functions."""

from pgjax import tabular
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
from pgjax.statistics import gradient_statistics
from pgjax.training import init, policy_gradient, sample_trajectories, train, update
from pgjax.types import Metrics, TrainResult, TrainState, Trajectories
