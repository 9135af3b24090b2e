"""Environments with known answers, and broken ones."""

import dataclasses
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
from flax import struct

from pgjax.environments.interface import EnvParams, EnvState, GymnaxEnvironment, spaces


@struct.dataclass
class CounterParams(EnvParams):
    """An episode that terminates after `lifetime` steps, if the time limit is not reached first."""

    lifetime: int = 3
    max_steps_in_episode: int = 5


class Counter(GymnaxEnvironment):
    """Observes the time, gives it as the reward, terminates after `lifetime` steps."""

    def __init__(self, lifetime: int = 3, limit: int = 5) -> None:
        self._params = CounterParams(lifetime=lifetime, max_steps_in_episode=limit)

    @property
    def default_params(self) -> CounterParams:
        return self._params

    def reset_env(self, key, params):
        return jnp.zeros(1), EnvState(time=0)

    def step_env(self, key, state, action, params):
        state = EnvState(time=state.time + 1)
        obs = jnp.asarray([state.time], float)
        return obs, state, obs[0], state.time >= params.lifetime, {}

    def action_space(self, params=None) -> Any:
        return spaces.Discrete(2)

    def observation_space(self, params=None) -> Any:
        return spaces.Box(0.0, 100.0, (1,))


@struct.dataclass
class ContactState(EnvState):
    """The forces of no contacts, as a physics has them whose model allows none."""

    forces: Any = None


class Contactless(Counter):
    """Has an array without elements in its state."""

    def reset_env(self, key, params):
        return jnp.zeros(1), ContactState(time=0, forces=jnp.zeros((0, 3)))

    def step_env(self, key, state, action, params):
        obs, after, reward, terminated, info = super().step_env(key, state, action, params)
        return obs, state.replace(time=after.time), reward, terminated, info


class FiveValues(Counter):
    """Has the `step` of gymnax before 1.0, of five values."""

    def step(self, key, state, action, params=None):
        obs, state, reward, done, info = self.step_env(key, state, action, params)
        return obs, state, reward, done, info


class VectorReward(Counter):
    """A reward that is not a scalar."""

    def step_env(self, key, state, action, params):
        obs, state, _, done, info = super().step_env(key, state, action, params)
        return obs, state, obs, done, info


class DriftingState(Counter):
    """A state that changes its dtype with the first step."""

    def step_env(self, key, state, action, params):
        obs, state, reward, done, info = super().step_env(key, state, action, params)
        return obs, EnvState(time=state.time * 1.0), reward, done, info


class UnboundedActions(Counter):
    """A Box without bounds; the reward is −(a − 3)², so the best action is 3."""

    def step_env(self, key, state, action, params):
        obs, state, _, done, info = super().step_env(key, state, action, params)
        return obs, state, -jnp.sum(jnp.square(action - 3.0)), done, info

    def action_space(self, params=None) -> Any:
        return spaces.Box(-jnp.inf, jnp.inf, (1,))


class LegalActionsOnly(Counter):
    """A Box [−0.5, 2] × [0, 1] whose reward is 1 for a legal action and −1000 for any other."""

    low, high = jnp.array([-0.5, 0.0]), jnp.array([2.0, 1.0])

    def step_env(self, key, state, action, params):
        obs, state, _, done, info = super().step_env(key, state, action, params)
        legal = jnp.all((action >= self.low) & (action <= self.high))
        return obs, state, jnp.where(legal, 1.0, -1000.0), done, info

    def action_space(self, params=None) -> Any:
        return spaces.Box(self.low, self.high, (2,))


class TextActions(Counter):
    """An action space without a head."""

    def action_space(self, params=None) -> Any:
        return spaces.Dict({"a": gymnasium.spaces.Text(3)})


@struct.dataclass
class EndlessParams:
    """No time limit."""

    lifetime: int = 1000


class Endless(Counter):
    """Has no `max_steps_in_episode`."""

    @property
    def default_params(self) -> EndlessParams:
        return EndlessParams()

    def is_truncated(self, state, params):
        return jnp.array(False)


class Unhashable(Counter):
    """Compares by value, and so has no hash."""

    __hash__ = None


@struct.dataclass
class KeyedState(EnvState):
    """Holds the key that its next reward is drawn from, and two of another implementation."""

    key: Any = None
    others: Any = None


