"""Each primitive of JAX as an expression of NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pgjax.runs.export.walk import gather_fill, is_matrix_product, subscripts

# A primitive's parameters, its arguments as text, their avals, and the results' avals -> text.
_Writer = Callable[[dict[str, Any], list[str], list[Any], list[Any]], str]

_WORDS = {
    **{name: name for name in ("tanh", "exp", "exp2", "log", "log1p", "expm1", "sin", "cos")},
    **{name: name for name in ("tan", "sinh", "cosh", "abs", "sign", "floor", "ceil", "sqrt")},
    **{name: name for name in ("cbrt", "square", "nextafter")},
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "atan2": "arctan2",
    "is_finite": "isfinite",
    "max": "maximum",
    "min": "minimum",
    "pow": "power",
    "rem": "fmod",
    "shift_left": "left_shift",
    "shift_right_arithmetic": "right_shift",
}
_SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "and": "&",
    "or": "|",
    "xor": "^",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}
_REDUCTIONS = {
    "reduce_sum": "sum",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_prod": "prod",
    "reduce_and": "all",
    "reduce_or": "any",
}
_CUMULATIVE = {
    "cumsum": "np.cumsum",
    "cumprod": "np.cumprod",
    "cummax": "np.maximum.accumulate",
    "cummin": "np.minimum.accumulate",
}
_SAME = ("stop_gradient", "copy", "copy_p")


def expression(name: str, params: dict[str, Any], args: list[str], ins: list, outs: list) -> str:
    """A primitive's value in NumPy.

    Args:
      name: the primitive's.
      params: its parameters.
      args: the arguments as text.
      ins, outs: their avals, and the results'.

    Raises:
      ValueError: a primitive that has no such expression; the message has its name.
    """
    if name in _SIGNS:
        return f"{args[0]} {_SIGNS[name]} {args[1]}"
    if name in _WORDS:
        return f"np.{_WORDS[name]}({', '.join(args)})"
    if name in _REDUCTIONS:
        kind = f", dtype={dtype(outs[0])}" if name in ("reduce_sum", "reduce_prod") else ""
        return f"np.{_REDUCTIONS[name]}({args[0]}, axis={tuple(params['axes'])}{kind})"
    if name in _CUMULATIVE:
        return _cumulative(_CUMULATIVE[name], args[0], params, outs)
    if name in _SAME:
        return args[0]
    if name not in _WRITERS:
        raise ValueError(f"the policy's operation {name!r} has no counterpart in NumPy")
    return _WRITERS[name](params, args, ins, outs)


def dtype(aval: Any) -> str:
    """NumPy's name of an aval's dtype: "np.float32"."""
    name = np.dtype(aval.dtype).name
    return "np.bool_" if name == "bool" else f"np.{name}"


def _cumulative(word: str, x: str, params: dict[str, Any], outs: list) -> str:
    axis = params["axis"]
    kind = f"axis={axis}, dtype={dtype(outs[0])}"
    if not params["reverse"]:
        return f"{word}({x}, {kind})"
    return f"np.flip({word}(np.flip({x}, {axis}), {kind}), {axis})"


def _reshape(params, args, ins, outs) -> str:
    return f"np.reshape({args[0]}, {tuple(outs[0].shape)})"


def _broadcast(params, args, ins, outs) -> str:
    shape, own = tuple(outs[0].shape), [1] * len(outs[0].shape)
    for size, axis in zip(ins[0].shape, params["broadcast_dimensions"], strict=True):
        own[axis] = size
    x = args[0] if tuple(own) == tuple(ins[0].shape) else f"np.reshape({args[0]}, {tuple(own)})"
    return x if tuple(own) == shape else f"np.broadcast_to({x}, {shape})"


def _quotient(params, args, ins, outs) -> str:
    if np.dtype(outs[0].dtype).kind == "f":
        return f"{args[0]} / {args[1]}"
    return f"truncated_quotient({args[0]}, {args[1]})"


def _integer_power(params, args, ins, outs) -> str:
    power, x = params["y"], args[0]
    return (
        " * ".join([x] * power) if 1 <= power <= 3 else f"np.power({x}, {dtype(outs[0])}({power}))"
    )


def _logistic(params, args, ins, outs) -> str:
    half = f"{dtype(outs[0])}(0.5)"
    return f"{half} * np.tanh({half} * {args[0]}) + {half}"


def _rsqrt(params, args, ins, outs) -> str:
    return f"{dtype(outs[0])}(1.0) / np.sqrt({args[0]})"


def _round(params, args, ins, outs) -> str:
    if int(params["rounding_method"]) == 1:  # to the nearest even number
        return f"np.round({args[0]})"
    return f"np.trunc({args[0]} + np.copysign({dtype(outs[0])}(0.5), {args[0]}))"


def _select(params, args, ins, outs) -> str:
    if len(args) == 3 and np.dtype(ins[0].dtype) == bool:
        return f"np.where({args[0]}, {args[2]}, {args[1]})"
    return f"np.choose({args[0]}, ({', '.join(args[1:])}))"


def _slice(params, args, ins, outs) -> str:
    strides = params["strides"] or (1,) * len(params["start_indices"])
    rows = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return f"{args[0]}[{', '.join(f'{i}:{n}' + (f':{k}' if k > 1 else '') for i, n, k in rows)}]"


def _split(params, args, ins, outs) -> str:
    ends = np.cumsum(params["sizes"])[:-1].tolist()
    return f"np.split({args[0]}, {ends}, {params['axis']})"


def _iota(params, args, ins, outs) -> str:
    shape, axis = tuple(params["shape"]), params["dimension"]
    own = tuple(size if i == axis else 1 for i, size in enumerate(shape))
    row = f"np.arange({shape[axis]}, dtype={dtype(outs[0])})"
    return row if shape == own else f"np.broadcast_to({row}.reshape({own}), {shape})"


def _arg(word: str) -> _Writer:
    def written(params, args, ins, outs) -> str:
        (axis,) = params["axes"]
        return f"np.{word}({args[0]}, axis={axis}).astype({dtype(outs[0])})"

    return written


def _dot(params, args, ins, outs) -> str:
    if is_matrix_product(params, ins):
        return f"{args[0]} @ {args[1]}"
    return f'np.einsum("{subscripts(params, ins)}", {args[0]}, {args[1]})'


def _gather(params, args, ins, outs) -> str:
    numbers = params["dimension_numbers"]
    if numbers.operand_batching_dims:
        raise ValueError("the policy's operation 'gather' with batches has no counterpart in NumPy")
    kind = np.dtype(outs[0].dtype)
    fill = gather_fill(params, kind)
    if fill is not None and kind.kind == "f":
        fill = f'float("{fill}")'
    axes = tuple(numbers.collapsed_slice_dims), tuple(numbers.start_index_map)
    rest = ", ".join(map(str, (tuple(numbers.offset_dims), *axes, tuple(params["slice_sizes"]))))
    return f"gather({args[0]}, {args[1]}, {rest}, {fill})"


def _convolution(params, args, ins, outs) -> str:
    if params["batch_group_count"] != 1 or set(params["lhs_dilation"]) - {1}:
        raise ValueError(
            "the policy's operation 'conv_general_dilated' with a dilated input or groups of "
            "batches has no counterpart in NumPy"
        )
    layouts = tuple(tuple(spec) for spec in params["dimension_numbers"])
    names = ("window_strides", "padding", "rhs_dilation")
    rest = ", ".join(str(tuple(params[name])) for name in names)
    return f"convolution({args[0]}, {args[1]}, {layouts}, {rest}, {params['feature_group_count']})"


def _window(word: str, fill: str) -> _Writer:
    def written(params, args, ins, outs) -> str:
        if set(params["base_dilation"]) - {1}:
            raise ValueError(
                f"the policy's operation 'reduce_window' ({word}) with a dilated input"
            )
        names = ("window_dimensions", "window_strides", "padding", "window_dilation")
        rest = ", ".join(str(tuple(params[name])) for name in names)
        rank = len(outs[0].shape)
        axes = tuple(range(rank, 2 * rank))
        return f"np.{word}(windows({args[0]}, {fill}, {rest}), axis={axes})"

    return written


def _dynamic_slice(params, args, ins, outs) -> str:
    starts = "".join(f"{start}, " for start in args[1:])
    return f"dynamic_slice({args[0]}, ({starts}), {tuple(params['slice_sizes'])})"


def _dynamic_update(params, args, ins, outs) -> str:
    starts = "".join(f"{start}, " for start in args[2:])
    return f"dynamic_update_slice({args[0]}, {args[1]}, ({starts}))"


def _joined(params, args, ins, outs) -> str:
    return f"np.concatenate(({', '.join(args)},), axis={params['dimension']})"


_WRITERS: dict[str, _Writer] = {
    "neg": lambda params, args, ins, outs: f"-{args[0]}",
    "not": lambda params, args, ins, outs: f"~{args[0]}",
    "div": _quotient,
    "integer_pow": _integer_power,
    "logistic": _logistic,
    "rsqrt": _rsqrt,
    "round": _round,
    "erf": lambda params, args, ins, outs: f"erf({args[0]})",
    "convert_element_type": lambda params, args, ins, outs: f"{args[0]}.astype({dtype(outs[0])})",
    "select_n": _select,
    "clamp": lambda params, args, ins, outs: f"np.clip({args[1]}, {args[0]}, {args[2]})",
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshape),
    "broadcast_in_dim": _broadcast,
    "transpose": lambda params, args, ins, outs: (
        f"np.transpose({args[0]}, {tuple(params['permutation'])})"
    ),
    "rev": lambda params, args, ins, outs: f"np.flip({args[0]}, {tuple(params['dimensions'])})",
    "concatenate": _joined,
    "stack": lambda params, args, ins, outs: (
        f"np.stack(({', '.join(args)},), axis={params['axis']})"
    ),
    "unstack": lambda params, args, ins, outs: f"np.moveaxis({args[0]}, {params['axis']}, 0)",
    "pad": lambda params, args, ins, outs: (
        f"pad({args[0]}, {args[1]}, {tuple(params['padding_config'])})"
    ),
    "slice": _slice,
    "split": _split,
    "iota": _iota,
    "argmax": _arg("argmax"),
    "argmin": _arg("argmin"),
    "dot_general": _dot,
    "gather": _gather,
    "conv_general_dilated": _convolution,
    "reduce_window_max": _window("max", "-np.inf"),
    "reduce_window_sum": _window("sum", "0"),
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update,
}
