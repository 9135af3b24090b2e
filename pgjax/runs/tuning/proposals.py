"""The next points of a search, by Optuna: the extra `tune`."""

import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from pgjax.core import distribution
from pgjax.core.names import shown, unknown
from pgjax.runs.tuning.space import Axis, Point
from pgjax.runs.tuning.trials import Trial

SEARCHES = ("tpe", "random")
_STARTUP_TRIALS = 10  # before TPE has enough to go by


def optuna() -> Any:
    """The module, imported.

    Raises:
      MissingExtra: it is not installed.
    """
    try:
        module = importlib.import_module("optuna")
    except ImportError as error:
        message = distribution.missing("Searches of settings", "tune", error)
        raise distribution.MissingExtra(message) from None
    module.logging.set_verbosity(module.logging.WARNING)
    return module


def check_search(search: str | Callable[[int], Any]) -> None:
    """Raises unless a search is one of `SEARCHES`, or a function that makes a sampler of Optuna's
    from a seed."""
    if not callable(search) and search not in SEARCHES:
        raise ValueError(unknown(f"search {shown(search)}", search, SEARCHES))


def proposals(
    axes: Sequence[Axis],
    trials: Sequence[Trial],
    number: int,
    search: str | Callable[[int], Any],
    seed: int,
) -> list[Point]:
    """The next points. They depend on the arguments only: no sampler lives between two calls, so
    that an interrupted search goes on to the same points.

    Args:
      axes: the space.
      trials: all so far, the running ones among them.
      number: how many points.
      search: one of `SEARCHES`; or a function of a seed that makes a sampler of Optuna's, which
        must decide from the study's trials alone, as "tpe" does.
      seed: in [0, 2³²).
    """
    module = optuna()
    distributions = {axis.path: _distribution(module, axis) for axis in axes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", module.exceptions.ExperimentalWarning)
        sampler = _sampler(module, search, seed)
        study = module.create_study(direction="maximize", sampler=sampler)
        study.add_trials([_frozen(module, axes, distributions, trial) for trial in trials])
        asked = [study.ask(distributions) for _ in range(number)]
    return [tuple(float(trial.params[axis.path]) for axis in axes) for trial in asked]


def _distribution(module: Any, axis: Axis) -> Any:
    if axis.values:
        return module.distributions.CategoricalDistribution(tuple(range(len(axis.values))))
    return module.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)


def _sampler(module: Any, search: str | Callable[[int], Any], seed: int) -> Any:
    if callable(search):
        return search(seed)
    if search == "random":
        return module.samplers.RandomSampler(seed=seed)
    # A running trial counts as a bad one, so that those of a batch differ.
    return module.samplers.TPESampler(
        seed=seed, n_startup_trials=_STARTUP_TRIALS, constant_liar=True
    )


def _frozen(module: Any, axes: Sequence[Axis], distributions: dict[str, Any], trial: Trial) -> Any:
    """A trial as Optuna has it; one that halving stopped is pruned there."""
    states = module.trial.TrialState
    state = {"running": states.RUNNING, "stopped": states.PRUNED, "done": states.COMPLETE}
    coordinates = zip(axes, trial.point, strict=True)
    return module.trial.create_trial(
        state=state[trial.status],
        value=trial.score() if trial.status == "done" else None,
        params={axis.path: int(x) if axis.values else x for axis, x in coordinates},
        distributions=distributions,
        intermediate_values={n: trial.score(n) for n in range(1, trial.rounds + 1)},
    )
