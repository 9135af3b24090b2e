"""Configs as JSON: names of pgjax's own classes and plain numbers; nothing that could run."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from pgjax.ascents.optimizers import Custom
from pgjax.core import identities
from pgjax.core.components import Component, parts, replace, unknown
from pgjax.core.names import shown
from pgjax.core.schedules import Schedule, Share
from pgjax.core.types import Metrics
from pgjax.environments import interface
from pgjax.training import registry
from pgjax.training.config import Config

# Optax's schedules by name; the others there change an optimizer.
SCHEDULES = {
    name: function
    for name, function in vars(optax.schedules).items()
    if inspect.isfunction(function) and not name.startswith("inject")
}
# Fields of a config that are no components.
PLAIN = ("distribution", "normalize_observations", "time_aware", "num_updates")


def to_dict(config: Config) -> dict[str, Any]:
    """A config as JSON types.

    What Optax or Flax exports is stored by its name there; what is the user's own becomes
    {"custom": its module and name}.
    """
    data: dict[str, Any] = {"env": _plain_env(config.env)}
    data["env_params"] = _parameters(config.env_params)
    data |= {field: _named(field, getattr(config, field)) for field in registry.COMPONENTS}
    return data | {name: _plain(getattr(config, name)) for name in PLAIN}


def from_dict(data: dict[str, Any]) -> Config:
    """The config that `to_dict` wrote.

    Raises:
      ValueError: a part that was the user's own, or names that this version does not know.
    """
    custom = ", ".join(_custom("", data))
    if custom:
        raise ValueError(f"the config holds objects that only their author has: {custom}")
    fields = {**data, "env": environment(data["env"])}
    for field in registry.COMPONENTS.keys() & fields.keys():
        fields[field] = _component(field, fields[field])
    if fields["env_params"] is not None:
        fields["env_params"] = _params(fields["env"], fields["env_params"])
    try:
        return Config(**fields)
    except TypeError as error:
        raise ValueError(f"the config is not one of this version's: {error}") from error


def is_custom(part: dict[str, Any] | None) -> bool:
    """Whether a part of what `to_dict` wrote holds something of the user's own."""
    return any(_custom("", {"": part}))


def environment(data: Any) -> Any:
    """The environment that `to_dict` stored; one that was put into the data stays."""
    if not isinstance(data, dict):
        return data
    fields = {name: environment(v) if name == "env" else _value(v) for name, v in data.items()}
    return _made("wrapper", str(fields.pop("type", "")), registry.WRAPPERS, fields)


def component_class(field: str, name: str) -> type:
    """The class of a component of a config's field; `Custom` for Optax's optimizers.

    Raises:
      ValueError: an unknown name.
    """
    make = _maker(field, name)
    return make if isinstance(make, type) else Custom


def defaults(field: str, name: str) -> dict[str, Any]:
    """The fields that a component has by default, as JSON types; {} for Flax's modules and Optax's
    optimizers."""
    cls = registry.COMPONENTS[field].get(name)
    return {} if cls is None else _fields(cls())


def check_value(path: str, data: Any) -> None:
    """Raises ValueError, with the path of a config's field, for JSON that is no value of it."""
    try:
        _value(data)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from None


def inner_family(name: str) -> str:
    """The field of a config whose family has a component of this name.

    Raises:
      ValueError: no family has it.
    """
    for field, classes in registry.COMPONENTS.items():
        if name in classes:
            return field
    names = [known for classes in registry.COMPONENTS.values() for known in classes]
    raise ValueError(unknown(f"component {name!r}", name, names))


def columns(metrics: Metrics) -> dict[str, Any]:
    """The arrays of metrics by name, those in `extra` by theirs."""
    names = [field.name for field in dataclasses.fields(metrics) if field.name != "extra"]
    return {name: getattr(metrics, name) for name in names} | metrics.extra


