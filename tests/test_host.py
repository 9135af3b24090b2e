"""Environments of Gymnasium on the host: what is called, how often, and what is learned."""

import asyncio
import functools
import json

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces
from host_environments import Breaks, Dice, TwoArguments

import pgjax
from pgjax.cli.main import main
from pgjax.core import distribution
from pgjax.environments import interface
from pgjax.environments.host.pools import Maker, Pools
from pgjax.environments.suites import gymnasium as suite_of_gymnasium
from pgjax.environments.suites import suite, table
from pgjax.environments.suites.gymnasium import Gymnasium
from pgjax.training import presets

SMALL = {"network": pgjax.MLP((8,)), "num_updates": 2}


class Logged(gymnasium.Wrapper):
    """Writes down every call, in a list of its own."""

    def __init__(self, env, logs):
        super().__init__(env)
        self.log = []
        logs.append(self.log)

    def reset(self, *, seed=None, options=None):
        obs, info = self.env.reset(seed=seed)
        self.log.append(("reset", seed, obs))
        return obs, info

    def step(self, action):
        result = self.env.step(action)
        self.log.append(("step", action, *result[:4]))
        return result


def logged(make):
    """The environment, and the logs of those that train: the first one was looked at."""
    logs = []
    env = pgjax.from_gymnasium(lambda: Logged(make(), logs))
    del logs[:]
    return env, logs


def cart_pole(limit=9):
    return gymnasium.make("CartPole-v1", max_episode_steps=limit)


def dice(limit=4):
    return gymnasium.wrappers.TimeLimit(Dice(), limit)


def streams(env, num_envs=3, length=20, **fields):
    sampler = pgjax.Segments(num_envs, length)
    return pgjax.Config(env, sampler=sampler, estimator=pgjax.GAE(), **{**SMALL, **fields})


def rows_of(config, number):
    """The rows of consecutive updates, and the observations after them."""
    state = pgjax.init(jax.random.key(0), config)
    parts = []
    for seed in range(number):
        tau = pgjax.sample_trajectories(jax.random.key(seed), state, config)
        state, _ = pgjax.update(state, config)
        parts.append(tau)
    return parts


def assert_same(given, expected):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), given, expected)


def at(tree, *index):
    return jax.tree.map(lambda x: x[index], tree)


def ends_by_hand(make):
    """How episodes of a stream end, which is compared with what Gymnasium gives by hand."""
    env, logs = logged(make)
    config = streams(env)
    state = pgjax.init(jax.random.key(0), config)
    tau = pgjax.sample_trajectories(jax.random.key(1), state, config)
    ends = {"terminated": 0, "truncated": 0}
    assert len(logs) == 3
    for i, log in enumerate(logs):
        assert len(log) == 21  # the first reset, and one call a row
        by_hand = make()
        for row, (call, *_) in enumerate(log):
            if call == "reset":
                obs = by_hand.reset(seed=log[row][1])[0]
                if row:
                    assert not tau.valid[row - 1, i]
            else:
                action = log[row][1]
                if action.dtype.kind == "i":  # a Box gets what is squashed or clipped
                    np.testing.assert_array_equal(tau.action[row - 1, i], action)
                obs, reward, terminated, truncated, _ = by_hand.step(action)
                assert tau.valid[row - 1, i]
                np.testing.assert_allclose(tau.reward[row - 1, i], np.float32(reward))
                assert tau.terminated[row - 1, i] == terminated
                assert tau.truncated[row - 1, i] == truncated
                ends["terminated"] += terminated
                ends["truncated"] += truncated
            following = at(tau.obs, row, i) if row < 20 else at(tau.final_obs, i)
            assert_same(following, obs)
    return ends


@pytest.mark.parametrize("make", [cart_pole, dice])
def test_a_stream_is_what_gymnasium_gives_by_hand(make):
    ends = ends_by_hand(make)
    assert ends["truncated"] > 0
    assert (ends["terminated"] > 0) == (make is dice)


