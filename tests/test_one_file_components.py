"""Components that are one file and one line: what configs, flags and programs make of them."""

import json

import jax
import numpy as np
import pytest

import pgjax
from pgjax.cli import flags, parsers
from pgjax.core import exports
from pgjax.runs import config_json
from pgjax.training.config import bind, checked

BANDIT = pgjax.FiniteMDP([[[1.0], [1.0]]], [[0.0, 1.0]], [1.0], horizon=10)
PASSES = pgjax.Passes(epochs=4, minibatches=1)


def config_of(make=pgjax.actor_critic, **changes):
    small = {"sampler.num_envs": 8, "sampler.length": 16}
    return make(BANDIT, network=pgjax.MLP((8,)), num_updates=30, **small).replace(**changes)


CONFIGS = {
    "AdvantageWeighted": config_of(objective=pgjax.AdvantageWeighted(0.5), ascent=PASSES),
    "KLPenalty": config_of(pgjax.ppo, objective=pgjax.KLPenalty(0.2, target=0.02)),
    "VTrace": config_of(estimator=pgjax.VTrace(standardize=True, rho=2.0), ascent=PASSES),
    "TwoHotCritic": config_of(pgjax.ppo, critic=pgjax.TwoHotCritic(limit=5.0, num_bins=21)),
}
every = pytest.mark.parametrize("name", CONFIGS)
# Runs are dear: a critic and an objective share one.
TRAINED = {
    "KLPenalty and TwoHotCritic": CONFIGS["KLPenalty"].replace(
        critic=CONFIGS["TwoHotCritic"].critic
    ),
    "AdvantageWeighted": CONFIGS["AdvantageWeighted"],
    "VTrace": CONFIGS["VTrace"],
}
KEYS = jax.random.split(jax.random.key(0), 3)


def test_a_line_of_exports_makes_a_component_known():
    known = {name for names in exports.families().values() for name in names}
    assert set(CONFIGS) <= known


def good_share(config, variables):
    policy = bind(checked(config), 0).policy
    return float(policy.apply(variables, np.ones(1, np.float32), ())[0].probabilities()[1])


@pytest.fixture(scope="module", params=TRAINED)
def trained(request):
    config = TRAINED[request.param]
    return config, pgjax.train(KEYS[1], config)


@pytest.mark.slow
def test_a_bandit_is_learned_by_seeds_side_by_side_as_by_each_alone(trained):
    config, alone = trained
    states, metrics = jax.vmap(pgjax.train, (0, None))(KEYS, config)
    assert metrics.finite.all()
    for i in range(3):
        variables = jax.tree.map(lambda x: x[i], states.policy_variables)  # noqa: B023
        assert good_share(config, variables) > 0.95
    jax.tree.map(
        lambda one, all: np.testing.assert_allclose(one, all[1], rtol=1e-3, atol=1e-3),
        alone.state.params,
        states.params,
    )


@pytest.mark.slow
@pytest.mark.devices(2)
def test_two_devices_give_the_same_numbers(trained):
    config, one = trained
    two = pgjax.train(KEYS[1], config, pgjax.make_mesh(2))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        one.state.policy_variables,
        two.state.policy_variables,
    )


@every
def test_floats_change_without_another_program(name):
    config, field = CONFIGS[name], CHANGED[name]
    before = jax.tree.structure(config)
    assert jax.tree.structure(config.replace(**{field: 1.25})) == before


CHANGED = {
    "AdvantageWeighted": "objective.temperature",
    "KLPenalty": "objective.target",
    "VTrace": "estimator.rho",
    "TwoHotCritic": "critic.limit",
}


@every
def test_a_config_comes_back_from_json(name):
    config = CONFIGS[name].replace(env="Catch-bsuite")
    data = json.loads(json.dumps(config_json.to_dict(config)))
    assert config_json.from_dict(data) == config


@pytest.mark.parametrize(
    ("arguments", "path", "value"),
    [
        ("--objective AdvantageWeighted --objective.temperature 0.3", "objective.temperature", 0.3),
        ("--objective AdvantageWeighted --objective.max-weight 20", "objective.max_weight", 20.0),
        ("--algorithm ppo --objective KLPenalty --objective.target 0.1", "objective.target", 0.1),
        ("--objective KLPenalty --objective.target none", "objective.target", None),
        ("--estimator VTrace --estimator.rho 2", "estimator.rho", 2.0),
        ("--algorithm ppo --critic TwoHotCritic --critic.num-bins 9", "critic.num_bins", 9),
    ],
)
def test_flags(arguments, path, value):
    _, make_config = flags.read(["Catch-bsuite", *arguments.split()], parsers.train())
    part, field = path.split(".")
    component = getattr(make_config(), part)
    assert type(component).__name__ in arguments
    assert getattr(component, field) == value


def test_a_v_trace_by_the_algorithm_ppo_is_refused_in_a_sentence():
    arguments = ["Catch-bsuite", "--algorithm", "ppo", "--estimator", "VTrace"]
    _, make_config = flags.read(arguments, parsers.train())
    with pytest.raises(
        ValueError, match=r"ClippedRatio takes weights without it.*ScoreFunction\(\)"
    ):
        checked(make_config())
