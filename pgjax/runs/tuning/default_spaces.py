"""The ranges that `tune` searches where no space is given, by field of a config and component.

All are floats, so that all trials of a tuning are one program.
"""

from typing import Any

from pgjax.environments.wrappers.distributions import LogUniform, ParameterDistribution, Uniform
from pgjax.training.config import Config

_Ranges = dict[str, ParameterDistribution]

_RATE: _Ranges = {"learning_rate": LogUniform(1e-4, 3e-2)}
_DISCOUNT: _Ranges = {"discount": Uniform(0.9, 1.0)}
_ENTROPY: _Ranges = {"entropy_coefficient": LogUniform(1e-4, 0.1)}
_EPSILON: _Ranges = {"epsilon": Uniform(0.1, 0.4)}
_TRACE: _Ranges = {**_DISCOUNT, "gae_lambda": Uniform(0.8, 1.0)}

RANGES: dict[str, dict[str, _Ranges]] = {
    "optimizer": {"Adam": _RATE},
    "estimator": {
        "TotalReturn": _DISCOUNT,
        "RewardToGo": _DISCOUNT,
        "ActionValue": _DISCOUNT,
        "GAE": _TRACE,
    },
    "critic": {"Critic": _RATE, "TwoHotCritic": _RATE},
    "objective": {"ScoreFunction": _ENTROPY, "ClippedRatio": {**_EPSILON, **_ENTROPY}},
    "ascent": {"TrustRegion": {"max_kl": LogUniform(1e-3, 0.1)}},
}


def default_space(config: Config) -> _Ranges:
    """The ranges of a config's components. A critic that the estimator does not need, and a field
    that is None or holds a schedule, keep their values.

    >>> import pgjax
    >>> list(default_space(pgjax.reinforce("CartPole-v1")))
    ['optimizer.learning_rate', 'estimator.discount', 'objective.entropy_coefficient']
    """
    space: _Ranges = {}
    for field, classes in RANGES.items():
        if field == "critic" and config.estimator.critic is None:
            continue
        component: Any = getattr(config, field)
        for name, distribution in classes.get(type(component).__name__, {}).items():
            if isinstance(getattr(component, name), (int, float)):
                space[f"{field}.{name}"] = distribution
    return space
