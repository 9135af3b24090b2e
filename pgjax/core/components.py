"""Config components: small frozen dataclasses that are pytrees.

A field annotated `float` (or `float | None`) is a leaf: traced, so it can change without
recompiling and can be batched by `vmap`. A field annotated as a component, or as a tuple of them,
has their leaves. Every other field is static: part of the program, so its value must be hashable.
"""

import dataclasses
import functools
import importlib
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import jax
import numpy as np
from jax.core import Tracer

from pgjax.core.exports import families
from pgjax.core.names import choices, nearest, shown, unknown, within

MAX_INT = 2**31 - 1  # what an int32 holds
_NO_NUMBERS = (str, bytes, bool, tuple, list, dict, set, type, Callable)  # not to be traced
_UNHASHABLE = {
    list: "a list is not; use a tuple",
    dict: "a dict is not; use a tuple of pairs",
    set: "a set is not; use a frozenset",
}
_FLAX_FIELDS = ("parent", "name")  # fields of every Flax module, which no user gives

Class = TypeVar("Class", bound=type)


def option(
    default: Any, *, low: float | None = None, high: float | None = None, choices=None
) -> Any:
    """A component's field with its default and the values it may take (bounds inclusive)."""
    return dataclasses.field(
        default=default, metadata={"low": low, "high": high, "choices": choices}
    )


def node(to_node: Callable = lambda value: value, from_node: Callable = lambda value: value) -> Any:
    """A component's field that holds a pytree, whose leaves are traced and which its class checks.

    Args:
      to_node, from_node: from a value to a pytree, where it is none, and back.
    """
    return dataclasses.field(metadata={"node": (to_node, from_node)})


# `option` is no field specifier: a checker reads a default by keyword only from those.
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, node))
def component(cls: Class) -> Class:
    """Makes a class a frozen dataclass and a pytree of its `float` fields and its components.

    >>> import jax, pgjax
    >>> jax.tree.leaves(pgjax.RewardToGo(discount=0.5))
    [0.5]
    """
    cls = knows_fields(dataclasses.dataclass(frozen=True)(cls))
    _check_complete(cls)
    annotations, fields = hints(cls), dataclasses.fields(cls)
    for field in fields:
        if field.metadata.get("choices") and is_number(annotations[field.name]):
            raise TypeError(
                f"{cls.__name__}.{field.name} is a float, which is traced and may have a range, "
                "low= and high=, but no choices"
            )
    nodes = {field.name for field in fields if "node" in field.metadata}
    traced = [n for n, hint in annotations.items() if n in nodes or _is_traced_hint(hint)]
    return _register(cls, traced)


def _check_complete(cls: type) -> None:
    """Raises TypeError if a class lacks a method of its contract."""
    for name in sorted(getattr(cls, "__abstractmethods__", ())):
        contract = next(base for base in cls.__mro__ if name in vars(base))
        method = getattr(contract, name)
        signature = re.sub(r"[\w.]+\.|'", "", str(inspect.signature(method)))
        sentence = (inspect.getdoc(method) or "").partition("\n")[0]
        raise TypeError(
            f"{cls.__name__} is no {contract.__name__} yet: it needs {name}{signature}: {sentence}"
        )
    for contract in cls.__mro__:
        for name in vars(contract).get("__annotations__", {}):
            says = described(contract).get(name, "")
            if typing.get_origin(typing.get_type_hints(contract)[name]) is ClassVar and not hasattr(
                cls, name
            ):
                raise TypeError(
                    f"{cls.__name__} is no {contract.__name__} yet: it needs the class attribute "
                    f"{name}: {says}"
                )


def knows_fields(cls: Class) -> Class:
    """Makes a class's constructor refuse, in one line, a field that the class does not have."""
    construct = cls.__init__
    parameters = inspect.signature(construct).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return cls

    @functools.wraps(construct)
    def __init__(self, *args, **fields):
        for name in fields:
            if name not in parameters:
                raise TypeError(_no_field(type(self), name, [*parameters][1:]))
        construct(self, *args, **fields)

    cls.__init__ = __init__
    return cls


