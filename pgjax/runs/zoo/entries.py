"""The policies of the zoo, each a folder: config.json, weights.npz and card.json.

The weights are the arrays of a state that acting needs, by their paths: the parameters, and other
variables such as a normaliser's. An optimizer and a critic are not kept, so training cannot resume.
"""

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core import moved
from pgjax.core.names import unknown
from pgjax.core.types import PyTree, TrainState
from pgjax.runs import config_json, disk, schema
from pgjax.training import training
from pgjax.training.config import Config, checked, initial_variables
from pgjax.training.state_arrays import from_arrays, to_arrays

PREFIX = "zoo"
FOLDER = Path(__file__).parent / "policies"
_CONFIG, _WEIGHTS, _CARD = "config.json", "weights.npz", "card.json"
_KEPT = (".params", ".variables")  # the beginnings of the paths of arrays that are kept
_COUNT = schema.Number(int, 1, 2**62)
_RETURN = {"mean": float, "interval": list[float], "standard_deviation": float, "episodes": _COUNT}
_SCHEMA = {
    "environment": str,
    "algorithm": str,
    "parameters": _COUNT,
    "num_updates": schema.Number(int, 1, 2**31 - 1),
    "env_steps": schema.Number(int, 1, 2**32 - 1),
    "stochastic": _RETURN,
    "deterministic": _RETURN,
    "seed": schema.Number(int, 0, 2**32 - 1),
    "seeds": list[int],
    "command": str,
    "versions": dict[str, str],
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
}


class ZooReturn(NamedTuple):
    """A return of a policy of the zoo, of episodes that chose neither the policy nor its seed.

    Attributes:
      mean: the mean return R(τ), undiscounted, reward units.
      interval: low and high of its 95 % bootstrap interval.
      standard_deviation: of the episodes' returns.
      episodes: their number.
    """

    mean: float
    interval: tuple[float, float]
    standard_deviation: float
    episodes: int


class ZooPolicy(NamedTuple):
    """The card of a trained policy that comes with pgjax.

    Attributes:
      name: "zoo/CartPole-v1", for instance; what `Agent.load` and the commands take for a run.
      environment: the id.
      algorithm: the name of the preset's.
      parameters: how many numbers θ has.
      num_updates: updates that its training made.
      env_steps: environment steps that its training took.
      stochastic: the return with sampled actions.
      deterministic: the return with the policy's mode.
      seed: of the training.
      seeds: all seeds that were trained, of which `seed` did best in other episodes.
      command: the one that trained it.
      versions: of pgjax and the packages that a result depends on, in training.
      date: of the training, year-month-day.
    """

    name: str
    environment: str
    algorithm: str
    parameters: int
    num_updates: int
    env_steps: int
    stochastic: ZooReturn
    deterministic: ZooReturn
    seed: int
    seeds: tuple[int, ...]
    command: str
    versions: dict[str, str]
    date: str


def zoo() -> tuple[ZooPolicy, ...]:
    """The cards of the trained policies that come with pgjax, by name.

    >>> import pgjax
    >>> policy = next(p for p in pgjax.zoo() if p.environment == "CartPole-v1")
    >>> policy.name, policy.stochastic.mean
    ('zoo/CartPole-v1', 500.0)
    """
    return tuple(map(card, names()))


def names() -> tuple[str, ...]:
    """The names of all policies, "zoo/CartPole-v1" for instance."""
    return tuple(sorted(f"{PREFIX}/{file.parent.name}" for file in FOLDER.glob(f"*/{_CARD}")))


def is_named(path: str | os.PathLike) -> bool:
    """Whether a path is "zoo/…", and no file or folder of the user's."""
    parts = Path(path).parts
    return len(parts) > 1 and parts[0] == PREFIX and not os.path.lexists(path)


def absent(path: Path) -> str:
    """The message about a path that does not exist where a checkpoint or a run is needed."""
    if not is_named(path):
        return f"{path} does not exist"
    try:
        name = card(path).name
    except ValueError as error:
        return str(error)
    return (
        f"{name} is a policy alone, without the optimizer and the critic that training needs, and "
        "without metrics; it can be evaluated, drawn, exported, and trained from (--from)"
    )