def _named(field: str, value: Any) -> dict[str, Any]:
    """A component or module with its type's name, or that of Optax or Flax; else described."""
    if registry.COMPONENTS[field].get(type(value).__name__) is type(value):
        return {"type": type(value).__name__, **_fields(value)}
    if isinstance(value, Custom):
        name, fields = identities.public_name(value.make, identities.OPTIMIZERS), _fields(value)
        del fields["make"]
        return _described(value) if name is None else {"type": name, **fields}
    name = identities.public_name(type(value), identities.MODULES)
    return _described(value) if name is None else {"type": name, **_changed_fields(value)}


def _described(value: Any) -> dict[str, str]:
    return {"custom": identities.described(value)}


def _custom(path: str, data: dict[str, Any] | list[Any]) -> Iterator[str]:
    """What is the user's own, and where it stands."""
    for name, value in data.items() if isinstance(data, dict) else enumerate(data):
        if isinstance(value, dict) and "custom" in value:
            yield f"{path}{name} ({value['custom']})"
        elif isinstance(value, (dict, list)):
            yield from _custom(f"{path}{name}.", value)


def _component(field: str, data: dict[str, Any]) -> Any:
    values = {name: _value(value) for name, value in data.items() if name != "type"}
    make = _maker(field, data["type"])
    try:
        return make(**values)
    except TypeError as error:
        raise ValueError(f"{field} is not one of this version's: {error}") from error


def _maker(field: str, name: str) -> Any:
    """What makes a component from its fields."""
    classes = registry.COMPONENTS[field]
    if "." not in name or field not in ("network", "optimizer"):
        if name not in classes:
            raise ValueError(unknown(f"{field} {name!r}", name, classes))
        return classes[name]
    if field == "optimizer":
        return functools.partial(Custom, identities.imported(name, identities.OPTIMIZERS))
    module = identities.imported(name, identities.MODULES)
    if not (isinstance(module, type) and issubclass(module, nn.Module)):
        raise ValueError(f"network {name!r} is no Flax module")
    return module


def _plain_env(env: Any) -> Any:
    """An id, a wrapper of pgjax's own with its type's name, or a description."""
    if isinstance(env, str):
        return env
    name = type(env).__name__
    if registry.WRAPPERS.get(name) is not type(env):
        return _described(env)
    fields = {key: _plain(value) for key, value in parts(env).items() if key != "env"}
    return {"type": name, "env": _plain_env(env.env), **fields}


def _made(what: str, name: str, classes: dict[str, type], fields: dict[str, Any]) -> Any:
    """An object of the named class."""
    if name not in classes:
        raise ValueError(unknown(f"{what} {name!r}", name, classes))
    try:
        return classes[name](**fields)
    except TypeError as error:
        raise ValueError(f"{what} {name} is not one of this version's: {error}") from error


def _parameters(params: Any) -> dict[str, Any] | None:
    if params is None or (jax.tree.leaves(params) and not parts(params)):
        return None if params is None else {"custom": repr(params)}
    return {name: _plain(value) for name, value in parts(params).items()}


def _params(env: str, values: dict[str, Any]) -> Any:
    """An environment's parameters; arrays where its own are."""
    defaults = interface.default_params(env)
    usual = parts(defaults)
    arrays = {
        name: np.asarray(value, usual[name].dtype)
        for name, value in values.items()
        if isinstance(value, list) and hasattr(usual.get(name), "dtype")
    }
    others = {name: _value(value) for name, value in values.items() if name not in arrays}
    return replace(defaults, {**others, **arrays})


def _value(value: Any) -> Any:
    """The inverse of `_plain`."""
    if isinstance(value, list):
        return tuple(map(_value, value))
    if not isinstance(value, dict):
        return value
    if "type" in value:
        return _component("network", value)
    if "component" in value:
        return _inner_component(value)
    form = next((form for form in _FORMS if set(form) == set(value)), None)
    if form is None:
        forms = ", ".join(" with ".join(form) for form in _FORMS)
        raise ValueError(f"{value!r} is no value: it may have type, component, {forms}")
    return _FORMS[form](*(value[name] for name in form))


