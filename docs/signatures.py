"""What the reference shows though docstrings and sources do not say it so.

Constructors that decorators make, and examples, which stand in docstrings as doctests.
"""

import ast
import re
from collections.abc import Iterator

import griffe

# An indentation, and lines from a prompt to the next empty line.
DOCTEST = re.compile(r"^( *)(>>> .*(?:\n.*\S.*)*)", re.MULTILINE)


class Reference(griffe.Extension):
    """Gives components, `Config` and Flax modules the parameters of their fields."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Doctests as blocks of code: to Markdown, `>>>` is a quotation."""
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(r"\1```pycon\n\2\n\1```", obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **_) -> None:
        """Once all modules are read, so that the fields of bases are known."""
        for cls in list(_classes(pkg)):
            if _has_fields(cls) and "__init__" not in cls.members:
                cls.set_member("__init__", _constructor(cls))


def _classes(module: griffe.Module) -> Iterator[griffe.Class]:
    for member in module.members.values():
        if member.is_alias:
            continue
        if member.is_module:
            yield from _classes(member)
        elif member.is_class:
            yield member


def _has_fields(cls: griffe.Class) -> bool:
    """Whether a class is a component, `Config`, or a module of Flax."""
    decorated = {"component", "knows_fields"} & {str(made.value) for made in cls.decorators}
    return bool(decorated) or any("nn.Module" in map(str, base.bases) for base in _lineage(cls))


def _lineage(cls: griffe.Class) -> list[griffe.Class]:
    return [*reversed(cls.mro()), cls]


def _constructor(cls: griffe.Class) -> griffe.Function:
    fields = {
        name: member
        for base in _lineage(cls)
        if _has_fields(base)
        for name, member in base.members.items()
        if member.is_attribute and "instance-attribute" in member.labels and member.annotation
    }
    either = griffe.ParameterKind.positional_or_keyword
    parameters = [
        griffe.Parameter(name, annotation=field.annotation, kind=either, default=_default(field))
        for name, field in fields.items()
    ]
    this = griffe.Parameter("self", kind=either)
    return griffe.Function("__init__", parameters=griffe.Parameters(this, *parameters))


def _default(field: griffe.Attribute) -> str | None:
    """The default of `option(default, …)`, none of `node(…)`, any other value as it is written."""
    if field.value is None:
        return None
    value = ast.parse(str(field.value), mode="eval").body
    function = ast.unparse(value.func).split(".")[-1] if isinstance(value, ast.Call) else ""
    if function == "node":
        return None
    if function == "option":
        value = value.args[0]
    return ast.unparse(value).replace("'", '"')
