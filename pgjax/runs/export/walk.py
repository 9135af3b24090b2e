"""The walk over a program of JAX's primitives, which each written format shares."""

import abc
import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
from jax.extend.core import Literal

# Primitives that call another program, which is written in their place.
_CALLS = (
    *("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"),
    *("custom_vjp_call_jaxpr", "remat", "checkpoint", "remat2", "custom_lin"),
)
LOOPS = ("scan", "while", "cond")


class Statement(Protocol):
    """What a format writes for an equation."""

    @property
    def targets(self) -> list[str]:
        """The names it assigns."""
        ...

    @property
    def names(self) -> set[str]:
        """The names it uses, among other words."""
        ...


class Walk(abc.ABC):
    """Writes a program statement by statement; what depends on weights alone is computed at once.

    Attributes:
      lines: the statements.
      weights: the arrays that they use, by name.
      literals: numbers that stand in statements, by their text.
    """

    def __init__(self, names: list[str], values: list[Any], reserved: Iterable[str] = ()) -> None:
        self.weights: dict[str, Any] = {}
        self.literals: dict[str, Any] = {}
        self.lines: list[Any] = []
        self._reserved = set(reserved)
        self._count = 0
        self._folds = True
        self.names = [self.weight(name, value) for name, value in zip(names, values, strict=True)]

    @abc.abstractmethod
    def statement(self, equation: Any, inputs: list[str]) -> list[str]:
        """Writes an equation of the inputs; returns the names of its results.

        Raises:
          ValueError: the format has no counterpart; the message has the primitive's name.
        """

    @abc.abstractmethod
    def literal(self, number: np.ndarray) -> str:
        """A number without a shape, as an input of statements."""

    def write(self, jaxpr: Any, constants: list[Any], arguments: list[str]) -> list[str]:
        """Writes a program; returns its results as text.

        Args:
          jaxpr: the program.
          constants: its constants.
          arguments: its arguments as text.
        """
        bound = [self.weight("constant", value) for value in constants]
        texts = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*bound, *arguments), strict=True))
        for equation in _needed(jaxpr):
            inputs = [self._text(variable, texts) for variable in equation.invars]
            outputs = self._equation(equation, inputs)
            texts.update(zip(equation.outvars, outputs, strict=True))
        return [self._text(variable, texts) for variable in jaxpr.outvars]

    def used(self, results: list[str]) -> list[Any]:
        """The statements that results depend on."""
        needed = set(re.findall(r"[A-Za-z_]\w*", " ".join(results)))
        kept: list[Any] = []
        for line in reversed(self.lines):
            if needed.intersection(line.targets):
                kept.append(line)
                needed |= line.names
        return kept[::-1]

    def apart(self, write: Callable[[], list[str]]) -> tuple[list[str], list[Any]]:
        """A loop's program, apart from the other lines: its results and its statements."""
        outer, self.lines = self.lines, []
        folds, self._folds = self._folds, False
        results = write()
        lines = self.used(results)
        self.lines, self._folds = outer, folds
        return results, lines

    def weight(self, name: str, value: Any) -> str:
        """Keeps an array; returns its name."""
        value, unique, number = np.asarray(value), name, 1
        while unique in self.weights or unique in self._reserved:
            number += 1
            unique = f"{name}_{number}"
        self.weights[unique] = value
        return unique

    def new(self, base: str) -> str:
        """A name for a result."""
        self._count += 1
        name = f"{base}{self._count}"
        return self.new(base) if name in self.weights else name

    def _equation(self, equation: Any, inputs: list[str]) -> list[str]:
        name, params = equation.primitive.name, equation.params
        if name in _CALLS:
            inner = next(
                params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params
            )
            jaxpr, constants = opened(inner)
            return self.write(jaxpr, constants, inputs)
        known = inputs and all(x in self.weights or x in self.literals for x in inputs)
        if self._folds and known and name not in LOOPS and _sized(equation):
            return self._computed(equation, inputs)
        return self.statement(equation, inputs)

    def _computed(self, equation: Any, inputs: list[str]) -> list[str]:
        """Keeps an equation's value, which depends on weights alone, as a weight."""
        numbers = [self.weights[x] if x in self.weights else self.literals[x] for x in inputs]
        value = equation.primitive.bind(*numbers, **equation.params)
        values = value if equation.primitive.multiple_results else [value]
        base = next((x.rstrip("0123456789_") for x in inputs if x in self.weights), "constant")
        return [self.weight(base, value) for value in values]

    def _text(self, variable: Any, texts: dict[Any, str]) -> str:
        if not isinstance(variable, Literal):
            return texts[variable]
        if np.shape(variable.val):
            return self.weight("constant", variable.val)
        aval: Any = variable.aval
        number = np.asarray(variable.val, aval.dtype)
        text = self.literal(number)
        self.literals[text] = number
        return text


