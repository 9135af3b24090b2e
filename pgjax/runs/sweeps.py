"""Sweeps: many settings and seeds, one compiled program for all that differ only in floats.

A sweep's runs go block after block, and each block a few updates at a time, so that a sweep with a
folder is saved as it goes: begun again, it goes on from there.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgjax.core.components import check_int
from pgjax.core.parallel import check_mesh, divided, local, on_shares, replicated
from pgjax.core.types import Array, Metrics, PyTree, TrainResult, TrainState
from pgjax.runs import checkpoints, config_json, disk, host_loop, sweep_folders
from pgjax.study import memory_estimate
from pgjax.training import training
from pgjax.training.config import Config, check_key, checked


class Member(NamedTuple):
    """One run of a sweep.

    Attributes:
      setting: its value of each path of the grid.
      seed: its index among the seeds.
      config: the config with that setting.
      state, metrics: what `train` would have returned; see `Sweep.metrics`.
    """

    setting: dict[str, Any]
    seed: int
    config: Config
    state: TrainState
    metrics: Metrics


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What `sweep` returns. It unpacks like `train`'s result: `state, metrics = sweep(…)`.

    Attributes:
      config: the config without the grid's settings.
      grid: path -> values; one leading axis of the results each, in this order.
      num_seeds: the length of the axis after those.
      metrics: NumPy metrics, [*grid, num_seeds, num_updates]; NaN in what is reported by other
        settings only.
      compile_seconds, run_seconds: wall-clock time; the one is not in the other.
      num_programs: how many programs were compiled.
    """

    config: Config
    grid: dict[str, tuple]
    num_seeds: int
    metrics: Metrics
    compile_seconds: float
    run_seconds: float
    num_programs: int
    _states: tuple[TrainState, ...] = dataclasses.field(repr=False)

    def __iter__(self) -> Iterator[Any]:
        return iter(TrainResult(self.state, self.metrics))

    @property
    def axes(self) -> tuple[str, ...]:
        """What the leading axes of the results count: the grid's paths, then "seed"."""
        return (*self.grid, "seed")

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of those axes."""
        return (*map(len, self.grid.values()), self.num_seeds)

    @property
    def state(self) -> TrainState:
        """The final states, [*grid, num_seeds, …].

        Raises:
          ValueError: the parameters of the settings differ in shape; `at` gives one run's.
        """
        shapes = {str(jax.tree.map(jnp.shape, state)) for state in self._states}
        if len(shapes) > 1:
            raise ValueError("parameters differ in shape over the grid; take runs out with .at()")
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *self._states)
        return jax.tree.map(lambda x: x.reshape(*self.shape, *x.shape[2:]), stacked)

    def at(self, *index: int) -> Member:
        """One run, by its index along each of `axes`.

        Raises:
          IndexError: not one index for each axis, or one beyond its end.
        """
        if len(index) != len(self.shape):
            raise IndexError(f"one index for each of {', '.join(self.axes)}; got {index}")
        number = np.arange(math.prod(self.shape)).reshape(self.shape)[index]
        setting, seed = divmod(int(number), self.num_seeds)
        values = list(itertools.product(*self.grid.values()))[setting]
        named = dict(zip(self.grid, values, strict=True))
        return Member(
            setting=named,
            seed=seed,
            config=self.config.replace(**named),
            state=jax.tree.map(lambda x: x[seed], self._states[setting]),
            metrics=jax.tree.map(lambda x: x[index], self.metrics),
        )

    def final_returns(self, updates: int = 5) -> np.ndarray:
        """Mean episode return over the last updates, float[*grid, num_seeds]; NaN if none ended."""
        returns = self.metrics.episode_return[..., -updates:]
        number = np.sum(np.isfinite(returns), axis=-1)
        total = np.nansum(returns, axis=-1)
        return np.where(number > 0, total / np.maximum(number, 1), np.nan)

    def best(self, updates: int = 5) -> Member:
        """The best seed of the setting with the best mean over seeds of `final_returns`."""
        returns = np.nan_to_num(self.final_returns(updates), nan=-np.inf)
        setting = np.unravel_index(np.argmax(returns.mean(-1)), self.shape[:-1])
        return self.at(*map(int, setting), int(np.argmax(returns[setting])))


def sweep(
    key: Array,
    config: Config,
    grid: Mapping[str, Sequence[Any]],
    num_seeds: int,
    mesh: Mesh | None = None,
    stop_at_return: float = math.inf,
    memory_limit: int | None = None,
    *,
    directory: str | os.PathLike | None = None,
    checkpoint_seconds: float = 60.0,
    on_start: Callable[[int], Any] | None = None,
) -> Sweep:
    """`train` for every combination of the grid's values, with the same seeds for each.

    Run [i, …, s] is `train(jax.random.split(key, num_seeds)[s], config.replace(…))`. What differs
    in floats only is one compiled program; sizes, networks and estimators are one each.

    Args:
      key: one `jax.random.key`.
      config: what the grid does not set.
      grid: dotted path -> values, for instance {"optimizer.learning_rate": [1e-3, 1e-2]}.
      num_seeds: ≥ 1.
      mesh: from `make_mesh`; runs are divided over its devices.
      stop_at_return: a run that reaches this mean return of finished episodes stays as it is; its
        metrics repeat. The others go on without waiting for its episodes.
      memory_limit: bytes for the runs at once; None: half of what is available. More of them run
        block after block.
      directory: a folder to make, for sweep.json, parts/ and the best seed's checkpoint/; None
        writes nothing. The same call again goes on with what is there, to the same bits on as many
        devices; a sweep that is done is read.
      checkpoint_seconds: between two savings of a block, ≥ 0.
      on_start: called with the number of runs, once nothing is refused any more, before anything is
        compiled.

    Raises:
      ValueError, TypeError: before compilation, for an empty grid, or a value that cannot be, or
        that stands there twice; a folder of another sweep, or that another process writes in.
      runs.Interrupted: after Ctrl-C or SIGTERM, where there is a folder.

    >>> import jax, pgjax
    >>> config = pgjax.Config(env="Catch-bsuite", num_updates=3)
    >>> found = pgjax.sweep(jax.random.key(0), config, {"optimizer.learning_rate": [0.01, 0.1]}, 4)
    >>> found.axes, found.metrics.episode_return.shape
    (('optimizer.learning_rate', 'seed'), (2, 4, 3))
    """
    check_key(key)
    check_int("num_seeds", num_seeds, 1)
    training.check_target(stop_at_return)
    host_loop.check_seconds(checkpoint_seconds)
    plan = _Plan(key, config, _checked_grid(grid), num_seeds, float(stop_at_return), mesh)
    check_mesh(mesh, "the mesh's size", 0)
    number, say = len(plan.configs) * num_seeds, on_start or (lambda number: None)
    if directory is None:
        sizes = plan.block_sizes(memory_limit)
        say(number)
        return _swept(plan, sizes, None)
    with host_loop.noted_signals() as signals, _held(plan, Path(directory), memory_limit) as sizes:
        say(number)
        result = _swept(plan, sizes, _Keeper(Path(directory), checkpoint_seconds, signals))
        best = result.best()
        checkpoints.save(Path(directory) / checkpoints.IN_RUN, best.state, best.config)
        return result


@contextlib.contextmanager
def _held(plan: "_Plan", path: Path, memory_limit: int | None) -> Iterator[list[int]]:
    """Makes a sweep's folder, or takes it up again; its block sizes."""
    if not path.exists():
        with disk.appearing(path) as unfinished:
            facts = {**plan.facts(), "block_sizes": plan.block_sizes(memory_limit)}
            number = 1 if plan.mesh is None else plan.mesh.size
            sweep_folders.write_facts(unfinished, {**facts, "devices": number})
    facts = sweep_folders.read_facts(path)
    _check_same(path, facts, plan)
    for size in facts["block_sizes"]:
        check_mesh(plan.mesh, f"{path} was begun in blocks of runs, whose number", size)
    with disk.held(path):
        yield facts["block_sizes"]


