"""Schedules: all of Optax's, everywhere a config goes, and from the first update to the last."""

import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgjax
from pgjax.core import schedules
from pgjax.environments import interface
from pgjax.runs import config_json
from pgjax.training import presets
from pgjax.training.config import checked

Schedule, Share = pgjax.Schedule, pgjax.Share

_RISE = {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 2}
# Of each of Optax's schedules, the arguments.
OPTAX = {
    "constant_schedule": {"value": 0.1},
    "cosine_decay_schedule": {"init_value": 0.1, "decay_steps": 8, "alpha": 0.2},
    "cosine_onecycle_schedule": {"transition_steps": 9, "peak_value": 0.1, "pct_start": 0.4},
    "exponential_decay": {
        "init_value": 0.1,
        "transition_steps": 3,
        "decay_rate": 0.9,
        "end_value": 0.01,
    },
    "join_schedules": {
        "schedules": [
            Schedule(optax.constant_schedule, value=0.1),
            Schedule(optax.exponential_decay, init_value=0.1, transition_steps=2, decay_rate=0.5),
        ],
        "boundaries": [3],
    },
    "linear_onecycle_schedule": {
        "transition_steps": 9,
        "peak_value": 0.1,
        "pct_start": 0.3,
        "pct_final": 0.7,
        "div_factor": 20.0,
        "final_div_factor": 100.0,
    },
    "linear_schedule": {"init_value": 0.1, "end_value": 0.0, "transition_steps": Share(0.5)},
    "piecewise_constant_schedule": {
        "init_value": 0.1,
        "boundaries_and_scales": {Share(0.3): 0.5, Share(0.7): 0.1},
    },
    "piecewise_interpolate_schedule": {
        "interpolate_type": "cosine",
        "init_value": 0.1,
        "boundaries_and_scales": {3: 0.5, 7: 0.1},
    },
    "polynomial_schedule": {
        "init_value": 0.1,
        "end_value": 0.0,
        "power": 2.0,
        "transition_steps": 5,
    },
    "sgdr_schedule": {"cosine_kwargs": [{**_RISE, "decay_steps": 5}, {**_RISE, "decay_steps": 7}]},
    "warmup_constant_schedule": _RISE,
    "warmup_cosine_decay_schedule": {**_RISE, "decay_steps": Share(1.0), "end_value": 0.01},
    "warmup_exponential_decay_schedule": {
        **_RISE,
        "transition_steps": 3,
        "decay_rate": 0.5,
        "staircase": True,
        "end_value": 0.01,
    },
}
_UPDATES = 10


def with_rate(rate, **changes):
    return pgjax.Config("Catch-bsuite", num_updates=_UPDATES, optimizer=pgjax.SGD(rate), **changes)


def plain(value):
    """Arguments as one gives them to Optax itself, in a training of `_UPDATES`."""
    if isinstance(value, Share):
        return round(value.share * _UPDATES)
    if isinstance(value, Schedule):
        return value.make(**plain(value.arguments))
    if isinstance(value, list):
        return [plain(x) for x in value]
    return {plain(k): plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def test_the_list_is_all_of_optaxs():
    names = [n for n, f in vars(optax.schedules).items() if inspect.isfunction(f)]
    assert sorted(OPTAX) == sorted(name for name in names if not name.startswith("inject"))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTAX)