def _no_field(cls: type, name: str, parameters: list[str]) -> str:
    """The message for a field, given to a constructor, that a class does not have."""
    if _lacks_decorator(cls):
        return _undecorated(cls)
    fields = [parameter for parameter in parameters if parameter not in _FLAX_FIELDS]
    owners = _field_owners()
    # The class's own fields come first, if as near; others' only if that very name is likely meant.
    near = [*nearest(name, [*fields, *owners], 0.8), *nearest(name, fields)]
    best = next(iter(near), "")
    if best in owners:
        family, _, field = best.partition(".")
        hint = f"{field} is a field of {', '.join(owners[best])} ({family})"
    else:
        hint = choices(name, fields)
    return f"{cls.__name__} has no field {name!r}; {hint}"


def _field_owners() -> dict[str, list[str]]:
    """Names of the components that have a field, by the field's path in a config."""
    owners: dict[str, list[str]] = {}
    for family, homes in families().items():
        for name, home in homes.items():
            cls = getattr(importlib.import_module(home), name)
            for field in dataclasses.fields(cls):
                if field.name not in _FLAX_FIELDS:
                    owners.setdefault(f"{family}.{field.name}", []).append(name)
    return owners


def static() -> Any:
    """A record's field that is part of the program, not of its leaves."""
    return dataclasses.field(metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(static,))
def record(cls: Class) -> Class:
    """Makes a class a frozen dataclass and a pytree of all of its fields that are not `static`."""
    cls = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(cls)
    return _register(cls, [field.name for field in fields if not field.metadata.get("static")])


def _register(cls: Class, traced: list[str]) -> Class:
    """Registers a dataclass as a pytree with the named fields as children, the others static.

    Not by `register_dataclass`, nor by `flax.struct`, which uses it: in jaxlib 0.10.2 the tree
    structures of two such classes with the same fields are equal, and `jit` may run the program
    that it compiled for the other class.
    """
    fields = dataclasses.fields(cls)
    static = [field.name for field in fields if field.name not in traced]
    nodes = {field.name: field.metadata["node"] for field in fields if "node" in field.metadata}

    def flatten(node):
        values = {name: getattr(node, name) for name in traced}
        values |= {name: to_node(values[name]) for name, (to_node, _) in nodes.items()}
        children = [(jax.tree_util.GetAttrKey(name), values[name]) for name in traced]
        return children, tuple(getattr(node, name) for name in static)

    def unflatten(values, children):
        fields = dict(zip((*traced, *static), (*children, *values), strict=True))
        fields |= {name: from_node(fields[name]) for name, (_, from_node) in nodes.items()}
        return cls(**fields)

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
    return cls


class Component:
    """Base of every component: `replace` and the checks that its annotations imply."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # by `component`

    def __init__(self, *args: Any, **fields: Any) -> None:
        # The decorator gives a class another constructor.
        if args or fields:
            raise TypeError(_undecorated(type(self)))

    def replace(self, **changes: Any) -> Self:
        """A copy with the given fields changed; dotted paths reach into nested components.

        Raises:
          ValueError: a path that does not exist; the message names the nearest one.
        """
        return replace(self, changes)

    def check(self, path: str) -> None:
        """Raises if a field's value is not allowed; `path` is this component's in the config."""
        for field in dataclasses.fields(self):
            hint, value = hints(type(self))[field.name], getattr(self, field.name)
            if "node" not in field.metadata:
                _check_field(f"{path}.{field.name}", hint, value, field.metadata)


def check_component(path: str, value: Any, contract: type) -> Component:
    """Returns a value; raises TypeError unless it is a decorated component of a contract."""
    name = contract.__name__
    if not isinstance(value, contract):
        ours = f"one of pgjax's, or of your own a class derived from pgjax.{name}"
        is_ours = contract.__module__.startswith("pgjax.")
        raise TypeError(
            f"{path} must be {ours if is_ours else f'a component derived from {name}'}, "
            f"got {shown(value)}"
        )
    # A class that JAX does not know, whatever other decorator it has, is one leaf.
    if jax.tree_util.all_leaves([value]):
        raise TypeError(f"{path}: {_undecorated(type(value))}")
    return value


def _undecorated(cls: type) -> str:
    return f"class {cls.__name__} lacks the decorator @pgjax.component, which makes it a component"


def _lacks_decorator(cls: type) -> bool:
    return issubclass(cls, Component) and "__dataclass_params__" not in vars(cls)


def check_hashable(path: str, value: Any) -> None:
    """Raises TypeError, naming the part at fault, unless a value can be part of the program."""
    try:
        hash(value)
    except TypeError as error:
        for name, inner in parts(value).items() if dataclasses.is_dataclass(value) else ():
            if name not in _FLAX_FIELDS:
                check_hashable(f"{path}.{name}", inner)
        for i, inner in enumerate(value if isinstance(value, tuple) else ()):
            check_hashable(f"{path}[{i}]", inner)
        reason = _UNHASHABLE.get(type(value)) or str(error).partition("\n")[0]
        if isinstance(value, (np.ndarray, jax.Array)):
            reason = "an array is not; use a tuple, or a float field for each number"
        raise TypeError(
            f"{path} is part of the program, so it must be hashable: {reason}"
        ) from None


def hints(cls: type) -> dict[str, Any]:
    """The resolved annotations of a dataclass's fields, in order."""
    resolved = typing.get_type_hints(cls)
    return {field.name: resolved[field.name] for field in dataclasses.fields(cls)}


