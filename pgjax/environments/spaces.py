"""Spaces of observations and actions; Gymnasium's are read as gymnax's."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium.spaces
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.spaces import Box, Dict, Discrete, Space, Tuple

from pgjax.core.components import is_traced
from pgjax.core.names import shown
from pgjax.core.types import Array, PyTree

__all__ = [
    "MASK",
    "Box",
    "Dict",
    "Discrete",
    "MultiBinary",
    "MultiDiscrete",
    "Tuple",
    "alike",
    "children",
    "encode",
    "entry",
    "example",
    "is_indices",
    "is_whole",
    "joined",
    "limits",
    "one_hots",
    "read",
    "register",
    "text",
]

_DICT = (Dict, gymnasium.spaces.Dict)
_TUPLE = (Tuple, gymnasium.spaces.Tuple)
MASK = "action_mask"  # the entry of an observation that says which actions are allowed
_REAL = (np.floating, np.integer, np.bool_)


class MultiDiscrete(Space):
    """Integers a[i] in 0 … nvec[i]−1, in an array of nvec's shape.

    Args:
      nvec: how many values each has, ints in nested lists or an array.
      dtype: of the array.
    """

    def __init__(self, nvec: Any, dtype: Any = jnp.int32) -> None:
        self.nvec = np.asarray(nvec)
        self.shape, self.dtype = self.nvec.shape, dtype

    def __repr__(self) -> str:
        return f"MultiDiscrete({self.nvec.tolist()})"

    def sample(self, key: Array) -> Array:
        """Uniform."""
        return jax.random.randint(key, self.shape, 0, self.nvec, jnp.int32).astype(self.dtype)


class MultiBinary(Space):
    """Bits, 0 or 1.

    Args:
      shape: of the array; n for (n,).
      dtype: of the array.
    """

    def __init__(self, shape: Any, dtype: Any = jnp.int8) -> None:
        self.shape = tuple(shape) if np.iterable(shape) else (shape,)
        self.dtype = dtype

    def __repr__(self) -> str:
        return f"MultiBinary({list(self.shape)})"

    def sample(self, key: Array) -> Array:
        """Uniform."""
        return jax.random.bernoulli(key, shape=self.shape).astype(self.dtype)


def read(part: str, space: Any) -> Any:
    """The same space as gymnax's: sizes as ints, shapes as tuples, bounds as numbers or arrays.

    Args:
      part: for messages.
      space: Box, Discrete, MultiDiscrete, MultiBinary, one of a class that was registered, or a
        Dict or Tuple of them.

    Raises:
      TypeError: another kind of space, or a size that is no integer known before compilation.
      ValueError: a space that holds nothing, bounds that do not fit a shape, a Discrete that does
        not start at 0.
    """
    parts = children(space)
    if parts is not None:
        return joined(space, {n: read(f"{part}[{n!r}]", child) for n, child in parts.items()}, True)
    # The latest first: a class of somebody's own may derive from one that is known.
    for kind, reader in reversed(_READERS.items()):
        if isinstance(space, kind):
            return reader(part, space)
    raise TypeError(
        f"{part} must be made of Box, Discrete, MultiDiscrete, MultiBinary, Dict, Tuple; "
        f"got {shown(space)} ({type(space).__module__})"
    )


def register(kind: type, reader: Callable[[str, Any], Any] | None = None) -> None:
    """Lets environments have spaces of another class.

    Args:
      kind: the class.
      reader: (part, space) -> the space as `read` gives it; None: as it is.
    """
    _READERS[kind] = reader or (lambda part, space: space)


def children(space: Any) -> dict | None:
    """The parts of a Dict, by name, or of a Tuple, by index; None of any other space."""
    if isinstance(space, _DICT):
        return dict(space.spaces)
    return dict(enumerate(space.spaces)) if isinstance(space, _TUPLE) else None


def joined(space: Any, parts: dict, as_space: bool = False) -> Any:
    """What was made of each of a space's `children`, as a dict or a tuple, or as a space again."""
    if isinstance(space, _DICT):
        return Dict(parts) if as_space else parts
    values = tuple(parts.values())
    return Tuple(values) if as_space else values


def entry(value: PyTree, name: Any) -> PyTree:
    """The part of that name, or index, of a mapping, a tuple or a record."""
    if isinstance(value, Mapping) or isinstance(name, int):
        return value[name]
    return getattr(value, name)


def example(space: Any) -> PyTree:
    """Shape and dtype of a space's elements, as `jax.ShapeDtypeStruct`."""
    parts = children(space)
    if parts is not None:
        return joined(space, {name: example(child) for name, child in parts.items()})
    return jax.eval_shape(space.sample, jax.random.key(0))


def encode(value: PyTree, space: Any) -> PyTree:
    """One observation as float arrays, leaf by leaf: one-hot for Discrete, several one after
    another for MultiDiscrete, the same shape for Box and MultiBinary.

    Raises:
      TypeError: a space that is not Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple.
    """
    parts = children(space)
    if parts is not None:
        codes = {name: encode(entry(value, name), child) for name, child in parts.items()}
        return joined(space, codes)
    if isinstance(space, Discrete):
        return jax.nn.one_hot(value, space.n)
    if isinstance(space, MultiDiscrete):
        return one_hots(value, space.nvec)
    if isinstance(space, (Box, MultiBinary)):
        is_float = jnp.issubdtype(jnp.result_type(value), jnp.floating)
        return jnp.asarray(value) if is_float else jnp.asarray(value, float)
    raise TypeError(
        "observation_space must be made of Box, Discrete, MultiDiscrete, MultiBinary, Dict, Tuple; "
        f"got {shown(space)}"
    )