def test_each_of_optaxs_has_its_values_when_compiled_and_comes_back_from_json(name):
    make = getattr(optax.schedules, name)
    config = checked(with_rate(Schedule(make, **OPTAX[name])))
    found = jax.jit(
        lambda config, updates: jax.vmap(
            lambda n: schedules.resolve(config, n).optimizer.learning_rate * jnp.ones(())
        )(updates)
    )(config, jnp.arange(_UPDATES))
    own = make(**plain(OPTAX[name]))
    expected = [float(own(n)) for n in range(_UPDATES)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    data = json.loads(json.dumps(config_json.to_dict(with_rate(Schedule(make, **OPTAX[name])))))
    assert config_json.from_dict(data) == with_rate(Schedule(make, **OPTAX[name]))


@pytest.mark.parametrize("name", OPTAX)
def test_numbers_that_optax_does_not_decide_by_are_data(name):
    # What cannot be, by Optax's own code.
    static = {
        "exponential_decay": {"decay_rate"},
        "join_schedules": {"schedules.1.decay_rate"},
        "cosine_onecycle_schedule": {"pct_start"},
        "linear_onecycle_schedule": {"pct_start", "pct_final", "div_factor", "final_div_factor"},
        "piecewise_constant_schedule": {"boundaries_and_scales"},
        "piecewise_interpolate_schedule": {"boundaries_and_scales"},
        "sgdr_schedule": {"peak_value"},
        "warmup_cosine_decay_schedule": {"peak_value"},
        "warmup_exponential_decay_schedule": {"decay_rate"},
    }.get(name, set())
    schedule = Schedule(getattr(optax.schedules, name), **OPTAX[name])
    given = {
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, leaf in jax.tree_util.tree_leaves_with_path(OPTAX[name])
        if isinstance(leaf, float) and not isinstance(leaf, bool)
    }
    data = {path[0].key for path, _ in jax.tree_util.tree_leaves_with_path(schedule)}
    fixed = {path for path in given if any(part in path for part in static)}
    assert data == given - fixed


def test_a_training_by_a_warmed_up_cosine_makes_no_new_program_for_another_start():
    traced = []

    @jax.jit
    def rate(config):
        traced.append(config)
        return schedules.resolve(config, 1).optimizer.learning_rate

    def config(start, peak):
        numbers = {"init_value": start, "peak_value": peak, "warmup_steps": 2, "decay_steps": 5}
        return with_rate(Schedule(optax.warmup_cosine_decay_schedule, **numbers))

    assert rate(config(0.0, 0.1)) == pytest.approx(0.05)
    assert rate(config(0.05, 0.1)) == pytest.approx(0.075)
    assert len(traced) == 1
    assert rate(config(0.0, jnp.float32(0.2))) == pytest.approx(0.1)
    assert len(traced) == 2
    _, metrics = pgjax.train(jax.random.key(0), config(0.0, 0.1).replace(num_updates=2))
    assert metrics.finite.all()
    with pytest.raises(TypeError, match="warmup_cosine_decay_schedule decides by peak_value"):
        jax.jit(lambda peak: rate(config(0.0, peak)))(0.1)


def test_a_config_of_axes_maps_over_a_number_in_a_schedule():
    def config(start):
        numbers = {"init_value": start, "end_value": 0.0, "transition_steps": 4}
        return with_rate(Schedule(optax.linear_schedule, **numbers))

    starts = config(jnp.array([1.0, 0.5]))
    axes = jax.tree.map(lambda leaf: 0 if np.ndim(leaf) else None, starts)
    rates = jax.vmap(lambda config: schedules.resolve(config, 2).optimizer.learning_rate, (axes,))
    np.testing.assert_allclose(rates(starts), [0.5, 0.25])


@pytest.mark.parametrize("env", presets.tuned())
def test_a_presets_schedules_follow_num_updates(env):
    config = pgjax.preset(env)
    n = config.num_updates
    for path, schedule in schedules._schedules(config):
        length = n if path == "optimizer.learning_rate" else n // 2
        start = schedule.arguments["init_value"]
        own = optax.linear_schedule(start, 0.0, length)
        for update in (0, 1, n // 3, n - 1):
            assert float(schedule.value(update, n)) == float(own(update))
        longer = config.replace(num_updates=3 * n)
        assert schedule.value(3 * n // 4, 3 * n) > 0
        assert not schedules.ended(longer)


def falling(steps):
    return Schedule(optax.linear_schedule, init_value=0.1, end_value=0.0, transition_steps=steps)


@pytest.mark.slow
def test_a_rate_that_has_ended_is_said_and_one_that_follows_moves_on():
    fixed, following = with_rate(falling(4)), with_rate(falling(Share(1.0)))
    assert schedules.ended(fixed) == {"optimizer.learning_rate": 5}
    assert schedules.ended(fixed.replace(num_updates=4)) == {}
    assert schedules.ended(following) == {}
    critic = pgjax.ppo("Catch-bsuite", **{"critic.learning_rate": falling(4)})
    assert schedules.ended(critic) == {"critic.learning_rate": 5}
    state, _ = pgjax.train(jax.random.key(0), following.replace(num_updates=2))
    stands, _ = pgjax.update(state, with_rate(falling(2)))
    moves, _ = pgjax.update(state, following)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), stands.params, state.params)
    assert all(jax.tree.leaves(same))
    kernel = jax.tree.leaves(moves.params)[-1]
    assert (kernel != jax.tree.leaves(state.params)[-1]).any()


def test_a_run_warns_in_one_line_of_a_rate_that_has_ended():
    small = {"sampler": pgjax.Episodes(2), "network": pgjax.MLP(())}
    with pytest.warns(UserWarning, match="learning_rate is 0 from update 2 of 3 on") as said:
        pgjax.run(with_rate(falling(1), **small).replace(num_updates=3))
    assert "\n" not in str(said[0].message)


def test_injected_hyperparameters_are_those_of_the_update():
    mdp = pgjax.FiniteMDP([[[1.0], [1.0]]], [[0.0, 1.0]], [1.0], horizon=2)

    def trained(make):
        config = pgjax.Config(
            mdp,
            network=pgjax.MLP(()),
            sampler=pgjax.Episodes(8),
            optimizer=make,
            num_updates=4,
        ).replace(**{"optimizer.learning_rate": falling(3)})
        return pgjax.train(jax.random.key(0), config)

    expected, found = trained(optax.sgd), trained(optax.inject_hyperparams(optax.sgd))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        found.state.params,
        expected.state.params,
    )
    assert found.state.opt_state.hyperparams["learning_rate"] == 0.0


