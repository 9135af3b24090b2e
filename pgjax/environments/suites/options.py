"""Options of an environment, `limit=500&backend=spring` in its id, read by their annotations."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pgjax.core.components import check_int
from pgjax.core.names import shown, unknown


class Option(NamedTuple):
    """An annotation and a default; the annotation is int, float, bool, str, a Literal of strings,
    or one of these and None."""

    hint: Any
    default: Any


def options_of(make: Callable[..., Any]) -> dict[str, Option]:
    """The options of a bound `Suite.make`: its parameters after the name."""
    hints = typing.get_type_hints(make)
    _, *parameters = inspect.signature(make).parameters.values()
    return {
        parameter.name: Option(hints[parameter.name], parameter.default) for parameter in parameters
    }


def split(text: str, env_id: str) -> dict[str, str]:
    """The names and texts of `limit=500&backend=spring`.

    >>> split("limit=500&backend=spring", "brax/ant?limit=500&backend=spring")
    {'limit': '500', 'backend': 'spring'}

    Raises:
      ValueError: a part that is empty or without "=", or a name that stands twice.
    """
    texts: dict[str, str] = {}
    for part in text.split("&"):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise ValueError(f"options of {env_id!r} are written NAME=VALUE&…, got {part!r}")
        if name in texts:
            raise ValueError(f"{env_id!r} has the option {name!r} twice")
        texts[name] = value
    return texts


def complete(
    what: str, given: Mapping[str, Any], known: Mapping[str, Option], as_text: bool
) -> dict[str, Any]:
    """Every option's value, in the order of `known`: the given one, checked, or the default.

    Args:
      what: the environment, for messages.
      given: values, or their texts in an id.
      known: the options that there are.
      as_text: whether `given` holds texts.

    Raises:
      ValueError: an unknown option or word (the message names the nearest), a text that is no
        value of the option, a limit below 1.
      TypeError: a value of another type.
    """
    for name in given:
        if name not in known:
            raise ValueError(unknown(f"option {name!r} of {what}", name, known))
    values = {name: option.default for name, option in known.items()}
    for name, value in given.items():
        label = f"option {name} of {what}"
        values[name] = _read(label, known[name].hint, value) if as_text else value
        _check(label, known[name].hint, values[name])
    if values.get("limit") is not None:
        check_int("limit", values["limit"], 1)
    return values


def kinds(hint: Any) -> tuple[Any, ...]:
    """The members of a union; of another annotation, itself."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _kind(hint: Any) -> Any:
    """The member of an annotation that is not None."""
    return next(kind for kind in kinds(hint) if kind is not type(None))


def _read(label: str, hint: Any, text: str) -> Any:
    """The value that a text stands for; words are checked later."""
    if type(None) in kinds(hint) and text.lower() == "none":
        return None
    kind = _kind(hint)
    readers = {int: int, float: float, bool: lambda word: _FLAGS[word.lower()]}
    try:
        return readers.get(kind, str)(text)
    except (ValueError, KeyError):
        raise ValueError(f"{label} must be {_NOUNS[kind]}, got {text!r}") from None


def _check(label: str, hint: Any, value: Any) -> None:
    if value is None and type(None) in kinds(hint):
        return
    kind = _kind(hint)
    if typing.get_origin(kind) is typing.Literal:
        if value not in typing.get_args(kind):
            raise ValueError(unknown(f"{shown(value)} for {label}", value, typing.get_args(kind)))
        return
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{label} must be {_NOUNS[kind]}, got {shown(value)}")


_FLAGS = {"true": True, "false": False}
_NOUNS = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
