"""Environments as people give them: parameters, time limits, spaces, methods replaced."""

import gymnasium.spaces
import gymnax.registration
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import (
    Counter,
    CounterParams,
    ObservesTime,
    PlainParams,
    Sized,
    SizedParams,
    Spaces,
    TupleParams,
    UncomparableState,
    WithParams,
)

import pgjax
from pgjax.cli import flags
from pgjax.environments import env_params, interface, spaces
from pgjax.runs import config_json
from pgjax.training.config import bind, checked

LINEAR = {"network": pgjax.MLP(()), "num_updates": 1, "sampler": pgjax.Episodes(2)}
STEPS = "must be a whole number of steps from 1 to 2147483647, or infinite, got"


def limited(limit):
    return checked(pgjax.Config(Counter(), CounterParams(max_steps_in_episode=limit)))


@pytest.mark.parametrize("limit", [4, np.int64(4), 4.0, np.float32(4), jnp.int32(4)], ids=repr)
def test_a_whole_limit_of_any_type_counts(limit):
    config = limited(limit)
    assert bind(config, 0).environment.limit == 4
    assert config.env_params.max_steps_in_episode == 4
    ours = WithParams(PlainParams(max_steps_in_episode=limit))
    assert jax.jit(lambda: interface.bind(ours).limit)() == 4


@pytest.mark.parametrize("limit", [0, -5, 2.5, 10**20, "x", True, np.nan, -np.inf, [3]], ids=repr)
def test_any_other_limit_is_refused(limit):
    with pytest.raises(ValueError, match=f"env_params.max_steps_in_episode {STEPS}"):
        limited(limit)
    with pytest.raises(ValueError, match=STEPS):
        interface.bind(WithParams(CounterParams(max_steps_in_episode=limit)))


def test_an_infinite_limit_is_none():
    with pytest.raises(ValueError, match=r"no time limit: set sampler.horizon"):
        limited(np.inf)
    params = CounterParams(lifetime=3, max_steps_in_episode=jnp.inf)
    config = pgjax.Config(Counter(), params, sampler=pgjax.Episodes(2, horizon=7))
    assert bind(checked(config), 0).environment.limit is None


@pytest.mark.slow
@pytest.mark.parametrize("params", [TupleParams(), PlainParams()], ids=lambda p: type(p).__name__)
def test_parameters_of_any_kind_are_trained_with_and_swept(params):
    def lengths(lifetime):
        changed = jax.tree.unflatten(jax.tree.structure(params), [lifetime, 4])
        config = pgjax.Config(WithParams(params), changed, **LINEAR)
        return pgjax.train(jax.random.key(0), config).metrics.episode_length

    assert jax.vmap(lengths)(jnp.array([1, 3])).tolist() == [[1.0], [3.0]]
    config = pgjax.Config(WithParams(params), params)
    assert jax.tree.map(lambda x: x, config) == config
    assert env_params.given_limit(env_params.with_limit(params, 9)) == 9


@pytest.mark.parametrize("params", [TupleParams(), PlainParams()], ids=lambda p: type(p).__name__)
def test_parameters_of_any_kind_are_replaced_stored_and_read(params, monkeypatch):
    monkeypatch.setattr(gymnax, "registered_envs", [*gymnax.registered_envs, "Mine-v1"])
    monkeypatch.setitem(gymnax.registration._registry, "Mine-v1", lambda: WithParams(params))
    config = pgjax.Config("Mine-v1").replace(**{"env_params.lifetime": 1})
    assert config.env_params == type(params)(lifetime=1)
    assert config_json.from_dict(config_json.to_dict(config)) == config
    with pytest.raises(ValueError, match=r"did you mean 'env_params\.lifetime'"):
        config.replace(**{"env_params.lifetme": 1})
    assert flags.grid(["env_params.lifetime=1,2"], config) == {"env_params.lifetime": [1, 2]}