def _inner_component(data: dict[str, Any]) -> Any:
    """The inverse of `_inner`."""
    name = data["component"]
    fields = {key: value for key, value in data.items() if key != "component"}
    if name in registry.DISTRIBUTIONS:
        fields = {key: _value(value) for key, value in fields.items()}
        return _made("distribution", name, registry.DISTRIBUTIONS, fields)
    return _component(inner_family(name), {"type": name, **fields})


def _schedule(name: str, arguments: dict[str, Any]) -> Schedule:
    if name not in SCHEDULES:
        raise ValueError(unknown(f"schedule {name!r}", name, SCHEDULES))
    if not isinstance(arguments, dict):
        raise ValueError(f"the arguments of {name} must be a table, got {shown(arguments)}")
    return Schedule(SCHEDULES[name], **{key: _value(value) for key, value in arguments.items()})


# What makes a value from the fields of each form that is no component.
_FORMS: dict[tuple[str, ...], Callable[..., Any]] = {
    ("share",): Share,
    ("mapping",): lambda pairs: {_value(key): _value(inner) for key, inner in pairs},
    ("dtype",): lambda name: getattr(jnp, np.dtype(name).name),
    ("class",): lambda name: _maker("network", name),
    ("function",): lambda name: identities.imported(name, identities.FUNCTIONS),
    ("schedule", "arguments"): _schedule,
}


def _fields(node: Any) -> dict[str, Any]:
    hidden = ("parent", "name") if isinstance(node, nn.Module) else ()
    names = [f.name for f in dataclasses.fields(node) if f.name not in hidden]
    return {name: _plain(getattr(node, name)) for name in names}


def _changed_fields(module: nn.Module) -> dict[str, Any]:
    """A Flax module's fields that differ from its defaults, which may be nameless functions."""
    fields = {f.name: f.default for f in dataclasses.fields(module) if f.init}
    values = {name: getattr(module, name) for name in fields if name not in ("parent", "name")}
    changed = {name: v for name, v in values.items() if v is not fields[name] and v != fields[name]}
    return {name: _plain(value) for name, value in changed.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int, float, type(None))):
        return value
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return np.asarray(value).tolist()
    if isinstance(value, nn.Module):
        return _named("network", value)
    if isinstance(value, Share):
        return {"share": value.share}
    if isinstance(value, Schedule):
        return _plain_schedule(value)
    if isinstance(value, Component):
        return _inner(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in value]
    if isinstance(value, Mapping):
        return {"mapping": [[_plain(key), _plain(inner)] for key, inner in value.items()]}
    return _plain_object(value)


def _inner(component: Component) -> dict[str, Any]:
    """A component inside of another, with its type's name; the user's own is described."""
    name = type(component).__name__
    if _classes().get(name) is not type(component):
        return _described(component)
    return {"component": name, **_fields(component)}


def _classes() -> dict[str, type]:
    """The components of all families, and distributions of parameters, by name."""
    families = (*registry.COMPONENTS.values(), registry.DISTRIBUTIONS)
    return {name: cls for family in families for name, cls in family.items()}


def _plain_schedule(schedule: Schedule) -> dict[str, Any]:
    name = getattr(schedule.make, "__name__", "")
    if SCHEDULES.get(name) is not schedule.make:
        return _described(schedule)
    arguments = {key: _plain(value) for key, value in schedule.arguments.items()}
    return {"schedule": name, "arguments": arguments}


def _plain_object(value: Any) -> dict[str, str]:
    """A number type, a module's class, a function that Flax or JAX exports, or the user's own."""
    if isinstance(value, type) and issubclass(value, nn.Module):
        name = identities.public_name(value, identities.MODULES)
        return _described(value) if name is None else {"class": name}
    if isinstance(value, np.dtype) or hasattr(value, "dtype"):
        return {"dtype": np.dtype(value).name}
    name = identities.public_name(value, identities.FUNCTIONS)
    return _described(value) if name is None else {"function": name}
