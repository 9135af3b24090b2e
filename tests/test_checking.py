"""What `check_environment` finds, and what it lets pass."""

import functools

import broken_environments as broken_ones
import gymnasium.spaces
import gymnax.wrappers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from broken_environments import broken
from environments_for_tests import (
    Counter,
    DriftingState,
    Endless,
    FiveValues,
    LegalActionsOnly,
    PlainParams,
    Spaces,
    TextActions,
    TupleParams,
    UnboundedActions,
    UncomparableState,
    Unhashable,
    VectorReward,
    WithParams,
)

import pgjax
from pgjax.environments import interface, spaces
from pgjax.study import probe
from pgjax.study.checking import check_environment

FAULTS = {
    "no interface": (object, "default_params: missing; expected a pytree of numbers"),
    "no step": (broken_ones.NothingButReset, r"step: missing; expected \(key, state, action"),
    "a class": (lambda: Counter, "env: the class Counter; expected an object of that class"),
    "no hash": (Unhashable, "env: no hash .*; expected a hash"),
    "params not numbers": (broken_ones.TextParams, "params.lifetime: 'long'; expected a pytree"),
    "half a step": (broken_ones.HalfStep, "max_steps_in_episode: 2.5; expected a whole number"),
    "kind of actions": (TextActions, r"action_space\['a'\]: must be made of Box.*got Text"),
    "no actions": (
        broken_ones.NoActions,
        r"action_space: must have at least one value, got Discrete\(0",
    ),
    "no observations": (
        broken_ones.NothingObserved,
        "observation_space: low above high in Box.*; expected low ≤ high",
    ),
    "kind of observations": (
        broken_ones.UnknownObservations,
        "observation_space: must be made of Box, .*got namespace.*; expected Box, Discrete, Mul",
    ),
    "unfinished": (broken_ones.Unfinished, "action_space: raises NotImplementedError"),
    "values of reset": (
        broken_ones.ThreeFromReset,
        "reset: 3 values; expected a tuple of 2: obs, state",
    ),
    "values of step": (FiveValues, "step: 5 values; expected a tuple of 6: obs, state, reward,"),
    "values of step_env": (broken_ones.FourFromStepEnv, "step_env: 4 values; expected a tuple of"),
    "shape of obs": (
        lambda: broken(obs=lambda key, obs, **_: jnp.append(obs, 0.0))(),
        r"step_env: obs: float32\[2\]; expected float32\[1\], as from reset",
    ),
    "dtype of obs": (
        lambda: broken(obs=lambda key, obs, **_: obs.astype(int))(),
        r"step_env: obs: int32\[1\]; expected float32\[1\], as from reset",
    ),
    "dtype of state": (
        DriftingState,
        r"step_env: state.time: float32\[\]; expected int32\[\], as from reset",
    ),
    "structure of state": (
        lambda: broken(state=lambda key, state, **_: {"time": state.time})(),
        r"step_env: state: the structure \{'time'.*expected that of reset, EnvState",
    ),
    "python branch": (
        broken_ones.PythonBranch,
        "step_env: cannot be compiled .*; expected no Python branch on a traced value",
    ),
    "action refused": (
        broken_ones.VectorOfActions,
        r"step_env: raises .*; expected a transition for the action int32\[\]",
    ),
    "shape of reward": (VectorReward, r"step_env: reward: float32\[1\]; expected a scalar"),
    "complex reward": (
        lambda: broken(reward=lambda key, reward, **_: reward * 1j)(),
        r"step_env: reward: complex64\[\]; expected a real number",
    ),
    "shape of terminated": (
        lambda: broken(terminated=lambda key, terminated, **_: terminated[None])(),
        r"step_env: terminated: bool\[1\]; expected a scalar, bool\[\]",
    ),
    "dtype of terminated": (
        lambda: broken(terminated=lambda key, terminated, **_: terminated * 1.0)(),
        r"step_env: terminated: float32\[\]; expected bool\[\]",
    ),
    "dtype of truncated": (
        broken_ones.WholeNumberTruncation,
        r"is_truncated: int32\[\]; expected bool\[\]",
    ),
    "info": (
        lambda: broken_ones.ListForInfo(Counter()),
        "step: info: a list; expected a dict",
    ),
    "no final observation": (
        lambda: broken_ones.NoFinal(Counter()),
        "step: info: 'reward'; expected 'final_observation', that before any reset",
    ),
    "shape of final observation": (
        broken_ones.FinalLongerThanOthers,
        r"info\['final_observation'\]: float32\[2\]; expected float32\[1\]",
    ),
    "shape of space": (
        broken_ones.TwoNumbersObserved,
        r"reset: obs: float32\[1\]; expected the shape \(2,\) of observation_space",
    ),
    "kind of space": (
        broken_ones.OneOfTenObserved,
        r"reset: obs\['digit'\]: float32\[\]; expected an integer, of Discrete\(10",
    ),
    "structure of space": (
        broken_ones.DictForBox,
        "reset: obs: {'position': .*}; expected one array, of Box",
    ),
    "entry of space": (
        broken_ones.EntryMissing,
        "reset: obs: no entry 'velocity'; expected all entries of observation_space",
    ),
    "entry beside the space": (
        broken_ones.EntryTooMany,
        "reset: obs: an entry 'speed' too many; expected those of observation_space alone",
    ),
    "complex observation": (
        broken_ones.ComplexObserved,
        r"reset: obs: complex64\[1\]; expected real numbers, of Box",
    ),
    "tracer kept": (
        broken_ones.KeepsTracer,
        "env.last_action: a traced value, kept after a call; expected nothing kept",
    ),
    "attribute changed": (
        broken_ones.CountsCalls,
        "env.calls: .* before some calls and .* after them; expected an environment that calls do",
    ),
    "state kept in self": (
        broken_ones.CountsCallsInItsRewards,
        "step: reward: .* and then .* at step 1, from the same inputs; expected the same",
    ),
    "state written into": (
        broken_ones.WritesIntoState,
        "step: state: written into by a call; expected inputs left as they are",
    ),
    "numpy's dice": (
        lambda: broken(reward=lambda key, **_: np.float32(np.random.default_rng().normal()))(),
        "step: reward: .* from the same inputs; expected the same, as all randomness comes from",
    ),
    "dice when compiled": (
        broken_ones.HostDice,
        "step: reward: another one when run again, compiled; expected the same from the same key",
    ),
    "jit": (broken_ones.CompiledOtherwise, "step: reward: 1 at step 1, but 2 under jit"),
    "vmap": (broken_ones.FirstOfBatch, "step: reward: .* at step 1, but .* under vmap"),
    "reward not finite": (
        lambda: broken(reward=lambda key, reward, **_: reward / (reward - 2.0))(),
        "step: reward: inf at step 2; expected a finite number",
    ),
    "observation not finite": (
        lambda: broken(obs=lambda key, obs, **_: obs * jnp.nan)(),
        r"step: obs: nan at \[0\]; expected between 0 and 100",
    ),
    "observation outside": (
        broken_ones.UpToTwoObserved,
        r"info\['final_observation'\]: 3 at \[0\]; expected between 0 and 2, as Box",
    ),
    "time limit passed": (
        lambda: broken_ones.NeverTruncated(lifetime=50),
        "step: truncated: no end at step 5 of an episode, with max_steps_in_episode=5; expected",
    ),
    "time limit as an end": (
        lambda: broken_ones.FoldsItsLimit(lifetime=50),
        "step_env: terminated: True at all .* ends by time, with limits of 5 and 6 steps; expected",
    ),
    "empty observation": (
        lambda: Spaces(spaces.Box(0, 1, (0,))),
        r"observation_space: must hold at least one number, got the shape \(0,\)",
    ),
    "bounds of another shape": (
        lambda: Spaces(spaces.Box(np.zeros(3), np.ones(3), (1,))),
        r"observation_space: low must fit the shape \(1,\)",
    ),
    "state not reset": (
        broken_ones.NeverStartsAgain,
        "step: state.time: 3 after an automatic reset; expected 0, as from reset",
    ),
    "later episodes shorter": (
        broken_ones.NeverStartsAgain,
        "step: state: .* episodes of ≤ 1 steps after automatic resets; expected some as long as",
    ),
    "clock not reset": (
        broken_ones.HiddenClock,
        "step: truncated: True at step 3 of an episode after an automatic reset; expected True at",
    ),
    "step and step_env": (
        broken_ones.OtherRewardInStep,
        "step: reward: 2, but 1 from step_env; expected the same",
    ),
    "step and is_truncated": (
        lambda: broken_ones.OtherTruncationInStep(lifetime=50),
        "step: truncated: False, but True from is_truncated; expected the same",
    ),
    "final observation false": (
        broken_ones.FinalIsFirst,
        r"step: info\['final_observation'\]: 0, but 3 from step_env",
    ),
    "final observation of the next": (
        lambda: broken_ones.FirstForFinal(broken_ones.RandomStart()),
        r"info\['final_observation'\]: always the first observation of the next episode",
    ),
}