GOAL = np.zeros(2, np.float32)
ODD = {
    "text": ("lifetime", "long", TypeError, "an int, got 'long'"),
    "text of an integer": ("lifetime", "4", TypeError, "an int, got '4'; write 4"),
    "half": ("lifetime", 2.5, TypeError, r"an int, got 2\.5"),
    "a whole float": ("lifetime", np.float32(4), TypeError, r"an int, got .*4\.0.*; write 4"),
    "a flag for an integer": ("lifetime", True, TypeError, "an int, got True"),
    "nothing": ("lifetime", None, TypeError, "an int, got None"),
    "a tree": ("goal", [0.0, 1.0], TypeError, r"floats of the shape \(2,\), got a tree of 2 num"),
    "another shape": ("goal", np.zeros(3), TypeError, "floats .*, got floats of the shape .3,"),
    "complex numbers": ("goal", GOAL * 1j, TypeError, r"floats .*, got complex numbers of the"),
    "an array for a number": ("speed", GOAL, TypeError, "a float, got floats of the shape .2,"),
    "complex": ("speed", 1j, TypeError, "a float, got 1j"),
    "a flag for a float": ("speed", np.True_, TypeError, "a float, got (np.True_|True)$"),
    "text of a float": ("speed", "0.5", TypeError, r"a float, got '0\.5'; write 0\.5"),
    "a number for a flag": ("shaped", 1, TypeError, "a bool, got 1"),
    "not finite": ("speed", np.nan, ValueError, "finite, got nan"),
    "partly infinite": ("goal", np.array([0.0, np.inf]), ValueError, "finite, got inf"),
    "a long integer": ("lifetime", 10**20, ValueError, f"fit int32, got {10**20}"),
    "NumPy's": ("lifetime", np.int64(2**40), ValueError, f"fit int32, got {2**40}"),
    "a long array": ("lifetime", np.array(2**40), ValueError, f"fit int32, got {2**40}"),
    "a large float": ("speed", -1e39, ValueError, r"fit float32, got -1e\+39"),
    "NumPy's float": ("speed", np.float64(-1e39), ValueError, r"fit float32, got -1e\+39"),
}


@pytest.mark.parametrize(("name", "value", "kind", "message"), ODD.values(), ids=ODD)
def test_what_is_unlike_the_default_is_named(name, value, kind, message):
    defaults = {"lifetime": 3, "speed": 1.0, "goal": GOAL, "shaped": False, "far": np.inf}
    config = pgjax.Config(WithParams(defaults), {**defaults, name: value})
    with pytest.raises(kind, match=rf"^env_params\['{name}'\] must (be )?{message}"):
        checked(config)


@pytest.mark.parametrize("changes", [{"far": 5}, {"far": np.inf}, {"speed": 2}, {"goal": GOAL + 1}])
def test_what_is_like_the_default_is_taken(changes):
    defaults = {"lifetime": 3, "speed": 1.0, "goal": GOAL, "far": np.inf}
    env_params.check({**defaults, **changes}, defaults)
    env_params.check(None, defaults)


def test_the_shapes_and_kinds_of_what_is_traced_are_checked():
    def taken(value):
        env_params.check({"goal": value}, {"goal": GOAL})
        return value

    jax.eval_shape(taken, GOAL)
    with pytest.raises(TypeError, match=r"goal'\] must be floats of the shape \(2,\)"):
        jax.eval_shape(taken, np.zeros(3))


def test_a_whole_number_that_sizes_is_named():
    env = Sized(SizedParams())
    assert bind(checked(pgjax.Config(env)), 0).environment.observation_space.shape == (4,)
    with pytest.raises(TypeError, match=r"^env_params.arms is used as a Python number.*static"):
        checked(pgjax.Config(env, SizedParams(arms=6)))


