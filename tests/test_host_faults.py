"""Environments on the host that give what cannot be: they train rightly, or one sentence says what
they gave."""

import functools
import sys

import jax
import numpy as np
import pytest
from gymnasium import spaces
from host_environments import Robot, Shared, Talks, Unsampled

import pgjax
from pgjax.cli.main import main
from pgjax.environments import ids, own_imports
from pgjax.environments.host import contract, failure
from pgjax.environments.host.pools import Maker, Pools
from pgjax.environments.suites import table


def pools_of(make, processes=1, first=Robot):
    probe = first()
    return Pools(Maker("Mine", make, (probe.observation_space, probe.action_space)), processes)


def stepped(pools, steps, number=2):
    """The observations [number, …] after a reset and so many steps; the last rewards and ends."""
    obs, tokens = pools.reset(np.arange(number))
    rest = ()
    for _ in range(steps):
        obs, tokens, *rest = pools.step(tokens, np.zeros(number, int))
    return jax.tree.map(np.copy, obs), *rest


def arm(**entries):
    """Changes entries of the arm's observation."""
    return lambda obs: {**obs, "arm": {**obs["arm"], **entries}}


def without(name):
    def change(obs):
        return {**obs, "arm": {key: x for key, x in obs["arm"].items() if key != name}}

    return change


ANGLE = "observation['arm']['angle'] of"
REWARD = "reward of step 2: expected a finite number, got"
FLAG = "terminated of step 2: expected True or False, got"
GIVEN = "as Gymnasium's do, got"
STEP = f"step must give 5 values, obs, reward, terminated, truncated and info, {GIVEN}"
FAULTS = [
    (2, {"reward": np.nan}, f"{REWARD} nan"),
    (2, {"reward": np.float32(np.inf)}, f"{REWARD} inf"),
    (2, {"reward": 1e39}, f"{REWARD} 1e+39"),
    (2, {"reward": None}, f"{REWARD} None"),
    (2, {"reward": "1.0"}, f"{REWARD} '1.0'"),
    (2, {"reward": np.ones(1)}, f"{REWARD} float64[1]"),
    (2, {"terminated": None}, f"{FLAG} None"),
    (2, {"terminated": "False"}, f"{FLAG} 'False'"),
    (2, {"terminated": 2}, f"{FLAG} 2"),
    (2, {"result": (0, 0.0, False, {})}, f"{STEP} 4"),
    (2, {"result": None}, f"{STEP} None"),
    (
        0,
        {"result": {"arm": 0}},
        f"reset(seed=0) must give 2 values, obs and info, {GIVEN} {{'arm': 0}}",
    ),
    (
        0,
        {"obs": arm(angle=np.array([0, np.nan], np.float32))},
        f"{ANGLE} reset(seed=0): expected finite numbers, got nan at [1]",
    ),
    (
        3,
        {"obs": arm(angle=np.array([-1e39, 0]))},
        f"{ANGLE} step 3: expected finite numbers, got -inf at [0]",
    ),
    (
        0,
        {"obs": arm(angle=np.zeros(3))},
        f"{ANGLE} reset(seed=0): expected the shape (2,) of observation_space, got float64[3]",
    ),
    (
        5,
        {"obs": arm(angle=np.zeros((1, 2)))},
        f"{ANGLE} step 5: expected the shape (2,) of observation_space, got float64[1,2]",
    ),
    (
        5,
        {"obs": arm(angle=[[1], [1, 2]])},
        f"{ANGLE} step 5: expected real numbers, of Box(-9.0, 9.0, (2,), float32), "
        "got [[1], [1, 2]]",
    ),
    (
        5,
        {"obs": arm(grip=1.0)},
        "observation['arm']['grip'] of step 5: expected int64, the dtype of Discrete(3), got 1.0",
    ),
    (
        5,
        {"obs": arm(grip=3)},
        "observation['arm']['grip'] of step 5: expected values of Discrete(3), got 3",
    ),
    (
        5,
        {"obs": lambda obs: {**obs, "pixels": np.array([0, 256])}},
        "observation['pixels'] of step 5: expected uint8, the dtype of Box(0, 255, (2,), uint8), "
        "got int64[2]",
    ),
    (
        3,
        {"obs": without("grip")},
        "observation['arm'] of step 3: expected the entries 'angle', 'grip', got 'angle'",
    ),
    (
        3,
        {"obs": arm(speed=1.0)},
        "observation['arm'] of step 3: expected the entries 'angle', 'grip', got 'angle', 'grip', "
        "'speed'",
    ),
    (
        3,
        {"obs": lambda obs: None},
        "observation of step 3: expected the entries 'arm', 'pixels', got None",
    ),
]


