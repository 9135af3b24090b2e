"""Schedules: a config's float as a function of the number of updates made."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.components import check_hashable, is_traced, knows_fields
from pgjax.core.names import shown, unknown
from pgjax.core.types import Array

# The length of a training, where only the types of a schedule's arguments matter.
_SOME_UPDATES = 1000
# The most updates at which a schedule is evaluated; of a longer training, evenly spaced ones.
_MAX_SAMPLES = 10**5
_SAMPLES_PER_CALL = 2**12  # a constant, so that each number of updates runs the same program


@knows_fields
@dataclasses.dataclass(frozen=True, order=True)
class Share:
    """A number of updates as a share of `num_updates`, rounded: for the lengths of a `Schedule`.

    >>> Share(0.5).updates(120)
    60
    """

    share: float

    def __post_init__(self) -> None:
        number = isinstance(self.share, (int, float)) and not isinstance(self.share, bool)
        if not number or not 0.0 <= self.share < float("inf"):
            raise ValueError(
                f"Share must be a finite number of at least 0, got {shown(self.share)}"
            )

    def updates(self, num_updates: int) -> int:
        """The number of updates, rounded to the nearest integer."""
        return round(self.share * num_updates)


@jax.tree_util.register_pytree_with_keys_class
class Schedule:
    """An Optax schedule in place of a config's float: learning rate, entropy, clip range, physics.

    Update n, from 0, uses `make(**arguments)(n)` in all its gradient steps: the count is of
    updates. A length in steps of the optimizer, as other code has it, is epochs × minibatches
    times the length in updates.

    Args:
      make: makes a schedule, update -> value, from the arguments: any of Optax's, for instance.
      arguments: floats are traced, so that other numbers run the same program, except those that
        `make` compares or branches on, such as `peak_value` of
        `optax.warmup_cosine_decay_schedule`: these, and everything else, are part of the program.
        `make` gets a `Share` as a number of updates, and a `Schedule` as a function of the update.

    Raises:
      TypeError: `make` cannot be called, or has no argument of a name; the message names the
        nearest.

    >>> import optax
    >>> rate = Schedule(optax.linear_schedule, init_value=1.0, end_value=0.0, transition_steps=4)
    >>> print(rate.value(1))
    0.75
    >>> to_the_end = Schedule(
    ...     optax.linear_schedule, init_value=1.0, end_value=0.0, transition_steps=Share(1.0)
    ... )
    >>> print(to_the_end.value(1, num_updates=10))
    0.9
    """

    def __init__(self, make: Callable[..., Callable], /, *unnamed: Any, **arguments: Any) -> None:
        _check_arguments(make, unnamed, arguments)
        self.make = make
        self._leaves, self._structure = jax.tree.flatten(_with_tuples(arguments))
        self._turns: dict[int, list[int]] = {}

    @property
    def arguments(self) -> dict[str, Any]:
        """The schedule's arguments by name, lists as tuples."""
        return jax.tree.unflatten(self._structure, self._leaves)

    def function(self, num_updates: int | None = None) -> Callable[[Any], Array]:
        """The schedule, update -> float[], for a training of `num_updates` updates."""
        return self.make(**_resolved(self.arguments, num_updates))

    def value(self, update: Any, num_updates: int | None = None) -> Array:
        """The schedule's value at an update: float[].

        Args:
          update: int32[], from 0.
          num_updates: the training's number of updates; needed if an argument is a `Share`.
        """
        return self.function(num_updates)(update)

    def turns(self, num_updates: int) -> list[int]:
        """Updates at which the value is least, largest, or first not finite; [] if arguments are
        traced."""
        if any(is_traced(leaf) for leaf in self._leaves):
            return []
        if num_updates not in self._turns:
            updates, values = _sampled_updates(num_updates), _values(self, num_updates)
            indices = values.argmin(), values.argmax(), np.isfinite(values).argmin()
            self._turns[num_updates] = sorted({int(updates[index]) for index in indices})
        return self._turns[num_updates]

    @functools.cached_property
    def _traced(self) -> tuple[bool, ...]:
        """Whether each leaf of the arguments is traced."""
        return _traceable(self.make, self._structure, self._leaves)

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        numbered = jax.tree.unflatten(self._structure, range(len(self._leaves)))
        paths = jax.tree_util.tree_leaves_with_path(numbered)
        return tuple(jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths)

    def tree_flatten_with_keys(self):
        """Leaves: the traced arguments, by name."""
        rows = list(zip(self._names, self._leaves, self._traced, strict=True))
        children = [(jax.tree_util.DictKey(n), leaf) for n, leaf, traced in rows if traced]
        static = tuple(None if traced else self._static(n, leaf) for n, leaf, traced in rows)
        return children, (self.make, self._structure, self._traced, static)

    def _static(self, name: str, leaf: Any) -> Any:
        if is_traced(leaf):
            raise TypeError(
                f"{_name(self.make)} decides by {name}, which is part of the program then: it must "
                "be a number, not traced"
            )
        is_scalar = isinstance(leaf, (np.generic, np.ndarray, jax.Array)) and np.ndim(leaf) == 0
        if is_scalar:
            return leaf.item()
        check_hashable(f"{_name(self.make)}: {name}", leaf)
        return leaf

    @classmethod
    def tree_unflatten(cls, program: tuple, children: tuple):
        """The inverse of `tree_flatten_with_keys`, for any leaves."""
        make, structure, traced, static = program
        numbers, schedule = iter(children), cls.__new__(cls)
        schedule.make, schedule._turns = make, {}
        schedule._structure, schedule._traced = structure, traced
        schedule._leaves = [
            next(numbers) if is_data else leaf for is_data, leaf in zip(traced, static, strict=True)
        ]
        return schedule

    def __repr__(self) -> str:
        inside = "".join(f", {name}={value!r}" for name, value in self.arguments.items())
        return f"Schedule({_name(self.make)}{inside})"

    def __eq__(self, other: Any) -> bool:
        same_make = isinstance(other, Schedule) and self.make == other.make
        return same_make and self.arguments == other.arguments


