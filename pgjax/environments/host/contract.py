"""What an environment gives, against Gymnasium's interface and its own spaces; imports no JAX.

Every step of every environment comes here: what is right is told first, and no message is made.
`when` gives the call, "step 3" for instance, for a message.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from pgjax.core.names import shown

_REAL = "fiub"  # kinds of NumPy's dtypes
_MOST = float(np.finfo(np.float32).max)
_LONGEST = 100  # of what is shown of a value
# How many values each entry of an index space has.
_SIZES: dict[type, Callable[[Any], Any]] = {
    spaces.Discrete: lambda space: space.n,
    spaces.MultiDiscrete: lambda space: space.nvec,
    spaces.MultiBinary: lambda space: 2,
}


class WrongInterface(TypeError):
    """`reset` or `step` gave other values than Gymnasium's do."""


class WrongValue(ValueError):
    """An environment gave a number, a flag, an observation or a space that cannot be."""


# Their messages lack the environment's name, which the process that trains puts in front.
FAULTS = (WrongInterface, WrongValue)


def unpacked(part: str, number: int, told: str, given: Any) -> tuple:
    """The values that a method gave.

    Raises:
      WrongInterface: no tuple of so many.
    """
    if isinstance(given, tuple) and len(given) == number:
        return given
    count = f"{len(given)}" if isinstance(given, tuple) else _shown(given)
    raise WrongInterface(
        f"{part} must give {number} values, {told}, as Gymnasium's do, got {count}"
    )


def number(part: str, when: Callable[[], str], value: Any) -> float:
    """A reward as a float.

    Raises:
      WrongValue: no scalar, or none that is finite as a float32.
    """
    result = value
    if type(value) is not float:
        array = np.asarray(value)
        real = array.ndim == 0 and array.dtype.kind in _REAL
        result = float(array) if real else np.nan
    if not abs(result) <= _MOST:
        raise WrongValue(f"{part} of {when()}: expected a finite number, got {_shown(value)}")
    return result


def flag(part: str, when: Callable[[], str], value: Any) -> bool:
    """An end-of-episode flag as a bool; 0 and 1 are flags, too.

    Raises:
      WrongValue: any other value.
    """
    if type(value) is bool:
        return value
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in _REAL or array not in (0, 1):
        raise WrongValue(f"{part} of {when()}: expected True or False, got {_shown(value)}")
    return bool(array)


def same_space(name: str, when: str, space: gymnasium.Space, first: gymnasium.Space) -> None:
    """Raises WrongValue unless a space equals that of the first environment that was made."""
    if space is not first and space != first:
        raise WrongValue(f"{name} {when}: expected {shown(first)}, as at first, got {shown(space)}")


def fitted(space: gymnasium.Space, obs: Any, when: Callable[[], str], path: str = "") -> Any:
    """A copy of an observation, in the structure, shapes and dtypes of its space. An environment
    may write the next one into the same array.

    Args:
      path: the entry of the observation, for messages.

    Raises:
      WrongValue: another structure or shape, no real numbers, or numbers that the dtype lacks.
    """
    if space.shape is None:  # `isinstance` of a Dict or Tuple, which are abstract, takes longer
        return _fitted_parts(space, obs, when, path)
    try:
        array = np.array(obs)
    except ValueError:  # ragged
        array = np.array(None)
    if array.dtype == space.dtype and array.shape == space.shape:
        return array
    return _cast(space, obs, array, f"observation{path} of {when()}")


def _fitted_parts(space: gymnasium.Space, obs: Any, when: Callable[[], str], path: str) -> Any:
    """The parts of a Dict or Tuple, each fitted."""
    is_dict = isinstance(space, spaces.Dict)
    parts = _parts(space)
    if is_dict and isinstance(obs, Mapping):
        names = obs.keys()
    else:
        is_tuple = not is_dict and isinstance(obs, (tuple, list))
        names = range(len(obs)) if is_tuple else ()
    if set(names) != parts.keys():
        given = _names(names) if names else _shown(obs)
        raise WrongValue(
            f"observation{path} of {when()}: expected the entries {_names(parts)}, got {given}"
        )
    fits = {
        name: fitted(part, obs[name], when, f"{path}[{name!r}]") for name, part in parts.items()
    }
    return fits if is_dict else tuple(fits.values())


def _parts(space: Any) -> dict[Any, gymnasium.Space]:
    """The parts of a Dict, by name, or of a Tuple, by index."""
    return dict(space.spaces if isinstance(space, spaces.Dict) else enumerate(space.spaces))


def _cast(space: gymnasium.Space, obs: Any, array: np.ndarray, where: str) -> np.ndarray:
    """An observation's array in its space's dtype, if that holds the same numbers."""
    if array.dtype.kind not in _REAL:
        raise WrongValue(f"{where}: expected real numbers, of {shown(space)}, got {_shown(obs)}")
    if array.shape != space.shape:
        raise WrongValue(
            f"{where}: expected the shape {space.shape} of observation_space, got {_shown(array)}"
        )
    with np.errstate(over="ignore"):  # `faults` tells what has become infinite
        cast = array.astype(space.dtype)
    whole = cast.dtype.kind != "f"
    if whole and (array.dtype.kind == "f" or not np.array_equal(cast, array)):
        raise WrongValue(
            f"{where}: expected {cast.dtype}, the dtype of {shown(space)}, got {_shown(obs)}"
        )
    return cast


def faults(space: gymnasium.Space, obs: Any, path: str = "") -> Iterator[tuple[int, str, str]]:
    """The numbers of observations [k, …] that nothing can be learned from: those that are not
    finite as a float32, and indices that name no value. A Box's bounds are not looked at.

    Yields:
      The row, the entry of the observation, and what is wrong with it.
    """
    if space.shape is None:
        for name, part in _parts(space).items():
            yield from faults(part, obs[name], f"{path}[{name!r}]")
        return
    expected, good = _rule(space, obs)
    if not good.all():
        row, *place = map(int, np.argwhere(~good)[0])
        at = f" at {place}" if place else ""
        yield row, path, f"expected {expected}, got {obs[(row, *place)]}{at}"


def _rule(space: gymnasium.Space, obs: np.ndarray) -> tuple[str, np.ndarray]:
    """What numbers must be, and which are."""
    for kind, sizes in _SIZES.items():
        if isinstance(space, kind):
            return f"values of {shown(space)}", (obs >= 0) & (obs < sizes(space))
    if obs.dtype.kind != "f":
        return "", np.ones(1, bool)
    with np.errstate(over="ignore"):
        return "finite numbers", np.isfinite(obs.astype(np.float32, copy=False))


def _names(entries: Any) -> str:
    return ", ".join(sorted(map(repr, entries))) or "none"


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.ndim:
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    # NumPy 2 writes a scalar as np.float32(inf), NumPy 1 as inf.
    text = shown(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
