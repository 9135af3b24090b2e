"""Command-line flags for a config: its own dotted paths, with dashes.

`--sampler.num-trajectories 32` sets `sampler.num_trajectories`; `--estimator TotalReturn` chooses a
component by its name; `--env-params.gravity 12` sets a parameter of the environment.
"""

import argparse
import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import numpy as np

from pgjax.cli import wraps
from pgjax.cli.startup import Parser, integer
from pgjax.core.components import Component, described, hints, is_number, parts, replace
from pgjax.core.names import unknown
from pgjax.environments import env_params as parameters
from pgjax.environments import interface
from pgjax.runs import config_files, config_json, folders
from pgjax.runs.config_files import ConfigFile
from pgjax.training import presets, registry
from pgjax.training.config import Config

_ENV_PARAMS = "--env-params."
_DEFAULT = "reinforce"  # algorithm


def read(arguments: list[str], parser: Parser) -> tuple[argparse.Namespace, Callable[[], Config]]:
    """The parser's own options, `env` among them, and a function that makes the config.

    The config is made later, since that may use JAX's devices, and an option may say which.

    Raises:
      ValueError: unknown flags (the message names the nearest), values of the wrong type.
    """
    arguments, env_params = _take_env_params(arguments)
    add_flags(parser)
    options = vars(parser.parse(arguments))
    changes = {name: options.pop(name) for name in list(options) if "/" in name}
    changes = {name.strip("/"): value for name, value in changes.items()}
    total_steps, algorithm = options.pop("total_steps"), options.pop("algorithm")
    if algorithm is not None:
        presets.maker(algorithm)  # refuses an unknown one
    file = None if options["config"] is None else config_files.read(options["config"])
    if options["env"] is None and (file is None or file.env is None):
        raise ValueError("the following arguments are required: ENV, unless --config has an env")
    if total_steps is not None and "num_updates" in changes:
        raise ValueError("--total-steps is a number of updates, too: give it or --num-updates")

    wrappers = options.pop("wrap")

    def make_config() -> Config:
        import_modules(options["imports"])
        if options["env"] is not None and interface.is_own_name(options["env"]):
            interface.import_environment(options["env"])
        config = _begun(options["env"], algorithm, file)
        config = _changed(config, _with_components(changes), env_params)
        config = config.replace(env=wraps.wrapped(config.env, wrappers))
        return config if total_steps is None else presets.with_total_steps(config, total_steps)

    return argparse.Namespace(**options), make_config


def read_changes(
    arguments: list[str], parser: Parser
) -> tuple[argparse.Namespace, Callable[[Config], Config]]:
    """The parser's own options, and a function that sets what flags say of a given config.

    Raises:
      ValueError: as for `read`.
    """
    arguments, env_params = _take_env_params(arguments)
    add_settings(parser, resuming=True)
    options = vars(parser.parse(arguments))
    changes = {name.strip("/"): options.pop(name) for name in list(options) if "/" in name}

    def change(config: Config) -> Config:
        return _changed(config, changes, env_params)

    return argparse.Namespace(**options), change


def import_modules(names: list[str]) -> None:
    """Imports what `--import` names, in this order."""
    for name in names:
        interface.import_module(name)


def grid(texts: list[str], config: Config, flag: str = "--grid") -> dict[str, list[Any]]:
    """Settings and their values: `["optimizer.learning_rate=1e-3,1e-2", "estimator=GAE"]`.

    A tuple's numbers are separated by spaces.

    Raises:
      ValueError: no values, a value of the wrong type, an unknown path or component.
    """
    known = {path: hint for path, hint, *_ in _leaves(config)} | dict(wraps.settings(config.env))
    settings = {}
    for text in texts:
        path, equals, values = text.partition("=")
        path = path.replace("-", "_")
        if not equals or not all(values.split(",")):
            raise ValueError(f"{flag} takes PATH=A,B,…, got {text!r}")
        if path in settings:
            raise ValueError(f"{flag} has {path} twice: write {path}=A,B,… once")
        settings[path] = [_grid_value(path, value, known, config) for value in values.split(",")]
    return settings


def space(texts: list[str] | None, config: Config) -> dict[str, Any] | None:
    """A search space: `["optimizer.learning_rate=LogUniform:1e-4:1e-2", "sampler.length=8,16"]`.

    Raises:
      ValueError: as for `grid`; an unknown distribution, or a wrong number of its numbers.
    """
    if texts is None:
        return None
    ranges, lists = {}, []
    for text in texts:
        path, _, value = text.partition("=")
        if ":" in value:
            path = path.replace("-", "_")
            ranges[path] = wraps.distribution(path, value)
        else:
            lists.append(text)
    return ranges | grid(lists, config, "--space")


