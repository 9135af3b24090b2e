"""Configs as JSON: names of pgjax's own classes and plain numbers; nothing that could run."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax

from pgjax import environments
from pgjax.components import Component, unknown
from pgjax.config import Config
from pgjax.critics import Critic
from pgjax.estimators import GAE, ActionValue, RewardToGo, TotalReturn
from pgjax.networks import CNN, MLP, Recurrent
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
from pgjax.rollout import Episodes, Segments
from pgjax.schedules import Schedule
from pgjax.types import Metrics

# The components that a name can stand for, by the config's field.
COMPONENTS: dict[str, dict[str, type]] = {
    field: {cls.__name__: cls for cls in classes}
    for field, classes in {
        "network": (MLP, CNN, Recurrent),
        "sampler": (Episodes, Segments),
        "estimator": (TotalReturn, RewardToGo, GAE, ActionValue),
        "critic": (Critic,),
        "objective": (
            ScoreFunction,
            ClippedRatio,
            NaturalGradient,
            Probability,
            ProbabilityTimesReturn,
            SummedProbabilityTimesReturn,
            ProbabilityRatio,
        ),
        "optimizer": (Adam, SGD),
    }.items()
}


# Fields of a config that are no components.
PLAIN = ("distribution", "normalize_observations", "time_aware", "num_updates")
# Optax's that are made of numbers alone.
_SCHEDULES = (
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "exponential_decay",
    "linear_schedule",
    "linear_onecycle_schedule",
    "polynomial_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
)


def to_dict(config: Config) -> dict[str, Any]:
    """A config as JSON types. What is the user's own becomes {"custom": its repr}."""
    data = {"env": config.env if isinstance(config.env, str) else {"custom": repr(config.env)}}
    params = config.env_params
    data["env_params"] = None if params is None else _fields(params)
    data |= {field: _named(field, getattr(config, field)) for field in COMPONENTS}
    return data | {name: _plain(getattr(config, name)) for name in PLAIN}


def from_dict(data: dict[str, Any]) -> Config:
    """The config that `to_dict` wrote.

    Raises:
      ValueError: a part that was the user's own, or names that this version does not know.
    """
    custom = ", ".join(_custom("", data))
    if custom:
        raise ValueError(f"the config holds objects that only their author has: {custom}")
    fields = dict(data)
    for field in COMPONENTS.keys() & fields.keys():
        fields[field] = _component(field, fields[field])
    if fields["env_params"] is not None:
        fields["env_params"] = _params(fields["env"], fields["env_params"])
    try:
        return Config(**fields)
    except TypeError as error:
        raise ValueError(f"the config is not one of this version's: {error}") from error


def columns(metrics: Metrics) -> dict[str, Any]:
    """The arrays of metrics by name, those in `extra` by theirs."""
    names = [field.name for field in dataclasses.fields(metrics) if field.name != "extra"]
    return {name: getattr(metrics, name) for name in names} | metrics.extra


def _named(field: str, value: Any) -> dict[str, Any]:
    """A component or module with its type's name, if it is one of the field's; else its repr."""
    if COMPONENTS[field].get(type(value).__name__) is not type(value):
        return {"custom": repr(value)}
    return {"type": type(value).__name__, **_fields(value)}


def _custom(path: str, data: dict[str, Any]) -> Iterator[str]:
    """What is the user's own, and where it stands."""
    for name, value in data.items():
        if isinstance(value, dict) and "custom" in value:
            yield f"{path}{name} ({value['custom']})"
        elif isinstance(value, dict):
            yield from _custom(f"{path}{name}.", value)


def _component(field: str, data: dict[str, Any]) -> Any:
    values = {name: _value(value) for name, value in data.items() if name != "type"}
    name, classes = data["type"], COMPONENTS[field]
    if name not in classes:
        raise ValueError(unknown(f"{field} {name!r}", name, classes))
    try:
        return classes[name](**values)
    except TypeError as error:
        raise ValueError(f"{field} is not one of this version's: {error}") from error


def _params(env: str, values: dict[str, Any]) -> Any:
    """An environment's parameters; arrays where its own are."""
    defaults = environments.default_params(env)
    arrays = {
        name: np.asarray(value, getattr(defaults, name).dtype)
        for name, value in values.items()
        if isinstance(value, list) and hasattr(getattr(defaults, name, None), "dtype")
    }
    return defaults.replace(**{**values, **arrays})


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, dict):
        return value
    if "type" in value:
        return _component("network", value)
    if value["schedule"] not in _SCHEDULES:
        raise ValueError(unknown(f"schedule {value['schedule']!r}", value["schedule"], _SCHEDULES))
    return Schedule(getattr(optax, value["schedule"]), **value["arguments"])


def _fields(node: Any) -> dict[str, Any]:
    hidden = ("parent", "name") if isinstance(node, nn.Module) else ()
    names = [f.name for f in dataclasses.fields(node) if f.name not in hidden]
    return {name: _plain(getattr(node, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return np.asarray(value).tolist()
    if isinstance(value, nn.Module):
        return _named("network", value)
    if isinstance(value, Schedule):
        name = getattr(value.make, "__name__", "")
        if getattr(optax, name, None) is not value.make or name not in _SCHEDULES:
            return {"custom": repr(value)}
        return {"schedule": name, "arguments": {n: _plain(v) for n, v in value.arguments.items()}}
    if isinstance(value, Component) or dataclasses.is_dataclass(value):
        return _fields(value)
    return list(value) if isinstance(value, tuple) else value
