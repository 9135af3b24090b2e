"""A program of JAX's primitives as lines of NumPy."""

import inspect
import re
from typing import Any, NamedTuple

import numpy as np

from pgjax.runs.export import numpy_helpers
from pgjax.runs.export.numpy_operations import dtype, expression
from pgjax.runs.export.walk import LOOPS, Walk, opened, scan_groups, while_groups


class Line(NamedTuple):
    """A statement: the names it assigns, its text, and the names in it."""

    targets: list[str]
    text: str

    @property
    def names(self) -> set[str]:
        """All words of the text."""
        return set(re.findall(r"[A-Za-z_]\w*", self.text))


class Writer(Walk):
    """Writes a program as lines of a function."""

    def statement(self, equation: Any, inputs: list[str]) -> list[str]:
        """Assigns an expression's value to new names."""
        name, params = equation.primitive.name, equation.params
        loops = {"scan": self._scan, "while": self._while, "cond": self._cond}
        if name in loops:
            text = loops[name](params, inputs)
        else:
            avals = [[x.aval for x in side] for side in (equation.invars, equation.outvars)]
            text = expression(name, params, inputs, *avals)
        targets = [self.new("x") for _ in equation.outvars]
        several = name in (*LOOPS, "split", "unstack")
        left = ", ".join(targets) + ("," if several and len(targets) == 1 else "")
        self.lines.append(Line(targets, f"{left} = {text}"))
        return targets

    def literal(self, number: np.ndarray) -> str:
        """A number as NumPy writes it: "np.float32(0.5)"."""
        shown = repr(number.item()) if np.isfinite(number) else f'"{number}"'
        return f"{dtype(number)}({shown})"

    def _scan(self, params: dict[str, Any], inputs: list[str]) -> str:
        body = self._function(params["jaxpr"])
        groups = ", ".join(map(_tuple, scan_groups(params, inputs)))
        return f"scan({body}, {groups}, {params['length']}, {bool(params['reverse'])})"

    def _while(self, params: dict[str, Any], inputs: list[str]) -> str:
        functions = (self._function(params[f"{name}_jaxpr"]) for name in ("cond", "body"))
        groups = ", ".join(map(_tuple, while_groups(params, inputs)))
        return f"loop({', '.join(functions)}, {groups})"

    def _cond(self, params: dict[str, Any], inputs: list[str]) -> str:
        branches = [self._function(branch) for branch in params["branches"]]
        index = f"min(max(int({inputs[0]}), 0), {len(branches) - 1})"
        return f"{_tuple(branches)}[{index}]({', '.join(inputs[1:])})"

    def _function(self, closed: Any) -> str:
        """Defines a program as a function; returns its name."""
        name = self.new("part")
        program = opened(closed)
        arguments = [self.new("x") for _ in program[0].invars]
        results, lines = self.apart(lambda: self.write(*program, arguments))
        body = [line.text for line in lines]
        text = "\n".join([*body, f"return {_tuple(results)}"]).replace("\n", "\n    ")
        self.lines.append(Line([name], f"def {name}({', '.join(arguments)}):\n    {text}"))
        return name


def helpers(text: str) -> str:
    """The source of the helpers that a text calls, in the order of their file."""
    functions = {
        name: inspect.getsource(value)
        for name, value in vars(numpy_helpers).items()
        if inspect.isfunction(value) and value.__module__ == numpy_helpers.__name__
    }
    called = [source for name, source in functions.items() if re.search(rf"\b{name}\(", text)]
    return "\n\n".join(called)


def _tuple(texts: list[str]) -> str:
    return f"({', '.join(texts)}{',' * (len(texts) == 1)})"