def test_whole_episodes_rest_after_their_end():
    env, logs = logged(dice)
    config = pgjax.Config(env, sampler=pgjax.Episodes(4), **SMALL)
    state = pgjax.init(jax.random.key(0), config)
    for seed in range(2):  # the same four environments
        tau = pgjax.sample_trajectories(jax.random.key(seed), state, config)
        assert len(logs) == 4
        for i, log in enumerate(logs):
            assert [call for call, *_ in log] == ["reset", *["step"] * int(tau.valid[:, i].sum())]
            assert (tau.terminated | tau.truncated)[:, i].sum() == 1
            del log[:]


def test_a_time_limit_truncates_and_the_last_observation_is_the_true_one():
    env, logs = logged(lambda: gymnasium.make("Pendulum-v1", max_episode_steps=7))
    assert env.limit == 7
    config = pgjax.Config(env, sampler=pgjax.Episodes(2), **SMALL)
    state = pgjax.init(jax.random.key(0), config)
    tau = pgjax.sample_trajectories(jax.random.key(1), state, config)
    assert not tau.terminated.any()
    np.testing.assert_array_equal(tau.truncated, np.arange(7)[:, None].repeat(2, 1) == 6)
    for i, log in enumerate(logs):
        observed = [log[0][2], *(obs for _, _, obs, *_ in log[1:])]
        np.testing.assert_allclose([*tau.obs[:, i], tau.final_obs[i]], observed, rtol=1e-6)


def test_cart_pole_is_learned_and_an_evaluation_in_between_changes_nothing():
    config = pgjax.ppo("gymnasium/CartPole-v1", num_updates=12)
    config = config.replace(**{"sampler.num_envs": 8, "sampler.length": 128})
    state, metrics = pgjax.train(jax.random.key(0), config)
    assert metrics.finite.all()
    evaluation = pgjax.evaluate(jax.random.key(1), state, config, 8)
    assert evaluation.mean > 100
    again = pgjax.init(jax.random.key(0), config)
    for _ in range(2):
        again, _ = pgjax.update(again, config)
        pgjax.evaluate(jax.random.key(2), again, config, 8)
        pgjax.evaluate(jax.random.key(2), again, config, 5)
    third = pgjax.update(again, config)[1]
    np.testing.assert_allclose(third.episode_return, metrics.episode_return[2], rtol=1e-5)


def test_a_state_that_others_went_on_with_begins_new_episodes():
    env, _ = logged(cart_pole)
    config = streams(env)
    state = pgjax.init(jax.random.key(0), config)
    first = pgjax.sample_trajectories(jax.random.key(1), state, config)
    assert first.valid[0].all()
    for close in (False, True):
        if close:
            env.close()
        second = pgjax.sample_trajectories(jax.random.key(1), state, config)
        np.testing.assert_array_equal(second.valid[:2], [[False] * 3, [True] * 3])
        np.testing.assert_array_equal(second.reward[0], 0)
    following, metrics = pgjax.update(state, config)
    assert metrics.finite
    assert not np.array_equal(following.streams.carry.env_state.pool, [-1] * 3)


def test_a_run_is_resumed_with_new_episodes(tmp_path):
    config = streams("gymnasium/CartPole-v1", time_aware=True)
    result = pgjax.run(config, directory=tmp_path / "run")
    interface.make(config.env).close()  # as when the process ends
    loaded, same = pgjax.load(tmp_path / "run")
    assert same.env == config.env
    assert_same(loaded.params, result.state.params)
    further = pgjax.resume(tmp_path / "run", num_updates=4)
    assert further.metrics.finite.all()
    assert int(further.state.num_updates) == 4
    assert int(further.state.env_steps) <= 4 * 60 - 3  # a row without a step in each stream