class KeyedCounter(Counter):
    """Draws its rewards from a key in its state."""

    def reset_env(self, key, params):
        own = jax.random.key(jax.random.bits(key), impl="rbg")
        return jnp.zeros(1), KeyedState(time=0, key=own, others=jax.random.split(key, 2))

    def step_env(self, key, state, action, params):
        obs, after, _, done, info = super().step_env(key, state, action, params)
        own, reward_key = jax.random.split(state.key)
        after = KeyedState(time=after.time, key=own, others=state.others)
        return obs, after, jax.random.uniform(reward_key) + action, done, info


class Spaces(Counter):
    """Has the given spaces, or those of `Counter`."""

    def __init__(self, observations: Any = None, actions: Any = None) -> None:
        super().__init__()
        self._spaces = observations, actions

    def observation_space(self, params=None):
        given = self._spaces[0]
        return super().observation_space(params) if given is None else given

    def action_space(self, params=None):
        given = self._spaces[1]
        return super().action_space(params) if given is None else given


class TupleParams(NamedTuple):
    """The parameters of `Counter` as a NamedTuple."""

    lifetime: int = 2
    max_steps_in_episode: int = 4


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class PlainParams:
    """The parameters of `Counter` without a method `replace`."""

    lifetime: int = 2
    max_steps_in_episode: Any = 4


class WithParams(Counter):
    """A `Counter` with the given parameters."""

    def __init__(self, params: Any) -> None:
        self._params = params


@struct.dataclass
class SizedParams(EnvParams):
    """A number of arms, which sizes the observation."""

    lifetime: int = 3
    arms: int = 4
    max_steps_in_episode: int = 5


class Sized(WithParams):
    """Observes as many zeros as it has arms."""

    def reset_env(self, key, params):
        return jnp.zeros(params.arms), EnvState(time=0)

    def step_env(self, key, state, action, params):
        _, *rest = super().step_env(key, state, action, params)
        return jnp.zeros(params.arms), *rest

    def observation_space(self, params=None):
        return spaces.Box(0.0, 1.0, (params.arms,))


@jax.tree_util.register_pytree_node_class
class Uncomparable:
    """A state without `__eq__`."""

    def __init__(self, time: Any) -> None:
        self.time = time

    def tree_flatten(self):
        return (self.time,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


class UncomparableState(Counter):
    """A sound environment whose state has no `__eq__`."""

    def reset_env(self, key, params):
        return jnp.zeros(1), Uncomparable(0)

    def step_env(self, key, state, action, params):
        obs, after, *rest = super().step_env(key, state, action, params)
        return obs, Uncomparable(after.time), *rest


class ObservesTime(Counter):
    """Has an observation with an entry called time."""

    def reset_env(self, key, params):
        return {"time": jnp.zeros(1)}, EnvState(time=0)

    def step_env(self, key, state, action, params):
        obs, *rest = super().step_env(key, state, action, params)
        return {"time": obs}, *rest

    def observation_space(self, params=None):
        return spaces.Dict({"time": spaces.Box(0.0, 100.0, (1,))})


@struct.dataclass
class ContextState(EnvState):
    """The cue to repeat, and a number that the reward depends on and no action changes."""

    cue: Any = None
    context: Any = None


class HiddenContext(Counter):
    """Pays 1 for repeating the cue in "obs", and `scale` times the normal number in "state", which
    no action changes: U is the probability of the right action, each gradient full of noise."""

    def __init__(self, scale: float = 100.0) -> None:
        super().__init__(lifetime=1, limit=1)
        self.scale = scale

    def reset_env(self, key, params):
        cue_key, context_key = jax.random.split(key)
        cue = jax.random.bernoulli(cue_key).astype(jnp.int32)
        state = ContextState(time=0, cue=cue, context=jax.random.normal(context_key))
        return self.observed(state), state

    def step_env(self, key, state, action, params):
        reward = self.scale * state.context + (action == state.cue)
        return self.observed(state), state.replace(time=1), reward, True, {}

    def observed(self, state):
        return {"obs": 2.0 * state.cue[None] - 1.0, "state": state.context[None]}

    def observation_space(self, params=None):
        parts = {"obs": (1,), "state": (1,)}
        return spaces.Dict({n: spaces.Box(-jnp.inf, jnp.inf, shape) for n, shape in parts.items()})
