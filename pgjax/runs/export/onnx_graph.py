"""A program of JAX's primitives as a graph of ONNX's operators, free of the package `onnx`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pgjax.runs.export import onnx_operations
from pgjax.runs.export.walk import Walk, opened, scan_groups, while_groups


class Graph(NamedTuple):
    """Nodes with their inputs and outputs, each a name and an aval."""

    inputs: list[tuple[str, Any]]
    outputs: list[tuple[str, Any]]
    nodes: list["Node"]


class Node(NamedTuple):
    """An operator: the names it assigns, its kind, its inputs, its attributes."""

    targets: list[str]
    kind: str
    inputs: list[str]
    attributes: dict[str, Any]

    @property
    def names(self) -> set[str]:
        """The inputs, and the names that a loop's body uses."""
        bodies = [x for x in self.attributes.values() if isinstance(x, Graph)]
        inner = {name for body in bodies for node in body.nodes for name in node.names}
        return {*self.inputs, *inner}


class Writer(Walk):
    """Writes a program as nodes; its first axis is the symbol n, the number of observations.

    Attributes:
      number: the name of n as int64[1].
    """

    def __init__(self, names: list[str], values: list[Any], inputs: list[str], rest: list[str]):
        self._numbers: dict[tuple, str] = {}
        super().__init__(names, values, [*inputs, *rest])
        (self.number,) = self.nodes("Shape", [inputs[0]], start=0, end=1)

    def nodes(self, kind: str, inputs: list[str], results: int = 1, **attributes: Any) -> list[str]:
        """Adds an operator; returns the names of its results. ONNX has no empty attributes."""
        attributes = {
            name: x for name, x in attributes.items() if not (isinstance(x, list) and not x)
        }
        targets = [self.new("x") for _ in range(results)]
        self.lines.append(Node(targets, kind, inputs, attributes))
        return targets

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds an operator with one result; returns its name."""
        return self.nodes(kind, list(inputs), **attributes)[0]

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """The name of an array; equal ones have one name."""
        array = np.asarray(value, dtype)
        place = (array.dtype.name, array.shape, array.tobytes())
        if place not in self._numbers:
            self._numbers[place] = self.weight("constant", array)
        return self._numbers[place]

    def literal(self, number: np.ndarray) -> str:
        """A number as a constant."""
        return self.constant(number, number.dtype)

    def assign(self, targets: list[str], results: list[str]) -> None:
        """Gives results these names."""
        for target, result in zip(targets, results, strict=True):
            self.lines.append(Node([target], "Identity", [result], {}))

    def statement(self, equation: Any, inputs: list[str]) -> list[str]:
        """Adds the operators of an equation."""
        name, params = equation.primitive.name, equation.params
        ins, outs = ([x.aval for x in side] for side in (equation.invars, equation.outvars))
        if name == "scan":
            return self._scan(params, inputs, outs)
        if name == "while":
            return self._while(params, inputs, outs)
        return onnx_operations.written(self, name, params, inputs, ins, outs)

    def _scan(self, params: dict[str, Any], inputs: list[str], outs: list[Any]) -> list[str]:
        constants, carry, rows = scan_groups(params, inputs)
        program = opened(params["jaxpr"])
        variables = program[0].invars[len(constants) :]
        places = [(self.new("x"), variable.aval) for variable in variables]
        names = [name for name, _ in places]
        if not rows:  # ONNX has no loop over nothing
            rows = [self.constant(range(params["length"]))]
            places.append((self.new("x"), np.empty((), np.int64)))
        avals = [variable.aval for variable in program[0].outvars]
        body = self._graph(lambda: self.write(*program, [*constants, *names]), places, avals)
        reverse = int(params["reverse"])
        return self.nodes(
            "Scan",
            [*carry, *rows],
            len(outs),
            body=body,
            num_scan_inputs=len(rows),
            scan_input_directions=[reverse] * len(rows),
            scan_output_directions=[reverse] * (len(outs) - len(carry)),
        )

    def _while(self, params: dict[str, Any], inputs: list[str], outs: list[Any]) -> list[str]:
        condition, body = (opened(params[f"{name}_jaxpr"]) for name in ("cond", "body"))
        if condition[0].outvars[0].aval.shape:
            raise ValueError(
                "the policy's operation 'while' with a number of rounds for each observation has "
                "no counterpart in ONNX"
            )
        first, second, carry = while_groups(params, inputs)
        (runs,) = self.write(*condition, [*first, *carry])
        flag = np.empty((), bool)
        places = [(self.new("x"), aval) for aval in (np.empty((), np.int64), flag, *outs)]

        def write() -> list[str]:
            results = self.write(*body, [*second, *(name for name, _ in places[2:])])
            return [*self.write(*condition, [*first, *results]), *results]

        graph = self._graph(write, places, [flag, *outs])
        return self.nodes("Loop", ["", runs, *carry], len(outs), body=graph)

    def _graph(self, write: Callable[[], list[str]], places: list, avals: list) -> Graph:
        """A loop's body with results of its own, as no input or outer name may be one."""
        targets = [self.new("x") for _ in avals]

        def body() -> list[str]:
            self.assign(targets, write())
            return targets

        _, nodes = self.apart(body)
        return Graph(places, list(zip(targets, avals, strict=True)), nodes)
