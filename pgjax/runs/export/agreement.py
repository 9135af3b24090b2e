"""An exported policy beside the original: the largest difference over observations of episodes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.core.types import Array, PyTree
from pgjax.runs.export.traced import Exported, Inputs
from pgjax.sampling.rollout import choose, split_each
from pgjax.study.acting_inputs import plain

OBSERVATIONS = 1000
TOLERANCE = 1e-5
_EPISODES = 8  # side by side


def largest_difference(exported: Exported, act: Callable, seed: int = 0) -> float:
    """The largest difference between an export's actions and memories and the original's.

        max |x − y| / max(1, |y|)

    Args:
      exported: the original.
      act: the export: (obs, memory, noise) of one observation -> (action, memory).
      seed: of the episodes in which the original meets the observations.
    """
    inputs, expected = jax.device_get(played(exported, jax.random.key(seed)))
    largest = 0.0
    for row in range(OBSERVATIONS):
        obs, memory, noise = jax.tree.map(lambda x, row=row: x[row], inputs)
        result = act(obs, memory, noise)
        for x, leaf in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
            largest = max(largest, _difference(x, leaf[row]))
    return largest


def _difference(x: Any, expected: Any) -> float:
    x, expected = (np.asarray(value, np.float64) for value in (x, expected))
    with np.errstate(invalid="ignore"):
        gap = np.abs(x - expected) / np.maximum(1.0, np.abs(expected))
    gap = np.where(x == expected, 0.0, np.where(np.isnan(gap), np.inf, gap))
    return float(np.max(gap))


@jax.jit
def played(exported: Exported, key: Array) -> tuple[Inputs, tuple[PyTree, tuple]]:
    """Inputs and outputs of the original in episodes of its own: leaves [OBSERVATIONS, …]."""
    deployed, structure = exported.deployed, exported.noise_structure()
    environment = deployed.environment
    space = environment.observation_space
    start_key, loop_key = jax.random.split(key)
    keys = jax.random.split(loop_key, OBSERVATIONS // _EPISODES)
    memory = tuple(jax.tree.leaves(exported.initial()))
    initial = jax.tree.map(lambda x: jnp.broadcast_to(x, (_EPISODES, *x.shape)), memory)
    start = jax.vmap(environment.reset)(jax.random.split(start_key, _EPISODES))

    def step(carry: tuple, key: Array) -> tuple[tuple, tuple]:
        (obs, env_state), memory = carry
        noise_key, episodes_key = jax.random.split(key)
        step_keys, reset_keys = split_each(jax.random.split(episodes_key, _EPISODES), 2)
        noise = deployed.policy.noise(noise_key, (_EPISODES,)) if structure.num_leaves else ()
        inputs = Inputs(plain(obs, space), memory, tuple(jax.tree.leaves(noise)))
        action, next_memory = jax.vmap(exported)(inputs)
        after = jax.vmap(environment.step)(step_keys, env_state, action)
        running = ~(after.terminated | after.truncated)
        place = jax.vmap(environment.restart)(reset_keys, after.obs, after.env_state, running)
        return (place, choose(running, next_memory, initial)), (inputs, (action, next_memory))

    _, rows = jax.lax.scan(step, (start, initial), keys)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
