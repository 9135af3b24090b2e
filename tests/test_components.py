import copy
import dataclasses
import inspect
import itertools
import math
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgjax
from pgjax.core import names
from pgjax.environments import interface

SMALL = pgjax.Config(
    env="CartPole-v1",
    network=pgjax.MLP(hidden_sizes=()),
    sampler=pgjax.Episodes(num_trajectories=2, horizon=5),
    estimator=pgjax.RewardToGo(baseline="none"),
    num_updates=2,
)
FULL = SMALL.replace(
    env_params=interface.default_params("CartPole-v1"),
    optimizer=pgjax.Adam(learning_rate=0.03, max_gradient_norm=0.5),
)


def leaves_by_path(tree):
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path).lstrip("."): leaf for path, leaf in flat}


@pytest.mark.parametrize(
    ("component", "leaves"),
    [
        (pgjax.Episodes(num_trajectories=3, horizon=7), []),
        (pgjax.RewardToGo(discount=0.5, baseline="mean", standardize=True), [0.5]),
        (pgjax.TotalReturn(discount=0.25), [0.25]),
        (pgjax.ScoreFunction(entropy_coefficient=0.125), [0.125]),
        (pgjax.Probability(), []),
        (pgjax.Passes(epochs=2, max_kl=0.5), [0.5]),
        (pgjax.TrustRegion(0.5, damping=0.25, backtrack_factor=0.125), [0.5, 0.25, 0.125]),
        (pgjax.Adam(learning_rate=0.1), [0.1]),
        (pgjax.SGD(learning_rate=0.1, max_gradient_norm=2.0), [0.1, 2.0]),
    ],
    ids=lambda x: type(x).__name__,
)
def test_the_leaves_of_a_component_are_its_floats(component, leaves):
    assert jax.tree.leaves(component) == leaves


def test_the_leaves_of_a_config_are_the_floats_at_their_paths():
    assert leaves_by_path(SMALL) == {
        "critic.learning_rate": 1e-3,
        "critic.td_lambda": 0.95,
        "estimator.discount": 1.0,
        "objective.entropy_coefficient": 0.0,
        "optimizer.learning_rate": 0.01,
    }


def test_the_leaves_of_env_params_are_all_but_the_time_limit():
    given = {name: leaf for name, leaf in leaves_by_path(FULL).items() if "env_params" in name}
    params = dataclasses.asdict(FULL.env_params)
    assert params.pop("max_steps_in_episode") == 500
    assert given == {f"env_params.{name}": value for name, value in params.items()}


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"estimator.discount": 0.5}, True),
        ({"optimizer.learning_rate": 0.5, "env_params.gravity": 1.0}, True),
        ({"estimator.baseline": "mean"}, False),
        ({"sampler.horizon": 6}, False),
        ({"network.hidden_sizes": (3,)}, False),
        ({"num_updates": 3}, False),
        ({"env": "Acrobot-v1"}, False),
        ({"env_params.max_steps_in_episode": 100}, False),
    ],
    ids=str,
)
def test_only_what_is_static_changes_the_structure(changes, same):
    structures = [jax.tree.structure(config) for config in (FULL, FULL.replace(**changes))]
    assert (structures[0] == structures[1]) is same


ALIKE = [
    (pgjax.Adam(), pgjax.SGD()),
    (pgjax.TotalReturn(baseline="mean"), pgjax.RewardToGo(baseline="mean")),
    *itertools.combinations(
        (
            pgjax.Probability(),
            pgjax.ProbabilityTimesReturn(),
            pgjax.SummedProbabilityTimesReturn(),
            pgjax.ProbabilityRatio(),
        ),
        2,
    ),
]


@pytest.mark.parametrize(("one", "other"), ALIKE, ids=lambda x: type(x).__name__)
def test_components_of_two_types_with_the_same_fields_are_two_structures(one, other):
    # A compiled program is found again by its structures: equal ones would share one program.
    assert jax.tree.structure(one) != jax.tree.structure(other)


def test_a_changed_float_does_not_retrace_and_a_changed_string_does():
    traced = []

    @jax.jit
    def double_discount(config):
        traced.append(config)
        return 2 * config.estimator.discount

    assert double_discount(SMALL) == 2.0
    assert double_discount(SMALL.replace(**{"estimator.discount": 0.25})) == 0.5
    assert len(traced) == 1
    assert double_discount(SMALL.replace(**{"estimator.baseline": "mean"})) == 2.0
    assert len(traced) == 2


