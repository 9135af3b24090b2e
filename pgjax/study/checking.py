"""Whether an environment keeps to the gymnax ≥ 1.0 interface, found out by running it.

`_STAGES` lists the checks. A stage runs only if the stages before it find no fault, so that one
fault is not reported as ten.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from pgjax.core import schedules
from pgjax.core.components import check_int, check_seed, is_traced
from pgjax.core.names import shown
from pgjax.core.types import PyTree
from pgjax.environments import elements, interface
from pgjax.environments import env_params as parameters
from pgjax.environments.elements import Fault
from pgjax.policies import heads
from pgjax.study import faults, probe
from pgjax.study.probe import Run, Subject

_INTERFACE = {
    "default_params": "a pytree of numbers",
    "reset": "(key, params) -> (obs, state)",
    "step": "(key, state, action, params) -> (obs, state, reward, terminated, truncated, info)",
    "action_space": f"params -> {faults.KINDS}",
    "observation_space": f"params -> {faults.KINDS}",
}
_RESET = ("obs", "state")
_STEP_ENV = ("obs", "state", "reward", "terminated", "info")
_LIMITS = 4  # ends by time that are looked at
_MANY = 20  # later episodes, all shorter than all first ones: by chance once in 10 000
# Of gymnax 1.0.1, these leave the bounds they declare, which no policy here relies on.
_NARROW_SPACES = ("MemoryChain-bsuite", "MetaMaze-misc", "GaussianBandit-misc")


def check_environment(
    env: str | Any, env_params: PyTree = None, num_steps: int = 200, seed: int = 0
) -> None:
    """Runs an environment with random actions and raises if it breaks the interface.

    Checked are the shapes and dtypes of all that reset and step give, against each other and
    against the spaces; that both can be compiled and vmapped and then give the same; that the same
    key gives the same; rewards and observations; time limits, and what an automatic reset leaves.

    Args:
      env: an id, an environment object with the gymnax ≥ 1.0 interface, or a
        `pgjax.Environment`.
      env_params: its parameters; None: its defaults.
      num_steps: steps of each of four streams of episodes, ≥ 16.
      seed: of the keys and actions.

    Raises:
      ValueError: what is wrong, one line for each fault: the part, what was found, what is
        expected; or an unknown id, an environment that cannot be made, a `Schedule` in place of
        a number.

    >>> import pgjax
    >>> check_environment("CartPole-v1")
    """
    check_int("num_steps", num_steps, 16)
    seed = check_seed("seed", seed)
    if isinstance(env, str):
        env = interface.make(env)
    _check_no_schedule(env, env_params)
    if isinstance(env, interface.Environment):
        interface.check_own(env, env_params)
        if env.on_host:
            raise ValueError(
                f"{env.name} runs on the host, and check_environment looks at pure functions: "
                "gymnasium.utils.env_checker.check_env looks at it"
            )
        env = interface.AsGymnax(env)
    subject = Subject(env, env_params, num_steps, seed)
    for stage in _STAGES:
        # The same key gives the same: to see that, keys are used twice.
        with jax.debug_key_reuse(False):
            wrong = _faults(subject, stage)
        if wrong:
            lines = [f"{part}: {actual}; expected {expected}" for part, actual, expected in wrong]
            raise ValueError("\n- ".join([f"{subject.name} has {len(lines)} fault(s)", *lines]))


def _check_no_schedule(env: Any, env_params: PyTree) -> None:
    for path in schedules.paths({"env": env, "env_params": env_params}):
        raise ValueError(
            f"{path} is a Schedule, and check_environment knows no update: give a number in its "
            "place, Schedule.value(update, num_updates) for instance"
        )


def _faults(subject: Subject, stage: tuple) -> list[Fault]:
    """The faults that a stage's checks find: the first one of each check and part."""
    wrong = {}
    for check in stage:
        for fault in check(subject):
            wrong.setdefault((check, fault.part), fault)
    return list(wrong.values())


# What can be wrong before anything is traced.