def one_hots(values: Array, nvec: np.ndarray) -> Array:
    """The one-hot vectors of integers values[i] in 0 … nvec[i]−1, one after another:
    float[sum(nvec)]."""
    sizes = np.ravel(nvec)
    (real,) = np.nonzero(np.ravel(np.arange(max(sizes)) < sizes[:, None]))
    return jnp.ravel(jax.nn.one_hot(jnp.ravel(values), max(sizes)))[real]


def limits(space: Any) -> tuple[Any, Any]:
    """The least and the largest number of each of an element's entries."""
    if isinstance(space, Discrete):
        return 0, space.n - 1
    if isinstance(space, MultiDiscrete):
        return 0, space.nvec - 1
    return (space.low, space.high) if isinstance(space, Box) else (0, 1)


def is_indices(space: Any) -> bool:
    """Whether a space that has no children holds integers that name one of several values."""
    return isinstance(space, (Discrete, MultiDiscrete))


def is_whole(space: Any) -> bool:
    """Whether a space that has no children holds whole numbers: integers or flags."""
    return np.dtype(space.dtype).kind in "iub"


def alike(left: Any, right: Any, bounds: bool) -> bool:
    """Whether two spaces, as `read` gives them, have the same kinds, sizes and shapes, and, if
    asked, the same bounds."""
    parts, others = children(left), children(right)
    if parts is not None and others is not None:
        return parts.keys() == others.keys() and all(
            alike(child, others[name], bounds) for name, child in parts.items()
        )
    if type(left) is not type(right) or tuple(left.shape) != tuple(right.shape):
        return False
    if isinstance(left, Box) and not bounds:
        return True
    return all(np.allclose(*pair) for pair in zip(limits(left), limits(right), strict=True))


def text(space: Any) -> str:
    """A space in short: "Discrete(2)" or "Box(4) float32"."""
    if isinstance(space, Discrete):
        return f"Discrete({space.n})"
    if isinstance(space, Box):
        return f"Box({','.join(map(str, space.shape))}) {np.dtype(space.dtype).name}"
    return repr(space) if children(space) is None else type(space).__name__


def _discrete(part: str, space: Any) -> Discrete:
    number, start = _index(f"{part}: n", space.n), getattr(space, "start", 0)
    if number < 1:
        raise ValueError(f"{part} must have at least one value, got {shown(space)}")
    if start != 0:
        raise ValueError(f"{part} must start at 0, got {shown(space)}")
    return space if isinstance(space, Discrete) and space.n is number else Discrete(number)


def _box(part: str, space: Any) -> Box:
    sizes = space.shape if np.iterable(space.shape) else (space.shape,)
    shape = tuple(_index(f"{part}: shape", size) for size in sizes)
    if min(shape, default=1) < 1:
        raise ValueError(f"{part} must hold at least one number, got the shape {shape}")
    low, high = (_bound(part, side, getattr(space, side), shape) for side in ("low", "high"))
    if not _is_real(space.dtype):
        raise TypeError(f"{part} must hold real numbers, got the dtype {np.dtype(space.dtype)}")
    return Box(low, high, shape, _dtype(space))


def _bound(part: str, side: str, bound: Any, shape: tuple[int, ...]) -> Any:
    traced = any(map(is_traced, jax.tree.leaves(bound)))
    try:
        numbers = bound if traced else np.asarray(bound)
        fits = np.broadcast_shapes(np.shape(numbers), shape) == shape
    except ValueError:  # ragged, or two shapes that do not go together
        numbers, fits = bound, False
    if not fits:
        raise ValueError(f"{part}: {side} must fit the shape {shape}, got {shown(bound)}")
    dtypes = map(jnp.result_type, jax.tree.leaves(bound)) if traced else (numbers.dtype,)
    if not all(map(_is_real, dtypes)):
        raise TypeError(f"{part}: {side} must be made of real numbers, got {shown(bound)}")
    return numbers if isinstance(bound, (list, tuple)) else bound


def _is_real(dtype: Any) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in _REAL)


def _index(part: str, value: Any) -> int:
    try:
        return operator.index(value)
    except (TypeError, jax.errors.JAXTypeError) as error:
        raise TypeError(
            f"{part} must be an integer known before compilation, got {shown(value)}"
        ) from error


def _multi_discrete(part: str, space: Any) -> MultiDiscrete:
    sizes = np.asarray(space.nvec)
    if sizes.dtype.kind not in "iu":
        raise TypeError(f"{part}: nvec must be made of integers, got {shown(space.nvec)}")
    if sizes.size < 1 or sizes.min() < 1:
        raise ValueError(f"{part} must have at least one value everywhere, got {shown(space)}")
    if np.any(getattr(space, "start", 0)):
        raise ValueError(f"{part} must start at 0, got {shown(space)}")
    return MultiDiscrete(sizes, _dtype(space))


def _multi_binary(part: str, space: Any) -> MultiBinary:
    shape = tuple(_index(f"{part}: shape", size) for size in space.shape)
    if min(shape, default=1) < 1:
        raise ValueError(f"{part} must hold at least one bit, got the shape {shape}")
    return MultiBinary(shape, _dtype(space))


def _dtype(space: Any) -> np.dtype:
    # Gymnasium's numbers may have 64 bits, which JAX has only where it was told so.
    return np.dtype(jax.dtypes.canonicalize_dtype(space.dtype))


_READERS: dict[type, Callable[[str, Any], Any]] = {
    Discrete: _discrete,
    gymnasium.spaces.Discrete: _discrete,
    Box: _box,
    gymnasium.spaces.Box: _box,
    MultiDiscrete: _multi_discrete,
    gymnasium.spaces.MultiDiscrete: _multi_discrete,
    MultiBinary: _multi_binary,
    gymnasium.spaces.MultiBinary: _multi_binary,
}