def resolve(config: Any, update: Any) -> Any:
    """Replaces each schedule in a config by its value at an update."""
    return jax.tree.map(
        lambda x: x.value(update, config.num_updates) if isinstance(x, Schedule) else x,
        config,
        is_leaf=_is_schedule,
    )


def check(config: Any) -> None:
    """Raises TypeError, with the path, for a schedule whose value is not a number."""
    for path, schedule in _schedules(config):
        try:
            update = jax.ShapeDtypeStruct((), jnp.int32)
            value = jax.eval_shape(schedule.function(config.num_updates), update)
            problem = "" if value.shape == () else f"has shape {value.shape}, not a scalar's"
        except jax.errors.JAXTypeError as error:
            first = str(error).splitlines()[0]
            problem = f"decides in Python by what is traced; use jnp.where ({first})"
        except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError) as error:
            problem = f"makes no value for update 0: {error}"
        if problem:
            raise TypeError(f"{path}: {shown(schedule)} {problem}")


def paths(tree: Any) -> list[str]:
    """The dotted paths of a tree's schedules."""
    return [path for path, _ in _schedules(tree)]


def turns(tree: Any, num_updates: int) -> list[int]:
    """Update 0, and those at which a schedule in a tree is least, largest or not finite."""
    extremes = {n for _, schedule in _schedules(tree) for n in schedule.turns(num_updates)}
    return sorted({0, *extremes})


def ended(config: Any) -> dict[str, int]:
    """Learning rates that a schedule keeps at 0 until the last update: path -> first such update.

    From that update on nothing is learned. Updates are counted from 1, as in metrics.csv.
    """
    last, updates = config.num_updates - 1, _sampled_updates(config.num_updates)
    zero_from = {}
    for path, schedule in _schedules(config):
        if not path.endswith("learning_rate") or schedule.value(last, config.num_updates) != 0:
            continue
        nonzero = np.flatnonzero(_values(schedule, config.num_updates))
        first = 0 if len(nonzero) == 0 else nonzero[-1] + 1
        zero_from[path] = int(updates[first]) + 1
    return zero_from


def ended_text(config: Any) -> str:
    """The warning that `ended` gives rise to; empty if there is none."""
    parts = [
        f"{path} is 0 from update {first} of {config.num_updates} on, and nothing moves then"
        for path, first in ended(config).items()
    ]
    advice = "; a schedule's transition_steps=pgjax.Share(1.0) follows num_updates"
    return "; ".join(parts) + advice if parts else ""