@pytest.mark.parametrize(("at", "values", "sentence"), FAULTS, ids=lambda x: None)
def test_what_cannot_be_is_said_with_the_environments_name(at, values, sentence):
    pools = pools_of(functools.partial(Robot, at, **values))
    with pytest.raises(pgjax.EnvironmentFailure) as raised:
        stepped(pools, 6)
    assert str(raised.value) == f"Mine: {sentence}"
    assert not pools._pools


def test_a_worker_says_it_too():
    pools = pools_of(functools.partial(Robot, 2, reward=np.nan), processes=2)
    with pytest.raises(pgjax.EnvironmentFailure, match=f"^Mine: {REWARD} nan$"):
        stepped(pools, 2)


def test_what_differs_in_its_type_alone_trains_rightly():
    expected = stepped(pools_of(Robot), 2)
    rewards = [np.array(2.0), np.float32(2), 2, jax.numpy.float32(2)]
    changes = [{"reward": reward} for reward in rewards]
    changes += [{"terminated": flag} for flag in (np.bool_(False), 0, np.array(False))]
    changes += [{"info": None}, {"obs": arm(angle=[2, 2], grip=1)}]
    changes += [{"obs": lambda obs: {**obs, "pixels": np.array([2, 2])}}]
    for values in changes:
        given = stepped(pools_of(functools.partial(Robot, 2, **values)), 2)
        jax.tree.map(np.testing.assert_array_equal, given, expected)
        assert given[0]["pixels"].dtype == np.uint8
    ended = stepped(pools_of(functools.partial(Robot, 2, terminated=np.int64(1))), 2)[2]
    np.testing.assert_array_equal(ended, [True, True])


def test_environments_may_write_into_the_same_array():
    obs, *_ = stepped(pools_of(Shared, first=Shared), 3)
    np.testing.assert_array_equal(obs, [[0, 3], [1, 3]])


class Grows(Robot):
    """Has another action with each episode."""

    def reset(self, *, seed=None, options=None):
        self.action_space = spaces.Discrete(self.action_space.n + 1)
        return super().reset(seed=seed)


def test_tuples_are_compared_by_index():
    space = spaces.Tuple((spaces.Discrete(2), spaces.Box(0.0, 1.0, (1,))))
    when = functools.partial(str, "step 1")
    assert contract.fitted(space, [1, [0.5]], when) == (1, [0.5])
    entries = "observation of step 1: expected the entries 0, 1, got"
    for obs, given in (((1, 0, 0), "0, 1, 2"), (3, "3")):
        with pytest.raises(contract.WrongValue, match=f"^{entries} {given}$"):
            contract.fitted(space, obs, when)
    with pytest.raises(contract.WrongValue, match=r"^observation\[1\] of step 1: expected the sh"):
        contract.fitted(space, (1, 0.5), when)
    faults = list(contract.faults(space, (np.array([0, 2]), np.zeros((2, 1), np.float32))))
    assert faults == [(1, "[0]", "expected values of Discrete(2), got 2")]


def test_a_space_that_changes_is_named():
    sentence = (
        "action_space after reset(seed=0): expected Discrete(2), as at first, got Discrete(3)"
    )
    with pytest.raises(pgjax.EnvironmentFailure) as raised:
        stepped(pools_of(Grows), 1)
    assert str(raised.value) == f"Mine: {sentence}"
    with pytest.raises(ValueError, match=r"^Grows: action_space after reset.seed=0.: expected Dis"):
        pgjax.from_gymnasium(Grows)
    makers = iter([Robot, Shared])
    with pytest.raises(
        pgjax.EnvironmentFailure, match=r"^Mine: observation_space of another one: expected Dict"
    ):
        stepped(pools_of(lambda: next(makers)()), 1)


def test_an_action_space_need_not_sample():
    class Own(Robot):
        action_space = Unsampled(2)

    assert pgjax.from_gymnasium(Own).action_space.n == 2
    assert stepped(pools_of(Own, first=Own), 2)[1].tolist() == [2, 2]


class Stuck(Robot):
    def close(self):
        raise KeyError("tap")


def test_an_error_of_close_is_a_warning():
    pools = pools_of(Stuck)
    stepped(pools, 1)
    with pytest.warns(RuntimeWarning, match="^Mine: close raised KeyError: 'tap'$") as given:
        pools.close()
    assert len(given) == 2  # both are closed
    with pytest.warns(RuntimeWarning, match="^Stuck: close raised KeyError: 'tap'$"):
        pgjax.from_gymnasium(Stuck)