def test_pools_of_two_processes_give_the_numbers_of_one():
    results = []
    for processes in (1, 2):
        pools = pools_of(Dice, processes)
        obs, tokens = pools.reset(seeds(4))
        results.append([jax.tree.map(np.copy, obs)])
        for action in ([0, 1], [2, 0]):
            obs, tokens, *rest = pools.step(tokens, np.tile(action, (4, 1)))
            results[-1].append((jax.tree.map(np.copy, obs), *rest))
        pools.close()
    jax.tree.map(np.testing.assert_array_equal, *results)


@pytest.mark.slow  # compiles twice
def test_processes_give_the_same_numbers():
    states = []
    for processes in (1, 2):
        env = pgjax.from_gymnasium(dice, processes=processes)
        states.append(pgjax.train(jax.random.key(0), streams(env, num_envs=4))[0])
        env.close()
    assert_same(states[0].params, states[1].params)


def test_large_arrays_of_many_environments_do_not_wait_for_each_other():
    class Wide(Dice):
        observation_space = spaces.Box(-1.0, 1.0, (20_000,), np.float32)
        action_space = spaces.Box(-1.0, 1.0, (2_000,), np.float32)

        def _obs(self):
            self.die = 0
            return np.full(20_000, self.time / 99, np.float32)

    env = pgjax.from_gymnasium(Wide, limit=3)
    config = streams(env, num_envs=64, length=4, network=pgjax.MLP((2,)))
    tau = pgjax.sample_trajectories(
        jax.random.key(0), pgjax.init(jax.random.key(1), config), config
    )
    times = tau.obs[:, :, 0] * 99
    np.testing.assert_allclose(times, np.arange(4.0)[:, None].repeat(64, 1), rtol=1e-5)


# `.ci/suites` runs it with the newest MuJoCo.
@pytest.mark.filterwarnings("ignore")
def test_mujoco():
    pytest.importorskip("mujoco", reason="needs the extra pgjax-rl[mujoco]")
    ends = ends_by_hand(lambda: gymnasium.make("HalfCheetah-v5", max_episode_steps=9))
    assert ends == {"terminated": 0, "truncated": 3 * 2}  # nothing but the limit ends it
    config = pgjax.Config("gymnasium/Hopper-v5?limit=6", sampler=pgjax.Episodes(2), **SMALL)
    _, metrics = pgjax.train(jax.random.key(0), config)
    assert metrics.finite.all()
    np.testing.assert_array_equal(metrics.episode_length, [6, 6])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("env_id", presets.hosts_tuned())
def test_a_preset_traces(env_id):
    pytest.importorskip("mujoco", reason="needs the extra pgjax-rl[mujoco]")
    config = pgjax.preset(env_id)
    assert pgjax.preset(f"{env_id}?processes=2") == config.replace(env=f"{env_id}?processes=2")
    assert config.num_updates * config.sampler.num_steps >= 10**6
    _, metrics = jax.eval_shape(pgjax.train, jax.random.key(0), config.replace(num_updates=3))
    assert metrics.episode_return.shape == (3,)


def pools_of(make, processes=1):
    probe = make()
    spaces = probe.observation_space, probe.action_space
    return Pools(Maker("Mine", make, spaces), processes)


def pools_of_one_step():
    """Pools of environments whose reward is 0, and every vector environment that they make."""
    return pools_of(lambda: gymnasium.make("CartPole-v1"))


def seeds(number):
    return np.arange(number)


def test_whoever_holds_a_pool_keeps_it():
    pools, running = pools_of_one_step(), np.ones(2, bool)
    _, tokens = pools.reset(seeds(2))
    tokens, going = pools.hold(tokens, running)
    assert going.all()
    for number in (2, 3, 4, 5, 6, 2):
        pools.reset(seeds(number))
    assert pools.hold(tokens, running)[1].all()
    # Four others that are held, and the first one is closed.
    for _ in range(4):
        pools.hold(pools.reset(seeds(2))[1], running)
    assert not pools.hold(tokens, running)[1].any()
    pools.close()