def resume_sweep(
    directory: str | os.PathLike,
    mesh: Mesh | None = None,
    *,
    env: str | None = None,
    checkpoint_seconds: float = 60.0,
    on_start: Callable[[int], Any] | None = None,
) -> Sweep:
    """Goes on with a sweep, from its folder alone, to the same bits as without interruption.

    Args:
      directory: from `sweep`.
      env: `module:factory`, to import for an environment of the user's own.
      mesh, checkpoint_seconds, on_start: as for `sweep`.

    Raises:
      ValueError: no sweep's folder; one whose configs hold other objects of the user's own: call
        `sweep` again as it was called, which goes on.
    """
    path = Path(directory)
    facts = sweep_folders.read_facts(path)
    saved = [facts["config"], *facts["settings"]]
    if env is not None:
        _put_env(path, saved, env)
    try:
        base, *settings = map(config_json.from_dict, saved)
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}; pass env='module:factory' (--env) for an environment, or begin the "
            "sweep as before, which goes on"
        ) from error
    lengths, grid = [length for _, length in facts["grid"]], {}
    for axis, (name, length) in enumerate(facts["grid"]):
        stride = math.prod(lengths[axis + 1 :])
        grid[name] = [_at_path(settings[i * stride], name) for i in range(length)]
    data = jnp.asarray(np.array(facts["key"], np.uint32))
    key = jax.random.wrap_key_data(data, impl=facts["key_impl"])
    return sweep(
        key,
        base,
        grid,
        facts["num_seeds"],
        mesh,
        facts["stop_at_return"],
        directory=path,
        checkpoint_seconds=checkpoint_seconds,
        on_start=on_start,
    )