@pytest.mark.parametrize(
    ("path", "value", "read"),
    [
        ("num_updates", 7, lambda c: c.num_updates),
        ("optimizer.learning_rate", 3e-3, lambda c: c.optimizer.learning_rate),
        ("sampler.horizon", 3, lambda c: c.sampler.horizon),
        ("network.hidden_sizes", (5, 6), lambda c: c.network.hidden_sizes),
        ("network.activation", "relu", lambda c: c.network.activation),
        ("env_params.gravity", 1.5, lambda c: c.env_params.gravity),
    ],
)
def test_replace_changes_the_field_at_a_dotted_path_and_nothing_else(path, value, read):
    before = repr(FULL)
    changed = FULL.replace(**{path: value})
    assert read(changed) == value
    assert changed != FULL
    assert repr(FULL) == before
    assert changed.replace(**{path: read(FULL)}) == FULL


def test_replace_takes_several_paths_into_a_component_that_it_replaces_too():
    changed = SMALL.replace(
        **{
            "optimizer": pgjax.SGD(),
            "optimizer.learning_rate": 0.5,
            "optimizer.max_gradient_norm": 2.0,
            "estimator.discount": 0.9,
        }
    )
    assert changed.optimizer == pgjax.SGD(learning_rate=0.5, max_gradient_norm=2.0)
    assert changed.estimator == pgjax.RewardToGo(discount=0.9, baseline="none")


def test_the_network_made_by_a_dotted_path_is_the_one_that_is_initialised():
    config = SMALL.replace(**{"network.hidden_sizes": (5,)})
    shapes = {leaf.shape for leaf in jax.tree.leaves(pgjax.init(jax.random.key(0), config).params)}
    assert shapes == {(4, 5), (5,), (5, 2), (2,)}


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("optimiser", "optimizer"),
        ("optimiser.learning_rate", "optimizer.learning_rate"),
        ("optimizer.learning_rte", "optimizer.learning_rate"),
        ("network.hiden_sizes", "network.hidden_sizes"),
        ("env_params.gravty", "env_params.gravity"),
        ("Env", "env"),
    ],
)
def test_an_unknown_path_is_answered_with_the_nearest_name(path, nearest):
    with pytest.raises(ValueError, match=f"did you mean '{nearest}'"):
        FULL.replace(**{path: 1.0})


@pytest.mark.parametrize("path", ["num_updates.half", "sampler.horizon.x"])
def test_a_path_into_what_has_no_fields_is_refused_by_name(path):
    with pytest.raises(ValueError, match=path):
        SMALL.replace(**{path: 1.0})


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        FULL,
        SMALL.replace(optimizer=optax.rmsprop),
        SMALL.replace(estimator=pgjax.TotalReturn(0.5), objective=pgjax.ProbabilityRatio()),
    ],
    ids=["small", "with env_params", "custom optimizer", "without entropy"],
)
def test_a_config_survives_flattening(config):
    leaves, structure = jax.tree.flatten(config)
    rebuilt = jax.tree.unflatten(structure, leaves)
    assert rebuilt == config
    assert jax.tree.structure(rebuilt) == structure
    assert hash(structure) == hash(jax.tree.structure(rebuilt))


def test_a_config_survives_a_compiled_identity():
    through = jax.jit(lambda config: config)(FULL)
    assert jax.tree.structure(through) == jax.tree.structure(FULL)
    np.testing.assert_allclose(jax.tree.leaves(through), jax.tree.leaves(FULL), rtol=1e-6)
    assert through.env_params.max_steps_in_episode == 500
    assert type(through.env_params.max_steps_in_episode) is int


@pytest.mark.slow
def test_a_config_of_axes_vmaps_train_over_learning_rates():
    rates = [0.0, 0.1, 0.3]
    config = SMALL.replace(**{"optimizer.learning_rate": jnp.array(rates)})
    axes = jax.tree.map(lambda _: None, SMALL).replace(**{"optimizer.learning_rate": 0})
    key = jax.random.key(0)
    swept = jax.vmap(pgjax.train, in_axes=(None, axes))(key, config)
    for i, rate in enumerate(rates):
        alone = pgjax.train(key, SMALL.replace(**{"optimizer.learning_rate": rate}))
        params, metrics = jax.tree.map(lambda x, i=i: x[i], (swept.state.params, swept.metrics))
        chex.assert_trees_all_close(params, alone.state.params, rtol=1e-5, atol=1e-6)
        chex.assert_trees_all_close(metrics, alone.metrics, rtol=1e-5, atol=1e-6)
    start = pgjax.init(key, SMALL).params
    # Another program may round the same initial draw otherwise, in the last bit.
    unmoved = jax.tree.map(lambda x: x[0], swept.state.params)
    chex.assert_trees_all_close(unmoved, start, rtol=1e-6, atol=0.0)
    kernels = next(x for x in jax.tree.leaves(swept.state.params) if x.ndim == 3)
    assert (kernels[1] != kernels[2]).all()


