"""JSON files that another program may have changed: read, checked, each problem named by its field.

A schema is a type (`int`, `float`, `str`, `bool`, `dict`, `list`), a pattern for a whole string, a
`Number`, `dict[str, …]` or `list[…]`, `… | None`, or a dict from names to schemas: an object with
exactly these fields, but for those that are `Optional`.
"""

import json
import math
import re
import stat
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pgjax.core.names import within

_LIMIT = 2**26  # bytes, far above the size of pgjax's own files
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
HEX = re.compile("[0-9a-f]{64}")


class Number(NamedTuple):
    """A number of type int or float within inclusive bounds."""

    type: type
    low: float
    high: float = math.inf


class Optional(NamedTuple):
    """A field that may be missing, as in files of earlier versions."""

    schema: Any


def read(path: Path, schema: Any = dict, parse: Callable[[bytes], Any] = json.loads) -> Any:
    """The contents of a JSON file, or of another that `parse` reads.

    Raises:
      ValueError: no regular file, too large, no JSON, a field that is missing, unknown or of
        another type; the message names file and field.
    """
    check_regular(path)
    try:
        if path.stat().st_size > _LIMIT:
            raise ValueError(f"it is larger than {_LIMIT} bytes")
        data = parse(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
    _check_printable(path, data)
    check(path, data, schema)
    return data


def check_regular(path: Path) -> None:
    """Raises ValueError unless a path is a regular file: reading a pipe, say, may never end."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} cannot be read (it is not a regular file)")


def check(source: Any, data: Any, schema: Any, field: str = "") -> None:
    """Raises ValueError unless `data` is as the schema says.

    Args:
      source: of the data; begins the message.
      data: JSON types.
      schema: see above.
      field: the path of `data` in its file.
    """
    problem = next(_problems(data, schema, field), None)
    if problem is not None:
        raise ValueError(f"{source} cannot be read ({problem})")


def printable(data: Any) -> Any:
    """The same JSON with the control characters of its strings written out."""
    if isinstance(data, dict):
        return {printable(name): printable(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [printable(value) for value in data]
    if isinstance(data, str):
        return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", data)
    return data


def _check_printable(path: Path, data: Any) -> None:
    if printable(data) != data:
        raise ValueError(f"{path} cannot be read (it holds control characters)")


def _problems(data: Any, schema: Any, field: str) -> typing.Iterator[str]:
    """Messages about the fields that are not as the schema says."""
    if isinstance(schema, types.UnionType):
        if data is not None:
            yield from _problems(data, typing.get_args(schema)[0], field)
    elif isinstance(schema, dict):
        yield from _field_problems(data, schema, field)
    elif typing.get_origin(schema) in (dict, list):
        yield from _item_problems(data, schema, field)
    elif not _is(data, schema):
        yield f"{_named(field)}must be {_described(schema)}, got {_short(data)}"


def _field_problems(data: Any, schema: dict[str, Any], field: str) -> typing.Iterator[str]:
    if not isinstance(data, dict):
        yield f"{_named(field)}must be an object, got {_short(data)}"
        return
    for name, inner in schema.items():
        if isinstance(inner, Optional):
            inner = inner.schema
            if name not in data:
                continue
        if name not in data:
            yield f"field {_joined(field, name)} is missing"
        else:
            yield from _problems(data[name], inner, _joined(field, name))
    for name in data.keys() - schema.keys():
        yield f"field {_joined(field, name)} is unknown"


def _item_problems(data: Any, schema: Any, field: str) -> typing.Iterator[str]:
    container, inner = typing.get_origin(schema), typing.get_args(schema)[-1]
    if not isinstance(data, container):
        yield f"{_named(field)}must be {_described(container)}, got {_short(data)}"
        return
    for name, value in data.items() if container is dict else enumerate(data):
        yield from _problems(value, inner, _joined(field, str(name)))


def _is(data: Any, schema: Any) -> bool:
    if isinstance(schema, re.Pattern):
        return isinstance(data, str) and schema.fullmatch(data) is not None
    if isinstance(schema, Number):
        return _is(data, schema.type) and schema.low <= data <= schema.high
    if schema is float:
        number = isinstance(data, (int, float)) and not isinstance(data, bool)
        return number and abs(data) <= 1e308
    return isinstance(data, schema) and (schema is bool or not isinstance(data, bool))


def _described(schema: Any) -> str:
    if isinstance(schema, re.Pattern):
        return f"like {schema.pattern}"
    if isinstance(schema, Number):
        return f"{_described(schema.type)} {within(schema.low, schema.high)}"
    names = {int: "an integer", float: "a finite number", str: "a text", bool: "true or false"}
    return names.get(schema, "an object" if schema is dict else "a list")


def _named(field: str) -> str:
    return f"field {field} " if field else "it "


def _joined(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _short(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 60 else text[:57] + "…"