def _put_env(path: Path, saved: list[dict[str, Any]], name: str) -> None:
    """Puts the environment that the user names into saved configs, in place of what may be it."""
    own = [config for config in saved if config["env"] == name or isinstance(config["env"], dict)]
    for config in own or saved:
        config["env"] = checkpoints.named_env(path, config["env"], name)


def devices(directory: str | os.PathLike) -> int:
    """The number of devices on which a sweep goes on: as many as before, if they are here."""
    facts = sweep_folders.read_facts(Path(directory))
    most = min(facts["devices"], jax.device_count())
    sizes = facts["block_sizes"]
    return next(n for n in range(most, 0, -1) if all(size % n == 0 for size in sizes))


def _at_path(config: Config, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), config)


class _Plan:
    """What a sweep is to do."""

    def __init__(self, key, config, grid, num_seeds, target, mesh) -> None:
        self.key, self.config, self.grid, self.num_seeds = key, config, grid, num_seeds
        self.target, self.mesh = target, mesh
        values = itertools.product(*grid.values())
        self.settings = [config.replace(**dict(zip(grid, v, strict=True))) for v in values]
        self.configs = [checked(setting) for setting in self.settings]
        _check_distinct(grid, self.configs)
        self.programs = _programs(self.configs)

    def groups(self) -> list["_Group"]:
        """The runs of each program."""
        keys = jax.random.split(self.key, self.num_seeds)
        return [
            _Group([self.configs[member] for member in members], keys, self.mesh)
            for members in self.programs
        ]

    def block_sizes(self, memory_limit: int | None) -> list[int]:
        """How many runs of each program go side by side."""
        firsts = [self.configs[members[0]] for members in self.programs]
        most = [memory_estimate.seeds_that_fit(config, memory_limit) for config in firsts]
        return [g.block_size(number) for g, number in zip(self.groups(), most, strict=True)]

    def facts(self) -> dict[str, Any]:
        """What makes it this sweep and no other, as JSON types."""
        facts = {
            "config": config_json.to_dict(self.config),
            "grid": [[path, len(values)] for path, values in self.grid.items()],
            "num_seeds": self.num_seeds,
            "key": np.asarray(jax.random.key_data(self.key)).tolist(),
            "key_impl": str(jax.random.key_impl(self.key)),
            "stop_at_return": None if math.isinf(self.target) else self.target,
            "settings": [config_json.to_dict(setting) for setting in self.settings],
        }
        return json.loads(json.dumps(facts))


