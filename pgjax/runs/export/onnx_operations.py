"""Each primitive of JAX as operators of ONNX."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pgjax.runs.export.walk import gather_fill, is_matrix_product, subscripts

OPSET = 18
_LARGEST = np.iinfo(np.int64).max
# What adds operators, a primitive's parameters, its inputs, their avals, the results' avals.
_Written = Callable[[Any, dict[str, Any], list[str], list[Any], list[Any]], str | list[str]]

_WORDS = {
    **{x.lower(): x for x in ("Tanh", "Exp", "Log", "Sin", "Cos", "Tan", "Sinh", "Cosh", "Abs")},
    **{x.lower(): x for x in ("Sign", "Floor", "Ceil", "Sqrt", "Asin", "Acos", "Atan", "Asinh")},
    **{x.lower(): x for x in ("Acosh", "Atanh", "Add", "Sub", "Mul", "Div", "Max", "Min", "Pow")},
    **{x.lower(): x for x in ("Neg", "Erf")},
    **dict.fromkeys(("stop_gradient", "copy", "copy_p"), "Identity"),
    "logistic": "Sigmoid",
}
_COMPARISONS = {
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
}
_REDUCTIONS = {f"reduce_{x.lower()}": f"Reduce{x}" for x in ("Sum", "Max", "Min", "Prod")}
_BITS = {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}


def written(
    graph: Any, name: str, params: dict[str, Any], inputs: list[str], ins: list, outs: list
) -> list[str]:
    """Adds a primitive's operators to a graph; returns the names of its results.

    Args:
      graph: where they are added.
      name: the primitive's.
      params: its parameters.
      inputs: their names.
      ins, outs: their avals, and the results'.

    Raises:
      ValueError: a primitive that has no such operators; the message has its name.
    """
    if name in _WORDS:
        return [graph.node(_WORDS[name], *inputs)]
    if name in _COMPARISONS:
        return [graph.node(_COMPARISONS[name], *_comparable(graph, inputs, ins))]
    if name in _REDUCTIONS:
        return [_reduced(graph, _REDUCTIONS[name], inputs[0], params)]
    if name in _BITS:
        prefix = "" if _kind(ins[0]) == "b" else "Bitwise"
        return [graph.node(prefix + _BITS[name], *inputs)]
    if name not in _OTHERS:
        raise _unknown(name)
    results = _OTHERS[name](graph, params, inputs, ins, outs)
    return [results] if isinstance(results, str) else results


def _unknown(operation: str) -> ValueError:
    name, _, rest = operation.partition(" ")
    return ValueError(
        f"the policy's operation {name!r}{' ' * bool(rest)}{rest} has no counterpart in ONNX"
    )


def _kind(aval: Any) -> str:
    return np.dtype(aval.dtype).kind


def _cast(graph: Any, x: str, dtype: Any) -> str:
    return graph.node("Cast", x, to=np.dtype(dtype))


def _comparable(graph: Any, inputs: list[str], ins: list[Any]) -> list[str]:
    """The inputs in a dtype that each comparison takes."""
    small = np.dtype(ins[0].dtype).itemsize < 4
    return [_cast(graph, x, np.int32) for x in inputs] if small else inputs


def _reduced(graph: Any, word: str, x: str, params: dict[str, Any]) -> str:
    axes = graph.constant(tuple(params["axes"]))
    return graph.node(word, x, axes, keepdims=0, noop_with_empty_axes=1)


def _logical(word: str) -> _Written:
    def result(graph, params, inputs, ins, outs) -> str:
        numbers = _cast(graph, inputs[0], np.int32)
        return _cast(graph, _reduced(graph, word, numbers, params), bool)

    return result


def _log1p(graph, params, inputs, ins, outs) -> str:
    return graph.node("Log", graph.node("Add", inputs[0], graph.constant(1, outs[0].dtype)))


def _expm1(graph, params, inputs, ins, outs) -> str:
    return graph.node("Sub", graph.node("Exp", inputs[0]), graph.constant(1, outs[0].dtype))


def _integer_power(graph, params, inputs, ins, outs) -> str:
    power, result = params["y"], inputs[0]
    if not 1 <= power <= 3:
        return graph.node("Pow", result, graph.constant(power, outs[0].dtype))
    for _ in range(power - 1):
        result = graph.node("Mul", result, inputs[0])
    return result


def _remainder(graph, params, inputs, ins, outs) -> str:
    return graph.node("Mod", *inputs, fmod=1)


def _rsqrt(graph, params, inputs, ins, outs) -> str:
    return graph.node("Reciprocal", graph.node("Sqrt", inputs[0]))


def _square(graph, params, inputs, ins, outs) -> str:
    return graph.node("Mul", inputs[0], inputs[0])


def _round(graph, params, inputs, ins, outs) -> str:
    if int(params["rounding_method"]) == 1:  # to the nearest even number
        return graph.node("Round", inputs[0])
    half = graph.constant(0.5, outs[0].dtype)
    size = graph.node("Floor", graph.node("Add", graph.node("Abs", inputs[0]), half))
    return graph.node("Mul", graph.node("Sign", inputs[0]), size)


def _is_finite(graph, params, inputs, ins, outs) -> str:
    parts = [graph.node(word, inputs[0]) for word in ("IsInf", "IsNaN")]
    return graph.node("Not", graph.node("Or", *parts))


def _not_equal(graph, params, inputs, ins, outs) -> str:
    return graph.node("Not", graph.node("Equal", *_comparable(graph, inputs, ins)))


def _convert(graph, params, inputs, ins, outs) -> str:
    return _cast(graph, inputs[0], outs[0].dtype)


def _select(graph, params, inputs, ins, outs) -> str:
    which, *cases = inputs
    if _kind(outs[0]) == "b":
        cases = [_cast(graph, case, np.uint8) for case in cases]
    result = cases[0]
    for number, case in enumerate(cases[1:], 1):
        chosen = which
        if _kind(ins[0]) != "b":
            chosen = graph.node("Equal", which, graph.constant(number, ins[0].dtype))
        result = graph.node("Where", chosen, case, result)
    return _cast(graph, result, bool) if _kind(outs[0]) == "b" else result


def _clamp(graph, params, inputs, ins, outs) -> str:
    low, x, high = inputs
    return graph.node("Min", graph.node("Max", x, low), high)


def _reshaped(graph: Any, x: str, shape: Any) -> str:
    """An array in another shape, of which one size may depend on n."""
    return graph.node("Reshape", x, graph.constant([k if _known(k) else -1 for k in shape]))


def _known(size: Any) -> bool:
    return isinstance(size, int)


def _reshape(graph, params, inputs, ins, outs) -> str:
    return _reshaped(graph, inputs[0], outs[0].shape)


def _broadcast(graph, params, inputs, ins, outs) -> str:
    own, shape = [1] * len(outs[0].shape), outs[0].shape
    for size, axis in zip(ins[0].shape, params["broadcast_dimensions"], strict=True):
        own[axis] = size
    x = inputs[0] if own == list(ins[0].shape) else _reshaped(graph, inputs[0], own)
    sizes = [1 if k == size else size for k, size in zip(own, shape, strict=True)]
    return x if set(sizes) <= {1} else graph.node("Expand", x, _sizes(graph, sizes))


def _sizes(graph: Any, sizes: list[Any]) -> str:
    """A shape as int64[k]."""
    if all(map(_known, sizes)):
        return graph.constant(sizes)
    if {str(size) for size in sizes if not _known(size)} != {"n"}:
        raise _unknown("broadcast_in_dim to a multiple of the observations")
    parts = [graph.constant([size]) if _known(size) else graph.number for size in sizes]
    return graph.node("Concat", *parts, axis=0)


def _iota(graph, params, inputs, ins, outs) -> str:
    shape, axis = params["shape"], params["dimension"]
    own = [size if i == axis else 1 for i, size in enumerate(shape)]
    if not _known(shape[axis]):
        raise _unknown("iota over the observations")
    row = graph.constant(np.arange(shape[axis]).reshape(own), outs[0].dtype)
    sizes = [1 if i == axis else size for i, size in enumerate(shape)]
    return graph.node("Expand", row, _sizes(graph, sizes))


def _transpose(graph, params, inputs, ins, outs) -> str:
    return graph.node("Transpose", inputs[0], perm=list(params["permutation"]))


def _reverse(graph, params, inputs, ins, outs) -> str:
    axes = tuple(params["dimensions"])
    sides = [[-1] * len(axes), [-_LARGEST] * len(axes), axes, [-1] * len(axes)]
    return graph.node("Slice", inputs[0], *map(graph.constant, sides))


def _concatenate(graph, params, inputs, ins, outs) -> str:
    return graph.node("Concat", *inputs, axis=params["dimension"])


def _stack(graph, params, inputs, ins, outs) -> str:
    axis = graph.constant([params["axis"]])
    rows = [graph.node("Unsqueeze", x, axis) for x in inputs]
    return graph.node("Concat", *rows, axis=params["axis"])


def _unstack(graph, params, inputs, ins, outs) -> list[str]:
    axis = params["axis"]
    return [graph.node("Gather", inputs[0], graph.constant(i), axis=axis) for i in range(len(outs))]


def _split(graph, params, inputs, ins, outs) -> list[str]:
    sizes = graph.constant(tuple(params["sizes"]))
    return graph.nodes("Split", [inputs[0], sizes], len(outs), axis=params["axis"])


def _slice(graph, params, inputs, ins, outs) -> str:
    starts, ends = params["start_indices"], params["limit_indices"]
    steps = params["strides"] or (1,) * len(starts)
    rows = [
        (start, end if _known(end) else _LARGEST, axis, step)
        for axis, (start, end, step) in enumerate(zip(starts, ends, steps, strict=True))
        if (start, end, step) != (0, ins[0].shape[axis], 1)
    ]
    sides = zip(*rows, strict=True)
    return graph.node("Slice", inputs[0], *map(graph.constant, sides)) if rows else inputs[0]


def _pad(graph, params, inputs, ins, outs) -> str:
    lows, highs, between = zip(*params["padding_config"], strict=True)
    if any(between) or min(*lows, *highs) < 0:
        raise _unknown("pad between entries, or by less than none,")
    return graph.node("Pad", inputs[0], graph.constant([*lows, *highs]), inputs[1])


def _arg(word: str) -> _Written:
    def result(graph, params, inputs, ins, outs) -> str:
        (axis,) = params["axes"]
        return _cast(graph, graph.node(word, inputs[0], axis=axis, keepdims=0), outs[0].dtype)

    return result


def _cumulative_sum(graph, params, inputs, ins, outs) -> str:
    axis, reverse = graph.constant(params["axis"]), int(params["reverse"])
    return graph.node("CumSum", inputs[0], axis, reverse=reverse)


def _dot(graph, params, inputs, ins, outs) -> str:
    if is_matrix_product(params, ins):
        return graph.node("MatMul", *inputs)
    return graph.node("Einsum", *inputs, equation=subscripts(params, ins))


def _gather(graph, params, inputs, ins, outs) -> str:
    """Windows of x: `GatherND` by an index of all axes for each entry, clipped into x."""
    numbers, sizes, rank = params["dimension_numbers"], params["slice_sizes"], len(ins[0].shape)
    batch = ins[1].shape[:-1]
    paired = dict(
        zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    )
    window = [i for i in range(rank) if i not in (*numbers.collapsed_slice_dims, *paired)]
    full = [*batch, *(sizes[axis] for axis in window)]
    starts, inside = _starts(graph, params, inputs[1], ins, [*batch, *(1 for _ in window)])
    places = []
    for axis in range(rank):
        place = starts.get(axis, graph.constant(0))
        if axis in window:
            own = len(batch) + window.index(axis)
            place = graph.node("Add", place, _ramp(graph, own, full))
        elif axis in paired:
            place = _ramp(graph, paired[axis], full)
        place = graph.node("Expand", place, _sizes(graph, full))
        places.append(graph.node("Unsqueeze", place, graph.constant([-1])))
    values = graph.node("GatherND", inputs[0], graph.node("Concat", *places, axis=-1))
    fill = gather_fill(params, outs[0].dtype)
    if fill is not None:
        for flag in inside:
            values = graph.node("Where", flag, values, graph.constant(fill, outs[0].dtype))
    rest = iter(range(len(batch)))
    offsets = list(numbers.offset_dims)
    order = [
        len(batch) + offsets.index(i) if i in offsets else next(rest) for i in range(len(full))
    ]
    return graph.node("Transpose", values, perm=order)


def _starts(
    graph: Any, params: dict[str, Any], indices: str, ins: list, shape: list
) -> tuple[dict[int, str], list[str]]:
    """The starts of windows, by axis, and whether each is inside."""
    indices, starts, inside = _cast(graph, indices, np.int64), {}, []
    for column, axis in enumerate(params["dimension_numbers"].start_index_map):
        last = ins[0].shape[axis] - params["slice_sizes"][axis]
        if not _known(last):
            raise _unknown("gather along the observations")
        start = graph.node("Gather", indices, graph.constant(column), axis=-1)
        start = _reshaped(graph, start, shape)
        ends = graph.constant(0), start, graph.constant(last)
        starts[axis] = _clamp(graph, params, list(ends), ins, [])
        inside.append(graph.node("Equal", start, starts[axis]))
    return starts, inside


def _ramp(graph: Any, axis: int, shape: list[Any]) -> str:
    """0, 1, … along one axis of a shape, and 1 along the others."""
    own = [size if i == axis else 1 for i, size in enumerate(shape)]
    if _known(shape[axis]):
        return graph.constant(np.arange(shape[axis]).reshape(own))
    end = graph.node("Squeeze", _sizes(graph, [shape[axis]]))
    numbers = graph.node("Range", graph.constant(0), end, graph.constant(1))
    return _reshaped(graph, numbers, own)


def _dynamic_slice(graph, params, inputs, ins, outs) -> str:
    x, *starts = inputs
    sizes, axes = params["slice_sizes"], []
    firsts, rooms = [], []
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        if ins[0].shape[axis] != size:
            axes.append(axis)
            rooms.append(ins[0].shape[axis] - size)
            firsts.append(_reshaped(graph, _cast(graph, start, np.int64), [1]))
    if not axes:
        return x
    first = graph.node("Concat", *firsts, axis=0)
    first = _clamp(graph, params, [graph.constant(0), first, graph.constant(rooms)], ins, outs)
    end = graph.node("Add", first, graph.constant([sizes[axis] for axis in axes]))
    return graph.node("Slice", x, first, end, graph.constant(axes))


def _window_attributes(params: dict[str, Any], axes: list[int], names: tuple) -> dict[str, Any]:
    strides, padding, dilation = ([params[name][axis] for axis in axes] for name in names)
    if min(side for pair in padding for side in pair) < 0:
        raise _unknown("padding by less than none")
    pads = [pair[side] for side in (0, 1) for pair in padding]
    return {"strides": strides, "pads": pads, "dilations": dilation}


def _convolution(graph, params, inputs, ins, outs) -> str:
    if params["batch_group_count"] != 1 or set(params["lhs_dilation"]) - {1}:
        raise _unknown("conv_general_dilated with a dilated input or groups of batches")
    layouts = [tuple(spec) for spec in params["dimension_numbers"]]
    x, kernel = (
        graph.node("Transpose", x, perm=list(layout))
        for x, layout in zip(inputs, layouts[:2], strict=True)
    )
    axes = list(range(len(layouts[0]) - 2))
    rest = _window_attributes(params, axes, ("window_strides", "padding", "rhs_dilation"))
    y = graph.node("Conv", x, kernel, group=params["feature_group_count"], **rest)
    return graph.node("Transpose", y, perm=np.argsort(layouts[2]).tolist())


def _window(is_sum: bool) -> _Written:
    """A pooling of the axes that windows move along; the sum is a convolution with ones."""

    def result(graph, params, inputs, ins, outs) -> str:
        if set(params["base_dilation"]) - {1}:
            raise _unknown("reduce_window with a dilated input")
        dimensions = params["window_dimensions"]
        moves = zip(dimensions, params["window_strides"], params["padding"], strict=True)
        axes = [i for i, move in enumerate(moves) if move != (1, 1, (0, 0))]
        if not axes:
            return inputs[0]
        order = [*(i for i in range(len(dimensions)) if i not in axes), *axes]
        rows = graph.node("Transpose", inputs[0], perm=order)
        places = (ins[0].shape[axis] for axis in axes)
        rows = graph.node("Reshape", rows, graph.constant([-1, 1, *places]))
        rest = _window_attributes(params, axes, ("window_strides", "padding", "window_dilation"))
        sizes = [dimensions[axis] for axis in axes]
        if is_sum:
            y = graph.node(
                "Conv", rows, graph.constant(np.ones([1, 1, *sizes]), ins[0].dtype), **rest
            )
        else:
            y = graph.node("MaxPool", rows, kernel_shape=sizes, **rest)
        y = _reshaped(graph, y, [outs[0].shape[axis] for axis in order])
        return graph.node("Transpose", y, perm=np.argsort(order).tolist())

    return result


_OTHERS: dict[str, _Written] = {
    "exp2": lambda graph, params, inputs, ins, outs: graph.node(
        "Pow", graph.constant(2, outs[0].dtype), inputs[0]
    ),
    "log1p": _log1p,
    "expm1": _expm1,
    "integer_pow": _integer_power,
    "rem": _remainder,
    "rsqrt": _rsqrt,
    "square": _square,
    "round": _round,
    "is_finite": _is_finite,
    "ne": _not_equal,
    "convert_element_type": _convert,
    "select_n": _select,
    "clamp": _clamp,
    "reduce_and": _logical("ReduceMin"),
    "reduce_or": _logical("ReduceMax"),
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshape),
    "broadcast_in_dim": _broadcast,
    "iota": _iota,
    "transpose": _transpose,
    "rev": _reverse,
    "concatenate": _concatenate,
    "stack": _stack,
    "unstack": _unstack,
    "split": _split,
    "slice": _slice,
    "pad": _pad,
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
    "cumsum": _cumulative_sum,
    "dot_general": _dot,
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
    "conv_general_dilated": _convolution,
    "reduce_window_max": _window(is_sum=False),
    "reduce_window_sum": _window(is_sum=True),
}