def _has_the_interface(subject: Subject) -> Iterator[Fault]:
    if isinstance(subject.env, type):
        yield Fault("env", f"the class {subject.env.__name__}", "an object of that class")
    for name, expected in _INTERFACE.items():
        if not hasattr(subject.env, name):
            yield Fault(name, "missing", expected)


def _is_hashable(subject: Subject) -> Iterator[Fault]:
    try:
        hash(subject.env)
    except TypeError as error:
        yield Fault("env", f"no hash ({error})", "a hash, as it is part of the program")


def _params_are_numbers(subject: Subject) -> Iterator[Fault]:
    for path, leaf in faults.leaves("params", subject.params):
        if isinstance(leaf, (str, bytes)) or np.asarray(leaf).dtype == object:
            yield Fault(path, shown(leaf), "a pytree whose leaves are numbers or arrays")


def _limit_is_a_whole_number(subject: Subject) -> Iterator[Fault]:
    try:
        parameters.limit_of(subject.params)
    except ValueError:
        yield Fault("params.max_steps_in_episode", shown(subject.limit), parameters.WHOLE)


def _actions_have_a_policy_head(subject: Subject) -> Iterator[Fault]:
    try:
        space = subject.env.action_space(subject.params)
    except Exception as error:
        yield faults.raised("action_space", error, faults.KINDS)
    else:
        yield from faults.unusable_space("action_space", space)


def _observations_can_be_encoded(subject: Subject) -> Iterator[Fault]:
    try:
        space = subject.env.observation_space(subject.params)
    except Exception as error:
        yield faults.raised("observation_space", error, faults.KINDS)
    else:
        yield from faults.unusable_space("observation_space", space)


def _params_are_like_the_defaults(subject: Subject) -> Iterator[Fault]:
    try:
        parameters.check(subject.given, subject.env.default_params)
    except (TypeError, ValueError) as error:
        yield faults.refused("env_params", error, "parameters like the default ones")


# What tracing shows.


def _masks_fit_the_actions(subject: Subject) -> Iterator[Fault]:
    space = subject.observation_space(subject.params)
    try:
        heads.check_mask(subject.head, "observation_space", space)
    except (TypeError, ValueError) as error:
        yield Fault("observation_space", str(error).partition(": ")[2], "a mask of the actions")


def _masks_leave_an_action(subject: Subject) -> Iterator[Fault]:
    for params, run in subject.runs:
        space = subject.observation_space(params)
        for part, obs in (("reset: obs", run.first), ("step: obs", run.obs)):
            if np.any(subject.head.excludes_all(heads.mask(obs, space))):
                yield Fault(
                    part, "an action_mask without any action", "at least one, to go on with"
                )


def _reset_gives_two_values(subject: Subject) -> Iterator[Fault]:
    try:
        result = subject.start
    except Exception as error:
        yield faults.raised("reset", error, "a function of a key and params")
    else:
        yield from faults.wrong_length("reset", result, _RESET)


def _reset_fits_its_space(subject: Subject) -> Iterator[Fault]:
    space = subject.observation_space(subject.params)
    yield from elements.misfits("reset: obs", subject.start[0], space)


def _step_env_fits(subject: Subject) -> Iterator[Fault]:
    if subject.has_step_env:
        yield from _transition_faults(subject, "step_env", _STEP_ENV)


def _is_truncated_gives_a_flag(subject: Subject) -> Iterator[Fault]:
    if not subject.has_step_env:
        return
    try:
        flag = jax.eval_shape(subject.env.is_truncated, subject.start[1], subject.arrays)
    except Exception as error:
        yield faults.raised("is_truncated", error, "a flag for each state")
    else:
        yield from faults.not_a_flag("is_truncated", flag)


def _own_step_fits(subject: Subject) -> Iterator[Fault]:
    # Gymnax's own `step` says nothing that `step_env` did not say more clearly.
    if subject.own_step or not subject.has_step_env:
        yield from _transition_faults(subject, "step", probe.STEP)


