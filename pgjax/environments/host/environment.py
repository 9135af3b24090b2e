"""An environment on the host, as an `Environment`: one call for all environments of a step."""

import weakref
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.experimental import io_callback

from pgjax.core.types import Array, PyTree
from pgjax.environments import bounds, spaces
from pgjax.environments.environment import Environment, Step
from pgjax.environments.host import failure
from pgjax.environments.host.pools import Maker, Pools, Tokens

_INT, _FLAG = (jax.ShapeDtypeStruct((), dtype) for dtype in (jnp.int32, jnp.bool_))
_TOKEN = Tokens(_INT, _INT)


class HostEnvironment(Environment):
    """Gymnasium's environments in Python, side by side, called back from compiled programs.

    All of one step are one call. A call is made exactly once, and in order: each takes what the one
    before gave. `reset` is seeded from the key, `step` ignores its key. The state is a token, not
    the environment: a state can be gone on with once, and what comes too late begins new episodes.

    Attributes:
      metadata: Gymnasium's, "render_modes" and "render_fps" for instance.

    Args:
      name: for messages.
      make: makes one environment, whose interface was looked at.
      probe: one that it made.
      processes: how many they are divided over; 1: this one.
      make_drawn: makes one with `render_mode="rgb_array"`, where the environment has that mode.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], gymnasium.Env],
        probe: gymnasium.Env,
        processes: int,
        make_drawn: Callable[[], gymnasium.Env],
    ) -> None:
        self._name, self._limit = name, _limit(probe)
        self.make_drawn, self.metadata = make_drawn, dict(probe.metadata or {})
        self._observation_space = spaces.read(f"{name}: observation_space", probe.observation_space)
        self._action_space = spaces.read(f"{name}: action_space", probe.action_space)
        self._host_actions = probe.action_space
        host_spaces = (probe.observation_space, probe.action_space)
        self._pools = Pools(Maker(name, make, host_spaces), processes)
        failure.HOSTS.add(self)
        # Also at the end of the process.
        weakref.finalize(self, self._pools.close)

    @property
    def name(self) -> str:
        return self._name

    @property
    def limit(self) -> int | None:
        return self._limit

    @property
    def observation_space(self) -> Any:
        return self._observation_space

    @property
    def action_space(self) -> Any:
        return self._action_space

    @property
    def bounds(self) -> Any:
        return bounds.of_space(self.name, self._action_space)

    @property
    def on_host(self) -> bool:
        return True

    def close(self) -> None:
        """Closes the environments; who goes on begins new episodes."""
        self._pools.close()

    def reset(self, key: Array) -> tuple[PyTree, PyTree]:
        def reset(seeds: np.ndarray) -> tuple[PyTree, Tokens]:
            obs, tokens = self._pools.reset(seeds)
            return _cast(self._observation_space, obs), tokens

        return self._called(reset, (self._obs, _TOKEN))(_seed(key))

    def step(self, key: Array, env_state: PyTree, action: PyTree) -> Step:
        number = jax.ShapeDtypeStruct((), jnp.result_type(float))
        shapes: Any = (self._obs, _TOKEN, number, _FLAG, _FLAG)

        def step(tokens: Tokens, actions: PyTree) -> tuple:
            results = self._pools.step(tokens, _cast(self._host_actions, actions))
            if results is None:
                obs, _, *rest = _blank(shapes, len(tokens.pool))
                return obs, tokens, *rest
            obs, tokens, rewards, *ends = results
            obs = _cast(self._observation_space, obs)
            return obs, tokens, rewards.astype(number.dtype), *ends

        return Step(*self._called(step, shapes)(env_state, action))

    def restart(
        self, key: Array, obs: PyTree, env_state: PyTree, running: Array
    ) -> tuple[PyTree, PyTree]:
        def restart(tokens: Tokens, running: np.ndarray, seeds: np.ndarray):
            obs, tokens = self._pools.restart(tokens, running, seeds)
            return _cast(self._observation_space, obs), tokens

        call = self._called(restart, (self._obs, _TOKEN))
        start, env_state = call(env_state, running, _seed(key))
        return jax.tree.map(lambda x, y: jnp.where(running, x, y), obs, start), env_state

    def resumed(self, env_state: PyTree, running: Array) -> tuple[PyTree, Array]:
        return self._called(self._pools.hold, (_TOKEN, _FLAG))(env_state, running)

    @property
    def _obs(self) -> PyTree:
        return spaces.example(self._observation_space)

    def _called(self, function: Callable, shapes: PyTree) -> Callable:
        """A call of one environment, all of which are one call of `function` under `vmap`.

        Args:
          function: NumPy arrays [n, …] to NumPy arrays [n, …]; it must not use JAX, which may wait
            for the program that waits for it.
          shapes: its results without the first axis.
        """

        def together(*args: PyTree) -> PyTree:
            number = jax.tree.leaves(args)[0].shape[0]
            many = jax.tree.map(lambda x: jax.ShapeDtypeStruct((number, *x.shape), x.dtype), shapes)
            return io_callback(lambda *args: function(*jax.tree.map(np.asarray, args)), many, *args)

        once = custom_vmap(together)

        @once.def_vmap
        def _(axis_size: int, in_batched: Any, *args: PyTree):
            raise ValueError(
                f"{self.name} runs on the host, for one training at a time: no vmap over seeds, "
                "settings or estimates, and no sweep; call train or run once for each"
            )

        @custom_vmap
        def alone(*args: PyTree) -> PyTree:
            return jax.tree.map(lambda x: x[0], once(*jax.tree.map(lambda x: x[None], args)))

        @alone.def_vmap
        def _(axis_size: int, in_batched: Any, *args: PyTree):
            def filled(x: Array, batched: bool) -> Array:
                return x if batched else jnp.broadcast_to(x, (axis_size, *x.shape))

            results = once(*jax.tree.map(filled, args, tuple(in_batched)))
            return results, jax.tree.map(lambda _: True, results)

        return alone


def _seed(key: Array) -> Array:
    return jax.random.randint(key, (), 0, np.iinfo(np.int32).max)


def _cast(space: Any, values: PyTree) -> PyTree:
    """Values [n, …] in the dtypes of a space, copied."""
    children = spaces.children(space)
    if children is None:
        return np.array(values, space.dtype)
    return spaces.joined(
        space, {name: _cast(child, spaces.entry(values, name)) for name, child in children.items()}
    )


def _blank(shapes: PyTree, number: int) -> PyTree:
    return jax.tree.map(lambda x: np.zeros((number, *x.shape), x.dtype), shapes)


def _limit(env: gymnasium.Env) -> int | None:
    """The time limit, of the spec or of a wrapper that is in none."""
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, gymnasium.wrappers.TimeLimit):
            return layer._max_episode_steps
        layer = layer.env
    return env.spec.max_episode_steps if env.spec else None
