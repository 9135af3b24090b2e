"""Running an environment with random actions, compiled or not, to see what it does."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.keys import is_key
from pgjax.core.types import Array, PyTree
from pgjax.environments import env_params, interface
from pgjax.environments.interface import GymnaxEnvironment, spaces
from pgjax.policies import heads
from pgjax.policies.heads import Head

STEP = ("obs", "state", "reward", "terminated", "truncated", "info")
_NUM_STREAMS = 4  # run side by side, each from a key of its own
NUM_COMPARED = 3  # steps that are also taken without vmap and without jit
NUM_EPISODES = 8  # that a stream is long enough for when the time limit is shortened


class Run(NamedTuple):
    """K streams of N steps, in NumPy; leaves [K, N, …], `first` and `start_clocks` [K, …].

    `clocks` are the entries of the state that are called time, by path; `inner` is what `step_env`
    and `is_truncated` say of the same steps, where `step` does not just call them.
    """

    first: PyTree
    start_clocks: dict[str, Array]
    obs: PyTree
    final: PyTree
    reward: Array
    terminated: Array
    truncated: Array
    clocks: dict[str, Array]
    inner: dict[str, PyTree]


class _Episode(NamedTuple):
    """One that came to its end: which of its stream's it was, from 0, and how it went."""

    number: int
    length: int
    terminated: bool
    truncated: bool