def test_whoever_goes_on_with_an_earlier_state_takes_the_same_environments():
    made = []
    pools = pools_of(lambda: made.append(1) or gymnasium.make("CartPole-v1"))
    del made[:]
    running, actions = np.ones(2, bool), np.zeros(2, int)
    _, old = pools.reset(seeds(2))
    for _ in range(3):
        lost, going = pools.hold(old, running)
        tokens = lost
        if not going.any():
            assert pools.step(lost, actions) is None
            _, tokens = pools.restart(lost, going, seeds(2))
        _, tokens, rewards, *_ = pools.step(tokens, actions)
        np.testing.assert_array_equal(rewards, [1, 1])
    assert len(made) == 2
    pools.close()


def test_tokens_of_the_past_are_refused_where_an_episode_runs():
    pools, actions = pools_of_one_step(), np.zeros(2, int)
    _, old = pools.reset(seeds(2))
    _, tokens, rewards, *_ = pools.step(old, actions)
    np.testing.assert_array_equal(rewards, [1, 1])
    with pytest.raises(pgjax.EnvironmentFailure, match="these environments have gone on"):
        pools.step(old, actions)
    mixed = type(old)(tokens.pool, np.array([tokens.calls[0], old.calls[1]]))
    mixed, going = pools.hold(mixed, np.ones(2, bool))
    np.testing.assert_array_equal(going, [True, False])
    _, mixed, *_ = pools.step(mixed, actions)
    _, mixed = pools.restart(mixed, going, seeds(2))
    assert pools.hold(mixed, np.ones(2, bool))[1].all()
    pools.close()


def test_an_error_in_an_environment_closes_its_pool():
    pools = pools_of_one_step()
    _, tokens = pools.reset(seeds(2))
    with pytest.raises(pgjax.EnvironmentFailure, match=r"^Mine raised AssertionError: ") as failure:
        pools.step(tokens, np.full(2, 9))
    assert isinstance(failure.value.__cause__, AssertionError)
    assert not pools.hold(tokens, np.ones(2, bool))[1].any()


FAILURES = {
    ("make", 1): (OSError, "OSError: no licence"),
    ("make", 2): (OSError, "OSError: no licence"),
    ("reset", 1): (TwoArguments, "TwoArguments: the broker is gone"),
    ("reset", 2): (RuntimeError, "RuntimeError: TwoArguments: the broker is gone"),
    ("step", 2): (KeyError, "KeyError: 'valve'"),
    ("exit", 1): (SystemExit, "SystemExit: 3"),
    ("exit", 2): (SystemExit, "SystemExit: 3"),
    ("cancel", 1): (asyncio.CancelledError, "CancelledError"),
    ("process", 2): (RuntimeError, "RuntimeError: a process of the environments has ended"),
    ("kill", 2): (RuntimeError, "RuntimeError: a process of the environments has ended"),
}


@pytest.mark.parametrize(("where", "expected"), FAILURES.items(), ids=map(str, FAILURES))
def test_an_exception_has_the_environments_name_and_is_the_cause(where, expected):
    (part, processes), (kind, text) = where, expected
    # The process that trains makes one first.
    makeable = {1: 2, 2: 1}[processes] if part == "make" else 99
    pools = pools_of(functools.partial(Breaks, part, makeable), processes)
    number = 2 * processes
    with pytest.raises(pgjax.EnvironmentFailure) as failure:  # noqa: PT012
        _, tokens = pools.reset(seeds(number))
        pools.step(tokens, np.zeros((number, 2), int))
    assert str(failure.value) == f"Mine raised {text}"
    cause = failure.value.__cause__
    assert type(cause).__name__ == kind.__name__
    if processes == 2 and part not in ("process", "kill"):
        assert "in " + {"make": "__init__", "exit": "step"}.get(part, part) in cause.__notes__[0]
    # The pool is closed, and the next one is as good as its environments.
    assert not pools._pools


