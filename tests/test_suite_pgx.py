"""Pgx: its own loop and ours, the ends of episodes, masks, learning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_suites import gain

import pgjax
from pgjax.environments import interface
from pgjax.environments.suites import table

pgx = pytest.importorskip("pgx")


def episode(env_id, choose):
    """Its steps until it ends; at most 400."""
    environment = interface.bind(env_id)
    (obs, state), step = environment.reset(jax.random.key(0)), jax.jit(environment.step)
    steps = []
    while len(steps) < 400 and not (steps and (steps[-1].terminated | steps[-1].truncated)):
        steps.append(step(jax.random.key(len(steps)), state, choose(obs)))
        obs, state = steps[-1].obs, steps[-1].env_state
    return steps


def states_of(name, choose, length):
    """As many states that follow the same actions in Pgx's own loop."""
    env = pgx.make(name)
    state, step = env.init(jax.random.key(0)), jax.jit(env.step)
    for time in range(length):
        state = step(state, choose(state), jax.random.key(time))
        yield state


def still(_):
    return jnp.int32(0)


def test_the_names_are_the_games_for_one_player():
    # Of the others only those that are made quickly.
    many = {"chess", "gardner_chess", "go_9x9", "go_19x19", "shogi", "animal_shogi", "hex"}
    alone = [name for name in pgx.available_envs() if name not in many]
    alone = [name for name in alone if pgx.make(name).num_players == 1]
    assert sorted(alone) == list(table.suite("pgx").names())


@pytest.mark.parametrize("env_id", ["pgx/2048?limit=30", "pgx/minatar-breakout"])
def test_it_keeps_to_the_interface(env_id):
    pgjax.check_environment(env_id, num_steps=40)


def test_breakout_until_the_ball_is_lost():
    ours = episode("pgx/minatar-breakout", still)
    for step, state in zip(ours, states_of("minatar-breakout", still, len(ours)), strict=True):
        np.testing.assert_array_equal(step.obs, state.observation)
        assert step.reward == state.rewards[0]
        assert step.terminated == state.terminated
    assert ours[-1].terminated
    assert not ours[-1].truncated


def test_2048_until_no_action_is_left():
    ours = episode("pgx/2048", lambda obs: jnp.argmax(obs["action_mask"]))
    theirs = states_of("2048", lambda state: jnp.argmax(state.legal_action_mask), len(ours))
    for step, state in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(step.obs["board"], state.observation)
        np.testing.assert_array_equal(step.obs["action_mask"], state.legal_action_mask)
        assert step.reward == state.rewards[0]
    assert ours[-1].terminated
    assert not ours[-1].truncated
    assert sum(float(step.reward) for step in ours) > 100.0


def test_a_time_limit_truncates():
    *before, last = episode("pgx/minatar-breakout?limit=3", still)
    assert [bool(step.truncated) for step in before] == [False, False]
    assert last.truncated
    assert not last.terminated
    # As without a limit: the last observation is that of the episode.
    without = episode("pgx/minatar-breakout", still)
    np.testing.assert_array_equal(last.obs, without[2].obs)


def test_the_end_of_freeway_is_a_time_limit():
    environment = interface.bind("pgx/minatar-freeway?limit=2600")
    _, state = environment.reset(jax.random.key(0))

    def later(state, time):
        step = environment.step(jax.random.key(time), state, jnp.int32(0))
        return step.env_state, (step.terminated, step.truncated)

    _, (terminated, truncated) = jax.lax.scan(later, state, jnp.arange(2600))
    # In Pgx itself the 2501st step terminates.
    assert not terminated.any()
    np.testing.assert_array_equal(jnp.flatnonzero(truncated), [2599])


def test_breakout_is_learned():
    config = pgjax.reinforce("pgx/minatar-breakout?limit=60", num_updates=60)
    config = config.replace(network=pgjax.MLP((32,)))
    assert gain(config.replace(**{"sampler.num_trajectories": 64})) > 1.0