def _transition_faults(subject: Subject, part: str, names: tuple[str, ...]) -> Iterator[Fault]:
    try:
        result = subject.traced(part)
    except Exception as error:
        action = elements.shape(subject.action)
        yield faults.raised(part, error, f"a transition for the action {action}")
        return
    wrong = list(faults.wrong_length(part, result, names))
    yield from wrong
    if not wrong:
        values = dict(zip(names, result, strict=True))
        yield from faults.changed(f"{part}: obs", subject.start[0], values["obs"])
        yield from faults.changed(f"{part}: state", subject.start[1], values["state"])
        yield from faults.not_a_number(f"{part}: reward", values["reward"])
        for name in names[3:-1]:
            yield from faults.not_a_flag(f"{part}: {name}", values[name])
        yield from _info_faults(part, subject.start[0], values["info"])


def _info_faults(part: str, obs: PyTree, info: Any) -> Iterator[Fault]:
    if not isinstance(info, Mapping):
        yield Fault(f"{part}: info", f"a {type(info).__name__}", "a dict")
    elif part == "step" and "final_observation" not in info:
        keys = ", ".join(map(repr, info)) or "nothing"
        yield Fault(f"{part}: info", f"{keys}", "'final_observation', that before any reset")
    elif part == "step":
        final = info["final_observation"]
        yield from faults.changed(f"{part}: info['final_observation']", obs, final)


def _nothing_traced_is_kept(subject: Subject) -> Iterator[Fault]:
    for path, value in probe.attributes(subject.env, "env").items():
        if is_traced(value):
            yield Fault(path, "a traced value, kept after a call", "nothing kept between calls")


def _training_takes_it(subject: Subject) -> Iterator[Fault]:
    try:
        interface.check(interface.bind(subject.env, subject.given))
    except (TypeError, ValueError) as error:
        yield faults.refused("env", error, "one that training takes")


# What running shows.


def _calls_leave_no_trace(subject: Subject) -> Iterator[Fault]:
    first = subject.plain  # whatever is computed once and kept is there from now on
    before = probe.attributes(subject.env, "env")
    del subject.plain
    second = subject.plain
    after = probe.attributes(subject.env, "env")
    for path, value in before.items():
        if not faults.same(value, after.get(path)):
            actual = f"{shown(value)} before some calls and {shown(after.get(path))} after them"
            yield Fault(path, actual, "an environment that calls do not change")
    for part, number, one, other in faults.differences(first, second):
        actual = f"{one} and then {other} {_when(number)}, from the same inputs"
        yield Fault(part, actual, "the same, as all randomness comes from the key")


def _inputs_are_left_alone(subject: Subject) -> Iterator[Fault]:
    state = probe.typed(subject.plain[0]["reset: state"])
    before = jax.tree.map(lambda x: x, state)
    action = subject.head.random_action(subject.key)
    probe.unwrapped(subject.env, "step")(subject.key, state, action, subject.arrays)
    if jax.tree.structure(before) != jax.tree.structure(state) or not faults.equal(before, state):
        yield Fault("step: state", "written into by a call", "inputs left as they are")


def _compiled_programs_repeat(subject: Subject) -> Iterator[Fault]:
    first, second = subject.runs[0][1], subject.run(subject.params)
    for name in ("first", "final", "reward", "terminated", "truncated"):
        if not faults.equal(getattr(first, name), getattr(second, name)):
            part = "reset: obs" if name == "first" else f"step: {name}"
            yield Fault(part, "another one when run again, compiled", "the same from the same key")


def _jit_and_vmap_change_nothing(subject: Subject) -> Iterator[Fault]:
    if not any(faults.differences(subject.plain, probe.vmapped(subject))):
        return
    # Only now is a second program worth compiling.
    single = probe.walk(subject, [jax.jit(subject.env.reset), jax.jit(subject.env.step)])
    sides = ((subject.plain, single, "under jit"), (single, probe.vmapped(subject), "under vmap"))
    for ours, theirs, how in sides:
        for part, number, one, other in faults.differences(ours, theirs):
            yield Fault(part, f"{one} {_when(number)}, but {other} {how}", "the same")