def test_a_failing_environment_ends_a_program_in_one_line(tmp_path, capsys, monkeypatch):
    gymnasium.register("Breaks-v0", entry_point=Breaks)
    run = ["train", "gymnasium/Breaks-v0?limit=4", "--sampler.num-trajectories", "2"]
    monkeypatch.setattr(Gymnasium, "names", lambda self: ["Breaks-v0"])
    # One that was looked at has had a step without an error.
    monkeypatch.setattr(suite_of_gymnasium, "_check", lambda *args: None)
    try:
        assert main([*run, "--network.hidden-sizes", "2", "--directory", str(tmp_path / "a")]) == 1
    finally:
        del gymnasium.registry["Breaks-v0"]
    assert capsys.readouterr().err == "pgjax: Breaks-v0 raised KeyError: 'valve'\n"


def test_a_checkpoint_whose_id_is_no_longer_registered_is_refused_and_kept(tmp_path, capsys):
    gymnasium.register("Gone-v0", entry_point=Dice)
    config = streams("gymnasium/Gone-v0?limit=3")
    pgjax.save(tmp_path / "saved", pgjax.init(jax.random.key(0), config), config)
    del gymnasium.registry["Gone-v0"]
    for cache in (table.make, suite._made):  # as in another process
        cache.cache_clear()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    contents = [path.read_bytes() for path in files]
    for command in ("evaluate", "render"):
        assert main([command, str(tmp_path / "saved")]) == 2
        errors = capsys.readouterr().err
        assert errors.startswith("pgjax: unknown gymnasium environment 'Gone-v0'; ")
        assert errors.count("\n") == 1
    assert [path.read_bytes() for path in files] == contents


class FourValues(Dice):
    """`step` as it was in Gym before 0.26."""

    def step(self, action):
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, info


