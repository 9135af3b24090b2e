"""Whether an environment keeps to the gymnax ≥ 1.0 interface, found out by running it.

`_STAGES` is the list of what can be wrong. A stage is only reached once all before it found
nothing, so that one fault is not told as ten.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import environments
from pgjax.components import check_int
from pgjax.environments import GymnaxEnvironment, spaces
from pgjax.types import Array, PyTree

_INTERFACE = {
    "default_params": "a pytree of numbers",
    "reset": "(key, params) -> (obs, state)",
    "step": "(key, state, action, params) -> (obs, state, reward, terminated, truncated, info)",
    "action_space": "params -> Discrete or Box",
    "observation_space": "params -> Box, Discrete, Dict or Tuple",
}
_RESET = ("obs", "state")
_STEP_ENV = ("obs", "state", "reward", "terminated", "info")
_STEP = ("obs", "state", "reward", "terminated", "truncated", "info")

_NUM_STREAMS = 4  # run side by side, each from a key of its own
_NUM_COMPARED = 3  # steps that are also taken without vmap and without jit
_EPISODES = 8  # that a stream is long enough for when the time limit is shortened
_MANY = 20  # later episodes, all shorter than all first ones: by chance once in 10 000
_TOLERANCE = 1e-3  # relative and absolute; compiled programs round differently

# Of gymnax 1.0.1, these leave the bounds they declare, which no policy here relies on.
_NARROW_SPACES = ("MemoryChain-bsuite", "MetaMaze-misc", "GaussianBandit-misc")

_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


def check_environment(
    env: str | Any, env_params: PyTree = None, num_steps: int = 200, seed: int = 0
) -> None:
    """Runs an environment with random actions and raises if it breaks the interface.

    Checked are the shapes and dtypes of all that reset and step give, against each other and
    against the spaces; that both can be compiled and vmapped and then give the same; that the same
    key gives the same; rewards and observations; time limits, and what an automatic reset leaves.

    Args:
      env: a gymnax id, or an environment object with the gymnax ≥ 1.0 interface.
      env_params: its parameters; None: its defaults.
      num_steps: steps of each of four streams of episodes, ≥ 16.
      seed: of the keys and actions.

    Raises:
      ValueError: what is wrong, one line for each fault: the part, what was found, what is
        expected; or an unknown id, or an environment that cannot be made.

    >>> import pgjax
    >>> check_environment("CartPole-v1")
    """
    check_int("num_steps", num_steps, 16)
    check_int("seed", seed, 0)
    if isinstance(env, str):
        env = environments.make(env)
    subject = _Subject(env, env_params, num_steps, seed)
    for stage in _STAGES:
        faults = _found(subject, stage)
        if faults:
            lines = [f"{part}: {found}; expected {expected}" for part, found, expected in faults]
            raise ValueError("\n- ".join([f"{subject.name} has {len(lines)} fault(s)", *lines]))


def _found(subject: "_Subject", stage: tuple) -> list["_Fault"]:
    """What the stage's checks find; of what one check finds of one part, the first."""
    faults = {}
    for check in stage:
        for fault in check(subject):
            faults.setdefault((check, fault.part), fault)
    return list(faults.values())


class _Fault(NamedTuple):
    """The part that is at fault, what was found of it, and what was expected."""

    part: str
    found: str
    expected: str


class _Run(NamedTuple):
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