BOX, GYM = spaces.Box, gymnasium.spaces
READ = {
    "lists": (BOX([0.0, 1.0], [1, 2], [2]), BOX(np.array([0.0, 1.0]), np.array([1, 2]), (2,))),
    "size for a shape": (BOX(0.0, 1.0, 2), BOX(0.0, 1.0, (2,))),
    "Gymnasium's box": (GYM.Box(-1.0, 1.0, (2,)), BOX(-np.ones(2), np.ones(2), (2,))),
    "Gymnasium's choice": (GYM.Discrete(3), spaces.Discrete(3)),
    "NumPy's size": (spaces.Discrete(np.int64(3)), spaces.Discrete(3)),
    "integers": (GYM.MultiDiscrete([[2, 3]]), spaces.MultiDiscrete([[2, 3]])),
    "bits": (GYM.MultiBinary(3), spaces.MultiBinary(3)),
    "nested": (
        GYM.Dict({"a": GYM.Discrete(2), "b": GYM.Tuple([GYM.Box(0, 1, (1,))])}),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Tuple((BOX([0.0], [1.0], (1,)),))}),
    ),
}


@pytest.mark.parametrize(("given", "meant"), READ.values(), ids=READ)
def test_a_space_is_read_where_its_meaning_is_plain(given, meant):
    assert repr(spaces.read("space", given)) == repr(meant)


REFUSED = {
    "another shape": (BOX(np.zeros(3), np.ones(3), (2,)), ValueError, r"low must fit .*\(2,\)"),
    "ragged": (BOX([[0], [0, 1]], 1, (2,)), ValueError, "low must fit the shape"),
    "text": (BOX("a", 1, (2,)), TypeError, "low must be made of real numbers, got 'a'"),
    "complex bounds": (BOX(0, np.ones(2) * 1j, (2,)), TypeError, "high must be made of real"),
    "complex": (BOX(0, 1, (2,), complex), TypeError, "must hold real numbers, got .* complex"),
    "empty": (BOX(0, 1, (0,)), ValueError, "must hold at least one number"),
    "half a size": (BOX(0, 1, (1.5,)), TypeError, "shape must be an integer known before"),
    "no choice": (spaces.Discrete(0), ValueError, "must have at least one value"),
    "half a choice": (spaces.Discrete(2.5), TypeError, "n must be an integer"),
    "start": (GYM.Discrete(4, start=1), ValueError, r"must start at 0, got Discrete\(4, start=1\)"),
    "kind": (GYM.Text(3), TypeError, "must be made of Box, Discrete, .*; got Text"),
}


@pytest.mark.parametrize(("space", "kind", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("part", ["observations", "actions"])
def test_any_other_space_is_refused(part, space, kind, message):
    with pytest.raises(kind, match=f"{part[:-1]}_space.*{message}"):
        checked(pgjax.Config(Spaces(**{part: space})))


def returns(env):
    config = pgjax.Config(env, **LINEAR)
    return float(pgjax.train(jax.random.key(0), config).metrics.episode_return[0])


def doubled(step):
    def twice(*args):
        obs, state, reward, *rest = step(*args)
        return obs, state, 2.0 * reward, *rest

    return twice


@pytest.mark.slow
@pytest.mark.parametrize("name", ["step", "step_env"])
def test_a_method_replaced_on_an_object_counts(name):
    env = Counter()
    before = returns(env)
    setattr(env, name, doubled(getattr(env, name)))
    assert returns(env) == 2.0 * before
    delattr(env, name)
    assert returns(env) == before


def test_what_an_id_means_today_counts(monkeypatch):
    registry = gymnax.registration._registry
    monkeypatch.setattr(gymnax, "registered_envs", [*gymnax.registered_envs, "Mine-v0"])
    monkeypatch.setitem(registry, "Mine-v0", Counter)
    assert returns("Mine-v0") == 6.0
    monkeypatch.setitem(registry, "Mine-v0", lambda: Counter(lifetime=4))
    assert returns("Mine-v0") == 10.0
    assert interface.make("Mine-v0") is interface.make("Mine-v0")


def test_states_are_compared_by_structure_and_dtype():
    assert checked(pgjax.Config(UncomparableState()))


def test_an_entry_called_time_is_not_overwritten():
    assert checked(pgjax.Config(ObservesTime()))
    with pytest.raises(ValueError, match=r"time_aware adds an entry 'time'.*ObservesTime has one"):
        checked(pgjax.Config(ObservesTime(), time_aware=True))
