"""The plan of a sweep: its settings, and the runs that share a compiled program."""

import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pgjax.core.names import shown
from pgjax.core.types import Array
from pgjax.environments.wrappers import saved as saved_envs
from pgjax.runs import checkpoints, config_json, sources
from pgjax.runs.sweep_group import Group
from pgjax.study import memory_estimate
from pgjax.training import transfer
from pgjax.training.config import Config, check_on_device, checked


class Plan:
    """A sweep before it is run: every combination of the grid's values with every seed.

    Attributes:
      key, config, grid, num_seeds, stop_at_return, mesh, source: as for `sweep`; the source is
        read.
      settings: the config with each combination of values.
      configs: the same with arrays as leaves.
      programs: for each program the indices of its configs.
    """

    def __init__(
        self,
        key: Array,
        config: Config,
        grid: dict[str, tuple],
        num_seeds: int,
        stop_at_return: float,
        mesh: Mesh | None,
        start_from: str | os.PathLike | None = None,
        parts: Sequence[str] = transfer.DEFAULT,
    ) -> None:
        self.key, self.num_seeds = key, num_seeds
        self.config, self.grid = config, grid
        self.stop_at_return, self.mesh = stop_at_return, mesh
        combinations = itertools.product(*grid.values())
        self.settings = [config.replace(**dict(zip(grid, c, strict=True))) for c in combinations]
        self.configs = [checked(setting) for setting in self.settings]
        _check_distinct(grid, self.configs)
        check_on_device(self.configs[0], "no sweep trains it; call run, or `pgjax train`, for each")
        self.programs = _programs(self.configs)
        firsts = [self.configs[indices[0]] for indices in self.programs]
        self.source = sources.read_for(start_from, parts, firsts)

    @property
    def num_runs(self) -> int:
        """Settings times seeds."""
        return len(self.configs) * self.num_seeds

    def groups(self) -> list[Group]:
        """The runs of each program."""
        keys = jax.random.split(self.key, self.num_seeds)
        return [
            Group([self.configs[index] for index in indices], keys, self.mesh, self.source)
            for indices in self.programs
        ]

    def block_sizes(self, memory_limit: int | None) -> list[int]:
        """The number of runs of each program that are trained side by side."""
        firsts = [self.configs[indices[0]] for indices in self.programs]
        fitting = [memory_estimate.seeds_that_fit(config, memory_limit) for config in firsts]
        return [g.block_size(most) for g, most in zip(self.groups(), fitting, strict=True)]

    def facts(self) -> dict[str, Any]:
        """All that tells this sweep from others, as JSON types."""
        facts = {
            "config": config_json.to_dict(self.config),
            "grid": [[path, len(values)] for path, values in self.grid.items()],
            "num_seeds": self.num_seeds,
            "key": np.asarray(jax.random.key_data(self.key)).tolist(),
            "key_impl": str(jax.random.key_impl(self.key)),
            "stop_at_return": None if math.isinf(self.stop_at_return) else self.stop_at_return,
            "settings": [config_json.to_dict(setting) for setting in self.settings],
        }
        if self.source is not None:
            facts["started_from"] = self.source.facts()
        return json.loads(json.dumps(facts))


def checked_grid(grid: Mapping[str, Sequence[Any]]) -> dict[str, tuple]:
    """The grid with tuples of values; ValueError unless each path has some."""
    if not isinstance(grid, Mapping) or not grid:
        raise ValueError(
            f"grid must map at least one of the config's paths to values, got {shown(grid)}"
        )
    if "num_updates" in grid:
        raise ValueError("grid must not hold num_updates: a longer run contains the shorter ones")
    for path, values in grid.items():
        if isinstance(values, str) or not np.iterable(values) or len(values) == 0:
            raise ValueError(
                f"grid[{path!r}] must be a list of at least one value, got {shown(values)}"
            )
    return {path: tuple(values) for path, values in grid.items()}


def _check_distinct(grid: dict[str, tuple], configs: list[Config]) -> None:
    """Raises ValueError where two settings are equal, which would be trained twice."""
    first_cells: dict[Any, int] = {}
    indices = list(itertools.product(*(range(len(values)) for values in grid.values())))
    for cell, config in enumerate(configs):
        leaves, structure = jax.tree.flatten(config)
        # Adding 0 makes -0.0 and 0.0 the same bytes.
        content = tuple((x.dtype, x.shape, (np.asarray(x) + 0).tobytes()) for x in leaves)
        first = first_cells.setdefault((structure, content), cell)
        if first != cell:
            rows = zip(grid, indices[first], indices[cell], strict=True)
            path, *repeated = next(row for row in rows if row[1] != row[2])
            texts = (" ".join(repr(grid[path][index]).split()) for index in repeated)
            repeated = " = ".join(dict.fromkeys(texts))
            raise ValueError(f"grid[{path!r}] has {repeated} twice; num_seeds repeats a setting")


def _programs(configs: list[Config]) -> list[list[int]]:
    """Indices of the configs that share a program: all is equal but their leaves' values."""
    programs: dict[Any, list[int]] = {}
    for index, config in enumerate(configs):
        programs.setdefault(program_key(config), []).append(index)
    return list(programs.values())


def program_key(config: Config) -> Any:
    """Equal for two checked configs that share a program; hashable."""
    leaves, structure = jax.tree.flatten(config)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)


def check_same(path: Path, facts: dict[str, Any], plan: Plan) -> None:
    """Raises ValueError where the facts of a sweep's folder are not those of the plan."""
    given = _comparable(plan.facts() | {"stop_at_return": plan.stop_at_return})
    saved = _comparable(facts)
    for name in dict.fromkeys((*given, "started_from")):
        if saved.get(name) != given.get(name):
            raise ValueError(
                f"{path} is the folder of another sweep: its {name.replace('_', ' ')} differs; "
                "give another folder, or go on with that one by `pgjax resume`"
            )


def _comparable(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts with environment objects' classes without their modules."""

    def without_module(config: dict[str, Any]) -> dict[str, Any]:
        return {**config, "env": saved_envs.with_core(config["env"], core)}

    def core(env: Any) -> Any:
        custom = isinstance(env, dict) and checkpoints.without_module(env["custom"])
        return {"custom": custom} if custom else env

    settings = [without_module(setting) for setting in facts["settings"]]
    return {**facts, "config": without_module(facts["config"]), "settings": settings}