def _check_same(path: Path, facts: dict[str, Any], plan: _Plan) -> None:
    given = _comparable(plan.facts() | {"stop_at_return": plan.target})
    saved = _comparable(facts)
    for name, value in given.items():
        if saved[name] != value:
            raise ValueError(
                f"{path} is the folder of another sweep: its {name.replace('_', ' ')} differs; "
                "give another folder, or go on with that one by `pgjax resume`"
            )


def _comparable(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts with environment objects' classes without their modules."""

    def one(config: dict[str, Any]) -> dict[str, Any]:
        env = config["env"]
        custom = isinstance(env, dict) and checkpoints.without_module(env["custom"])
        return {**config, "env": {"custom": custom}} if custom else config

    return {**facts, "config": one(facts["config"]), "settings": [*map(one, facts["settings"])]}


class _Block(NamedTuple):
    """Runs that are trained side by side, n of them, after some updates.

    Attributes:
      state: their states.
      made: updates made.
      metrics: NumPy arrays by name, [n, num_updates], filled up to `made`; of runs that had ended
        with any numbers.
      seconds: float[num_updates], filled up to `made`; of running, at the end of each update.
      ended: bool[n]; whether they reached the target.
      compile_seconds: so far.
    """

    state: TrainState
    made: int
    metrics: dict[str, np.ndarray]
    seconds: np.ndarray
    ended: np.ndarray
    compile_seconds: float

    @property
    def done(self) -> bool:
        return bool(self.ended.all()) or self.made >= len(self.seconds)

    @property
    def run_seconds(self) -> float:
        return float(self.seconds[self.made - 1]) if self.made else 0.0


class _Keeper:
    """Saves blocks in a sweep's folder, and ends the sweep when a signal says so."""

    def __init__(self, path: Path, every: float, signals: host_loop.Signals) -> None:
        self.path, self.every, self.signals = path, every, signals
        self.saved = time.monotonic()

    def load(self, name: str, like: TrainState, total: int) -> _Block | None:
        """A block as it was saved; of a state like this, and so many updates in all."""
        arrays = sweep_folders.read_part(self.path, name)
        if arrays is None:
            return None
        groups = {"state": {}, "metrics": {}}
        for key, array in arrays.items():
            kind, slash, rest = key.partition("/")
            if slash:
                groups[kind][rest] = array
        try:
            state = _restored(groups["state"], like)
        except ValueError as error:
            raise ValueError(f"{self.path}, part {name}: {error}") from error
        return _Block(
            state=state,
            made=len(arrays["seconds"]),
            metrics={key: _lengthened(array, total) for key, array in groups["metrics"].items()},
            seconds=_lengthened(arrays["seconds"], total),
            ended=arrays["ended"],
            compile_seconds=float(arrays["compile_seconds"]),
        )

    def keep(self, name: str, numbers: np.ndarray, block: _Block) -> None:
        """Saves a block where it is time to; `numbers` are those of its runs."""
        caught = self.signals.caught
        if block.done or caught or time.monotonic() - self.saved >= self.every:
            state = local(block.state)
            arrays = {
                "runs": numbers,
                "num_updates": np.asarray(state.num_updates),
                "ended": block.ended,
                "seconds": block.seconds[: block.made],
                "compile_seconds": np.float64(block.compile_seconds),
            }
            leaves = checkpoints.to_arrays(state).items()
            arrays |= {f"state/{path}": np.asarray(leaf) for path, leaf in leaves}
            made = {name: x[:, : block.made] for name, x in block.metrics.items()}
            arrays |= {sweep_folders.METRICS + name: x for name, x in made.items()}
            sweep_folders.write_part(self.path, name, arrays)
            self.saved = time.monotonic()
        if caught:
            raise host_loop.Interrupted(self.path, caught)


def _restored(arrays: dict[str, np.ndarray], like: TrainState) -> TrainState:
    target = jax.eval_shape(checkpoints.to_arrays, like)
    # NumPy's files do not know dtypes that are not its own, such as bfloat16.
    arrays = {
        name: array.view(target[name].dtype)
        if array.dtype.kind == "V" and name in target
        else array
        for name, array in arrays.items()
    }
    given, expected = ({n: training.aval(x) for n, x in t.items()} for t in (arrays, target))
    problem = training.difference(given, expected)
    if problem is not None:
        raise ValueError(problem)
    return checkpoints.from_arrays(arrays, like)


def _lengthened(array: np.ndarray, total: int) -> np.ndarray:
    longer = np.zeros((*array.shape[:-1], total), array.dtype)
    longer[..., : array.shape[-1]] = array
    return longer


def _swept(plan: _Plan, sizes: list[int], keeper: _Keeper | None) -> Sweep:
    results, seconds = {}, np.zeros(2)
    for number, (members, group) in enumerate(zip(plan.programs, plan.groups(), strict=True)):
        numbers = np.add.outer(np.array(members) * plan.num_seeds, np.arange(plan.num_seeds))
        found, spent = group.run(plan.target, sizes[number], keeper, number, numbers.ravel())
        results |= dict(zip(members, found, strict=True))
        seconds += spent
    states, metrics = zip(*(results[number] for number in range(len(plan.configs))), strict=True)
    shape = (*map(len, plan.grid.values()), plan.num_seeds, plan.config.num_updates)
    metrics = jax.tree.map(lambda *rows: np.stack(rows).reshape(shape), *_alike(metrics))
    return Sweep(
        config=plan.config,
        grid=plan.grid,
        num_seeds=plan.num_seeds,
        metrics=metrics,
        compile_seconds=float(seconds[0]),
        run_seconds=float(seconds[1]),
        num_programs=len(plan.programs),
        _states=states,
    )


def _alike(metrics: Sequence[Metrics]) -> list[Metrics]:
    """Settings' metrics with every name that one of them reports: NaN where a setting does not."""
    dtypes = {name: x.dtype for found in metrics for name, x in found.extra.items()}

    def filled(found: Metrics) -> Metrics:
        missing = {
            name: np.full(found.episode_return.shape, np.nan, dtype)
            for name, dtype in dtypes.items()
        }
        return found.replace(extra=missing | found.extra)

    return [filled(found) for found in metrics]


def _checked_grid(grid: Mapping[str, Sequence[Any]]) -> dict[str, tuple]:
    if not isinstance(grid, Mapping) or not grid:
        raise ValueError(
            f"grid must map at least one of the config's paths to values, got {grid!r}"
        )
    if "num_updates" in grid:
        raise ValueError("grid must not hold num_updates: a longer run contains the shorter ones")
    for path, values in grid.items():
        if isinstance(values, str) or not np.iterable(values) or len(values) == 0:
            raise ValueError(f"grid[{path!r}] must be a list of at least one value, got {values!r}")
    return {path: tuple(values) for path, values in grid.items()}


def _check_distinct(grid: dict[str, tuple], configs: list[Config]) -> None:
    """Raises ValueError where two settings are one, which would be trained twice."""
    numbers: dict[Any, int] = {}
    cells = list(itertools.product(*(range(len(values)) for values in grid.values())))
    for number, config in enumerate(configs):
        leaves, structure = jax.tree.flatten(config)
        # A zero's sign makes no other number.
        content = tuple((x.dtype, x.shape, (np.asarray(x) + 0).tobytes()) for x in leaves)
        first = numbers.setdefault((structure, content), number)
        if first != number:
            rows = zip(grid, cells[first], cells[number], strict=True)
            path, *both = next(row for row in rows if row[1] != row[2])
            texts = (" ".join(repr(grid[path][place]).split()) for place in both)
            shown = " = ".join(dict.fromkeys(texts))
            raise ValueError(f"grid[{path!r}] has {shown} twice; num_seeds repeats a setting")


def _programs(configs: list[Config]) -> list[list[int]]:
    """Numbers of the configs that share a program: all but their leaves' values is equal."""
    groups: dict[Any, list[int]] = {}
    for number, config in enumerate(configs):
        leaves, structure = jax.tree.flatten(config)
        kind = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        groups.setdefault(kind, []).append(number)
    return list(groups.values())


class _Group:
    """The runs of one program: every config with every seed, config by config."""

    def __init__(self, configs: list[Config], keys: Array, mesh: Mesh | None) -> None:
        self.num_seeds, self.mesh = keys.shape[0], mesh
        self.number = len(configs) * self.num_seeds
        self.keys = jnp.tile(keys, len(configs))
        self.total = configs[0].num_updates
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *configs)
        # What is the same in all runs is not batched: it need not be read for each.
        self.varies = tuple(bool(np.any(leaf != leaf[:1])) for leaf in jax.tree.leaves(stacked))
        self.config = self._per_leaf(
            lambda leaf, varies: np.repeat(leaf, self.num_seeds, axis=0) if varies else leaf[0],
            stacked,
        )
        self.program: jax.stages.Compiled | None = None

    def run(
        self, target: float, size: int, keeper: _Keeper | None, number: int, numbers: np.ndarray
    ) -> tuple[list[TrainResult], np.ndarray]:
        """State and NumPy metrics of each config, [num_seeds, …]; seconds to compile and to run.

        Args:
          target: of the return.
          size: runs at once.
          keeper: saves them; None: nobody does.
          number: of this group among the sweep's.
          numbers: int[runs]; of its runs among the sweep's.
        """
        seconds, results = np.zeros(2), []
        for first in range(0, self.number, size):
            index = np.minimum(np.arange(first, first + size), self.number - 1)
            name = f"{number:04d}-{first // size:04d}"
            config, start = self._start(index, keeper, name)
            block = start
            for block in self._updates(start, config, target):
                if keeper is not None:
                    keeper.keep(name, numbers[index], block)
            seconds += block.compile_seconds, block.run_seconds
            results.append(TrainResult(local(block.state), self._metrics(block)))
        state, metrics = zip(*results, strict=True)
        state = jax.tree.map(lambda *parts: jnp.concatenate(parts), *state)
        metrics = jax.tree.map(lambda *parts: np.concatenate(parts), *metrics)
        firsts = range(0, self.number, self.num_seeds)
        rows = [_rows(TrainResult(state, metrics), first, self.num_seeds) for first in firsts]
        return rows, seconds

    def _start(self, index: np.ndarray, keeper: _Keeper | None, name: str) -> tuple[Config, _Block]:
        """The configs of some runs, and the runs before their first update, or as saved."""
        config = self._per_leaf(lambda leaf, varies: leaf[index] if varies else leaf, self.config)
        keys, config = replicated((self.keys[index], config), self.mesh)
        init = functools.partial(_init_members, varies=self.varies, mesh=self.mesh)
        if keeper is not None:
            saved = keeper.load(name, jax.eval_shape(init, keys, config), self.total)
            if saved is not None:
                return config, saved
        started = time.perf_counter()
        state = local(jax.block_until_ready(init(keys, config)))
        spent = time.perf_counter() - started
        ended, seconds = np.zeros(len(index), bool), np.zeros(self.total)
        return config, _Block(state, 0, {}, seconds, ended, spent)

    def _updates(self, block: _Block, config: Config, target: float) -> Iterator[_Block]:
        """The block as it is, and after some updates, again and again until its last."""
        first, before = block.made, block.run_seconds
        number_target = np.asarray(target, jnp.zeros(()).dtype)
        block = block._replace(state=divided(block.state, self.mesh))
        yield block
        while not block.done:
            spent = block.run_seconds - before
            number = host_loop.block_size(self.total - block.made, block.made - first, spent)
            until = training.StopRule(np.int32(number), number_target, np.bool_(False))
            block = self._advanced(block, config, until)
            yield block

    def _advanced(self, block: _Block, config: Config, until: training.StopRule) -> _Block:
        """A block after `until.number` more updates."""
        number = int(until.number)
        inputs = (config, divided(jnp.asarray(block.ended), self.mesh))
        inputs += (replicated(until, self.mesh),)
        program, compile_seconds = self._compiled(block.state, *inputs)
        started = time.perf_counter()
        state, rows = jax.block_until_ready(program(block.state, *inputs))
        spent = time.perf_counter() - started
        rows = jax.tree.map(lambda x: np.asarray(x)[:, :number], rows)
        made = slice(block.made, block.made + number)
        for name, new in config_json.columns(rows).items():
            if name not in block.metrics:
                block.metrics[name] = np.zeros((len(new), self.total), new.dtype)
            block.metrics[name][:, made] = new
        block.seconds[made] = block.run_seconds + spent * np.arange(1, number + 1) / number
        reached = until.reached(jax.tree.map(lambda x: x[:, -1], rows))
        return block._replace(
            state=state,
            made=made.stop,
            ended=block.ended | np.asarray(reached),
            compile_seconds=block.compile_seconds + compile_seconds,
        )

    def _compiled(self, *inputs: Any) -> tuple[jax.stages.Compiled, float]:
        """The group's program, made unless there is one, and the seconds that it took."""
        started = time.perf_counter()
        if self.program is None:
            lowered = _advance_members.lower(*inputs, varies=self.varies, mesh=self.mesh)
            self.program = lowered.compile()
        return self.program, time.perf_counter() - started

    def _metrics(self, block: _Block) -> Metrics:
        """[n, num_updates]; of runs that ended early, the last update's again."""
        last = np.asarray(local(block.state).num_updates)[:, None] - 1
        index = np.minimum(np.arange(self.total), last)
        # Any: these metrics are NumPy's.
        filled: dict[str, Any] = {
            name: np.take_along_axis(x, index, 1) for name, x in block.metrics.items()
        }
        names = [field.name for field in dataclasses.fields(Metrics) if field.name != "extra"]
        return Metrics(**{name: filled.pop(name) for name in names}, extra=filled)

    def _per_leaf(self, function: Any, config: Config) -> Config:
        leaves, structure = jax.tree.flatten(config)
        return jax.tree.unflatten(structure, map(function, leaves, self.varies))

    def block_size(self, most: int) -> int:
        """Runs at once: equal blocks of at most `most`, and a share for every device."""
        devices = 1 if self.mesh is None else self.mesh.size
        blocks = math.ceil(self.number / most)
        return math.ceil(math.ceil(self.number / blocks) / devices) * devices