def test_processes_that_were_killed_are_closed():
    pools = pools_of(Robot, processes=2)
    stepped(pools, 1)
    processes = pools._pools[0]._env.processes
    processes[0].kill()
    processes[0].join()
    pools.close()
    assert not any(process.is_alive() for process in processes)


def test_a_worker_may_print_and_be_slow_to_close():
    pools = pools_of(Talks, processes=2)
    rewards = stepped(pools, 2)[1]
    assert rewards.tolist() == [2, 2]
    processes = pools._pools[0]._env.processes
    pools.close()
    assert [process.exitcode for process in processes] == [0, 0]


class Quits(Robot):
    """Raises in a part of its life."""

    def __init__(self, error, part):
        super().__init__()
        self.error, self.part = error, part
        if part == "make":
            raise error

    def reset(self, *, seed=None, options=None):
        if self.part == "reset":
            raise self.error
        return super().reset(seed=seed)


@pytest.mark.parametrize(
    ("part", "kind", "sentence"),
    [
        ("make", ValueError, "the environment cannot be made here: SystemExit: 3"),
        (
            "reset",
            TypeError,
            r"Quits: reset\(seed=0\) must be as in Gymnasium's interface; it raised SystemExit: 3",
        ),
    ],
)
def test_from_gymnasium_ends_no_program(part, kind, sentence):
    with pytest.raises(kind, match=f"^{sentence}$"):
        pgjax.from_gymnasium(functools.partial(Quits, SystemExit(3), part))
    with pytest.raises(KeyboardInterrupt):
        pgjax.from_gymnasium(functools.partial(Quits, KeyboardInterrupt(), part))


def test_ctrl_c_in_an_environment_interrupts(capfd):
    class Interrupted(Robot):
        def reset(self, *, seed=None, options=None):
            if seed:  # not when it is looked at
                raise KeyboardInterrupt
            return super().reset(seed=seed)

    env = pgjax.from_gymnasium(Interrupted)
    with pytest.raises(KeyboardInterrupt):
        failure.call(jax.jit(env.reset), jax.random.key(0))
    assert "Traceback" not in capfd.readouterr().err


MODULES = {
    "import": "import sys\nsys.exit(7)\n",
    "make": "def make():\n    raise SystemExit(7)\n",
}


@pytest.mark.parametrize("part", MODULES)
def test_a_module_that_exits_is_one_line(part, tmp_path, monkeypatch, capsys):
    name = f"exits_at_{part}"
    (tmp_path / f"{name}.py").write_text(MODULES[part])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    place = f"SystemExit: 7 ({name}.py, line 2)\n"
    assert main(["train", f"{name}:make"]) == 2
    sentence = f"pgjax: environment '{name}:make' cannot be imported: {place}"
    assert capsys.readouterr().err == sentence
    if part == "import":
        assert main(["train", "CartPole-v1", "--import", name]) == 2
        assert capsys.readouterr().err == f"pgjax: module {name!r} cannot be imported: {place}"
        assert name not in own_imports.ALLOWED
    assert f"{name}:make" not in ids.IMPORTED


def test_a_traced_environment_that_exits_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "exits_at_step.py").write_text(
        "from gymnax.environments.classic_control.cartpole import CartPole\n"
        "class Exits(CartPole):\n"
        "    def step_env(self, *args):\n"
        "        raise SystemExit(0)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert main(["train", "exits_at_step:Exits"]) == 2
    sentence = "pgjax: code that pgjax called would end the program: SystemExit: 0\n"
    assert capsys.readouterr().err == sentence


def test_a_suite_whose_maker_exits_is_one_line(capsys):
    class Exits(pgjax.Suite):
        name = "exits"

        def names(self):
            return ["one"]

        def make(self, name):
            raise SystemExit(7)

    pgjax.register_suite(Exits)
    try:
        assert main(["train", "exits/one"]) == 2
    finally:
        del table.SUITES["exits"]
    assert capsys.readouterr().err == "pgjax: exits/one cannot be made here: SystemExit: 7\n"


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("CartPol-v1", "unknown gymnasium environment 'CartPol-v1'; did you mean 'CartPole-v1'"),
        ("CartPole-v1?processes=0", "processes must be at least 1, got 0"),
        (
            "CartPole-v1?processes=x",
            "option processes of gymnasium/CartPole-v1 must be an integer, got 'x'",
        ),
        ("CartPole-v1?nonsense=1", "unknown option 'nonsense' of gymnasium/CartPole-v1"),
    ],
)
def test_ids_that_cannot_be_are_one_line(env, sentence, capsys):
    for command in ("train", "envs"):
        assert main([command, f"gymnasium/{env}"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"pgjax: {sentence}")
        assert error.count("\n") == 1