@pytest.mark.parametrize(("make", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        check_environment(make(), num_steps=60)


def test_all_faults_are_told_at_once():
    both = broken(reward=lambda key, reward, **_: reward[None], obs=lambda key, obs, **_: obs[0])
    with pytest.raises(ValueError, match=r"has 2 fault\(s\)\n- step_env: obs.*\n- step_env: rew"):
        check_environment(both())


@pytest.mark.parametrize("name", [name for name in interface.ids() if name != "MNISTBandit-bsuite"])
def test_every_environment_of_gymnax_passes(name):
    assert check_environment(name) is None


SOUND = {
    "counter": Counter,
    "terminates late": lambda: Counter(lifetime=9, limit=5),
    "one step": lambda: Counter(lifetime=1, limit=1),
    "unbounded actions": UnboundedActions,
    "bounded actions": LegalActionsOnly,
    "no time limit": Endless,
    "as long as its limit": lambda: Counter(lifetime=5, limit=5),
    "table with NaN": broken_ones.WithTable,
    "lists for bounds": lambda: Spaces(spaces.Box([0.0], [100.0], 1)),
    "Gymnasium's spaces": lambda: Spaces(
        gymnasium.spaces.Box(0, 100, (1,)), gymnasium.spaces.Discrete(2)
    ),
    "named tuple": lambda: WithParams(TupleParams()),
    "state without ==": UncomparableState,
    "endless limit": lambda: WithParams(PlainParams(max_steps_in_episode=np.inf)),
    "random start": broken_ones.RandomStart,
    "own step": broken_ones.OwnStep,
    "finite MDP": lambda: pgjax.FiniteMDP(
        np.full((3, 2, 3), 1 / 3), np.ones((3, 2)), np.full(3, 1 / 3), 5, [False, False, False]
    ),
    "logged": lambda: gymnax.wrappers.LogWrapper(interface.make("CartPole-v1")),
    "flattened": lambda: gymnax.wrappers.FlattenObservationWrapper(interface.make("Catch-bsuite")),
    "sticky": lambda: gymnax.wrappers.StickyActionWrapper(interface.make("FourRooms-misc"), 0.3),
}


@pytest.mark.parametrize("make", SOUND.values(), ids=SOUND)
def test_sound_environments_pass(make):
    assert check_environment(make(), num_steps=60) is None


def test_params_may_be_given():
    long = Counter().default_params.replace(lifetime=10**6, max_steps_in_episode=1000)
    with pytest.raises(ValueError, match=r"step: obs: 1.*; expected between 0 and 100"):
        check_environment(Counter(), long)


def test_params_unlike_the_defaults_are_named():
    with pytest.raises(
        ValueError, match=r"env_params: \.lifetime must be an int, got 2\.5; expected"
    ):
        check_environment(Counter(), Counter().default_params.replace(lifetime=2.5))


def test_an_unknown_id_is_named():
    with pytest.raises(ValueError, match="did you mean 'CartPole-v1'"):
        check_environment("CartPole-v2")


def test_steps_and_seed_are_checked():
    with pytest.raises(ValueError, match="num_steps must be at least 16, got 3"):
        check_environment(Counter(), num_steps=3)
    with pytest.raises(TypeError, match="seed must be an integer"):
        check_environment(Counter(), seed=0.5)


def _hundred_more(step):
    @functools.wraps(step)
    def more(*args):
        obs, state, reward, *rest = step(*args)
        return obs, state, reward + 100.0, *rest

    return more


class Decorated(Counter):
    """A `step` in a decorator of the user's own, which counts."""

    step = _hundred_more(Counter.step)


def test_a_replaced_or_decorated_step_is_unwrapped_from_jit_alone():
    replaced, jitted = Counter(), Counter()
    replaced.step = _hundred_more(replaced.step)
    jitted.step = jax.jit(replaced.step)
    key = jax.random.key(0)
    for env in (replaced, jitted, Decorated()):
        state = env.reset(key, env.default_params)[1]
        step = probe.unwrapped(env, "step")
        assert not hasattr(step, "lower")
        assert step(key, state, 0, env.default_params)[2] == 101.0


class Endless(Counter):
    """Goes on from an episode's end."""

    def step(self, key, state, action, params):
        obs, state, reward, terminated, info = self.step_env(key, state, action, params)
        truncated = self.is_truncated(state, params)
        return obs, state, reward, terminated, truncated, {**info, "final_observation": obs}


@pytest.mark.parametrize("lifetime", [5, 99])
def test_a_step_without_automatic_reset_is_one_fault(lifetime):
    with pytest.raises(ValueError, match=r"step: obs: .*no automatic reset; expected") as raised:
        pgjax.check_environment(Endless(lifetime=lifetime, limit=9))
    assert str(raised.value).startswith("Endless has 1 fault(s)")