# What takes a config and a state, as a function of both; the rest is below or makes files.
TAKES = {
    "init": lambda state, config: pgjax.init(jax.random.key(0), config),
    "train": lambda state, config: pgjax.train(jax.random.key(0), config),
    "update": pgjax.update,
    "sample_trajectories": lambda s, c: pgjax.sample_trajectories(jax.random.key(0), s, c),
    "policy_gradient": lambda s, c: pgjax.policy_gradient(jax.random.key(0), s, c),
    "evaluate": lambda s, c: pgjax.evaluate(jax.random.key(0), s, c, 2),
    "gradient_statistics": lambda s, c: pgjax.gradient_statistics(jax.random.key(0), s, c, 2),
    "memory_estimate": lambda s, c: jnp.int32(pgjax.memory_estimate(c).state),
}
ELSEWHERE = {
    *("render", "evaluate_in_gymnasium", "sweep", "tune", "run", "resume", "profile"),
    *("save", "load", "load_policy", "export"),
}


def everywhere(env, **changes):
    """A config with a schedule in place of every float that it has."""
    config = pgjax.Config(
        env,
        sampler=pgjax.Episodes(2, horizon=3),
        network=pgjax.MLP(()),
        objective=pgjax.ClippedRatio(),
        ascent=pgjax.Passes(max_kl=0.1),
        estimator=pgjax.GAE(),
        critic=pgjax.Critic(value_clip=0.5),
        optimizer=pgjax.Adam(max_gradient_norm=0.5),
        num_updates=4,
    ).replace(**changes)
    numbers = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(config):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if isinstance(leaf, float):
            ends = {"init_value": leaf, "end_value": 0.5 * leaf, "transition_steps": Share(0.5)}
            numbers[name] = Schedule(optax.linear_schedule, **ends)
    return config.replace(**numbers)


def test_every_function_of_a_config_is_tested_with_schedules():
    takes = {
        name
        for name in pgjax.__all__
        if inspect.isfunction(getattr(pgjax, name))
        and "config" in inspect.signature(getattr(pgjax, name)).parameters
    }
    assert takes == set(TAKES) | ELSEWHERE


@pytest.mark.parametrize("name", TAKES)
def test_a_schedule_may_stand_in_place_of_every_float(name):
    params = interface.default_params("CartPole-v1")
    config = everywhere("CartPole-v1", env_params=params)
    assert isinstance(config.env_params.gravity, Schedule)
    state = jax.eval_shape(pgjax.init, jax.random.key(0), config)
    # Tracing is what fails where a schedule has no value yet.
    jax.eval_shape(lambda state: TAKES[name](state, config), state)


def test_pictures_and_other_loops_take_schedules_too(tmp_path):
    params = interface.default_params("CartPole-v1")
    config, key = everywhere("CartPole-v1", env_params=params), jax.random.key(0)
    state = pgjax.init(key, config)
    assert pgjax.render(key, state, config, tmp_path / "a.gif", max_steps=2).shape == (1,)
    assert pgjax.evaluate_in_gymnasium(key, state, config, num_episodes=1).returns.shape == (1,)
    assert pgjax.export(state, config, tmp_path / "e").difference < 1e-4
    pgjax.save(tmp_path / "c", state, config)
    assert pgjax.load(tmp_path / "c")[1].optimizer == config.optimizer
    assert pgjax.load_policy(tmp_path / "c")[1].optimizer == config.optimizer


@pytest.mark.slow
def test_a_number_is_searched_beside_schedules():
    config, key = everywhere("CartPole-v1"), jax.random.key(0)
    rate, rates = "optimizer.learning_rate", [0.01, 0.02]
    options = {"num_trials": 2, "num_seeds": 1, "batch": 2, "halvings": 0}
    tuning = pgjax.tune(key, config, {rate: rates}, **options)
    assert {tuning.setting(trial)[rate] for trial in tuning.trials} <= set(rates)
    assert np.isfinite([trial.returns for trial in tuning.trials]).all()
    assert tuning.best_config.estimator == config.estimator


