"""`--wrap NAME:option=value,…`: wrappers around the environment, the first one innermost.

`--wrap FrameStack:frames=4 --wrap StickyActions:probability=0.1`. The options of `Randomized` are
parameters, and their values distributions: `--wrap Randomized:gravity=Uniform:5:15,length=0.5`.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from pgjax.cli.startup import integer
from pgjax.core.components import hints
from pgjax.core.names import unknown
from pgjax.environments.wrappers.distributions import Choice, ParameterDistribution
from pgjax.environments.wrappers.randomized import Randomized
from pgjax.environments.wrappers.wrapper import Wrapper
from pgjax.training import registry


def wrapped(env: Any, texts: list[str]) -> Any:
    """An environment in the wrappers that the texts say.

    Raises:
      ValueError: an unknown wrapper or option (the message names the nearest), a value of the wrong
        type.
    """
    for text in texts:
        name, _, given = text.partition(":")
        cls = _class("wrapper", name, registry.WRAPPERS)
        options = dict(_pairs(text, given))
        if cls is Randomized:
            ranges = {o: distribution(f"{o} of Randomized", v) for o, v in options.items()}
            env = Randomized(env, ranges)
        else:
            env = cls(env, **{o: _value(cls, o, value) for o, value in options.items()})
    return env


def settings(env: Any, path: str = "env") -> Iterator[tuple[str, Any]]:
    """Path and annotation of every option of an environment's wrappers that is a number or text."""
    if isinstance(env, Mapping):
        for name, value in env.items():
            yield from settings(value, f"{path}.{name}")
    elif isinstance(env, (Wrapper, ParameterDistribution)):
        for name, hint in hints(type(env)).items():
            if hint in _READERS:
                yield f"{path}.{name}", hint
            yield from settings(getattr(env, name), f"{path}.{name}")


def _class(kind: str, name: str, classes: dict[str, type]) -> type:
    if name not in classes:
        raise ValueError(unknown(f"{kind} {name!r}", name, classes))
    return classes[name]


def _pairs(text: str, given: str) -> Iterator[tuple[str, str]]:
    for pair in given.split(",") if given else ():
        option, equals, value = pair.partition("=")
        if not option or not equals or not value:
            raise ValueError(
                f"--wrap takes NAME:option=value,option=value, as FrameStack:frames=4, got {text!r}"
            )
        yield option, value


def _value(cls: type, option: str, text: str) -> Any:
    known = {name: hint for name, hint in hints(cls).items() if name != "env"}
    option = option.replace("-", "_")
    if not known:
        raise ValueError(f"{cls.__name__} has no options, got {option!r}")
    if option not in known:
        raise ValueError(unknown(f"option {option!r} of {cls.__name__}", option, known))
    return _read(f"{option} of {cls.__name__}", known[option], text)


def _read(what: str, hint: Any, text: str) -> Any:
    kind, read = _READERS[hint]
    try:
        return read(text)
    except (ValueError, KeyError, OverflowError, argparse.ArgumentTypeError):
        raise ValueError(f"{what} must be {kind}, got {text!r}") from None


def distribution(what: str, text: str) -> ParameterDistribution:
    """`Uniform:5:15`, with the fields in their order; a number alone is the only choice.

    Args:
      what: the parameter, for messages.
      text: to read.
    """
    name, *values = text.split(":")
    if not values and name not in registry.DISTRIBUTIONS:
        return Choice((_read(what, float, name),))
    cls = _class("distribution", name, registry.DISTRIBUTIONS)
    numbers = [_read(what, float, value) for value in values]
    if cls is Choice:
        return Choice(tuple(numbers))
    fields = dataclasses.fields(cls)
    if len(numbers) != len(fields):
        form = ":".join([name, *(field.name.upper() for field in fields)])
        raise ValueError(f"{what} must be {form}, got {text!r}")
    return cls(*numbers)


_READERS: dict[Any, tuple[str, Any]] = {
    int: ("a whole number", integer),
    float: ("a number", float),
    bool: ("true or false", lambda text: {"true": True, "false": False}[text.lower()]),
    str: ("a text", str),
}
