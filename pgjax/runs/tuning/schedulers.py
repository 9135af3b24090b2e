"""Schedulers by name, as JSON types and as the command line's flags."""

from collections.abc import Mapping
from typing import Any

from pgjax.core.components import hints
from pgjax.core.names import shown, unknown
from pgjax.runs.tuning.halving import SuccessiveHalving
from pgjax.runs.tuning.population_based import PopulationBased
from pgjax.runs.tuning.scheduler import Scheduler

SCHEDULERS: dict[str, type[Scheduler]] = {"halving": SuccessiveHalving, "pbt": PopulationBased}


def named(name: str, fields: Mapping[str, Any]) -> Scheduler:
    """The scheduler of a name.

    Args:
      fields: those that are given, by name.

    Raises:
      ValueError: an unknown name; a field of another scheduler.
    """
    if name not in SCHEDULERS:
        raise ValueError(unknown(f"scheduler {name!r}", name, SCHEDULERS))
    own = fields_of(name)
    for field in fields:
        if field not in own:
            owner = next(other for other in SCHEDULERS if field in fields_of(other))
            raise ValueError(
                f"--{field} is a flag of --scheduler {owner}; {name} takes "
                f"{', '.join(f'--{known}' for known in own)}"
            )
    return SCHEDULERS[name](**fields)


def fields_of(*names: str) -> list[str]:
    """The fields of the schedulers of these names."""
    return [field for name in names for field in hints(SCHEDULERS[name])]


def to_dict(scheduler: Scheduler) -> dict[str, Any]:
    """A scheduler as JSON types; a function is None."""
    name = next(name for name, cls in SCHEDULERS.items() if type(scheduler) is cls)
    values = {field: getattr(scheduler, field) for field in fields_of(name)}
    return {
        "name": name,
        **{field: None if callable(value) else value for field, value in values.items()},
    }


def from_dict(data: Mapping[str, Any]) -> Scheduler:
    """The scheduler that `to_dict` wrote, with tuples for lists."""
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
    return named(data["name"], {name: v for name, v in values.items() if name != "name"})


def check(scheduler: Any) -> Scheduler:
    """Returns a scheduler; raises unless it is one, with numbers that are allowed."""
    if type(scheduler) not in SCHEDULERS.values():
        classes = " or ".join(f"{cls.__name__}(…)" for cls in SCHEDULERS.values())
        raise TypeError(f"scheduler must be {classes}, got {shown(scheduler)}")
    scheduler.check("scheduler")
    return scheduler