def _rows(tree: PyTree, first: int, number: int) -> Any:
    return jax.tree.map(lambda x: x[first : first + number], tree)


def _axes(config: Config, varies: tuple[bool, ...]) -> tuple[list, Any, list[int | None]]:
    """The leaves of a config, its structure, and which of the leaves are batched."""
    leaves, structure = jax.tree.flatten(config)
    return leaves, structure, [0 if batched else None for batched in varies]


@functools.partial(jax.jit, static_argnames=("varies", "mesh"))
def _init_members(
    keys: Array, config: Config, varies: tuple[bool, ...], mesh: Mesh | None
) -> TrainState:
    leaves, structure, axes = _axes(config, varies)

    def member(key, leaves):
        return training.init(key, jax.tree.unflatten(structure, leaves))

    return on_shares(jax.vmap(member, (0, axes)), mesh, (0, axes), 0)(keys, leaves)


# `state` is donated: the next one takes its memory.
@functools.partial(jax.jit, static_argnames=("varies", "mesh"), donate_argnums=0)
def _advance_members(
    state: TrainState,
    config: Config,
    ended: Array,
    until: training.StopRule,
    varies: tuple[bool, ...],
    mesh: Mesh | None,
) -> TrainResult:
    leaves, structure, axes = _axes(config, varies)
    capacity = min(host_loop.CAPACITY, config.num_updates)

    def member(state, leaves, ended, until):
        config = jax.tree.unflatten(structure, leaves)
        return training.advance(state, config, until, capacity, None, ended)

    in_axes = (0, axes, 0, None)
    members = on_shares(jax.vmap(member, in_axes), mesh, in_axes, 0)
    return members(state, leaves, ended, until)
