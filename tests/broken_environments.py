"""Environments with one fault each, for the check that names it."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from environments_for_tests import Counter, CounterParams
from flax import struct

from pgjax.environments.interface import EnvState, GymnaxEnvironment, spaces


def broken(**parts):
    """A class that differs from `Counter` in the named results of `step_env`.

    Args:
      parts: functions of the key and the results by name: obs, state, reward, terminated, info.
    """

    class Broken(Counter):
        def step_env(self, key, state, action, params):
            names = ("obs", "state", "reward", "terminated", "info")
            step = dict(zip(names, super().step_env(key, state, action, params), strict=True))
            changes = {name: change(key, **step) for name, change in parts.items()}
            return tuple((step | changes).values())

    return Broken


def observing(value):
    """A class that differs from `Counter` in observing always the same value."""

    class Observing(Counter):
        def reset_env(self, key, params):
            return value, EnvState(time=0)

        def step_env(self, key, state, action, params):
            return value, *super().step_env(key, state, action, params)[1:]

    return Observing


class Wrapper:
    """A wrapper: another object that calls the environment's reset and step."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def __getattr__(self, name):
        return getattr(self._env, name)


class RandomStart(Counter):
    """A sound environment whose first observations differ."""

    def reset_env(self, key, params):
        return jax.random.uniform(key, (1,)), EnvState(time=0)


class NothingButReset:
    def reset(self, key, params=None):
        return jnp.zeros(1), EnvState(time=0)


class TextParams(Counter):
    @property
    def default_params(self):
        return CounterParams(lifetime="long")


class HalfStep(Counter):
    @property
    def default_params(self):
        return CounterParams(max_steps_in_episode=2.5)


class NoActions(Counter):
    def action_space(self, params=None):
        return spaces.Discrete(0)


class UnknownObservations(Counter):
    def observation_space(self, params=None):
        return SimpleNamespace(shape=(1,))


class TwoNumbersObserved(Counter):
    def observation_space(self, params=None):
        return spaces.Box(0.0, 100.0, (2,))


class NothingObserved(Counter):
    def observation_space(self, params=None):
        return spaces.Box(1.0, 0.0, (1,))


class DictForBox(observing({"position": jnp.zeros(1)})):
    pass


class EntryMissing(DictForBox):
    def observation_space(self, params=None):
        box = spaces.Box(0.0, 100.0, (1,))
        return spaces.Dict({"position": box, "velocity": box})


class EntryTooMany(observing({"position": jnp.zeros(1), "speed": jnp.zeros(())})):
    def observation_space(self, params=None):
        return spaces.Dict({"position": spaces.Box(0.0, 100.0, (1,))})


class ComplexObserved(observing(jnp.zeros(1, complex))):
    pass


class OneOfTenObserved(observing({"digit": jnp.float32(0)})):
    def observation_space(self, params=None):
        return spaces.Dict({"digit": spaces.Discrete(10)})


class UpToTwoObserved(Counter):
    def observation_space(self, params=None):
        return spaces.Box(0.0, 2.0, (1,))


class ThreeFromReset(Counter):
    def reset(self, key, params=None):
        return *self.reset_env(key, params), {}


class FourFromStepEnv(Counter):
    def step_env(self, key, state, action, params):
        return super().step_env(key, state, action, params)[:4]


class PythonBranch(Counter):
    def step_env(self, key, state, action, params):
        if state.time > 2:
            return super().step_env(key, state, action, params)
        return super().step_env(key, state, action, params)


class VectorOfActions(Counter):
    def step_env(self, key, state, action, params):
        return super().step_env(key, state, action @ jnp.ones(3), params)


class WholeNumberTruncation(Counter):
    def is_truncated(self, state, params):
        return 1 * super().is_truncated(state, params)


class NeverTruncated(Counter):
    def is_truncated(self, state, params):
        return jnp.array(False)


class KeepsTracer(Counter):
    def step_env(self, key, state, action, params):
        self.last_action = action
        return super().step_env(key, state, action, params)


class CountsCalls(Counter):
    calls: int = 0

    def step_env(self, key, state, action, params):
        self.calls = vars(self).get("calls", 0) + 1
        return super().step_env(key, state, action, params)


class CountsCallsInItsRewards(CountsCalls):
    def step_env(self, key, state, action, params):
        obs, state, reward, done, info = super().step_env(key, state, action, params)
        return obs, state, reward + self.calls, done, info