def replace(node: Any, changes: dict[str, Any], path: str = "", root: Any = None) -> Any:
    """`dataclasses.replace` with dotted paths, through components, Flax modules and env params.

    Args:
      path: the node's path in the root, with a dot at its end.
      root: the outermost node; by default, the node itself.
    """
    values = parts(node)
    root = node if root is None else root
    direct, nested = {}, {}
    for dotted, value in changes.items():
        name, _, inner_path = dotted.partition(".")
        if name not in values:
            raise ValueError(_unknown_field(node, path, dotted, root))
        if inner_path:
            nested.setdefault(name, {})[inner_path] = value
        else:
            direct[name] = value
    root = _with(node, direct) if root is node and nested else root
    for name, inner in nested.items():
        child = direct.get(name, values[name])
        if not parts(child):
            first = next(iter(inner))
            raise ValueError(_without_fields(f"{path}{name}", child, first))
        direct[name] = replace(child, inner, f"{path}{name}.", root)
    return _with(node, direct)


def _with(node: Any, fields: dict[str, Any]) -> Any:
    """A copy of a dataclass, a NamedTuple or a mapping with the given fields changed."""
    if isinstance(node, Mapping):
        mapping: Any = type(node)
        return mapping({**node, **fields})
    return node._replace(**fields) if _is_named_tuple(node) else dataclasses.replace(node, **fields)


def _without_fields(path: str, node: Any, field: str) -> str:
    if _lacks_decorator(type(node)):
        return f"{path}.{field} cannot be set: {_undecorated(type(node))}"
    hint = _family_hint(f"{path}.{field}")
    return f"{path}.{field} cannot be set: {path} is {shown(node)}, without fields{hint}"


def _family_hint(path: str, fields: Iterable[str] = ()) -> str:
    """The end of a message: which components of a family have the field that a path means; empty
    if the path means one of the component's own `fields`."""
    family, _, field = path.partition(".")
    own_fields, owners = list(fields), _field_owners()
    paths = (path.partition(".") for path in owners)
    names = [*own_fields, *(name for home, _, name in paths if home == family)]
    best = next(iter(nearest(field, names, 0.8)), "")
    if not best or best in own_fields:
        return ""
    return f"; {best} is a field of {', '.join(owners[f'{family}.{best}'])}"


def parts(node: Any) -> dict[str, Any]:
    """Fields of a dataclass or a NamedTuple, entries of a mapping; {} for any other object."""
    if isinstance(node, Mapping):
        return dict(node)
    if _is_named_tuple(node):
        return node._asdict()
    if not dataclasses.is_dataclass(node) or isinstance(node, type):
        return {}
    names = [f.name for f in dataclasses.fields(node) if f.init and f.name not in ("parent",)]
    return {name: getattr(node, name) for name in names}