def test_a_config_of_axes_sweeps_over_physics():
    config = FULL.replace(**{"env_params.gravity": jnp.array([9.8, 0.0, 30.0])})
    axes = jax.tree.map(lambda _: None, FULL).replace(**{"env_params.gravity": 0})
    state, key = pgjax.init(jax.random.key(0), SMALL), jax.random.key(1)
    swept = jax.vmap(pgjax.sample_trajectories, in_axes=(None, None, axes))(key, state, config)
    by_default = pgjax.sample_trajectories(key, state, SMALL)
    chex.assert_trees_all_close(
        jax.tree.map(lambda x: x[0], swept), by_default, rtol=1e-5, atol=1e-6
    )
    # The same start, and a pole that falls faster the heavier the world is.
    angle, angular_velocity = np.asarray(swept.obs[:, :, :, 2]), np.asarray(swept.obs[:, :, :, 3])
    np.testing.assert_array_equal(angle[:, 0], angle[[0, 0, 0], 0])
    pull = (angular_velocity[2, 1] - angular_velocity[1, 1]) * np.sign(angle[0, 0])
    assert (pull > 0).all()


def test_the_time_limit_among_env_params_is_static_and_sizes_the_trajectories():
    config = FULL.replace(**{"env_params.max_steps_in_episode": 3, "sampler.horizon": None})
    state = pgjax.init(jax.random.key(0), config)
    trajectories = pgjax.sample_trajectories(jax.random.key(1), state, config)
    np.testing.assert_array_equal(trajectories.valid, np.ones((3, 2), bool))
    np.testing.assert_array_equal(trajectories.truncated, [[False] * 2] * 2 + [[True] * 2])


def test_a_traced_time_limit_is_refused_by_name():
    def leaves(limit):
        return jax.tree.leaves(FULL.replace(**{"env_params.max_steps_in_episode": limit}))

    with pytest.raises(TypeError, match=r"env_params\.max_steps_in_episode"):
        jax.jit(leaves)(3)


def test_a_path_into_env_params_starts_from_the_defaults():
    changed = pgjax.Config(env="CartPole-v1").replace(**{"env_params.gravity": 5.0})
    assert changed.env_params.gravity == 5.0
    defaults = interface.default_params("CartPole-v1")
    assert changed.env_params == defaults.replace(gravity=5.0)


def test_a_path_into_env_params_and_a_new_environment_start_from_that_ones_defaults():
    config = pgjax.Config(env="CartPole-v1")
    changed = config.replace(**{"env": "Pendulum-v1", "env_params.max_steps_in_episode": 40})
    defaults = interface.default_params("Pendulum-v1")
    assert changed.env_params == defaults.replace(max_steps_in_episode=40)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("learning_rate", "optimizer.learning_rate"),
        ("lr", "optimizer.learning_rate"),
        ("total_timesteps", "num_updates"),
        ("gamma", "estimator.discount"),
        ("clip_eps", "objective.epsilon"),
        ("critic.lr", "critic.learning_rate"),
        ("policy_lr", "optimizer.learning_rate"),
        ("vf_lr", "critic.learning_rate"),
        ("discount_factor", "estimator.discount"),
        ("target_kl", "ascent.max_kl"),
        ("num_sgd_iter", "ascent.epochs"),
        ("num_mini_batch", "ascent.minibatches"),
        ("unroll_length", "sampler.length"),
        ("clip_range_vf", "critic.value_clip"),
        ("entropy_cost", "objective.entropy_coefficient"),
        ("max_steps", "num_updates"),
        ("ent_coef", "objective.entropy_coefficient"),
        ("n_envs", "sampler.num_envs"),
    ],
)
def test_a_setting_by_the_name_that_others_give_it_is_pointed_to_ours(name, meant):
    answer = f"(did you mean '|write \\*\\*{{\"){meant}\\W"
    with pytest.raises(ValueError, match=f"unknown field '{name}' .*{answer}"):
        pgjax.ppo("CartPole-v1", **{name: 1})


@pytest.mark.parametrize(
    ("given", "known", "meant"),
    [
        ("--log-interval", "--metrics-every", True),
        ("--save-freq", "--checkpoint-seconds", True),
        ("--reward-threshold", "--stop-at-return", True),
        ("--n-seeds", "--num-seeds", True),
        ("critic_lr", "critic.learning_rate", True),
        ("vf_coef", "value_coefficient", True),
        ("unroll_length", "strength", False),
        ("log_freq", "metric_very", False),
    ],
)
def test_a_synonym_helps_only_to_what_is_known(given, known, meant):
    assert names.nearest(given, ["other", known]) == [known] * meant