@pytest.mark.slow
def test_a_profile_takes_schedules():
    assert pgjax.profile(everywhere("CartPole-v1", num_updates=4)).update_seconds > 0


def test_exact_answers_are_those_of_the_states_update():
    mdp = pgjax.FiniteMDP(
        [[[0.0, 1.0], [1.0, 0.0]]] * 2, [[0.0, 1.0], [2.0, 0.0]], [1.0, 0.0], horizon=3
    )
    config = everywhere(mdp)
    state = pgjax.init(jax.random.key(0), config).replace(num_updates=jnp.int32(3))
    number = config.replace(**{"estimator.discount": 0.495})
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        pgjax.tabular.policy_gradient(state, config),
        pgjax.tabular.policy_gradient(state, number),
    )
    rows = pgjax.tabular.action_probabilities(state, config)
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (Schedule(lambda: lambda n: 0.1 if n < 3 else 0.0), "use jnp.where"),
        (Schedule(lambda x: lambda n: x * jnp.ones(2), x=1.0), r"shape \(2,\), not a scalar's"),
        (Schedule(optax.linear_schedule, init_value=1.0), "makes no value for update 0"),
        (Schedule(optax.cosine_decay_schedule, init_value=1.0, decay_steps=0), "positive"),
    ],
)
def test_what_makes_no_value_is_named(rate, message):
    with pytest.raises(TypeError, match=f"optimizer.learning_rate: Schedule.*{message}") as raised:
        checked(with_rate(rate))
    assert "\n" not in str(raised.value)


def wave(low, high):
    """A schedule from the mean of these to them and back: twice, in a hundred updates."""
    return Schedule(lambda low, high: lambda n: _wave(n, low, high), low=low, high=high)


def _wave(n, low, high):
    return (low + high) / 2 + (high - low) / 2 * jnp.sin(4 * jnp.pi * n / 100)


def dipping(at, to):
    """1 but at one update."""
    halves = (optax.constant_schedule(1.0), lambda n: jnp.where(n == 0, to, 1.0))
    return Schedule(lambda: optax.join_schedules(halves, [at]))


BETWEEN = {
    "below": ("optimizer.learning_rate", wave(-0.1, 0.3), 100, r"got -0\.0.*at update [38]\d of"),
    "above": (
        "estimator.discount",
        wave(0.5, 1.5),
        100,
        r"1.0, got 1\.4.*at update [16]\d of",
    ),
    "joined": ("optimizer.learning_rate", dipping(37, -2.0), 90, r"got -2\.0, at update 37 of"),
    "not finite": ("optimizer.learning_rate", dipping(5, jnp.nan), 90, r"got nan, at update 5 "),
    "physics": ("env_params.gravity", dipping(7, -jnp.inf), 9, r"got -inf, at update 7 of its sch"),
    "chunks": ("optimizer.learning_rate", dipping(9000, -1.0), 9001, r"got -1\.0, at update 9000"),
}


@pytest.mark.parametrize(("path", "value", "number", "message"), BETWEEN.values(), ids=BETWEEN)
def test_a_value_out_of_range_in_between_is_refused(path, value, number, message):
    config = pgjax.Config("CartPole-v1", num_updates=number).replace(**{path: value})
    with pytest.raises(ValueError, match=f"^{path} must be (a )?finite.*{message}"):
        checked(config)


def test_schedules_that_stay_in_range_are_taken_also_where_they_are_traced():
    config = with_rate(wave(0.0, 0.3))
    assert checked(config.replace(num_updates=10**8))
    jax.eval_shape(lambda config: checked(config).optimizer.learning_rate.value(0), config)


def test_a_value_out_of_range_at_the_end_and_a_share_below_zero_are_refused():
    rate = Schedule(optax.linear_schedule, init_value=0.1, end_value=-0.1, transition_steps=9)
    with pytest.raises(ValueError, match=r"learning_rate must.*at update 9 of its schedule"):
        checked(with_rate(rate))
    for share in (-0.1, float("nan"), "half", True):
        with pytest.raises(ValueError, match="Share must be a finite number of at least 0"):
            Share(share)
    with pytest.raises(ValueError, match="give num_updates"):
        falling(Share(1.0)).value(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Schedule(optax.linear_schedule, init_value=1.0, end_valeu=0.0),
            "unknown argument 'end_valeu' of linear_schedule; did you mean 'end_value'",
        ),
        (lambda: Schedule(optax.linear_schedule, 1.0), "linear_schedule by name, got 1.0 without"),
        (lambda: Schedule(0.5), "takes a function that makes a schedule, .*, got 0.5$"),
    ],
)
def test_arguments_that_a_schedule_does_not_have(make, message):
    with pytest.raises(TypeError, match=message):
        make()
