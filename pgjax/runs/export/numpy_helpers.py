"""Operations that NumPy has not in one word; those that an exported module calls are copied into
it, so each stands alone."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def given(part, value, shape, dtype):
    """An input as an array; raises ValueError or TypeError unless it has this shape and kind."""
    array = np.asarray(value)
    if array.shape != shape:
        raise ValueError(f"{part}: expected the shape {shape}, got {array.shape}")
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise TypeError(f"{part}: expected {np.dtype(dtype)}, got {array.dtype}")
    return array.astype(dtype, copy=False)


def erf(x):
    """The error function of each number."""
    return np.vectorize(math.erf, otypes=[x.dtype])(x)


def truncated_quotient(x, y):
    """x / y of integers, rounded towards 0."""
    return np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y))


def pad(x, fill, config):
    """Numbers before, after and between the entries of each axis; less than none cuts."""
    for axis, (low, high, between) in enumerate(config):
        x = np.moveaxis(x, axis, 0)
        if between:
            spread = np.full((len(x) + (len(x) - 1) * between, *x.shape[1:]), fill, x.dtype)
            spread[:: between + 1] = x
            x = spread
        x = x[max(-low, 0) : len(x) + min(high, 0)]
        before, after = (np.full((max(n, 0), *x.shape[1:]), fill, x.dtype) for n in (low, high))
        x = np.moveaxis(np.concatenate([before, x, after]), 0, axis)
    return x


def dynamic_slice(x, starts, sizes):
    """A window of these sizes, moved inside where it reaches beyond an end."""
    starts = [
        min(max(int(i), 0), n - k) for i, n, k in zip(starts, np.shape(x), sizes, strict=True)
    ]
    return x[tuple(slice(i, i + k) for i, k in zip(starts, sizes, strict=True))]


def dynamic_update_slice(x, update, starts):
    """A copy with `update` in a window, moved inside where it reaches beyond an end."""
    sizes, x = np.shape(update), np.array(x)
    starts = [min(max(int(i), 0), n - k) for i, n, k in zip(starts, x.shape, sizes, strict=True)]
    x[tuple(slice(i, i + k) for i, k in zip(starts, sizes, strict=True))] = update
    return x


def gather(x, indices, offset_dims, collapsed, index_map, sizes, fill):
    """Windows of x at indices [..., k]; outside of x `fill`, or, if None, the nearest window."""
    batch, rank = indices.shape[:-1], np.ndim(x)
    starts = np.zeros((*batch, rank), np.int64)
    starts[..., list(index_map)] = indices
    last = np.array(np.shape(x), np.int64) - np.array(sizes, np.int64)
    inside = np.all((starts >= 0) & (starts <= last), axis=-1)
    starts = np.clip(starts, 0, last)
    window = [axis for axis in range(rank) if axis not in collapsed]
    index = []
    for axis in range(rank):
        place = starts[..., axis].reshape(batch + (1,) * len(window))
        if axis in window:
            ends = [1] * len(window)
            ends[window.index(axis)] = sizes[axis]
            place = place + np.arange(sizes[axis]).reshape(ends)
        index.append(place)
    values = x[tuple(index)]
    if fill is not None:
        inside = inside.reshape(batch + (1,) * len(window))
        values = np.where(inside, values, np.asarray(fill, x.dtype))
    return np.moveaxis(values, range(len(batch), values.ndim), offset_dims)


def convolution(x, kernel, layouts, strides, padding, dilation, groups):
    """A convolution; layouts: where batch, channels and places are in x, kernel and result."""
    places = len(strides)
    x, kernel = np.transpose(x, layouts[0]), np.transpose(kernel, layouts[1])
    x = np.pad(x, ((0, 0), (0, 0), *padding))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel.shape[2:], dilation, strict=True)]
    views = sliding_window_view(x, extent, axis=tuple(range(2, 2 + places)))
    slices = [slice(None)] * 2 + [slice(None, None, n) for n in (*strides, *dilation)]
    views = views[tuple(slices)]
    views = views.reshape(len(x), groups, -1, *views.shape[2:])
    kernel = kernel.reshape(groups, -1, *kernel.shape[1:])
    out, inner = "pqrstu"[:places], "uvwxyz"[-places:]
    result = np.einsum(f"ngc{out}{inner},goc{inner}->ngo{out}", views, kernel)
    result = result.reshape(len(x), -1, *result.shape[3:])
    return np.moveaxis(result, range(result.ndim), layouts[2])


def windows(x, fill, sizes, strides, padding, dilation):
    """The windows of x, along axes after its own."""
    x = np.pad(x, padding, constant_values=fill)
    extent = [(k - 1) * d + 1 for k, d in zip(sizes, dilation, strict=True)]
    views = sliding_window_view(x, extent)
    return views[tuple(slice(None, None, n) for n in (*strides, *dilation))]


def scan(body, constants, carry, rows, length, reverse):
    """The carry after a loop over rows, and the results of each row, one below another."""
    number, results = len(carry), []
    for i in reversed(range(length)) if reverse else range(length):
        values = body(*constants, *carry, *(x[i] for x in rows))
        carry = values[:number]
        results.append(values[number:])
    results = results[::-1] if reverse else results
    return (*carry, *(np.stack(column) for column in zip(*results, strict=True)))


def loop(condition, body, condition_constants, constants, carry):
    """The carry after a loop that goes on while a condition holds."""
    while condition(*condition_constants, *carry)[0]:
        carry = body(*constants, *carry)
    return carry
