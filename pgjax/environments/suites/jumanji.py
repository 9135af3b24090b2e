"""Jumanji: puzzles, packing, routing and teams, most of them with a mask of the legal actions.

Jumanji gives discount 0 at its time limits, too (Connector and LevelBasedForaging excepted), as if
they were failures. Its limit is set far away here, and pgjax's truncates. Deadlines that are rules
of a problem stay ends of it: FlatPack's number of blocks, and MultiCVRP's 2 × customers + 1 steps,
which it punishes.
"""

import contextlib
import copy
import functools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from pgjax.core.components import check_int
from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.environments.suites.adapted import Adapted
from pgjax.environments.suites.suite import Suite, downloading, imported

_NEVER = 2**30  # steps
_MASK = "action_mask"
_COUNTS = ("step_count", "step")
_SIDES = {
    "Game2048": ("board_size",),
    "Snake": ("num_rows", "num_cols"),
    "Tetris": ("num_rows", "num_cols"),
}
_DEFAULT_LIMIT = 4000  # steps
# The most steps that an episode can have by the rules, where Jumanji has no time limit.
_LONGEST: dict[str, Callable[[Any], int]] = {
    "BinPack": lambda env: env.generator.max_num_items,
    "CVRP": lambda env: 2 * env.num_nodes,
    "FlatPack": lambda env: env.num_blocks,
    "GraphColoring": lambda env: env.num_nodes,
    "JobShop": lambda env: env.num_jobs * env.max_num_ops * (env.max_op_duration + 1),
    "Knapsack": lambda env: env.num_items,
    "Minesweeper": lambda env: env.num_rows * env.num_cols - env.num_mines,
    "MultiCVRP": lambda env: 2 * env._num_customers + 1,
    "Sudoku": lambda env: math.prod(env.observation_spec.board.shape),
    "TSP": lambda env: env.num_cities,
}


class Jumanji(Suite):
    """`jumanji/Snake-v1`, with the options `limit`, and `size` of a board's side.

    An observation is a dict of the names that Jumanji gives. A count of steps is a number and has
    no upper bound. Several integers that Jumanji masks one by one are a MultiDiscrete action; where
    the mask is of their combinations (Tetris, BinPack, FlatPack, Minesweeper, Sudoku) the action is
    one Discrete, the combination's index in the mask's order. A mask that excludes all actions, as
    FlatPack's when nothing fits any more, allows all: Jumanji knows what then follows. A team is
    one policy that acts for all; its reward is the sum.

    `Sokoban-v0` downloads its levels when it is made.

    Source: Bonnet et al. (2024), Jumanji: a diverse suite of scalable reinforcement learning
      environments in JAX.
    """

    name, extra = "jumanji", "jumanji"

    def names(self) -> Sequence[str]:
        """The environments that Jumanji has registered."""
        return sorted(imported("jumanji", self.extra).registered_environments())

    def make(self, name: str, limit: int | None = None, size: int | None = None) -> Adapted:
        """The environment of a name, as `from_jumanji` makes it.

        Args:
          name: as for `jumanji.make`.
          limit: steps until an episode is truncated; None: Jumanji's limit, or where it has none,
            the most steps that the rules allow (Game2048, whose rules allow any number: 4000).
          size: of a side of the board of Game2048, Snake or Tetris; None: Jumanji's.
        """
        make = functools.partial(_made, imported("jumanji", self.extra).make)
        sides = {} if size is None else _sides(name, size)
        env = make(name, **sides)
        if limit is not None and hasattr(env, "time_limit"):
            env = make(name, time_limit=limit, **sides)
        return _adapted(name, env, limit)


def from_jumanji(env: str | Any, limit: int | None = None) -> Adapted:
    """A Jumanji environment, as the id `jumanji/NAME`; needs the extra pgjax-rl[jumanji].

    Args:
      env: as for `jumanji.make`, "Snake-v1" for instance; or a Jumanji environment, which may have
        a generator, a reward and sizes of its own.
      limit: steps until an episode is truncated; None: Jumanji's limit, or where it has none, the
        most steps that the rules allow, 4000 where they allow any number.

    Raises:
      ValueError: an unknown name (the message names the nearest), a limit below 1.
      ImportError: Jumanji is not installed.

    Source: Bonnet et al. (2024), Jumanji.
    """
    if isinstance(env, str):
        return Jumanji().environment(env, limit=limit)
    if limit is not None:
        check_int("limit", limit, 1)
    return _adapted(type(env).__name__, env, limit)