class _Subject:
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
        return _typed(self.params)

    @property
    def limit(self) -> int | float | None:
        return getattr(self.params, "max_steps_in_episode", None)

    @property
    def own_step(self) -> bool:
        """Whether `step` is more than gymnax's own, which calls `step_env`."""
        return _overrides(self.env, "step") or not isinstance(self.env, GymnaxEnvironment)

    @property
    def has_step_env(self) -> bool:
        return isinstance(self.env, GymnaxEnvironment) and _overrides(self.env, "step_env")

    @functools.cached_property
    def start(self) -> tuple[PyTree, PyTree]:
        """Shapes and dtypes of an observation and a state, as reset gives them."""
        return jax.eval_shape(self.env.reset, self.key, self.arrays)

    @functools.cached_property
    def action(self) -> Any:
        """Shape and dtype of an action."""
        return jax.eval_shape(lambda key: _random_action(key, self.action_space), self.key)

    @property
    def action_space(self) -> Any:
        return self.env.action_space(self.params)

    def traced(self, name: str) -> tuple:
        """What `step` or `step_env` gives, as shapes and dtypes."""
        function = getattr(self.env, name)
        return jax.eval_shape(function, self.key, self.start[1], self.action, self.arrays)

    @functools.cached_property
    def plain(self) -> list[dict[str, PyTree]]:
        """The first steps of the first stream, without jit and vmap."""
        return _walk(self, [_unwrapped(self.env, name) for name in ("reset", "step")])

    @functools.cached_property
    def runs(self) -> list[tuple[PyTree, _Run]]:
        """With the params as they are, and with a time limit short enough for several episodes."""
        short = _shortened(self.params, max(2, self.num_steps // _EPISODES))
        both = [self.params] if short is None else [self.params, short]
        return [(params, self.run(params)) for params in both]

    def run(self, params: PyTree) -> _Run:
        arrays = _typed(params)
        return jax.device_get(self.streams(jax.random.split(self.key, _NUM_STREAMS), arrays))

    @functools.cached_property
    def streams(self) -> Callable[[Array, PyTree], _Run]:
        return jax.jit(jax.vmap(functools.partial(_stream, self), in_axes=(0, None)))


def _stream(subject: _Subject, key: Array, params: PyTree) -> _Run:
    """N steps with random actions; the steps' keys and actions are those of `_draws`."""
    env, (keys, actions) = subject.env, _draws(subject, key)
    inner = subject.own_step and subject.has_step_env

    def step(state, inputs):
        key, action = inputs
        obs, after, reward, terminated, truncated, info = env.step(key, state, action, params)
        after = _typed(after)
        found = (obs, info["final_observation"], reward, terminated, truncated, _clocks(after))
        return after, (*found, _inner(env, key, state, action, params) if inner else {})

    obs, state = _typed(env.reset(keys[0], params))
    return _Run(obs, _clocks(state), *jax.lax.scan(step, state, (keys[1:], actions))[1])


def _draws(subject: _Subject, key: Array) -> tuple[Array, Array]:
    """The keys of a reset and N steps, and N actions."""
    keys = jax.random.split(key, subject.num_steps + 1)
    sample = functools.partial(_random_action, space=subject.action_space)
    return keys, jax.vmap(lambda key: sample(jax.random.fold_in(key, 1)))(keys[1:])


def _inner(env: Any, key: Array, state: PyTree, action: Array, params: PyTree) -> dict[str, PyTree]:
    """The same step by gymnax's recipe: half the key for `step_env`, the other for the reset."""
    obs, state, reward, terminated, _ = env.step_env(
        jax.random.split(key)[0], state, action, params
    )
    truncated = env.is_truncated(state, params)
    return {"final": obs, "reward": reward, "terminated": terminated, "truncated": truncated}


def _random_action(key: Array, space: Any) -> Array:
    """Uniform between finite bounds; `Box.sample` gives NaN where one is infinite."""
    if isinstance(space, spaces.Discrete):
        return jax.random.randint(key, (), 0, space.n)
    low, high = (jnp.broadcast_to(jnp.asarray(x, float), space.shape) for x in _bounds(space))
    finite = jnp.isfinite(low) & jnp.isfinite(high)
    anywhere = jnp.clip(jax.random.normal(key, space.shape), low, high)
    low, high = jnp.where(finite, low, 0.0), jnp.where(finite, high, 1.0)
    return jnp.where(finite, jax.random.uniform(key, space.shape, float, low, high), anywhere)


# What can be wrong before anything is traced.


def _has_the_interface(subject: _Subject) -> Iterator[_Fault]:
    if isinstance(subject.env, type):
        yield _Fault("env", f"the class {subject.env.__name__}", "an object of that class")
    for name, expected in _INTERFACE.items():
        if not hasattr(subject.env, name):
            yield _Fault(name, "missing", expected)


def _is_hashable(subject: _Subject) -> Iterator[_Fault]:
    try:
        hash(subject.env)
    except TypeError as error:
        yield _Fault("env", f"no hash ({error})", "a hash, as it is part of the program")


def _params_are_numbers(subject: _Subject) -> Iterator[_Fault]:
    for path, leaf in _leaves("params", subject.params):
        if isinstance(leaf, (str, bytes)) or np.asarray(leaf).dtype == object:
            yield _Fault(path, f"{leaf!r}", "a pytree whose leaves are numbers or arrays")


def _limit_is_a_whole_number(subject: _Subject) -> Iterator[_Fault]:
    limit = subject.limit
    if limit is not None and (np.ndim(limit) != 0 or limit != int(limit) or limit < 1):
        yield _Fault("params.max_steps_in_episode", f"{limit!r}", "a whole number of steps, ≥ 1")


def _actions_have_a_policy_head(subject: _Subject) -> Iterator[_Fault]:
    try:
        space = subject.action_space
    except Exception as error:
        yield _raised("action_space", error, "Discrete or Box")
        return
    if isinstance(space, (spaces.Discrete, spaces.Box)):
        yield from _empty_space("action_space", space)
    else:
        yield _Fault("action_space", f"{space!r}", "Discrete or Box")


def _observations_can_be_encoded(subject: _Subject) -> Iterator[_Fault]:
    try:
        space = subject.env.observation_space(subject.params)
    except Exception as error:
        yield _raised("observation_space", error, "Box, Discrete, Dict or Tuple")
    else:
        yield from _unknown_space("observation_space", space)


def _unknown_space(part: str, space: Any) -> Iterator[_Fault]:
    children = _children(space)
    if children is not None:
        for name, child in children.items():
            yield from _unknown_space(f"{part}[{name!r}]", child)
    elif isinstance(space, (spaces.Discrete, spaces.Box)):
        yield from _empty_space(part, space)
    else:
        yield _Fault(part, f"{space!r}", "Box, Discrete, or a Dict or Tuple of them")


def _empty_space(part: str, space: Any) -> Iterator[_Fault]:
    if isinstance(space, spaces.Discrete) and space.n < 1:
        yield _Fault(part, f"{space!r}", "at least one value")
    elif isinstance(space, spaces.Box) and not np.all(np.less_equal(*_bounds(space))):
        yield _Fault(part, f"low above high in {space!r}", "low ≤ high")


# What tracing shows.


def _reset_gives_two_values(subject: _Subject) -> Iterator[_Fault]:
    try:
        result = subject.start
    except Exception as error:
        yield _raised("reset", error, "a function of a key and params")
    else:
        yield from _wrong_length("reset", result, _RESET)


def _reset_fits_its_space(subject: _Subject) -> Iterator[_Fault]:
    space = subject.env.observation_space(subject.params)
    yield from _misfits("reset: obs", subject.start[0], space)


def _step_env_fits(subject: _Subject) -> Iterator[_Fault]:
    if subject.has_step_env:
        yield from _transition_faults(subject, "step_env", _STEP_ENV)


def _is_truncated_gives_a_flag(subject: _Subject) -> Iterator[_Fault]:
    if not subject.has_step_env:
        return
    try:
        flag = jax.eval_shape(subject.env.is_truncated, subject.start[1], subject.arrays)
    except Exception as error:
        yield _raised("is_truncated", error, "a flag for each state")
    else:
        yield from _not_a_flag("is_truncated", flag)


def _own_step_fits(subject: _Subject) -> Iterator[_Fault]:
    # Gymnax's own `step` says nothing that `step_env` did not say more clearly.
    if subject.own_step or not subject.has_step_env:
        yield from _transition_faults(subject, "step", _STEP)


def _transition_faults(subject: _Subject, part: str, names: tuple[str, ...]) -> Iterator[_Fault]:
    try:
        result = subject.traced(part)
    except Exception as error:
        yield _raised(part, error, f"a transition for the action {_shape(subject.action)}")
        return
    wrong = list(_wrong_length(part, result, names))
    yield from wrong
    if not wrong:
        values = dict(zip(names, result, strict=True))
        yield from _changed(f"{part}: obs", subject.start[0], values["obs"])
        yield from _changed(f"{part}: state", subject.start[1], values["state"])
        yield from _not_a_number(f"{part}: reward", values["reward"])
        for name in names[3:-1]:
            yield from _not_a_flag(f"{part}: {name}", values[name])
        yield from _info_faults(part, subject.start[0], values["info"])


def _info_faults(part: str, obs: PyTree, info: Any) -> Iterator[_Fault]:
    if not isinstance(info, Mapping):
        yield _Fault(f"{part}: info", f"a {type(info).__name__}", "a dict")
    elif part == "step" and "final_observation" not in info:
        keys = ", ".join(map(repr, info)) or "nothing"
        yield _Fault(f"{part}: info", f"{keys}", "'final_observation', that before any reset")
    elif part == "step":
        yield from _changed(f"{part}: info['final_observation']", obs, info["final_observation"])


def _nothing_traced_is_kept(subject: _Subject) -> Iterator[_Fault]:
    for path, value in _attributes(subject.env, "env").items():
        if isinstance(value, jax.core.Tracer):
            yield _Fault(path, "a traced value, kept after a call", "nothing kept between calls")


# What running shows.


def _calls_leave_no_trace(subject: _Subject) -> Iterator[_Fault]:
    first = subject.plain  # whatever is computed once and kept is there from now on
    before = _attributes(subject.env, "env")
    del subject.plain
    second = subject.plain
    after = _attributes(subject.env, "env")
    for path, value in before.items():
        if not _same(value, after.get(path)):
            found = f"{value!r} before some calls and {after.get(path)!r} after them"
            yield _Fault(path, found, "an environment that calls do not change")
    for part, number, one, other in _differences(first, second):
        found = f"{one} and then {other} {_when(number)}, from the same inputs"
        yield _Fault(part, found, "the same, as all randomness comes from the key")


def _inputs_are_left_alone(subject: _Subject) -> Iterator[_Fault]:
    state = _typed(subject.plain[0]["reset: state"])
    before = jax.tree.map(lambda x: x, state)
    action = _random_action(subject.key, subject.action_space)
    _unwrapped(subject.env, "step")(subject.key, state, action, subject.arrays)
    if jax.tree.structure(before) != jax.tree.structure(state) or not _equal(before, state):
        yield _Fault("step: state", "written into by a call", "inputs left as they are")


def _compiled_programs_repeat(subject: _Subject) -> Iterator[_Fault]:
    first, second = subject.runs[0][1], subject.run(subject.params)
    for name in ("first", "final", "reward", "terminated", "truncated"):
        if not _equal(getattr(first, name), getattr(second, name)):
            part = "reset: obs" if name == "first" else f"step: {name}"
            yield _Fault(part, "another one when run again, compiled", "the same from the same key")


def _jit_and_vmap_change_nothing(subject: _Subject) -> Iterator[_Fault]:
    if not any(_differences(subject.plain, _vmapped(subject))):
        return
    # Only now is a second program worth compiling.
    single = _walk(subject, [jax.jit(subject.env.reset), jax.jit(subject.env.step)])
    sides = ((subject.plain, single, "under jit"), (single, _vmapped(subject), "under vmap"))
    for ours, theirs, how in sides:
        for part, number, one, other in _differences(ours, theirs):
            yield _Fault(part, f"{one} {_when(number)}, but {other} {how}", "the same")


def _vmapped(subject: _Subject) -> list[dict[str, PyTree]]:
    """The same steps as `plain`, of the streams that were compiled side by side."""
    run = jax.tree.map(lambda x: x[0], subject.runs[0][1])
    values = {"obs": run.obs, "reward": run.reward}
    values |= {"terminated": run.terminated, "truncated": run.truncated}
    steps = [jax.tree.map(lambda x, t=t: x[t], values) for t in range(_NUM_COMPARED)]
    named = [{f"step: {name}": value for name, value in step.items()} for step in steps]
    return [{"reset: obs": run.first}, *named]


def _rewards_are_finite(subject: _Subject) -> Iterator[_Fault]:
    for _, run in subject.runs:
        for k, t in np.argwhere(~np.isfinite(run.reward))[:1]:
            yield _Fault("step: reward", f"{run.reward[k, t]} at step {t + 1}", "a finite number")


def _observations_stay_in_their_space(subject: _Subject) -> Iterator[_Fault]:
    if subject.name in _NARROW_SPACES:
        return
    for params, run in subject.runs:
        space, ended = subject.env.observation_space(params), _ended(run)
        final = jax.tree.map(operator.itemgetter(ended), run.final)
        yield from _outside("reset: obs", run.first, space)
        yield from _outside("step: obs", run.obs, space)
        yield from _outside("step: info['final_observation']", final, space)


def _limits_end_episodes(subject: _Subject) -> Iterator[_Fault]:
    for params, run in subject.runs:
        limit = getattr(params, "max_steps_in_episode", None)
        late = [] if limit is None else _ages(run)[(_ages(run) >= limit) & ~_ended(run)]
        if len(late):
            found = f"no end at step {limit:g} of an episode, with max_steps_in_episode={limit:g}"
            yield _Fault("step: truncated", found, "True there")


def _episodes_start_afresh(subject: _Subject) -> Iterator[_Fault]:
    for params, run in subject.runs:
        yield from _stopped_clocks(run)
        yield from _early_truncation(run, getattr(params, "max_steps_in_episode", None))
        yield from _shorter_episodes(run)


def _stopped_clocks(run: _Run) -> Iterator[_Fault]:
    for path, times in run.clocks.items():
        started = np.unique(run.start_clocks[path])
        left = times[_ended(run)]
        if len(started) == 1 and np.any(left != started[0]):
            found = f"{left[left != started[0]][0]} after an automatic reset"
            yield _Fault(f"step: state{path}", found, f"{started[0]}, as from reset")


def _early_truncation(run: _Run, limit: int | None) -> Iterator[_Fault]:
    early = [e for e in _episodes(run) if e.truncated and limit is not None and e.length < limit]
    if early and all(episode.number > 0 for episode in early):
        found = f"True at step {early[0].length} of an episode after an automatic reset"
        yield _Fault("step: truncated", found, f"True at step {limit:g}, as in first episodes")


def _shorter_episodes(run: _Run) -> Iterator[_Fault]:
    first = [e.length for e in _episodes(run) if e.number == 0]
    later = [e.length for e in _episodes(run) if e.number > 0]
    if len(later) >= _MANY and first and max(later) < min(first):
        found = f"{len(later)} episodes of ≤ {max(later)} steps after automatic resets"
        yield _Fault("step: state", found, f"some as long as first ones, ≥ {min(first)} steps")


def _step_and_step_env_agree(subject: _Subject) -> Iterator[_Fault]:
    for _, run in subject.runs:
        for name in ("reward", "terminated"):
            yield from _disagreement(run, name, f"step: {name}", "step_env")


def _step_and_is_truncated_agree(subject: _Subject) -> Iterator[_Fault]:
    for _, run in subject.runs:
        yield from _disagreement(run, "truncated", "step: truncated", "is_truncated")


def _final_observations_are_true(subject: _Subject) -> Iterator[_Fault]:
    for _, run in subject.runs:
        yield from _disagreement(run, "final", "step: info['final_observation']", "step_env")
        if not run.inner:
            yield from _reset_as_final(run)


def _reset_as_final(run: _Run) -> Iterator[_Fault]:
    """Where the truth is not known: no episode ends on the very numbers that the next begins on."""
    ended = _ended(run)
    starts = [leaf[ended] for leaf in jax.tree.leaves(run.obs)]
    finals = [leaf[ended] for leaf in jax.tree.leaves(run.final)]
    varied = any(len(np.unique(leaf, axis=0)) > 1 for leaf in starts)
    if varied and all(map(np.array_equal, starts, finals)):
        found = "always the first observation of the next episode"
        yield _Fault("step: info['final_observation']", found, "the last one of the one that ended")


def _disagreement(run: _Run, name: str, part: str, other: str) -> Iterator[_Fault]:
    if run.inner:
        where = _ended(run) if name == "final" else np.ones_like(_ended(run))
        ours, theirs = (
            jax.tree.map(lambda x: x[where], x) for x in (getattr(run, name), run.inner[name])
        )
        if not _equal(ours, theirs, _TOLERANCE):
            one, two = _first_unequal(ours, theirs)
            yield _Fault(part, f"{one}, but {two} from {other}", "the same, for split(key)[0]")


_STAGES: tuple[tuple[Callable[[_Subject], Iterator[_Fault]], ...], ...] = (
    (_has_the_interface,),
    (
        _is_hashable,
        _params_are_numbers,
        _limit_is_a_whole_number,
        _actions_have_a_policy_head,
        _observations_can_be_encoded,
    ),
    (_reset_gives_two_values,),
    (
        _reset_fits_its_space,
        _step_env_fits,
        _is_truncated_gives_a_flag,
        _own_step_fits,
        _nothing_traced_is_kept,
    ),
    (_calls_leave_no_trace, _inputs_are_left_alone, _compiled_programs_repeat),
    (_jit_and_vmap_change_nothing,),
    (
        _rewards_are_finite,
        _observations_stay_in_their_space,
        _limits_end_episodes,
        _episodes_start_afresh,
        _step_and_step_env_agree,
        _step_and_is_truncated_agree,
        _final_observations_are_true,
    ),
)


# Sentences.


def _raised(part: str, error: Exception, expected: str) -> _Fault:
    message = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    if isinstance(error, _UNTRACEABLE):
        return _Fault(part, f"cannot be compiled ({message})", "no Python branch on a traced value")
    if isinstance(error, jax.errors.UnexpectedTracerError):
        return _Fault(part, f"uses a value of an earlier call ({message})", "nothing kept")
    return _Fault(part, f"raises {message}", expected)


def _wrong_length(part: str, result: Any, names: tuple[str, ...]) -> Iterator[_Fault]:
    number = len(result) if isinstance(result, tuple) else None
    if number != len(names):
        found = f"a {type(result).__name__}" if number is None else f"{number} values"
        yield _Fault(part, found, f"a tuple of {len(names)}: {', '.join(names)}")


def _changed(part: str, before: PyTree, after: PyTree) -> Iterator[_Fault]:
    if jax.tree.structure(before) != jax.tree.structure(after):
        found = f"the structure {jax.tree.map(_shape, after)}"
        yield _Fault(part, found, f"that of reset, {jax.tree.map(_shape, before)}")
        return
    pairs = zip(_leaves(part, before), jax.tree.leaves(after), strict=True)
    for (path, old), new in pairs:
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            yield _Fault(path, _shape(new), f"{_shape(old)}, as from reset")


def _not_a_number(part: str, value: Any) -> Iterator[_Fault]:
    if jax.tree.structure(value) != jax.tree.structure(0) or value.shape != ():
        yield _Fault(part, f"{jax.tree.map(_shape, value)}", "a scalar")
    elif not _is_real(value):
        yield _Fault(part, _shape(value), "a real number")


def _not_a_flag(part: str, value: Any) -> Iterator[_Fault]:
    if jax.tree.structure(value) != jax.tree.structure(0) or value.shape != ():
        yield _Fault(part, f"{jax.tree.map(_shape, value)}", "a scalar, bool[]")
    elif value.dtype != bool:
        yield _Fault(part, _shape(value), "bool[]")


def _misfits(part: str, obs: PyTree, space: Any) -> Iterator[_Fault]:
    """Shapes and kinds that are not the space's. A Box may hold any real numbers: the policy sees
    them as floats."""
    children = _children(space)
    if children is not None:
        yield from _misfitting_children(part, obs, children)
    elif jax.tree.structure(obs) != jax.tree.structure(0):
        yield _Fault(part, f"{jax.tree.map(_shape, obs)}", f"one array, of {space!r}")
    elif tuple(obs.shape) != tuple(space.shape):
        yield _Fault(part, _shape(obs), f"the shape {tuple(space.shape)} of observation_space")
    elif isinstance(space, spaces.Discrete) and not jnp.issubdtype(obs.dtype, jnp.integer):
        yield _Fault(part, _shape(obs), f"an integer, of {space!r}")
    elif not _is_real(obs):
        yield _Fault(part, _shape(obs), f"real numbers, of {space!r}")


def _misfitting_children(part: str, obs: PyTree, children: dict) -> Iterator[_Fault]:
    for name, child in children.items():
        try:
            entry = _entry(obs, name)
        except (KeyError, IndexError, TypeError, AttributeError):
            yield _Fault(part, f"no entry {name!r}", "all entries of observation_space")
        else:
            yield from _misfits(f"{part}[{name!r}]", entry, child)


def _outside(part: str, obs: PyTree, space: Any) -> Iterator[_Fault]:
    """Of many observations: [K, …] or [K, N, …]."""
    children = _children(space)
    if children is not None:
        for name, child in children.items():
            yield from _outside(f"{part}[{name!r}]", _entry(obs, name), child)
        return
    obs = np.asarray(obs, np.float64)
    low, high = (0, space.n - 1) if isinstance(space, spaces.Discrete) else _bounds(space)
    low, high = (np.broadcast_to(np.asarray(x, np.float64), space.shape) for x in (low, high))
    slack = _TOLERANCE * 0.1
    inside = (obs >= low - slack * np.abs(low) - slack) & (
        obs <= high + slack * np.abs(high) + slack
    )
    for index in np.argwhere(~(inside & np.isfinite(obs)))[:1]:
        place = tuple(index[obs.ndim - low.ndim :])
        found = f"{obs[tuple(index)]:g}" + (f" at {[int(i) for i in place]}" if place else "")
        yield _Fault(part, found, f"between {low[place]:g} and {high[place]:g}, as {space!r}")


# Small tools.


def _typed(tree: PyTree) -> PyTree:
    """Its leaves as arrays, none weakly typed, which a scan would not carry."""

    def typed(leaf):
        extended = jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.extended)
        return leaf if extended else jax.lax.convert_element_type(leaf, jnp.result_type(leaf))

    return jax.tree.map(typed, tree)


def _overrides(env: Any, name: str) -> bool:
    return getattr(type(env), name, None) is not getattr(GymnaxEnvironment, name)


def _children(space: Any) -> dict | None:
    if isinstance(space, spaces.Dict):
        return dict(space.spaces)
    return dict(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else None


def _entry(obs: PyTree, name: Any) -> PyTree:
    by_key = isinstance(obs, Mapping) or isinstance(name, int)
    return obs[name] if by_key else getattr(obs, name)


def _bounds(space: spaces.Box) -> tuple[Array, Array]:
    return space.low, space.high


def _shape(leaf: Any) -> str:
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _is_real(leaf: Any) -> bool:
    return leaf.dtype == bool or any(
        jnp.issubdtype(leaf.dtype, kind) for kind in (jnp.integer, jnp.floating)
    )


def _leaves(part: str, tree: PyTree) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(part + jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _shortened(params: PyTree, limit: int) -> PyTree | None:
    """The params with so short a time limit, or None where theirs is no longer, or not there."""
    now = getattr(params, "max_steps_in_episode", None)
    if now is None or now <= limit or not dataclasses.is_dataclass(params):
        return None
    return dataclasses.replace(params, max_steps_in_episode=type(now)(limit))


def _clocks(state: PyTree) -> dict[str, Array]:
    return {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if path and getattr(path[-1], "name", getattr(path[-1], "key", None)) == "time"
    }


def _ended(run: _Run) -> Array:
    return run.terminated | run.truncated


def _ages(run: _Run) -> Array:
    """The step of its episode that each step is, from 1: int[K, N]."""
    ages, now = np.zeros(run.reward.shape, int), np.zeros(len(run.reward), int)
    for t, ended in enumerate(_ended(run).T):
        now = now + 1
        ages[:, t] = now
        now = np.where(ended, 0, now)
    return ages


def _episodes(run: _Run) -> list[_Episode]:
    ages, ended = _ages(run), _ended(run)
    numbers = np.cumsum(ended, axis=1) - 1
    fields = (numbers, ages, run.terminated, run.truncated)
    return [_Episode(*row) for row in zip(*(x[ended].tolist() for x in fields), strict=True)]


def _unwrapped(env: Any, name: str) -> Callable:
    """A method as a Python function, without the jit that may be around it."""
    method = getattr(type(env), name, None)
    inner = getattr(method, "__wrapped__", None)
    return getattr(env, name) if inner is None else functools.partial(inner, env)


def _walk(subject: _Subject, functions: list[Callable]) -> list[dict[str, PyTree]]:
    """A reset and the first steps of the first stream, by the given functions."""
    reset, step = functions
    keys, actions = _draws(subject, jax.random.split(subject.key, _NUM_STREAMS)[0])
    obs, state = reset(keys[0], subject.arrays)
    rows = [{"reset: obs": obs, "reset: state": state}]
    for key, action in zip(keys[1 : _NUM_COMPARED + 1], actions, strict=False):
        state = _typed(state)
        values = step(key, state, action, subject.arrays)
        rows.append({f"step: {name}": x for name, x in zip(_STEP[:-1], values, strict=False)})
        state = values[1]
    return rows


def _differences(ones: list[dict], others: list[dict]) -> Iterator[tuple[str, int, str, str]]:
    """What differs first, once for each part that both have: its name, the step, both values."""
    told = set()
    for number, (one, other) in enumerate(zip(ones, others, strict=True)):
        for part in one.keys() & other.keys() - told:
            if not _equal(one[part], other[part], _TOLERANCE):
                told.add(part)
                yield part, number, *_first_unequal(one[part], other[part])


def _when(number: int) -> str:
    return f"at step {number}" if number else "at the start"


def _numbers(leaf: Any) -> np.ndarray:
    is_key = jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _close(one: Any, other: Any, tolerance: float) -> np.ndarray:
    one, other = _numbers(one), _numbers(other)
    if not np.issubdtype(one.dtype, np.floating):
        return np.asarray(one == other)
    return np.isclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def _equal(one: PyTree, other: PyTree, tolerance: float = 0.0) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(_close(*pair, tolerance).all() for pair in pairs)


def _first_unequal(one: PyTree, other: PyTree) -> tuple[str, str]:
    for ours, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        close = _close(ours, theirs, _TOLERANCE)
        for index in np.argwhere(~close)[:1]:
            both = (_numbers(x)[tuple(index)] for x in (ours, theirs))
            return tuple(f"{x}" if x.dtype == bool else f"{x:.6g}" for x in both)
    raise AssertionError("no difference")


def _attributes(node: Any, path: str, depth: int = 4) -> dict[str, Any]:
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
    nested = (_attributes(value, name, depth - 1) for name, value in parts.items() if depth)
    return functools.reduce(dict.__or__, nested, size)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, (np.ndarray, jax.Array)) and isinstance(other, (np.ndarray, jax.Array)):
        return one.shape == other.shape and np.array_equal(_numbers(one), _numbers(other))
    simple = isinstance(one, (int, float, str, bool, type(None)))
    return one == other if simple else one is other
