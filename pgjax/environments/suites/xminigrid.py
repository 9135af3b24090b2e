"""XLand-MiniGrid: MiniGrid's rooms, and worlds with rules and goals of their own, in JAX.

Its discount is 0 where a goal, or Memory's wrong choice, ends the episode, and 1 at the time limit.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.environments.suites.adapted import Adapted
from pgjax.environments.suites.suite import Suite, downloading, imported

# Benchmarks of rules and goals.
Benchmark = Literal["trivial-21k", "small-1m", "medium-1m", "medium-3m", "high-1m", "high-3m"]


class XMiniGrid(Suite):
    """`xminigrid/MiniGrid-Empty-5x5`: the options are those of `from_xminigrid`.

    An observation is what the agent sees in front of it, uint8[view_size, view_size, 2]: the kind
    of each tile, and its colour. The agent stands in the middle of the last row. With `direction`
    or `rules` it is the entry "img" of a dict.

    A goal pays 1 − 0.9 t / limit, so that a limit is part of the task. XLand's worlds have goals
    and rules only with a `benchmark`; without one nothing is paid, and only the limit ends them.

    Source: Nikulin et al. (2024), XLand-MiniGrid: scalable meta-reinforcement learning environments
      in JAX.
    """

    name, extra = "xminigrid", "xminigrid"

    def names(self) -> Sequence[str]:
        """The environments that XLand-MiniGrid has registered."""
        return sorted(imported("xminigrid", self.extra).registered_environments())

    def make(
        self,
        name: str,
        limit: int | None = None,
        view_size: int | None = None,
        direction: bool = False,
        rules: bool = False,
        benchmark: Benchmark | None = None,
    ) -> Adapted:
        """The environment of a name, as `from_xminigrid` makes it."""
        given = {"max_steps": limit, "view_size": _odd(view_size)}
        given = {option: value for option, value in given.items() if value is not None}
        env, params = imported("xminigrid", self.extra).make(name, **given)
        params_of = _params_of(name, params, benchmark)
        params = jax.eval_shape(params_of, jax.random.key(0))
        env = _with_entries(env, name, params, direction, rules)

        def reset(key: Array) -> tuple[PyTree, PyTree]:
            ruleset_key, world_key = jax.random.split(key)
            timestep = env.reset(params_of(ruleset_key), world_key)
            return timestep.observation, timestep

        def step(key: Array, timestep: PyTree, action: Array) -> tuple:
            # Rules and goals are in the state.
            after = env.step(params, timestep, action)
            return after.observation, after, after.reward, after.discount == 0.0

        actions = spaces.Discrete(env.num_actions(params))
        observed = _space(env.observation_shape(params))
        env_id = f"{self.name}/{name}"
        return Adapted(env_id, reset, step, observed, actions, params.max_steps)


def from_xminigrid(
    name: str,
    limit: int | None = None,
    view_size: int | None = None,
    direction: bool = False,
    rules: bool = False,
    benchmark: Benchmark | None = None,
) -> Adapted:
    """An XLand-MiniGrid environment, as the id `xminigrid/NAME`; extra pgjax-rl[xminigrid].

    Args:
      name: as for `xminigrid.make`, "MiniGrid-Empty-5x5" for instance.
      limit: steps until an episode is truncated; None: the environment's own.
      view_size: rows and columns that the agent sees, odd, at least 3; None: the environment's own.
      direction: adds the entry "direction", one-hot float[4], to the observation.
      rules: adds the entries "goal_encoding" and "rule_encoding".
      benchmark: an XLand environment draws its rules and goal from it at every reset;
        XLand-MiniGrid downloads it once.

    Raises:
      ValueError: an unknown name, option or benchmark (the message names the nearest), a limit
        below 1, a view that is not odd, a benchmark that cannot be loaded or that the environment
        does not take.
      ImportError: XLand-MiniGrid is not installed.

    Source: Nikulin et al. (2024), XLand-MiniGrid.
    """
    options = {"limit": limit, "view_size": view_size, "direction": direction, "rules": rules}
    return XMiniGrid().environment(name, **options, benchmark=benchmark)


def _odd(view_size: int | None) -> int | None:
    if view_size is not None and (view_size < 3 or view_size % 2 == 0):
        raise ValueError(f"view_size must be odd and at least 3, got {view_size}")
    return view_size


def _params_of(name: str, params: Any, benchmark: str | None) -> Callable[[Array], Any]:
    """key -> params, with a ruleset that the key draws."""
    if benchmark is None:
        return lambda key: params
    if not hasattr(params, "ruleset"):
        raise ValueError(f"xminigrid/{name} has rules of its own and takes no benchmark")
    folder = imported("xminigrid.benchmarks", XMiniGrid.extra).DATA_PATH
    # A file that an interrupted download has left is an error of another kind.
    with downloading(f"the benchmark {benchmark}, kept in {folder}", "huggingface.co", Exception):
        loaded = imported("xminigrid", XMiniGrid.extra).load_benchmark(benchmark)
    return lambda key: params.replace(ruleset=loaded.sample_ruleset(key))


def _with_entries(env: Any, name: str, params: Any, direction: bool, rules: bool) -> Any:
    wrappers = imported("xminigrid.wrappers", XMiniGrid.extra)
    if rules and not hasattr(params, "ruleset"):
        raise ValueError(f"xminigrid/{name} has rules of its own and shows none: rules=False")
    env = wrappers.DirectionObservationWrapper(env) if direction else env
    return wrappers.RulesAndGoalsObservationWrapper(env) if rules else env


def _space(shape: Any) -> Any:
    """XLand-MiniGrid gives shapes only; the direction's is a number."""
    if isinstance(shape, Mapping):
        return spaces.Dict({name: _space(child) for name, child in shape.items()})
    if isinstance(shape, int):
        return spaces.Box(0, 1, (shape,))
    return spaces.Box(0, 255, shape, np.dtype(np.uint8))