def card(path: str | os.PathLike) -> ZooPolicy:
    """The card of a policy.

    Args:
      path: "zoo/…".

    Raises:
      ValueError: an unknown name, with the nearest; a file that is damaged.
    """
    fields = schema.read(_folder(path) / _CARD, _SCHEMA)
    returns = {
        kind: ZooReturn(**{**fields[kind], "interval": tuple(fields[kind]["interval"])})
        for kind in ("stochastic", "deterministic")
    }
    fields |= {"name": Path(path).as_posix(), "seeds": tuple(fields["seeds"])}
    return ZooPolicy(**{**fields, **returns})


def config(path: str | os.PathLike) -> dict[str, Any]:
    """The config that a policy was trained with, as JSON types; as for `card`."""
    return moved.current(schema.read(_folder(path) / _CONFIG))


def arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a policy and its counters, by their paths in a state; as for `card`."""
    file, counters = _folder(path) / _WEIGHTS, card(path)
    try:
        with np.load(file, allow_pickle=False) as weights:
            stored = dict(weights)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{file} cannot be read ({error})") from error
    return stored | {
        ".num_updates": np.int32(counters.num_updates),
        ".env_steps": np.uint32(counters.env_steps),
    }


def state(path: str | os.PathLike, config: Config) -> TrainState:
    """The state of a policy, without the parts that only learning needs.

    Args:
      path: "zoo/…".
      config: of the policy.

    Raises:
      ValueError: as for `card`; a config of which the arrays are no policy.
    """
    variables = dict(initial_variables(checked(config)))
    counters: list[PyTree] = [jax.ShapeDtypeStruct((), kind) for kind in (np.int32, np.uint32)]
    empty: list[PyTree] = [(), ()]  # the optimizer's state and the key
    like = TrainState(variables.pop("params"), variables, *empty, *counters)
    shapes = jax.eval_shape(to_arrays, like)
    stored = arrays(path)
    for name, array in stored.items():
        if name in shapes and array.dtype == np.float32 and shapes[name].dtype == np.float64:
            stored[name] = array.astype(np.float64)  # as the user has switched JAX
    given, expected = (
        {name: training.aval(leaf) for name, leaf in tree.items()} for tree in (stored, shapes)
    )
    problem = training.difference(given, expected)
    if problem is not None:
        raise ValueError(f"{Path(path).as_posix()} does not fit its config: {problem}")
    return from_arrays(stored, like).replace(key=jax.random.key(0))


def write(folder: Path, state: TrainState, config: Config, card: ZooPolicy) -> None:
    """Makes the folder of a policy.

    Args:
      folder: to make.
      state, config: of the policy.
      card: to be written; its name is that of the folder.

    Raises:
      OSError: the folder exists, or cannot be written.
    """
    # Any: NumPy's types take one of these names for savez's own allow_pickle.
    weights: dict[str, Any] = {
        name: np.asarray(leaf, np.float32 if jnp.issubdtype(leaf.dtype, jnp.floating) else None)
        for name, leaf in to_arrays(state).items()
        if name.startswith(_KEPT)
    }
    fields = card._asdict()
    del fields["name"]
    returns = {kind: fields[kind]._asdict() for kind in ("stochastic", "deterministic")}
    texts = {_CONFIG: schema.printable(config_json.to_dict(config)), _CARD: fields | returns}
    with disk.appearing(folder) as unfinished:
        np.savez_compressed(unfinished / _WEIGHTS, **weights)
        for name, contents in texts.items():
            text = json.dumps(contents, indent=1, allow_nan=False)
            (unfinished / name).write_text(text + "\n", encoding="utf-8")


def _folder(path: str | os.PathLike) -> Path:
    """The folder of a policy.

    Raises:
      ValueError: an unknown name; the message has the nearest.
    """
    name = Path(path).as_posix()
    if name not in names():
        raise ValueError(unknown(f"policy {name!r}", name, names(), "`pgjax zoo`"))
    return FOLDER / name.removeprefix(f"{PREFIX}/")