def _sampled_updates(num_updates: int) -> np.ndarray:
    number = min(num_updates, _MAX_SAMPLES)
    return np.linspace(0, num_updates - 1, number).astype(np.int32)


def _values(schedule: Schedule, num_updates: int) -> np.ndarray:
    """A schedule's values at the sampled updates."""
    updates, width = _sampled_updates(num_updates), _SAMPLES_PER_CALL
    rows = np.pad(updates, (0, -len(updates) % width), "edge").reshape(-1, width)
    with jax.ensure_compile_time_eval():  # numbers, also while something else is traced
        function = jax.vmap(schedule.function(num_updates), out_axes=0)
        values = [np.asarray(function(row)) for row in rows]
    return np.concatenate(values)[: len(updates)]


def _schedules(config: Any) -> Iterator[tuple[str, Schedule]]:
    for path, node in jax.tree_util.tree_leaves_with_path(config, is_leaf=_is_schedule):
        if _is_schedule(node):
            yield jax.tree_util.keystr(path, simple=True, separator="."), node


def _is_schedule(node: Any) -> bool:
    return isinstance(node, Schedule)


def _name(make: Callable) -> str:
    return getattr(make, "__name__", repr(make))


def _check_arguments(make: Any, unnamed: tuple, arguments: dict[str, Any]) -> None:
    """Raises TypeError unless what makes a schedule can be called, with arguments that it has."""
    if not callable(make):
        raise TypeError(
            "Schedule takes a function that makes a schedule, optax.linear_schedule for instance, "
            f"got {shown(make)}"
        )
    if unnamed:
        raise TypeError(
            f"Schedule takes the arguments of {_name(make)} by name, got {shown(unnamed[0])} "
            "without one"
        )
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):  # what is written in C may tell none
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in arguments:
        if name not in parameters:
            what = f"argument {name!r} of {_name(make)}"
            raise TypeError(f"Schedule: {unknown(what, name, parameters)}")


def _with_tuples(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(map(_with_tuples, value))
    if isinstance(value, dict):
        return {key: _with_tuples(inner) for key, inner in value.items()}
    return value


def _resolved(value: Any, num_updates: int | None) -> Any:
    """Arguments as Optax takes them: a number for each share, a function for each schedule."""
    if isinstance(value, Share):
        if num_updates is None:
            raise ValueError(f"{value!r} of how many updates? give num_updates")
        return value.updates(num_updates)
    if isinstance(value, Schedule):
        return value.function(num_updates)
    if isinstance(value, tuple):
        return tuple(_resolved(inner, num_updates) for inner in value)
    if isinstance(value, dict):
        return {_resolved(k, num_updates): _resolved(v, num_updates) for k, v in value.items()}
    return value


def _traceable(make: Callable, structure: Any, leaves: list) -> tuple[bool, ...]:
    """Whether each leaf can be traced: all numbers, or those that `make` does not branch on."""
    numbers = tuple(map(_is_number, leaves))
    alone = [tuple(i == j for j in range(len(leaves))) for i in range(len(leaves))]
    if _traces(make, structure, leaves, numbers):
        return numbers
    some = tuple(
        is_number and _traces(make, structure, leaves, only)
        for is_number, only in zip(numbers, alone, strict=True)
    )
    return some if _traces(make, structure, leaves, some) else (False,) * len(leaves)


def _traces(make: Callable, structure: Any, leaves: list, traced: tuple[bool, ...]) -> bool:
    """Whether `make` gives a schedule when the leaves marked `traced` are traced."""

    def value(data, update):
        data = iter(data)
        filled = [next(data) if t else leaf for t, leaf in zip(traced, leaves, strict=True)]
        arguments = _resolved(jax.tree.unflatten(structure, filled), _SOME_UPDATES)
        return make(**arguments)(update)

    data = [leaf for t, leaf in zip(traced, leaves, strict=True) if t]
    shapes = [jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(float)) for leaf in data]
    try:
        jax.eval_shape(value, shapes, jax.ShapeDtypeStruct((), jnp.int32))
    except Exception:  # of any type: `make` may be the user's own
        return False
    return True


def _is_number(leaf: Any) -> bool:
    if isinstance(leaf, (np.generic, np.ndarray, jax.Array)):
        return jnp.issubdtype(leaf.dtype, jnp.inexact) or np.ndim(leaf) > 0
    return isinstance(leaf, float)