class _Actions(NamedTuple):
    """An action space, the shape of a mask's rows, and what Jumanji gets for an action."""

    space: Any
    mask_rows: tuple[int, int]
    decode: Callable[[Array], Array]


def _adapted(name: str, env: Any, limit: int | None) -> Adapted:
    gym_space = imported("jumanji.specs", Jumanji.extra).jumanji_specs_to_gym_spaces
    observed = gym_space(env.observation_spec).spaces
    actions = _actions(gym_space(env.action_spec), observed.get(_MASK))
    limit = _limit(env) if limit is None else limit
    env = _without_limit(env, limit)

    def observe(timestep: Any) -> dict:
        obs = _entries(timestep.observation, observed)
        return obs | {_MASK: _mask(obs[_MASK], actions.mask_rows)} if _MASK in obs else obs

    def reset(key: Array) -> tuple[PyTree, PyTree]:
        state, timestep = env.reset(key)
        return observe(timestep), state

    def step(key: Array, state: PyTree, action: Array) -> tuple:
        with _integers_from_floats():
            after, timestep = env.step(state, actions.decode(action))
        return observe(timestep), after, jnp.sum(timestep.reward), timestep.last()

    space = spaces.Dict({entry: _space(entry, child, actions) for entry, child in observed.items()})
    return Adapted(f"jumanji/{name}", reset, step, space, actions.space, limit)


@contextlib.contextmanager
def _integers_from_floats() -> Iterator[None]:
    """Silences JAX's warning of floats that become integers, as BinPack's sizes of 1.1.2 do."""
    with warnings.catch_warnings():
        kind = "scatter inputs have incompatible types: cannot safely cast value from dtype=float"
        warnings.filterwarnings("ignore", kind, FutureWarning)
        yield


def _made(make: Callable[..., Any], name: str, **options: Any) -> Any:
    if not name.startswith("Sokoban"):
        return make(name, **options)
    with downloading("the levels, InstaDeepAI/boxoban-levels", "huggingface.co", Exception):
        return make(name, **options)


def _sides(name: str, size: int) -> dict[str, int]:
    kind = name.rpartition("-v")[0]
    if kind not in _SIDES:
        raise ValueError(f"jumanji/{name} has no option size; {', '.join(_SIDES)} have")
    return dict.fromkeys(_SIDES[kind], size)


def _limit(env: Any) -> int:
    own = getattr(env, "time_limit", None)
    longest = _LONGEST.get(type(env).__name__, lambda env: _DEFAULT_LIMIT)
    return longest(env) if own is None else own


def _without_limit(env: Any, limit: int) -> Any:
    """A copy whose last steps are no time limit's."""
    env = copy.copy(env)
    if hasattr(env, "time_limit"):
        env.time_limit = _NEVER
    if type(env).__name__ == "SearchAndRescue":
        # Its rewards shrink to 0 towards the limit.
        reward_fn = env._reward_fn
        env._reward_fn = lambda targets_found, step, _: reward_fn(targets_found, step, limit)
    return env


def _actions(space: Any, mask_space: Any) -> _Actions:
    """The action space that fits the mask."""
    if mask_space is None:
        return _Actions(space, (0, 0), lambda action: action)
    shape = mask_space.shape
    if shape == tuple(np.ravel(getattr(space, "nvec", ())).tolist()):
        number = math.prod(shape)

        def combination(index: Array) -> Array:
            return jnp.stack(jnp.unravel_index(index, shape))

        return _Actions(spaces.Discrete(number), (1, number), combination)
    if space.shape:
        space = spaces.MultiDiscrete(np.full(space.shape, shape[-1]), space.dtype)
    return _Actions(space, (math.prod(shape[:-1]), shape[-1]), lambda action: action)


def _mask(mask: Array, rows: tuple[int, int]) -> Array:
    """bool[…] -> bool[n], one part of the action after another, none of which is without choice."""
    allowed = mask.reshape(rows)
    return jnp.ravel(allowed | ~jnp.any(allowed, axis=1, keepdims=True))


def _entries(obs: Any, space: Mapping) -> dict:
    """A named tuple or dataclass, nested at will, as dicts."""
    return {
        name: _entries(getattr(obs, name), child.spaces)
        if spaces.children(child)
        else getattr(obs, name)
        for name, child in space.items()
    }


def _space(name: str, space: Any, actions: _Actions) -> Any:
    if name == _MASK:
        return spaces.Box(0, 1, (math.prod(actions.mask_rows),), np.dtype(bool))
    return spaces.Box(0, np.inf, (), np.dtype(np.int32)) if name in _COUNTS else space