def _grid_value(path: str, text: str, known: dict[str, Any], config: Config) -> Any:
    if path in registry.COMPONENTS:
        return _named(path, text, registry.COMPONENTS[path])()
    if path.startswith("env_params."):
        name = path.removeprefix("env_params.")
        return parts(_env_params(config.env, {name: text}))[name]
    if path not in known:
        names = (*registry.COMPONENTS, *known)
        raise ValueError(unknown(f"setting {path!r}", path, names, "`pgjax sweep --help`"))
    hint = known[path]
    is_tuple = "nargs" in _argument(hint)
    try:
        if hint is bool:
            return {"true": True, "false": False}[text.lower()]
        return _elements(hint, text.split()) if is_tuple else _argument(hint)["type"](text)
    except (ValueError, KeyError, argparse.ArgumentTypeError) as error:
        spaced = _spaced(f"{path}=", text.split(), error, "'") if is_tuple else ""
        raise ValueError(f"{path} cannot be {text!r}{spaced}") from None


def _begun(env: str | None, algorithm: str | None, file: ConfigFile | None) -> Config:
    """The config that flags change: an algorithm's, with a file's fields over it."""
    if file is None:
        return presets.maker(algorithm or _DEFAULT)(env)
    make = presets.maker(algorithm or file.algorithm or _DEFAULT)
    return file.config(make(file.environment() if env is None else env))