def _rewards_are_finite(subject: Subject) -> Iterator[Fault]:
    for _, run in subject.runs:
        for k, t in np.argwhere(~np.isfinite(run.reward))[:1]:
            yield Fault("step: reward", f"{run.reward[k, t]} at step {t + 1}", "a finite number")


def _observations_stay_in_their_space(subject: Subject) -> Iterator[Fault]:
    if subject.name in _NARROW_SPACES:
        return
    for params, run in subject.runs:
        space, ended = subject.observation_space(params), probe.ended(run)
        final = jax.tree.map(operator.itemgetter(ended), run.final)
        yield from elements.outside("reset: obs", run.first, space)
        yield from elements.outside("step: obs", run.obs, space)
        yield from elements.outside("step: info['final_observation']", final, space)


def _limits_end_episodes(subject: Subject) -> Iterator[Fault]:
    for params, run in subject.runs:
        limit = parameters.limit_of(params)
        if limit is not None and np.any((probe.ages(run) >= limit) & ~probe.ended(run)):
            actual = f"no end at step {limit:g} of an episode, with max_steps_in_episode={limit:g}"
            yield Fault("step: truncated", actual, "True there")


def _limits_only_truncate(subject: Subject) -> Iterator[Fault]:
    """Finds a `step_env` that reports a time limit as `terminated`, as it did before gymnax 1.0."""
    usual = parameters.limit_of(subject.params)
    longest = subject.num_steps // probe.NUM_EPISODES
    short = longest if usual is None else min(usual, longest)
    terminated = []
    for limit in (short, short + 1):
        params = parameters.with_limit(subject.params, limit)
        if usual is None or params is None:
            return
        run = subject.run(params)
        terminated.append(run.terminated[probe.ages(run) == limit])
        if len(terminated[-1]) < _LIMITS or not terminated[-1].all():
            return
    part = "step_env: terminated" if subject.has_step_env else "step: terminated"
    both = f"limits of {short} and {short + 1} steps"
    actual = f"True at all {len(terminated[0])} and {len(terminated[1])} ends by time, with {both}"
    yield Fault(
        part, actual, "what ends an episode but for time; a time limit is `truncated` alone"
    )


def _ends_are_reset(subject: Subject) -> Iterator[Fault]:
    """The cause of many faults, so looked for before them: `step` goes on from an episode's end."""
    for _, run in subject.runs:
        ended = probe.ended(run)
        obs, final = (
            [leaf[ended] for leaf in jax.tree.leaves(tree)] for tree in (run.obs, run.final)
        )
        # A final observation that is the next episode's first one is another fault.
        goes_on = any(_stopped_clocks(run)) or any(_shorter_episodes(run))
        # Where observations do not vary, an episode's first one tells nothing.
        firsts = jax.tree.leaves(run.first)
        goes_on &= not all(np.isin(*pair).all() for pair in zip(obs, firsts, strict=True))
        if goes_on and np.any(ended) and all(map(np.array_equal, obs, final)):
            actual = (
                f"the episode's last observation at all {np.sum(ended)} ends: no automatic reset"
            )
            yield Fault("step: obs", actual, "the first one of the next episode, and its state")


def _episodes_start_afresh(subject: Subject) -> Iterator[Fault]:
    for params, run in subject.runs:
        yield from _stopped_clocks(run)
        yield from _early_truncation(run, parameters.limit_of(params))
        yield from _shorter_episodes(run)


def _stopped_clocks(run: Run) -> Iterator[Fault]:
    for path, times in run.clocks.items():
        started = np.unique(run.start_clocks[path])
        left = times[probe.ended(run)]
        if len(started) == 1 and np.any(left != started[0]):
            actual = f"{left[left != started[0]][0]} after an automatic reset"
            yield Fault(f"step: state{path}", actual, f"{started[0]}, as from reset")