def _is_named_tuple(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")


def _unknown_field(node: Any, path: str, name: str, root: Any) -> str:
    """The message for a path that `replace` does not find: `name`, in the node at `path`."""
    # A field of that very name in another node is likelier meant than another field of this node.
    end = "." + name.rpartition(".")[2]
    paths = [path + inner for inner in _paths(node)]
    paths += [other for other in _paths(root) if other.endswith(end) and other not in paths]
    subject = f"field {path + name!r} of {type(node).__name__}"
    best, *next_best = nearest(path + name, paths) or [""]
    if _lacks_decorator(type(node)):
        return f"unknown {subject}: {_undecorated(type(node))}"
    if path:
        return unknown(subject, path + name, paths) + _family_hint(path + name, _paths(node))
    if "." in name or "." not in best:
        return unknown(subject, path + name, paths)
    also = f"; near it: {', '.join(next_best)}" if next_best else ""
    return f'unknown {subject}; write **{{"{best}": …}}{also}'


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    """Every path that `replace` takes, those of a node before those inside of it."""
    values = parts(node)
    yield from (prefix + str(name) for name in values)
    for name, child in values.items():
        yield from _paths(child, f"{prefix}{name}.")


def described(cls: type) -> dict[str, str]:
    """Each field's first sentence under "Attributes" in a class's docstring."""
    sentences = {}
    for base in reversed(cls.__mro__):
        section = re.search(
            r"^Attributes:\n((?: .*\n?)+)", inspect.getdoc(base) or "", re.MULTILINE
        )
        for entry in re.split(r"\n  (?=\w)", "\n" + section[1] if section else "")[1:]:
            names, _, text = " ".join(entry.split()).partition(": ")
            sentence = re.split(r"(?<=\w)\. ", text)[0].rstrip(".")
            sentences |= dict.fromkeys(names.split(", "), sentence)
    return sentences


def check_seed(path: str, seed: Any) -> int:
    """Returns a seed as a Python integer.

    Raises:
      TypeError, ValueError: not an integer in [0, 2³²). `jax.random.key` takes only the lowest 32
        bits of a longer one, so that two seeds would give the same key.
    """
    check_int(path, seed, 0, None)
    if seed >= 2**32:
        raise ValueError(
            f"{path} must be below 2**32, as a key has 32 bits of it, got {seed}; "
            f"{int(seed) % 2**32} would do"
        )
    return int(seed)


def is_traced(value: Any) -> bool:
    """Whether a value is abstract, so that only its shape and dtype can be checked."""
    return isinstance(value, Tracer)


def jax_option(name: str) -> Any:
    """The value of one of JAX's own options; type checkers see none of them on `jax.config`."""
    return getattr(jax.config, name)


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union; another annotation alone."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def is_number(hint: Any) -> bool:
    """Whether an annotation allows only numbers that may be traced, and perhaps None:
    `float | None` and `float | int` do, `float | str` and `tuple[float, ...]` do not."""
    options = _options(hint)
    allows_more = any(
        typing.get_origin(option) or option in _NO_NUMBERS or _is_component_class(option)
        for option in options
    )
    return float in options and not allows_more


def _is_traced_hint(hint: Any) -> bool:
    """Whether a field is traced: a number, a component, or a tuple of components."""
    return is_number(hint) or _holds_components(hint)


def _holds_components(hint: Any) -> bool:
    options = _options(hint)
    tuples = [_elements(option) for option in options if typing.get_origin(option) is tuple]
    return any(map(_is_component_class, options)) or any(
        any(map(_holds_components, elements)) and all(map(_is_traced_hint, elements))
        for elements in tuples
    )


def _elements(hint: Any) -> list[Any]:
    """The annotations of a tuple's elements; `tuple[X, ...]` has one, X."""
    return [element for element in typing.get_args(hint) if element is not ...]


def _is_component_class(option: Any) -> bool:
    return isinstance(option, type) and issubclass(option, Component)


def _check_field(path: str, hint: Any, value: Any, metadata: Mapping[str, Any]) -> None:
    if value is None and type(None) in _options(hint):
        return
    _check_value(path, hint, value, metadata.get("low"), metadata.get("high"))
    if metadata.get("choices") and value not in metadata["choices"]:
        raise ValueError(unknown(f"{path} {shown(value)}", value, metadata["choices"]))


def _check_value(path: str, hint: Any, value: Any, low: Any, high: Any) -> None:
    """Raises unless the annotation allows a value other than None, in its range."""
    options = [option for option in _options(hint) if option is not type(None)]
    if is_number(hint):
        _check_float(path, value, low, high)
    elif options == [bool]:
        check_bool(path, value)
    elif options == [int]:
        check_int(path, value, low, MAX_INT if high is None else high)
    else:
        if not _is_traced_hint(hint):
            check_hashable(path, value)
        _check_inside(path, options, value, low, high)


def _check_inside(path: str, options: list[Any], value: Any, low: Any, high: Any) -> None:
    """Raises unless a component, a tuple's elements, or a number among other things is allowed."""
    classes = [option for option in options if _is_component_class(option)]
    tuples = [option for option in options if typing.get_origin(option) is tuple]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(value, tuple) and tuples:
        _check_tuple(path, tuples[0], value, low, high)
    elif tuples == options:
        raise TypeError(f"{path} must be a tuple, got {shown(value)}")
    elif number and (float in options or int in options):
        _check_float(path, value, low, high)
    elif len(classes) + len(tuples) == len(options):
        contract = next((cls for cls in classes if isinstance(value, cls)), classes[0])
        check_component(path, value, contract).check(path)


def _check_tuple(path: str, hint: Any, value: tuple, low: Any, high: Any) -> None:
    elements = _elements(hint)
    if ... in typing.get_args(hint):
        elements *= len(value)
    if len(elements) != len(value):
        raise ValueError(f"{path} must be a tuple of {len(elements)}, got {shown(value)}")
    for i, (element, entry) in enumerate(zip(elements, value, strict=True)):
        _check_field(f"{path}[{i}]", element, entry, {"low": low, "high": high})


def _check_float(path: str, value: Any, low: float | None, high: float | None) -> None:
    numeric = isinstance(value, (int, float, np.number, np.ndarray, jax.Array))
    if isinstance(value, (bool, np.bool_)) or not numeric:
        raise TypeError(f"{path} must be a number, got {shown(value)}")
    if np.ndim(value) != 0:
        raise ValueError(
            f"{path} must be a scalar, got shape {np.shape(value)}; to run several values, "
            "use jax.vmap over the config"
        )
    if is_traced(value):
        return
    number = float(value)
    above = low is None or number >= low
    below = high is None or number <= high
    if not (math.isfinite(number) and above and below):
        allowed = f"a finite number {within(low, high)}".rstrip()
        raise ValueError(f"{path} must be {allowed}, got {number}")


def check_bool(path: str, value: Any) -> None:
    """Raises TypeError unless `value` is a Python bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{path} must be True or False, got {shown(value)}")


def check_int(path: str, value: Any, low: int | None, high: int | None = MAX_INT) -> None:
    """Raises unless `value` is a Python or NumPy integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        hint = integer_meant(value)
        raise TypeError(
            f"{path} must be an integer known before compilation, got {shown(value)}{hint}"
        )
    if low is not None and value < low:
        raise ValueError(f"{path} must be at least {low}, got {value}")
    if high is not None and value > high:
        raise ValueError(f"{path} must be at most {high}, got {value}")


def integer_meant(value: Any) -> str:
    """The end of a message: what to write in place of 1e6 or "500"; or an empty string."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return ""
    meant = isinstance(value, (float, str, np.floating)) and number.is_integer()
    return f"; write {int(number)}" if meant else ""


def number_meant(value: Any) -> str:
    """The end of a message: what to write in place of "500"; or an empty string."""
    try:
        number = float(value) if isinstance(value, str) else None
    except ValueError:
        return ""
    return "" if number is None else f"; write {_written(number)}"


def _written(number: float) -> str:
    """A number as Python source: `math.inf` for infinity, and for NaN, which likely means it."""
    if math.isfinite(number):
        return repr(number).removesuffix(".0")
    return "-math.inf" if number < 0 else "math.inf"
