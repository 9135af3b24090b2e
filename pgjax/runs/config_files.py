"""Config files: JSON or TOML, a config in full or in part, over an algorithm's config.

A file has the fields that `config_json.to_dict` gives. What it leaves out is as the algorithm has
it or, in a component of another type, as that type has it. A component is a table with its "type",
or the type's name alone.
"""

import dataclasses
import json
import tomllib
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pgjax.core import distribution, moved
from pgjax.core.components import hints, unknown
from pgjax.runs import config_json, schema
from pgjax.training import registry
from pgjax.training.config import Config

FORMAT = 1
_PARSERS: dict[str, Callable[[bytes], Any]] = {
    ".json": json.loads,
    ".toml": lambda data: tomllib.loads(data.decode()),
}
_TAGS = ("type", "component")  # the keys that name a class
_NO_FIELDS = ("format", "algorithm")


class ConfigFile(NamedTuple):
    """The contents of a config file.

    Attributes:
      path: the file.
      fields: those of a config, in full or in part, as JSON types, without the environment.
      env: the environment as JSON types; or None.
      algorithm: the name of the algorithm whose config the fields change; or None.
      writer: the version of pgjax that wrote it, where that is known.
    """

    path: Path
    fields: dict[str, Any]
    env: Any
    algorithm: str | None
    writer: str | None

    def environment(self) -> Any:
        """The environment, an id or a wrapper.

        Raises:
          ValueError: it was somebody's own object, or is none.
        """
        if config_json.is_custom({"env": self.env}):
            raise ValueError(
                f"{self.path}: the environment is an object that only its author has, {self.env}: "
                "write yours before --config, as MODULE:FACTORY"
            )
        try:
            return config_json.environment(self.env)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.path}: {error}{self._other_version()}") from error

    def config(self, base: Config) -> Config:
        """A config with this file's fields, and the environment of `base`.

        Raises:
          ValueError: a key that does not exist, with the nearest that does; no value of a field.
        """
        data = config_json.to_dict(base)
        del data["env"]
        try:
            merged = dict(_merged(data, self.fields))
            return config_json.from_dict({**merged, "env": base.env})
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.path}: {error}{self._other_version()}") from error

    def _other_version(self) -> str:
        current = distribution.versions()["pgjax"]
        if self.writer in (None, current):
            return ""
        return f" (the file is of pgjax {self.writer}, this is {current})"


def read(path: Path) -> ConfigFile:
    """Reads a .json or .toml file: a config's fields, or the config.json of a run folder.

    Raises:
      ValueError: another ending, a file that cannot be read, another format.
    """
    if path.suffix not in _PARSERS:
        raise ValueError(f"a config file is a .toml or a .json, got {path}")
    data = schema.read(path, parse=_PARSERS[path.suffix])
    writer = None
    if isinstance(data.get("config"), dict):
        versions = data.get("versions")
        writer = versions.get("pgjax") if isinstance(versions, dict) else None
        data = data["config"]
    saved, algorithm = data.get("format", FORMAT), data.get("algorithm")
    if saved != FORMAT:
        raise ValueError(
            f"{path} has format {saved!r}; this version of pgjax reads format {FORMAT}"
        )
    if not isinstance(algorithm, str | None):
        raise ValueError(f"{path}: algorithm must be a name, got {algorithm!r}")
    fields = {name: value for name, value in data.items() if name not in _NO_FIELDS}
    fields = moved.current(fields)
    return ConfigFile(path, fields, fields.pop("env", None), algorithm, writer)


def text(config: Config) -> str:
    """A config in full, as the JSON that `read` takes."""
    data = {"format": FORMAT, **config_json.to_dict(config)}
    return json.dumps(schema.printable(data), indent=2)


def _merged(base: dict[str, Any], fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a config: those of a file over those of an algorithm's config."""
    for name in fields:
        if name not in base:
            raise ValueError(unknown(f"key {name!r}", name, _paths(base)))
    for name, value in base.items():
        given = fields.get(name, value)
        if name in registry.COMPONENTS:
            yield name, _component(name, name, value, given)
        elif name == "env_params":
            if not isinstance(given, dict | None):
                raise ValueError(f"env_params must be a table of parameters, got {given!r}")
            yield name, given and {**(value or {}), **given}
        else:
            yield name, given


def _component(path: str, family: str, base: Any, given: Any) -> dict[str, Any]:
    """A component with its type: the given fields over those of `base`, if it is of that type.

    Args:
      path: of the component in the config.
      family: the field of a config whose family it is of.
      base: it as it is without the file, or anything else if it is no component.
      given: its name, or a table of its fields, or of some of them.
    """
    base = base if isinstance(base, dict) else {}
    given = {"type": given} if isinstance(given, str) else given
    if not isinstance(given, dict):
        raise ValueError(f"{path} must be a name or a table of fields, got {given!r}")
    name = given.get("type", base.get("type"))
    if not isinstance(name, str):
        raise ValueError(f'{path} needs its type, as type = "NAME", got {given!r}')
    cls = config_json.component_class(family, name)
    known = [f.name for f in dataclasses.fields(cls) if f.name not in ("parent", "name", "make")]
    # Flax's annotations may name what only type checkers import.
    annotations = hints(cls) if registry.COMPONENTS[family].get(name) is cls else {}
    old = base if base.get("type") == name else config_json.defaults(family, name)
    fields = {key: value for key, value in given.items() if key != "type"}
    for key in fields:
        if key not in known:
            paths = [f"{path}.{field}" for field in known]
            raise ValueError(unknown(f"key {path + '.' + key!r}", f"{path}.{key}", paths))
    new = {
        key: _value(f"{path}.{key}", annotations.get(key), old.get(key), fields[key])
        for key in fields
    }
    return {"type": name, **old, **new}


def _value(path: str, hint: Any, base: Any, given: Any) -> Any:
    """A field's value; a component's fields over those of `base`.

    Raises:
      ValueError: no value of any field.
    """
    old = base if isinstance(base, dict) else {}
    if isinstance(given, str) and given.lower() == "none" and type(None) in typing.get_args(hint):
        return None  # TOML has no null
    if isinstance(given, dict) and ("type" in given or "type" in old):
        return _component(path, "network", old, given)
    if isinstance(given, dict) and ("component" in given or "component" in old):
        family = config_json.inner_family({**old, **given}["component"])
        nodes = [_renamed(data, "component", "type") for data in (old, given)]
        return _renamed(_component(path, family, *nodes), "type", "component")
    config_json.check_value(path, given)
    return given


def _renamed(data: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The data with another name for one of its keys."""
    return {new if name == old else name: value for name, value in data.items()}


def _paths(data: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys that a file may have, those in tables by their dotted paths."""
    for name, value in data.items():
        if name not in _TAGS:
            yield prefix + name
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{name}.")
