"""Configs as JSON: names of pgjax's own classes and plain numbers; nothing that could run."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from pgjax import environments
from pgjax.components import Component, unknown
from pgjax.config import Config
from pgjax.estimators import RewardToGo, TotalReturn
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

# The components that a name can stand for, by the config's field.
COMPONENTS: dict[str, dict[str, type]] = {
    field: {cls.__name__: cls for cls in classes}
    for field, classes in {
        "network": (MLP,),
        "sampler": (Episodes,),
        "estimator": (TotalReturn, RewardToGo),
        "objective": (
            ScoreFunction,
            Probability,
            ProbabilityTimesReturn,
            SummedProbabilityTimesReturn,
            ProbabilityRatio,
        ),
        "optimizer": (Adam, SGD),
    }.items()
}


def to_dict(config: Config) -> dict[str, Any]:
    """A config as JSON types. What is the user's own becomes {"custom": its repr}."""
    data = {"env": config.env if isinstance(config.env, str) else {"custom": repr(config.env)}}
    params = config.env_params
    data["env_params"] = None if params is None else _fields(params)
    for field, classes in COMPONENTS.items():
        value = getattr(config, field)
        known = classes.get(type(value).__name__) is type(value)
        data[field] = (
            {"type": type(value).__name__, **_fields(value)} if known else {"custom": repr(value)}
        )
    return data | {"distribution": config.distribution, "num_updates": config.num_updates}


def from_dict(data: dict[str, Any]) -> Config:
    """The config that `to_dict` wrote.

    Raises:
      ValueError: a part that was the user's own, or names that this version does not know.
    """
    custom = [name for name, value in data.items() if isinstance(value, dict) and "custom" in value]
    if custom:
        parts = ", ".join(f"{name} ({data[name]['custom']})" for name in custom)
        raise ValueError(f"the config holds objects that only their author has: {parts}")
    fields = dict(data)
    for field, classes in COMPONENTS.items():
        fields[field] = _component(field, classes, fields[field])
    if fields["env_params"] is not None:
        defaults = environments.default_params(fields["env"])
        fields["env_params"] = defaults.replace(**fields["env_params"])
    try:
        return Config(**fields)
    except TypeError as error:
        raise ValueError(f"the config is not one of this version's: {error}") from error


def _component(field: str, classes: dict[str, type], data: dict[str, Any]) -> Any:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "type"}
    name = data["type"]
    if name not in classes:
        raise ValueError(unknown(f"{field} {name!r}", name, classes))
    try:
        return classes[name](**values)
    except TypeError as error:
        raise ValueError(f"{field} is not one of this version's: {error}") from error


def _fields(node: Any) -> dict[str, Any]:
    hidden = ("parent", "name") if isinstance(node, nn.Module) else ()
    names = [f.name for f in dataclasses.fields(node) if f.name not in hidden]
    return {name: _plain(getattr(node, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return np.asarray(value).tolist()
    if isinstance(value, Component) or dataclasses.is_dataclass(value):
        return _fields(value)
    return list(value) if isinstance(value, tuple) else value
