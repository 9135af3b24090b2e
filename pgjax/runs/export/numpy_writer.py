"""A program of JAX's primitives as lines of NumPy."""

import inspect
import re
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import Literal

from pgjax.runs.export import numpy_helpers
from pgjax.runs.export.numpy_operations import dtype, expression

# Primitives that call another program, which is written in their place.
_CALLS = (
    *("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"),
    *("custom_vjp_call_jaxpr", "remat", "checkpoint", "remat2", "custom_lin"),
)


class Line(NamedTuple):
    """A statement: the names it assigns, its text, and the names in it."""

    targets: list[str]
    text: str

    @property
    def names(self) -> set[str]:
        """All words of the text."""
        return set(re.findall(r"[A-Za-z_]\w*", self.text))


class Writer:
    """Writes a program line by line; what depends on weights alone is computed at once.

    Attributes:
      lines: of the function.
      weights: the arrays that they use, by name.
    """

    def __init__(self, names: list[str], values: list[Any]) -> None:
        self.weights: dict[str, Any] = {}
        self.lines: list[Line] = []
        self._literals: dict[str, Any] = {}
        self._count = 0
        self._folds = True
        self.names = [self._weight(name, value) for name, value in zip(names, values, strict=True)]

    def write(self, jaxpr: Any, constants: list[Any], arguments: list[str]) -> list[str]:
        """Writes a program; returns its results as text.

        Args:
          jaxpr: the program.
          constants: its constants.
          arguments: its arguments as text.
        """
        bound = [self._weight("constant", value) for value in constants]
        texts = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*bound, *arguments), strict=True))
        for equation in _needed(jaxpr):
            inputs = [self._text(variable, texts) for variable in equation.invars]
            outputs = self._equation(equation, inputs)
            texts.update(zip(equation.outvars, outputs, strict=True))
        return [self._text(variable, texts) for variable in jaxpr.outvars]

    def used(self, results: list[str]) -> list[Line]:
        """The lines that results depend on."""
        needed = set(re.findall(r"[A-Za-z_]\w*", " ".join(results)))
        kept: list[Line] = []
        for line in reversed(self.lines):
            if needed.intersection(line.targets):
                kept.append(line)
                needed |= line.names
        return kept[::-1]

    def _equation(self, equation: Any, inputs: list[str]) -> list[str]:
        name, params = equation.primitive.name, equation.params
        if name in _CALLS:
            inner = next(
                params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params
            )
            jaxpr, constants = _opened(inner)
            return self.write(jaxpr, constants, inputs)
        loops = {"scan": self._scan, "while": self._while, "cond": self._cond}
        if name in loops:
            return self._assigned(equation, loops[name](params, inputs), [], several=True)
        avals = [[x.aval for x in side] for side in (equation.invars, equation.outvars)]
        text = expression(name, params, inputs, *avals)
        return self._assigned(equation, text, inputs, several=name in ("split", "unstack"))

    def _assigned(
        self, equation: Any, text: str, inputs: list[str], several: bool = False
    ) -> list[str]:
        """Assigns an expression's value to new names, or computes it if it is of weights alone."""
        named = [x for x in inputs if re.fullmatch(r"[A-Za-z_]\w*", x)]
        known = self._folds and inputs and all(name in self.weights for name in named)
        if known:
            numbers = [self.weights[x] if x in self.weights else self._literals[x] for x in inputs]
            value = equation.primitive.bind(*numbers, **equation.params)
            values = value if equation.primitive.multiple_results else [value]
            base = named[0].rstrip("0123456789_") if named else "constant"
            return [self._weight(base, value) for value in values]
        targets = [self._new("x") for _ in equation.outvars]
        left = ", ".join(targets) + ("," if several and len(targets) == 1 else "")
        self.lines.append(Line(targets, f"{left} = {text}"))
        return targets

    def _scan(self, params: dict[str, Any], inputs: list[str]) -> str:
        body = self._function(params["jaxpr"])
        if "ft_in" in params:  # from JAX 0.11 on, trees of constants, carry and elements
            constants, carry, _ = (len(tree.vals) for tree in params["ft_in"].elts)
        else:
            constants, carry = params["num_consts"], params["num_carry"]
        first, second = constants, constants + carry
        groups = (inputs[:first], inputs[first:second], inputs[second:])
        rest = f"{params['length']}, {bool(params['reverse'])}"
        return f"scan({body}, {', '.join(map(_tuple, groups))}, {rest})"

    def _while(self, params: dict[str, Any], inputs: list[str]) -> str:
        functions = (self._function(params[f"{name}_jaxpr"]) for name in ("cond", "body"))
        first = params["cond_nconsts"]
        second = first + params["body_nconsts"]
        groups = (inputs[:first], inputs[first:second], inputs[second:])
        return f"loop({', '.join(functions)}, {', '.join(map(_tuple, groups))})"

    def _cond(self, params: dict[str, Any], inputs: list[str]) -> str:
        branches = [self._function(branch) for branch in params["branches"]]
        index = f"min(max(int({inputs[0]}), 0), {len(branches) - 1})"
        return f"{_tuple(branches)}[{index}]({', '.join(inputs[1:])})"

    def _function(self, closed: Any) -> str:
        """Defines a program as a function; returns its name."""
        name = self._new("part")
        jaxpr, constants = _opened(closed)
        arguments = [self._new("x") for _ in jaxpr.invars]
        outer, self.lines = self.lines, []
        folds, self._folds = self._folds, False
        results = self.write(jaxpr, constants, arguments)
        body = [line.text for line in self.used(results)]
        self.lines, self._folds = outer, folds
        text = "\n".join([*body, f"return {_tuple(results)}"]).replace("\n", "\n    ")
        self.lines.append(Line([name], f"def {name}({', '.join(arguments)}):\n    {text}"))
        return name

    def _text(self, variable: Any, texts: dict[Any, str]) -> str:
        if not isinstance(variable, Literal):
            return texts[variable]
        if np.shape(variable.val):
            return self._weight("constant", variable.val)
        aval: Any = variable.aval
        number = np.asarray(variable.val, aval.dtype)
        shown = repr(number.item()) if np.isfinite(number) else f'"{number}"'
        text = f"{dtype(aval)}({shown})"
        self._literals[text] = number
        return text

    def _weight(self, name: str, value: Any) -> str:
        value, unique, number = np.asarray(value), name, 1
        while unique in self.weights:
            number += 1
            unique = f"{name}_{number}"
        self.weights[unique] = value
        return unique

    def _new(self, base: str) -> str:
        self._count += 1
        return f"{base}{self._count}"


def helpers(text: str) -> str:
    """The source of the helpers that a text calls, in the order of their file."""
    functions = {
        name: inspect.getsource(value)
        for name, value in vars(numpy_helpers).items()
        if inspect.isfunction(value) and value.__module__ == numpy_helpers.__name__
    }
    called = [source for name, source in functions.items() if re.search(rf"\b{name}\(", text)]
    return "\n\n".join(called)


def _needed(jaxpr: Any) -> list[Any]:
    """The equations that a program's results depend on."""
    needed, kept = set(map(id, jaxpr.outvars)), []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(map(id, equation.outvars)):
            kept.append(equation)
            needed.update(map(id, equation.invars))
    return kept[::-1]


def _opened(program: Any) -> tuple[Any, list[Any]]:
    """A program and its constants."""
    closed = hasattr(program, "consts")
    return (program.jaxpr, list(program.consts)) if closed else (program, [])


def _tuple(texts: list[str]) -> str:
    return f"({', '.join(texts)}{',' * (len(texts) == 1)})"