class NoInfo(Dice):
    """`reset` as it was in Gym before 0.26."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class NoSeed(Dice):
    def reset(self):
        return super().reset()


class Words(Dice):
    observation_space = spaces.Text(5)


class WrongShape(Dice):
    observation_space = spaces.Box(0.0, 1.0, (3,))

    def _obs(self):
        self.die = 0
        return np.zeros(2, np.float32)


class VectorReward(Dice):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, np.zeros(1), *rest


ERRORS = [
    ("CartPole-v9", ValueError, "unknown gymnasium environment 'CartPole-v9'.*CartPole-v1"),
    (Dice(), TypeError, "env must be a Gymnasium id or a function that makes one environment"),
    (object, TypeError, "object must be a gymnasium.Env, got builtins.object; Gym's before"),
    (
        lambda: gymnasium.make_vec("CartPole-v1", num_envs=2),
        TypeError,
        "is a vector environment: give what makes one environment",
    ),
    (FourValues, TypeError, "FourValues: step must give 5 values.*got 4"),
    (NoInfo, TypeError, "NoInfo: reset.seed=0. must give 2 values, obs and info"),
    (NoSeed, TypeError, "NoSeed: reset.*it raised TypeError: .*unexpected keyword argument"),
    (Words, TypeError, "Words: observation_space must be made of Box, Discrete"),
    (
        WrongShape,
        ValueError,
        r"WrongShape: observation of reset.*expected the shape \(3,\)",
    ),
    (
        VectorReward,
        ValueError,
        r"VectorReward: reward of step 1: expected a finite number",
    ),
]


@pytest.mark.parametrize(("env", "kind", "message"), ERRORS)
def test_what_is_no_environment_is_refused(env, kind, message):
    with pytest.raises(kind, match=message):
        pgjax.from_gymnasium(env)


def test_the_namespace_of_a_package_that_is_not_imported_is_named():
    with pytest.raises(
        ValueError, match=r"namespace 'ALE' of gymnasium/ALE/Pong-v5: .*pip install"
    ):
        pgjax.from_gymnasium("ALE/Pong-v5")
    with pytest.raises(
        ValueError, match=r"namespace 'mine' of gymnasium/mine/Pump-v0: .*--import$"
    ):
        pgjax.from_gymnasium("mine/Pump-v0")


def test_a_missing_dependency_is_one_sentence_with_a_command(monkeypatch):
    def make(name):
        raise gymnasium.error.DependencyNotInstalled("Box2D is not installed,\nrun `pip install x`")

    monkeypatch.setattr(gymnasium, "make", make)
    sentence = "gymnasium/LunarLander-v3 cannot be made here: Box2D is not installed, run `pip"
    with pytest.raises(distribution.MissingExtra, match=f"^{sentence}"):
        pgjax.from_gymnasium("LunarLander-v3")


def test_processes_are_1_to_1024_and_mujoco_is_an_extra(monkeypatch):
    for number, bound in ((0, "at least 1"), (1025, "at most 1024")):
        sentence = f"processes must be {bound}, got {number}"
        with pytest.raises(ValueError, match=sentence):
            pgjax.from_gymnasium("CartPole-v1", processes=number)
        with pytest.raises(ValueError, match=sentence):
            interface.make(f"gymnasium/CartPole-v1?processes={number}")

    def make(name):
        raise gymnasium.error.DependencyNotInstalled("MuJoCo is not installed")

    monkeypatch.setattr(gymnasium, "make", make)
    with pytest.raises(ImportError, match=r"need the extra: pip install 'pgjax-rl\[mujoco\]'"):
        pgjax.from_gymnasium("Swimmer-v5")


def test_ids_leave_out_what_computes_with_jax():
    names = Gymnasium().names()
    assert "CartPole-v1" in names
    assert not any("phys2d" in name for name in names)
    # What only says that it has moved.
    assert "HalfCheetah-v5" in names
    assert "HalfCheetah-v3" not in names
    assert "GymV26Environment-v0" not in names


def test_what_a_host_cannot_do_is_refused_before_compilation(tmp_path):
    config, key = streams("gymnasium/CartPole-v1", num_envs=8), jax.random.key(0)
    keys = jax.random.split(key, 2)
    with pytest.raises(ValueError, match=r"^CartPole-v1 runs on the host.*no vmap over seeds"):
        jax.vmap(pgjax.train, in_axes=(0, None))(keys, config)
    with pytest.raises(ValueError, match="no vmap over seeds, settings or estimates"):
        pgjax.gradient_statistics(key, pgjax.init(key, config), config, 2)
    with pytest.raises(ValueError, match=r"^CartPole-v1 runs on the host: no sweep trains it"):
        pgjax.sweep(key, config, {"optimizer.learning_rate": [0.1]}, 1, directory=tmp_path / "s")
    assert not (tmp_path / "s").exists()
    with pytest.raises(ValueError, match=r"^CartPole-v1 runs on the host: it takes one device"):
        pgjax.train(key, config, pgjax.make_mesh(2))
    with pytest.raises(ValueError, match="check_environment looks at pure functions"):
        pgjax.check_environment(config.env)
    with pytest.raises(TypeError, match="env_params must be a NoneType"):
        pgjax.train(key, config.replace(env_params=3.0))
    assert pgjax.memory_estimate(config).total > 0


def test_the_command_line_takes_one_device(tmp_path, capsys):
    run, flags = tmp_path / "run", ["--num-updates", "1", "--eval-episodes", "2"]
    env = "gymnasium/CartPole-v1?limit=20"
    shape = ["--sampler.num-envs", "32", "--sampler.length", "16"]
    command = ["train", env, "--algorithm", "ppo", *flags, *shape, "--directory", str(run)]
    assert main(command) == 0
    assert "on 1 of 8 CPU devices" in capsys.readouterr().out
    assert json.loads((run / "config.json").read_text())["config"]["env"] == env
    assert main([*command[:-1], str(tmp_path / "two"), "--devices", "2"]) == 2
    assert "runs on the host: it takes one device, not 2" in capsys.readouterr().err
    assert main(["train", "gymnasium/CartPol-v1"]) == 2
    assert "CartPole-v1" in capsys.readouterr().err