def _with_components(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes with components for their names."""
    named = {
        field: _named(field, changes[field], classes)()
        for field, classes in registry.COMPONENTS.items()
        if field in changes
    }
    return {**changes, **named}


def _changed(config: Config, changes: dict[str, Any], env_params: dict[str, str]) -> Config:
    """A config with the given fields and parameters of its environment."""
    given = _env_params(config.env, env_params) if env_params else None
    params = {f"env_params.{name}": parts(given)[name] for name in env_params}
    return config.replace(**changes, **params)


def add_flags(parser: Parser) -> None:
    """Adds a flag for every path of a config, and for its components."""
    default = Config(env="")
    names = ", ".join((*presets.ALGORITHMS, "preset"))
    parser.add_argument(
        "--algorithm",
        metavar="NAME",
        help=f"the config to begin with: {names} (tuned for ENV); --config and other flags change "
        "it, and their defaults below are those of reinforce (default: reinforce)",
    )
    parser.add_argument(
        "--total-steps",
        type=integer,
        metavar="N",
        help="as many updates of Segments as take N environment steps (default: --num-updates)",
    )
    texts = described(Config)
    for field, classes in registry.COMPONENTS.items():
        if len(classes) > 1:
            default_name = type(getattr(default, field)).__name__
            text = (
                f"{texts[field].partition(':')[0]}: {', '.join(classes)} (default: {default_name})"
            )
            parser.add_argument(
                f"--{field}", dest=f"/{field}", metavar="NAME", help=text, default=argparse.SUPPRESS
            )
    add_settings(parser)


def add_settings(parser: Parser, resuming: bool = False) -> None:
    """Adds a flag for every path of a config, without those that choose a component.

    Args:
      parser: the command's.
      resuming: the help shows only what may change when a run goes on. The others are read too, so
        that what refuses them can name the run's value.
    """
    default = Config(env="")
    paths = set()
    for path, hint, value, metadata, text in _leaves(default):
        if path not in paths:
            paths.add(path)
            text = _described(value, metadata, text, resuming)
            if resuming and not is_number(hint) and path not in folders.SETTINGS:
                text = argparse.SUPPRESS
            options = {"dest": f"/{path}", "default": argparse.SUPPRESS, "help": text}
            parser.add_argument("--" + path.replace("_", "-"), **options, **_argument(hint))
    text = f"a {'float ' if resuming else ''}parameter of the environment"
    parser.add_argument(_ENV_PARAMS + "NAME", metavar="VALUE", help=text)


def _described(value: Any, metadata: Any, text: str, resuming: bool) -> str:
    """A field's help: its description, its choices, its default."""
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    choices = [name for name in metadata.get("choices") or () if f'"{name}"' not in text]
    text = "; ".join(filter(None, (text, ", ".join(choices))))
    return f"{text} (default: {'as the run has it' if resuming else shown})".replace("%", "%%")


def _leaves(default: Config) -> Iterator[tuple[str, Any, Any, Any, str]]:
    """Path, annotation, default, metadata and description of every field that a flag can set."""
    for field, classes in registry.COMPONENTS.items():
        chosen = getattr(default, field)
        for node in (chosen, *(cls() for cls in classes.values() if cls is not type(chosen))):
            yield from _fields(node, field + ".")
    yield from (leaf for leaf in _fields(default, "") if leaf[0] in config_json.PLAIN)


def _fields(node: Component | nn.Module, prefix: str) -> Iterator[tuple[str, Any, Any, Any, str]]:
    """Those of a component, and of the components inside of it."""
    annotations, texts = hints(type(node)), described(type(node))
    for field in dataclasses.fields(node):
        value, hint = getattr(node, field.name), annotations[field.name]
        path, text = prefix + field.name, texts.get(field.name, "")
        if isinstance(value, Component):
            yield from _fields(value, f"{path}.")
        elif field.name not in ("parent", "name") and _argument(hint):
            yield path, hint, value, field.metadata, text


def _argument(hint: Any) -> dict[str, Any]:
    """What argparse needs for a field; nothing for one that no text can be the value of."""
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    kinds = [kind for kind in typing.get_args(hint) if kind not in (type(None), ...)]
    if typing.get_origin(hint) is tuple:
        if not all(kind in _TEXTS for kind in kinds):
            return {}
        metavar = "N" if set(kinds) <= {int, float} else "VALUE"
        return {"nargs": "*", "metavar": metavar, "action": _tuple_of(hint)}
    if isinstance(hint, types.UnionType):
        kind = next((kind for kind in (float, int, str) if kind in kinds), None)
        return {"type": _optional(kind), "metavar": kind.__name__.upper()} if kind else {}
    if hint not in _TEXTS:
        return {}
    return {"type": _TEXTS[hint], "metavar": hint.__name__.upper()}


# What reads a text of each kind.
_TEXTS: dict[Any, Callable[[str], Any]] = {int: integer, float: float, str: str}


def _optional(kind: type) -> Any:
    def parse(text: str) -> Any:
        return None if text.lower() == "none" else _TEXTS[kind](text)

    parse.__name__ = kind.__name__
    return parse


def _elements(hint: Any, words: list[str]) -> tuple[Any, ...]:
    """A tuple, as its annotation says: of any number of one kind, or of one kind for each place."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not ...]
    kinds = kinds * len(words) if ... in typing.get_args(hint) else kinds
    if len(kinds) != len(words):
        raise ValueError(f"expected {len(kinds)} values, got {len(words)}")
    return tuple(_TEXTS[kind](word) for kind, word in zip(kinds, words, strict=True))


def _tuple_of(hint: Any) -> type[argparse.Action]:
    """The action that reads a tuple's elements."""

    class Tuple(argparse.Action):
        def __call__(self, parser, namespace, values, option_string=None):
            words = list(values or ())
            try:
                setattr(namespace, self.dest, _elements(hint, words))
            except (ValueError, argparse.ArgumentTypeError) as error:
                spaced = _spaced(f"{option_string} ", words, error)
                raise ValueError(f"{option_string} cannot be {' '.join(words)!r}{spaced}") from None

    return Tuple


def _spaced(prefix: str, words: list[str], error: Exception, quote: str = "") -> str:
    """The end of a message about a tuple's words: the error, or how to write the values."""
    if len(words) > 1:
        return f": {error}"
    text = "".join(words)
    # 64,64 or [64, 64] or 64x64.
    listed = re.fullmatch(r"[\d\s.,;x*()\[\]]+", text)
    numbers = " ".join(re.findall(r"[\d.]+", text)) if listed else "64 64"
    return f"; write values with spaces between: {quote}{prefix}{numbers}{quote}"


def _named(field: str, name: str, classes: dict[str, type]) -> type:
    folded = {known.lower(): cls for known, cls in classes.items()}
    plain = name.lower().replace("-", "").replace("_", "")
    if plain not in folded:
        raise ValueError(unknown(f"{field} {name!r}", name, classes))
    return folded[plain]


def _take_env_params(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments without the environment's parameters, and those; their names depend on ENV."""
    others, params, unread = [], {}, list(arguments)
    while unread:
        flag = unread.pop(0)
        name, equals, value = flag.removeprefix(_ENV_PARAMS).partition("=")
        if not flag.startswith(_ENV_PARAMS):
            others.append(flag)
        elif equals or unread:
            params[name.replace("-", "_")] = value if equals else unread.pop(0)
        else:
            raise ValueError(f"argument {flag}: expected one argument")
    return others, params


def _env_params(env: str, given: dict[str, str]) -> Any:
    defaults = interface.default_params(env)
    usual = parts(defaults)
    changes = {}
    for name, text in given.items():
        if name not in usual:
            raise ValueError(unknown(f"parameter {name!r} of {env}", name, usual))
        changes[name] = _number(name, text, usual[name])
    return replace(defaults, changes)


def _number(name: str, text: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        if np.asarray(default).dtype.kind in "iu":
            return int(text)
        return float(text)
    except (ValueError, KeyError):
        kind = parameters.kind(default)
        raise ValueError(f"env_params.{name} must be {kind}, got {text!r}") from None