def test_no_synonym_leads_back_to_itself():
    for word in names._SYNONYMS:
        meant = list(itertools.islice(names._synonyms(word), 9))
        assert len(set(meant)) == len(meant) < 9


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1, 8, "from 1 to 8"),
        (0, None, "at least 0"),
        (0.5, math.inf, "at least 0.5"),
        (None, 3, "at most 3"),
        (-math.inf, 1, "at most 1"),
        (None, None, ""),
        (-math.inf, math.inf, ""),
    ],
)
def test_a_range_is_said_in_words(low, high, words):
    assert names.within(low, high) == words


@pytest.mark.parametrize(
    ("option", "given", "allowed"),
    [
        (pgjax.option(0.5, low=0.0, high=1.0), 2.0, "a finite number from 0.0 to 1.0"),
        (pgjax.option(0.5, high=1.0), 2.0, "a finite number at most 1.0"),
        (pgjax.option(0.5, low=1.0), 0.0, "a finite number at least 1.0"),
        (pgjax.option(0.5), math.inf, "a finite number"),
    ],
)
def test_a_number_out_of_its_range_is_told_the_range(option, given, allowed):
    @pgjax.component
    class Mine(pgjax.Component):
        number: float = option

    with pytest.raises(ValueError, match=f"^a.number must be {allowed}, got {given}$"):
        Mine(given).check("a")


@pgjax.component
class Own(pgjax.Objective):
    sharpness: float = 1.0

    def contribution(self, step):
        return step.weight


@pytest.mark.parametrize(
    ("cls", "name", "says"),
    [
        (pgjax.GAE, "lam", "did you mean 'gae_lambda'? known: discount, gae_lambda, standardize"),
        (pgjax.ClippedRatio, "clip", "did you mean 'epsilon'? known: epsilon, entropy_coefficient"),
        (pgjax.Segments, "n_steps", "did you mean 'length'? known: num_envs, length"),
        (pgjax.Passes, "n_epochs", "did you mean 'epochs'? known: epochs, minibatches, max_kl"),
        (pgjax.Adam, "lr", "did you mean 'learning_rate'? known: learning_rate, max_gradient_norm"),
        (
            pgjax.Critic,
            "gae",
            "known: network, learning_rate, epochs, minibatches, td_lambda, loss, value_clip",
        ),
        (
            pgjax.KLPenalty,
            "kl_coef",
            "did you mean 'coefficient'? known: coefficient, target, entropy_coefficient",
        ),
        (
            pgjax.MLP,
            "hidden",
            "did you mean 'hidden_sizes'? known: hidden_sizes, activation, initializer",
        ),
        (
            pgjax.Recurrent,
            "lstm_hidden_size",
            "did you mean 'features'? known: network, features, window, cell",
        ),
        (pgjax.MinGRU, "size", "known: features, longest"),
        (pgjax.Share, "part", "known: share"),
        (pgjax.Config, "learning_rat", "learning_rate is a field of SGD, Adam (optimizer)"),
        (Own, "sharpnes", "did you mean 'sharpness'? known: sharpness"),
        (pgjax.GradientStep, "zzz", "known: none"),
        (pgjax.GAE, "epsilon", "epsilon is a field of ClippedRatio (objective)"),
        (Own, "rho", "rho is a field of VTrace (estimator)"),
        (pgjax.MLP, "n_steps", "length is a field of Segments (sampler)"),
        (pgjax.Config, "lr", "learning_rate is a field of SGD, Adam (optimizer)"),
        (pgjax.Config, "total_timesteps", "did you mean 'num_updates'? there are 13"),
    ],
)
def test_a_constructor_answers_a_field_that_it_does_not_have(cls, name, says):
    with pytest.raises(TypeError) as caught:
        cls(**{name: 1})
    assert str(caught.value) == f"{cls.__name__} has no field {name!r}; {says}"


@pytest.mark.parametrize(
    "whole",
    [pgjax.GAE(gae_lambda=0.5), pgjax.MLP((3,)), pgjax.MinGRU(4), Own(2.0), SMALL],
    ids=lambda x: type(x).__name__,
)
def test_constructors_are_those_of_dataclasses(whole):
    same = (copy.copy(whole), copy.deepcopy(whole), pickle.loads(pickle.dumps(whole)))
    assert {*map(type, same)} == {type(whole)}
    assert all(other == whole for other in (*same, dataclasses.replace(whole)))
    fields = [field.name for field in dataclasses.fields(whole)]
    assert list(inspect.signature(type(whole)).parameters) == fields


def test_of_many_names_the_nearest_are_said_and_what_lists_all():
    known = [f"suite/Game{i}" for i in range(1000)] + ["brax/ant"]
    text = names.unknown("environment 'ant'", "ant", known, "`pgjax envs`")
    assert text == "unknown environment 'ant'; did you mean 'brax/ant'? `pgjax envs` lists all 1001"
    assert len(names.unknown("environment 'Game'", "Game", known)) < 200