class Subject:
    """The environment under test, and what several checks need to know of it."""

    def __init__(self, env: Any, params: PyTree, num_steps: int, seed: int) -> None:
        self.env, self.given, self.num_steps = env, params, num_steps
        self.key = jax.random.key(seed)

    @property
    def name(self) -> str:
        return str(getattr(self.env, "name", type(self.env).__name__))

    @functools.cached_property
    def params(self) -> PyTree:
        return self.env.default_params if self.given is None else self.given

    @functools.cached_property
    def arrays(self) -> PyTree:
        return typed(self.params)

    @property
    def limit(self) -> Any:
        return env_params.given_limit(self.params)

    @property
    def own_step(self) -> bool:
        """Whether `step` is more than gymnax's own, which calls `step_env`."""
        own = interface.overrides(self.env, "step")
        return own or not isinstance(self.env, GymnaxEnvironment)

    @property
    def has_step_env(self) -> bool:
        own = interface.overrides(self.env, "step_env")
        return own and isinstance(self.env, GymnaxEnvironment)

    @functools.cached_property
    def start(self) -> tuple[PyTree, PyTree]:
        """Shapes and dtypes of an observation and a state, as reset gives them."""
        return jax.eval_shape(self.env.reset, self.key, self.arrays)

    @functools.cached_property
    def action(self) -> Any:
        """Shape and dtype of an action."""
        return jax.eval_shape(self.head.random_action, self.key)

    @functools.cached_property
    def head(self) -> Head:
        # As numbers, also while something else is traced.
        with jax.ensure_compile_time_eval():
            return heads.of(interface.bind(self.env, self.params))

    def observation_space(self, params: PyTree) -> Any:
        return spaces.read("observation_space", self.env.observation_space(params))

    def traced(self, name: str) -> tuple:
        """What `step` or `step_env` gives, as shapes and dtypes."""
        function = getattr(self.env, name)
        return jax.eval_shape(function, self.key, self.start[1], self.action, self.arrays)

    @functools.cached_property
    def plain(self) -> list[dict[str, PyTree]]:
        """The first steps of the first stream, without jit and vmap."""
        return walk(self, [unwrapped(self.env, name) for name in ("reset", "step")])

    @functools.cached_property
    def runs(self) -> list[tuple[PyTree, Run]]:
        """Runs with the params as they are, and with a time limit that allows several episodes."""
        short = _shortened(self.params, max(2, self.num_steps // NUM_EPISODES))
        both = [self.params] if short is None else [self.params, short]
        return [(params, self.run(params)) for params in both]

    def run(self, params: PyTree) -> Run:
        arrays = typed(params)
        return jax.device_get(self.streams(jax.random.split(self.key, _NUM_STREAMS), arrays))

    @functools.cached_property
    def streams(self) -> Callable[[Array, PyTree], Run]:
        return jax.jit(jax.vmap(functools.partial(_stream, self), in_axes=(0, None)))


def _stream(subject: Subject, key: Array, params: PyTree) -> Run:
    """N steps with random actions; the steps' keys and actions are those of `_draws`."""
    env, (keys, actions) = subject.env, _draws(subject, key)
    inner = subject.own_step and subject.has_step_env

    def step(state, inputs):
        key, action = inputs
        obs, after, reward, terminated, truncated, info = env.step(key, state, action, params)
        after = typed(after)
        outputs = (obs, info["final_observation"], reward, terminated, truncated, _clocks(after))
        return after, (*outputs, _inner(env, key, state, action, params) if inner else {})

    obs, state = typed(env.reset(keys[0], params))
    return Run(obs, _clocks(state), *jax.lax.scan(step, state, (keys[1:], actions))[1])


def _draws(subject: Subject, key: Array) -> tuple[Array, PyTree]:
    """The keys of a reset and N steps, and N actions."""
    keys = jax.random.split(key, subject.num_steps + 1)
    sample = subject.head.random_action
    return keys, jax.vmap(lambda key: sample(jax.random.fold_in(key, 1)))(keys[1:])


def _inner(env: Any, key: Array, state: PyTree, action: Array, params: PyTree) -> dict[str, PyTree]:
    """The same step by gymnax's recipe: half the key for `step_env`, the other for the reset."""
    obs, state, reward, terminated, _ = env.step_env(
        jax.random.split(key)[0], state, action, params
    )
    truncated = env.is_truncated(state, params)
    return {"final": obs, "reward": reward, "terminated": terminated, "truncated": truncated}


def vmapped(subject: Subject) -> list[dict[str, PyTree]]:
    """The same steps as `plain`, of the streams that were compiled side by side."""
    run = jax.tree.map(lambda x: x[0], subject.runs[0][1])
    values = {"obs": run.obs, "reward": run.reward}
    values |= {"terminated": run.terminated, "truncated": run.truncated}
    steps = [jax.tree.map(lambda x, t=t: x[t], values) for t in range(NUM_COMPARED)]
    named = [{f"step: {name}": value for name, value in step.items()} for step in steps]
    return [{"reset: obs": run.first}, *named]


def typed(tree: PyTree) -> PyTree:
    """Its leaves as arrays, none weakly typed, which a scan would not carry."""

    def one(leaf):
        return leaf if is_key(leaf) else jax.lax.convert_element_type(leaf, jnp.result_type(leaf))

    return jax.tree.map(one, tree)


def _shortened(params: PyTree, limit: int) -> PyTree | None:
    """The params with so short a time limit, or None where theirs is no longer, or not there."""
    usual = env_params.limit_of(params)
    return None if usual is not None and usual <= limit else env_params.with_limit(params, limit)


def _clocks(state: PyTree) -> dict[str, Array]:
    return {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if path and getattr(path[-1], "name", getattr(path[-1], "key", None)) == "time"
    }


def ended(run: Run) -> Array:
    """bool[K, N]."""
    return run.terminated | run.truncated


def ages(run: Run) -> np.ndarray:
    """The step of its episode that each step is, from 1: int[K, N]."""
    steps, age = np.zeros(run.reward.shape, int), np.zeros(len(run.reward), int)
    for t, over in enumerate(ended(run).T):
        age = age + 1
        steps[:, t] = age
        age = np.where(over, 0, age)
    return steps


def episodes(run: Run) -> list[_Episode]:
    """Those that ended, of all streams."""
    over = ended(run)
    numbers = np.cumsum(over, axis=1) - 1
    fields = (numbers, ages(run), run.terminated, run.truncated)
    return [_Episode(*row) for row in zip(*(x[over].tolist() for x in fields), strict=True)]


def unwrapped(env: Any, name: str) -> Callable:
    """A method as a Python function, without the jit that may be around it."""
    replaced = getattr(env, "__dict__", {}).get(name)
    method = getattr(type(env), name, None) if replaced is None else replaced
    # Not jitted; the user's own decorator has a __wrapped__, too.
    if method is None or not hasattr(method, "lower"):
        return getattr(env, name)
    inner = method.__wrapped__
    return functools.partial(inner, env) if replaced is None else inner


def walk(subject: Subject, functions: list[Callable]) -> list[dict[str, PyTree]]:
    """A reset and the first steps of the first stream, by the given functions."""
    reset, step = functions
    keys, actions = _draws(subject, jax.random.split(subject.key, _NUM_STREAMS)[0])
    obs, state = reset(keys[0], subject.arrays)
    rows = [{"reset: obs": obs, "reset: state": state}]
    for number, key in enumerate(keys[1 : NUM_COMPARED + 1]):
        action = jax.tree.map(lambda x, number=number: x[number], actions)
        state = typed(state)
        values = step(key, state, action, subject.arrays)
        rows.append({f"step: {name}": x for name, x in zip(STEP[:-1], values, strict=False)})
        state = values[1]
    return rows


def attributes(node: Any, path: str, depth: int = 4) -> dict[str, Any]:
    """All that an object holds, by path: into environments, lists and dicts, not into the rest."""
    if isinstance(node, dict):
        parts = {f"{path}[{name!r}]": value for name, value in node.items()}
    elif isinstance(node, (list, tuple)):
        parts = {f"{path}[{i}]": value for i, value in enumerate(node)}
    elif hasattr(node, "step") and hasattr(node, "__dict__"):
        parts = {f"{path}.{name}": value for name, value in vars(node).items()}
    else:
        return {path: np.copy(node) if isinstance(node, np.ndarray) else node}
    size = {f"len({path})": len(parts)} if isinstance(node, (list, dict)) else {}
    nested = (attributes(value, name, depth - 1) for name, value in parts.items() if depth)
    return functools.reduce(dict.__or__, nested, size)