def _early_truncation(run: Run, limit: int | None) -> Iterator[Fault]:
    if limit is None:
        return
    early = [e for e in probe.episodes(run) if e.truncated and e.length < limit]
    if early and all(episode.number > 0 for episode in early):
        actual = f"True at step {early[0].length} of an episode after an automatic reset"
        yield Fault("step: truncated", actual, f"True at step {limit:g}, as in first episodes")


def _shorter_episodes(run: Run) -> Iterator[Fault]:
    first = [e.length for e in probe.episodes(run) if e.number == 0]
    later = [e.length for e in probe.episodes(run) if e.number > 0]
    if len(later) >= _MANY and first and max(later) < min(first):
        actual = f"{len(later)} episodes of ≤ {max(later)} steps after automatic resets"
        yield Fault("step: state", actual, f"some as long as first ones, ≥ {min(first)} steps")


def _step_and_step_env_agree(subject: Subject) -> Iterator[Fault]:
    for _, run in subject.runs:
        for name in ("reward", "terminated"):
            yield from _disagreement(run, name, f"step: {name}", "step_env")


def _step_and_is_truncated_agree(subject: Subject) -> Iterator[Fault]:
    for _, run in subject.runs:
        yield from _disagreement(run, "truncated", "step: truncated", "is_truncated")


def _final_observations_are_true(subject: Subject) -> Iterator[Fault]:
    for _, run in subject.runs:
        yield from _disagreement(run, "final", "step: info['final_observation']", "step_env")
        if not run.inner:
            yield from _reset_as_final(run)


def _reset_as_final(run: Run) -> Iterator[Fault]:
    """Finds final observations that all equal the next episode's first one."""
    ended = probe.ended(run)
    starts = [leaf[ended] for leaf in jax.tree.leaves(run.obs)]
    finals = [leaf[ended] for leaf in jax.tree.leaves(run.final)]
    varied = any(len(np.unique(leaf, axis=0)) > 1 for leaf in starts)
    if varied and all(map(np.array_equal, starts, finals)):
        actual = "always the first observation of the next episode"
        yield Fault("step: info['final_observation']", actual, "the last one of the one that ended")


def _disagreement(run: Run, name: str, part: str, other: str) -> Iterator[Fault]:
    if run.inner:
        where = probe.ended(run) if name == "final" else np.ones_like(probe.ended(run))
        ours, theirs = (
            jax.tree.map(lambda x: x[where], x) for x in (getattr(run, name), run.inner[name])
        )
        if not faults.equal(ours, theirs, elements.TOLERANCE):
            one, two = faults.first_unequal(ours, theirs)
            yield Fault(part, f"{one}, but {two} from {other}", "the same, for split(key)[0]")


_STAGES: tuple[tuple[Callable[[Subject], Iterator[Fault]], ...], ...] = (
    (_has_the_interface,),
    (
        _is_hashable,
        _params_are_numbers,
        _limit_is_a_whole_number,
        _actions_have_a_policy_head,
        _observations_can_be_encoded,
    ),
    (_params_are_like_the_defaults,),
    (_masks_fit_the_actions,),
    (_reset_gives_two_values,),
    (
        _reset_fits_its_space,
        _step_env_fits,
        _is_truncated_gives_a_flag,
        _own_step_fits,
        _nothing_traced_is_kept,
    ),
    (_training_takes_it,),
    (_calls_leave_no_trace, _inputs_are_left_alone, _compiled_programs_repeat),
    (_jit_and_vmap_change_nothing,),
    (_ends_are_reset,),
    (
        _rewards_are_finite,
        _masks_leave_an_action,
        _observations_stay_in_their_space,
        _limits_end_episodes,
        _limits_only_truncate,
        _episodes_start_afresh,
        _step_and_step_env_agree,
        _step_and_is_truncated_agree,
        _final_observations_are_true,
    ),
)


def _when(number: int) -> str:
    return f"at step {number}" if number else "at the start"