class WritesIntoState(Counter):
    """Has a dict for a state, and changes it in place."""

    def reset_env(self, key, params):
        return jnp.zeros(1), {"time": jnp.int32(0)}

    def step_env(self, key, state, action, params):
        state["time"] += 1
        obs = state["time"].astype(float)[None]
        return obs, state, obs[0], state["time"] >= params.lifetime, {}

    def is_truncated(self, state, params):
        return state["time"] >= params.max_steps_in_episode


class HostDice(Counter):
    """Asks the host for a random number, also when compiled."""

    def step_env(self, key, state, action, params):
        obs, state, reward, done, info = super().step_env(key, state, action, params)
        shape = jax.ShapeDtypeStruct((), reward.dtype)
        dice = jax.pure_callback(
            lambda x: np.random.default_rng().uniform(size=x.shape).astype(x.dtype),
            shape,
            reward,
            vmap_method="broadcast_all",
        )
        return obs, state, dice, done, info


class FirstOfBatch(HostDice):
    """Gives the host's number for one environment to all of the batch."""

    def step_env(self, key, state, action, params):
        obs, state, _, done, info = super(HostDice, self).step_env(key, state, action, params)
        draw = jax.random.uniform(key)
        first = jax.pure_callback(
            lambda x: np.full_like(x, np.ravel(x)[-1]),
            jax.ShapeDtypeStruct((), draw.dtype),
            draw,
            vmap_method="broadcast_all",
        )
        return obs, state, first, done, info


class OtherRewardInStep(Counter):
    def step(self, key, state, action, params=None):
        obs, state, reward, *rest = super().step(key, state, action, params)
        return obs, state, 2.0 * reward, *rest


class OtherTruncationInStep(Counter):
    def step(self, key, state, action, params=None):
        *rest, truncated, info = super().step(key, state, action, params)
        return *rest, truncated & False, info


class OwnStep(Counter):
    """Writes the automatic reset by hand, so that subclasses can leave parts of it out."""

    def step(self, key, state, action, params=None):
        obs, after, reward, terminated, info = self.step_env(key, state, action, params)
        truncated = self.is_truncated(after, params)
        over = terminated | truncated
        first, start = self.reset_env(key, params)
        info = {**info, "final_observation": self.final(obs, first)}
        shown = jnp.where(over, first, obs)
        return shown, self.next(over, start, after), reward, terminated, truncated, info

    def final(self, obs, first):
        return obs

    def next(self, over, start, after):
        return jax.tree.map(lambda new, old: jnp.where(over, new, old), start, after)


class FinalIsFirst(OwnStep):
    def final(self, obs, first):
        return first


class FinalLongerThanOthers(OwnStep):
    def final(self, obs, first):
        return jnp.append(obs, 0.0)


class NeverStartsAgain(OwnStep):
    def next(self, over, start, after):
        return after


@struct.dataclass
class Ticks:
    """A time under another name."""

    ticks: Any


class HiddenClock(OwnStep):
    """Truncates only; its clock, which is not called time, goes on after the end."""

    def reset_env(self, key, params):
        return jnp.zeros(1), Ticks(jnp.int32(0))

    def step_env(self, key, state, action, params):
        after = Ticks(state.ticks + 1)
        return jnp.zeros(1), after, jnp.float32(0), jnp.array(False), {}

    def is_truncated(self, state, params):
        return state.ticks >= params.max_steps_in_episode

    def next(self, over, start, after):
        return Ticks(jnp.where(over, 2, after.ticks))


class NoFinal(Wrapper):
    def step(self, key, state, action, params=None):
        return *self._env.step(key, state, action, params)[:5], {"reward": 0.0}


class ListForInfo(Wrapper):
    def step(self, key, state, action, params=None):
        return *self._env.step(key, state, action, params)[:5], []


class FirstForFinal(Wrapper):
    def step(self, key, state, action, params=None):
        obs, *rest, info = self._env.step(key, state, action, params)
        return obs, *rest, {**info, "final_observation": obs}


class CompiledOtherwise(Counter):
    def step_env(self, key, state, action, params):
        obs, state, reward, done, info = super().step_env(key, state, action, params)
        compiled = isinstance(reward, jax.core.Tracer)
        return obs, state, reward + compiled, done, info


class Unfinished(GymnaxEnvironment):
    """Has the methods by inheritance, and none of its own."""


class FoldsItsLimit(Counter):
    """As before gymnax 1.0: its time limit is one of the ways to end an episode."""

    def step_env(self, key, state, action, params):
        obs, after, reward, done, info = super().step_env(key, state, action, params)
        return obs, after, reward, done | self.is_truncated(after, params), info


class WithTable(Counter):
    """A sound environment with a NumPy table that has no entry for some numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = np.array([1.0, np.nan])