def scan_groups(params: dict[str, Any], inputs: list[str]) -> tuple[list[str], ...]:
    """The inputs of a `scan`: constants, the first carry, the rows."""
    if "ft_in" in params:  # from JAX 0.11 on, trees of constants, carry and elements
        constants, carry, _ = (len(tree.vals) for tree in params["ft_in"].elts)
    else:
        constants, carry = params["num_consts"], params["num_carry"]
    first, second = constants, constants + carry
    return inputs[:first], inputs[first:second], inputs[second:]


def while_groups(params: dict[str, Any], inputs: list[str]) -> tuple[list[str], ...]:
    """The inputs of a `while`: constants of its condition and of its body, the first carry."""
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]
    return inputs[:first], inputs[first:second], inputs[second:]


def is_matrix_product(params: dict[str, Any], ins: list[Any]) -> bool:
    """Whether a `dot_general` is x @ y of vectors or matrices."""
    (left, right), (left_batch, _) = params["dimension_numbers"]
    ranks = [len(aval.shape) for aval in ins]
    is_last = ranks[0] in (1, 2) and tuple(left) == (ranks[0] - 1,)
    return not left_batch and is_last and ranks[1] in (1, 2) and tuple(right) == (0,)


def subscripts(params: dict[str, Any], ins: list[Any]) -> str:
    """A `dot_general` as `einsum` has it: "ab,bc->ac"."""
    (left, right), (left_batch, right_batch) = params["dimension_numbers"]
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    axes_of = [[""] * len(aval.shape) for aval in ins]
    for axes in (zip(left_batch, right_batch, strict=True), zip(left, right, strict=True)):
        for i, j in axes:
            axes_of[0][i] = axes_of[1][j] = next(letters)
    shared = set("".join(axes_of[0]))
    axes_of = [[letter or next(letters) for letter in side] for side in axes_of]
    batch = "".join(axes_of[0][i] for i in left_batch)
    free = "".join(letter for side in axes_of for letter in side if letter not in shared)
    sides = ",".join("".join(side) for side in axes_of)
    return f"{sides}->{batch}{free}"


def gather_fill(params: dict[str, Any], kind: Any) -> Any:
    """What a `gather` gives outside of its array; None: the nearest window."""
    if "fill" not in str(params["mode"]).lower():
        return None
    kind, value = np.dtype(kind), params["fill_value"]
    if value is None:
        value = np.nan if kind.kind == "f" else np.iinfo(kind).min if kind.kind == "i" else 0
    return value


def _sized(equation: Any) -> bool:
    """Whether no shape depends on a number of observations that is a symbol."""
    return all(isinstance(size, int) for x in equation.outvars for size in x.aval.shape)


def _needed(jaxpr: Any) -> list[Any]:
    """The equations that a program's results depend on."""
    needed, kept = set(map(id, jaxpr.outvars)), []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(map(id, equation.outvars)):
            kept.append(equation)
            needed.update(map(id, equation.invars))
    return kept[::-1]


def opened(program: Any) -> tuple[Any, list[Any]]:
    """A program and its constants."""
    closed = hasattr(program, "consts")
    return (program.jaxpr, list(program.consts)) if closed else (program, [])
