"""What cannot be is refused before anything compiles: what was given, what is allowed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from broken_environments import (
    ComplexObserved,
    EntryMissing,
    EntryTooMany,
    FourFromStepEnv,
    OneOfTenObserved,
    TwoNumbersObserved,
)
from environments_for_tests import (
    Counter,
    DriftingState,
    Endless,
    FiveValues,
    TextActions,
    Unhashable,
    VectorReward,
)

import pgjax
from pgjax.core.components import parts
from pgjax.environments import interface
from pgjax.training import training
from pgjax.training.config import checked

CONFIG = pgjax.Config(env="CartPole-v1")


class TwoOutputs(nn.Module):
    @nn.compact
    def __call__(self, obs):
        return obs, obs


class MatrixOutput(nn.Module):
    @nn.compact
    def __call__(self, obs):
        return obs[None, :]


class Dropping(nn.Module):
    @nn.compact
    def __call__(self, obs):
        return nn.Dropout(0.5, deterministic=False)(obs)


class Averaging(nn.Module):
    @nn.compact
    def __call__(self, obs):
        return nn.BatchNorm(use_running_average=False)(obs[None])[0]


class Counting(nn.Module):
    @nn.compact
    def __call__(self, obs):
        calls = self.variable("seen", "calls", lambda: jnp.zeros(()))
        if not self.is_initializing():
            calls.value += 1.0
        return obs


class Spectral(nn.Module):
    @nn.compact
    def __call__(self, obs):
        return nn.SpectralNorm(nn.Dense(4))(obs, update_stats=True)


def bad(**changes):
    return CONFIG.replace(**{name.replace("__", "."): value for name, value in changes.items()})


CASES = [
    (lambda: pgjax.Config(env="CartPole-v2"), ValueError, "did you mean 'CartPole-v1'"),
    (lambda: pgjax.Config(env="cartpole"), ValueError, "unknown environment 'cartpole'.*CartPole"),
    (
        lambda: pgjax.Config(env=object()),
        TypeError,
        "an id or an environment object.*which has no default_params, reset",
    ),
    (lambda: pgjax.Config(env=Counter), TypeError, "environment object"),
    (lambda: pgjax.Config(env=FiveValues()), TypeError, "FiveValues.step returns 5 values.*six"),
    (
        lambda: pgjax.Config(env=FourFromStepEnv()),
        TypeError,
        "FourFromStepEnv.step_env returns 4 values; expected five: obs, .*is_truncated",
    ),
    (
        lambda: pgjax.Config(env=Unhashable()),
        TypeError,
        "env is part of the program, so it must be hashable.*'Unhashable'",
    ),
    (
        lambda: bad(sampler__num_trajectories=10**7),
        ValueError,
        r"num_trajectories × horizon must be below 2³¹ in one update, got 5,000,000,000",
    ),
    (lambda: pgjax.Config(env=VectorReward()), ValueError, r"reward must be a scalar.*\(1,\)"),
    (lambda: pgjax.Config(env=DriftingState()), TypeError, "state changes from reset to step"),
    (lambda: pgjax.Config(env=TextActions()), TypeError, r"space\['a'\] must be made of"),
    (lambda: pgjax.Config(TwoNumbersObserved()), ValueError, r"observation: .* \(2,\).*float32\[1"),
    (
        lambda: pgjax.Config(OneOfTenObserved()),
        ValueError,
        r"\['digit'\]: expected an integer, .*, got",
    ),
    (lambda: pgjax.Config(ComplexObserved()), ValueError, r"real numbers, of .*, got complex64"),
    (
        lambda: pgjax.Config(EntryMissing()),
        ValueError,
        "expected all entries .* no entry 'velocity'",
    ),
    (
        lambda: pgjax.Config(EntryTooMany()),
        ValueError,
        "EntryTooMany: the observation: expected those of .*alone, got an entry 'speed' too many",
    ),
    (lambda: bad(env_params=3.0), TypeError, "env_params must be a EnvParams, got 3.0"),
    (lambda: bad(env_params=Counter().default_params), TypeError, "env_params must be"),
    (
        lambda: bad(env_params=with_gravity(float("nan"))),
        ValueError,
        "env_params.gravity must be finite, got nan",
    ),
    (lambda: bad(network=nn.Dense), TypeError, "network must be a flax.linen.Module instance"),
    (lambda: bad(network=Dropping()), ValueError, "network draws random numbers .rng 'dropout'"),
    (lambda: bad(network=Averaging()), ValueError, "writes to its collection 'batch_stats'"),
    (lambda: bad(network=Spectral()), ValueError, "writes to its collection 'batch_stats'"),
    (lambda: bad(network=Counting()), ValueError, "writes to its collection 'seen'"),
    (
        lambda: bad(network=nn.Sequential([nn.Dense(4), nn.tanh])),
        TypeError,
        "^network.layers is part of the program.*a list is not; use a tuple$",
    ),
    (
        lambda: pgjax.ppo("CartPole-v1", **{"critic.network": nn.Sequential([nn.Dense(4)])}),
        TypeError,
        "^critic.network.layers is part of the program.*use a tuple$",
    ),
    (lambda: bad(network=TwoOutputs()), ValueError, "TwoOutputs gave"),
    (lambda: bad(network=MatrixOutput()), ValueError, r"MatrixOutput gave float32\[1, 4\]"),
    (lambda: bad(network__initializer="orthogonl"), ValueError, "did you mean 'orthogonal'"),
    (lambda: bad(network__hidden_sizes=(64, 0)), ValueError, r"positive integers, got \(64, 0\)"),
    (lambda: bad(network__activation="tahn"), ValueError, "did you mean 'tanh'"),
    (lambda: bad(distribution="norml"), ValueError, "did you mean 'normal'"),
    (lambda: bad(distribution="normal"), TypeError, "'normal' needs a Box"),
    (
        lambda: pgjax.Config(env="Pendulum-v1", distribution="categorical"),
        TypeError,
        "'categorical' needs Discrete actions",
    ),
    (lambda: bad(sampler__num_trajectories=0), ValueError, "num_trajectories must be at least 1"),
    (lambda: bad(sampler__num_trajectories=1), ValueError, "at least 2.*got 1.*baseline='none'"),
    (lambda: bad(sampler__num_trajectories=2.0), TypeError, "must be an integer.*got 2.0"),
    (lambda: bad(sampler__num_trajectories=-4), ValueError, "got -4"),
    (lambda: bad(sampler__horizon=0), ValueError, "horizon must be at least 1, got 0"),
    (lambda: bad(sampler__horizon=501), ValueError, "at most 500, the time limit of CartPole-v1"),
    (lambda: bad(num_updates=0), ValueError, "num_updates must be at least 1, got 0"),
    (lambda: bad(num_updates=2**31), ValueError, "num_updates must be at most 2147483647"),
    (
        lambda: pgjax.ppo("CartPole-v1", **{"ascent.minibatches": 10**20}),
        ValueError,
        "ascent.minibatches must be at most 2147483647, got 100000000000000000000",
    ),
    (
        lambda: pgjax.ppo("CartPole-v1", **{"ascent.minibatches": 10**6}),
        ValueError,
        "ascent.minibatches must be at most 4096, the steps that one update learns from",
    ),
    (
        lambda: pgjax.ppo("CartPole-v1", **{"critic.minibatches": 4097}),
        ValueError,
        "critic.minibatches must be at most 4096",
    ),
    (lambda: bad(num_updates=True), TypeError, "num_updates must be an integer"),
    (lambda: bad(estimator__discount=1.01), ValueError, "from 0.0 to 1.0, got 1.01"),
    (lambda: bad(estimator__discount=-0.1), ValueError, "estimator.discount must be a finite"),
    (lambda: bad(estimator__discount=float("nan")), ValueError, "got nan"),
    (lambda: bad(estimator__discount="0.9"), TypeError, "estimator.discount must be a number"),
    (lambda: bad(estimator__discount=np.ones(3)), ValueError, r"shape \(3,\).*jax.vmap"),
    (lambda: bad(estimator__baseline="leave-one-out"), ValueError, "did you mean 'leave_one_out'"),
    (lambda: bad(estimator__standardize=1), TypeError, "standardize must be True or False"),
    (
        lambda: bad(estimator="RewardToGo"),
        TypeError,
        "estimator must be one of pgjax's.*pgjax.Estimator",
    ),
    (lambda: bad(estimator=pgjax.RewardToGo), TypeError, "estimator must be one of"),
    (lambda: bad(sampler=pgjax.GAE()), TypeError, "sampler must be.*from pgjax.Sampler, got GAE"),
    (lambda: bad(critic=pgjax.GAE()), TypeError, "critic must be.*from pgjax.BaseCritic, got GAE"),
    (lambda: bad(objective=pgjax.Passes()), TypeError, "objective must be.*from pgjax.Objective"),
    (lambda: bad(ascent=pgjax.ClippedRatio()), TypeError, "ascent must be.*from pgjax.Ascent"),
    (lambda: bad(ascent=pgjax.Passes), TypeError, "ascent must be one of"),
    (
        lambda: bad(ascent__epochs=4),
        ValueError,
        r"ascent.epochs cannot be set: ascent is GradientStep\(\)",
    ),
    (
        lambda: pgjax.ppo("CartPole-v1", **{"objective.epochs": 4}),
        ValueError,
        "unknown field 'objective.epochs'",
    ),
    (
        lambda: pgjax.natural_policy_gradient("CartPole-v1", **{"objective.max_kl": 0.1}),
        ValueError,
        "unknown field 'objective.max_kl'",
    ),
    (lambda: bad(optimizer__learning_rate=-1e-3), ValueError, "learning_rate.*got -0.001"),
    (lambda: bad(optimizer__learning_rate=jnp.inf), ValueError, "learning_rate.*got inf"),
    (lambda: bad(optimizer__max_gradient_norm=-1.0), ValueError, "max_gradient_norm.*got -1.0"),
    (lambda: bad(optimizer=lambda rate: rate), TypeError, "must make an optax.GradientTransf"),
    (lambda: bad(optimizer=pgjax.Adam), TypeError, "optimizer must be one of"),
    (lambda: bad(objective__entropy_coefficient=-0.1), ValueError, "entropy_coefficient.*-0.1"),
    (
        lambda: bad(optimizer__learning_rat=1.0),
        ValueError,
        "did you mean 'optimizer.learning_rate'",
    ),
    (lambda: bad(optimiser=pgjax.SGD()), ValueError, "did you mean 'optimizer'"),
    (lambda: bad(num_updates__x=1), ValueError, "num_updates.x cannot be set"),
    (lambda: "CartPole-v1", TypeError, "config must be a pgjax.Config"),
    (
        lambda: bad(sampler=pgjax.Segments()),
        ValueError,
        r"RewardToGo waits for the end of episodes.*GAE\(gae_lambda=1.0\), or sampler=Episodes",
    ),
    (lambda: bad(sampler=pgjax.Segments(0), estimator=pgjax.GAE()), ValueError, "num_envs must be"),
    (
        lambda: bad(sampler=pgjax.Segments(2**20, 2**12), estimator=pgjax.GAE()),
        ValueError,
        "num_envs × length must be below",
    ),
    (
        lambda: pgjax.Config("Pendulum-v1", estimator=pgjax.ActionValue(all_actions=True)),
        TypeError,
        "all_actions needs Discrete actions",
    ),
    (
        lambda: pgjax.ppo("CartPole-v1", estimator=pgjax.ActionValue(all_actions=True)),
        ValueError,
        "ClippedRatio takes one of the action that was taken.*all_actions=False",
    ),
    (
        lambda: bad(network=pgjax.Recurrent(features=0)),
        ValueError,
        "network.features must be at le",
    ),
    (lambda: bad(network=pgjax.Recurrent(window=0)), ValueError, "network.window must be at least"),
    (
        lambda: bad(network=pgjax.Recurrent(pgjax.Recurrent())),
        TypeError,
        "network.network must map one observation to features, without a memory",
    ),
    (
        lambda: pgjax.ppo("CartPole-v1", **{"critic.network": pgjax.Recurrent()}),
        TypeError,
        "critic.network must map one observation to features, without a memory",
    ),
    (
        lambda: bad(network=pgjax.Recurrent(TwoOutputs(), 4)),
        ValueError,
        r"^network.network must map one observation to a vector of features",
    ),
    (lambda: bad(time_aware=1), TypeError, "time_aware must be True or False, got 1"),
    (lambda: bad(network=pgjax.CNN()), ValueError, r"CNN needs an observation \[height.*MLP\(\)"),
    (
        lambda: pgjax.Config("Breakout-MinAtar", network=pgjax.CNN(kernel_size=11)),
        ValueError,
        r"kernels of 11 do not fit a grid \(10, 10\)",
    ),
    (lambda: bad(critic__network=3), TypeError, "network must be a flax.linen.Module instance"),
    (lambda: bad(critic__td_lambda=1.5), ValueError, "critic.td_lambda.*from 0.0 to 1.0, got 1.5"),
    (lambda: bad(critic__loss="huberr"), ValueError, "did you mean 'huber'"),
    (lambda: bad(objective__epsilon=0.1), ValueError, "unknown field 'objective.epsilon'"),
    (lambda: bad(normalize_observations=1), TypeError, "must be True or False, got 1"),
    (lambda: bad(distribution="beta"), TypeError, "'beta' needs a Box"),
    (
        lambda: bad(optimizer__learning_rate=pgjax.Schedule(optax.linear_schedule, value=1.0)),
        TypeError,
        "Schedule: unknown argument 'value' of linear_schedule; did you mean 'end_value'",
    ),
    (
        lambda: bad(optimizer__learning_rate=pgjax.Schedule(optax.constant_schedule, value=-1.0)),
        ValueError,
        "learning_rate.*got -1.0",
    ),
]


def with_gravity(value):
    return interface.default_params("CartPole-v1").replace(gravity=value)


@pytest.mark.parametrize(("make", "kind", "message"), CASES)
def test_a_config_that_cannot_be_is_refused_before_compilation(make, kind, message, monkeypatch):
    monkeypatch.setattr(training, "_train", lambda *_: pytest.fail("it went on to compile"))
    with pytest.raises(kind, match=message):
        pgjax.train(jax.random.key(0), make())


@pytest.mark.parametrize(
    "key", [0, jax.random.split(jax.random.key(0), 2), np.zeros(2, np.uint32)], ids=str
)
def test_a_key_must_be_one_typed_key(key):
    with pytest.raises(TypeError, match=r"jax.random.key\(seed\)"):
        pgjax.train(key, CONFIG)


def test_a_time_limit_must_come_from_somewhere():
    with pytest.raises(ValueError, match=r"no time limit: set sampler\.horizon"):
        pgjax.train(jax.random.key(0), pgjax.Config(env=Endless()))
    config = pgjax.Config(env=Endless(), sampler=pgjax.Episodes(2, horizon=4))
    state = pgjax.init(jax.random.key(0), config)
    assert pgjax.sample_trajectories(jax.random.key(0), state, config).truncated[3].all()


def test_a_traced_time_limit_is_refused():
    def lengths(limit):
        params = Counter().default_params.replace(max_steps_in_episode=limit)
        config = pgjax.Config(env=Counter(), env_params=params)
        return pgjax.init(jax.random.key(0), config).params

    with pytest.raises(TypeError, match="max_steps_in_episode sizes the arrays"):
        jax.vmap(lengths)(jnp.array([3, 4]))


def test_a_state_of_another_network_is_refused():
    state = pgjax.init(jax.random.key(0), CONFIG)
    with pytest.raises(ValueError, match="state and config do not belong together"):
        pgjax.update(state, bad(network__hidden_sizes=(8,)))
    with pytest.raises(TypeError, match="state must be a TrainState"):
        pgjax.evaluate(jax.random.key(0), state.params, CONFIG)


def test_counts_of_samples_and_episodes_are_checked():
    state = pgjax.init(jax.random.key(0), CONFIG)
    with pytest.raises(ValueError, match="num_samples must be at least 2, got 1"):
        pgjax.gradient_statistics(jax.random.key(0), state, CONFIG, 1)
    with pytest.raises(ValueError, match="num_episodes must be at least 1, got 0"):
        pgjax.evaluate(jax.random.key(0), state, CONFIG, 0)
    with pytest.raises(ValueError, match=r"num_episodes 2,147,483,647 need about .*would fit"):
        pgjax.evaluate(jax.random.key(0), state, CONFIG, 2**31 - 1)
    with pytest.raises(ValueError, match="num_episodes must be at most 256, got 257"):
        pgjax.render(jax.random.key(0), state, CONFIG, "x.gif", 257)
    with pytest.raises(ValueError, match=r"reference must be like state.params"):
        pgjax.gradient_statistics(jax.random.key(0), state, CONFIG, 4, reference={})


SMALL = {"network.hidden_sizes": (8,)}
REINFORCE, PPO = pgjax.reinforce("Catch-bsuite", **SMALL), pgjax.ppo("Catch-bsuite", **SMALL)
STRANGERS = [
    (REINFORCE, PPO, r"critic.*is missing"),
    (PPO, REINFORCE, r"critic.* which the config does not have"),
    (PPO, PPO.replace(**{"sampler.num_envs": 32}), r"streams.*\[64.*config has .*\[32"),
    (PPO, PPO.replace(**{"critic.network": pgjax.MLP((4,))}), r"critic.*\[8\].*has .*\[4\]"),
    (REINFORCE, REINFORCE.replace(optimizer=pgjax.SGD()), r"opt_state\[0\].count is int32\[\]"),
    (REINFORCE, REINFORCE.replace(optimizer=optax.rmsprop), r"opt_state.*config's optimizer"),
    (REINFORCE, REINFORCE.replace(**{"optimizer.max_gradient_norm": 1.0}), r"opt_state\[1\]"),
    (REINFORCE, REINFORCE.replace(normalize_observations=True), r"normalizer'\].mean is missing"),
    (REINFORCE.replace(normalize_observations=True), REINFORCE, r"normalizer'\].mean is float32"),
    (REINFORCE, REINFORCE.replace(env="CartPole-v1"), r"params.*depends on the config's env"),
]


def shaped(config):
    """A state without its numbers."""
    key = jax.random.key(0)
    return jax.eval_shape(pgjax.init, key, config).replace(key=key)


@pytest.mark.parametrize(("own", "other", "message"), STRANGERS)
def test_a_state_of_another_config_is_refused_by_the_first_path_that_differs(
    own, other, message, tmp_path
):
    state = shaped(own)
    with pytest.raises(ValueError, match=message) as refused:
        pgjax.update(state, other)
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(ValueError, match=message):
        pgjax.save(tmp_path / "checkpoint", state, other)


def test_every_function_of_a_state_refuses_one_that_it_cannot_use(tmp_path):
    key, other = jax.random.key(0), REINFORCE.replace(normalize_observations=True)
    state = shaped(REINFORCE)
    mdp = pgjax.FiniteMDP(np.ones((1, 2, 1)), np.ones((1, 2)), [1.0], horizon=2)
    finite = pgjax.Config(env=mdp)
    uses = [
        lambda: pgjax.evaluate(key, state, other),
        lambda: pgjax.render(key, state, other, tmp_path / "catch.gif"),
        lambda: pgjax.sample_trajectories(key, state, other),
        lambda: pgjax.policy_gradient(key, state, PPO),
        lambda: pgjax.gradient_statistics(key, state, PPO, 4),
        lambda: pgjax.tabular.policy_gradient(state, finite),
        lambda: pgjax.tabular.action_probabilities(state, finite),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="state and config do not belong together"):
            use()
    assert not list(tmp_path.iterdir())


def test_what_only_acts_needs_no_optimizer_and_no_critic():
    state = pgjax.init(jax.random.key(0), PPO)
    acting = PPO.replace(optimizer=pgjax.SGD(), sampler=pgjax.Segments(2, 3))
    training.check_state(state, checked(acting), training.ACTING)
    gradient, _ = pgjax.policy_gradient(jax.random.key(0), state, REINFORCE)
    assert jax.tree.structure(gradient) == jax.tree.structure(state.params)


def test_stacked_states_are_told_of_vmap():
    def stacked(leaf):
        return jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype)

    keys = jax.random.split(jax.random.key(0))
    states = jax.tree.map(stacked, shaped(PPO)).replace(key=keys)
    with pytest.raises(ValueError, match=r"params.*\[2, .*jax.vmap"):
        pgjax.update(states, PPO)


def test_a_number_meant_as_an_integer_is_written_out():
    for given, written in ((1e6, "1000000"), ("500", "500"), (np.float32(8.0), "8")):
        with pytest.raises(
            TypeError, match=rf"num_updates must be an integer .*; write {written}$"
        ):
            pgjax.run(pgjax.Config(env="Catch-bsuite", num_updates=given))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("500", "500"),
        ("1234567.5", "1234567.5"),
        ("inf", "math.inf"),
        ("-inf", "-math.inf"),
        ("nan", "math.inf"),
    ],
)
def test_a_number_meant_by_a_text_is_written_as_python_has_it(text, written):
    with pytest.raises(TypeError, match=rf"got '{text}'; write {written}$"):
        training.check_target(text)


def test_a_nested_fields_own_name_is_led_to_its_path():
    with pytest.raises(ValueError, match=r'learning_rate\W of Config; write \*\*{"optimizer.learn'):
        pgjax.ppo("CartPole-v1", learning_rate=3e-4)
    with pytest.raises(ValueError, match=r'"estimator.discount": …'):
        pgjax.ppo("CartPole-v1").replace(discount=0.9)


def test_a_critic_s_network_must_be_a_function_of_its_parameters():
    class Frozen(nn.Module):
        @nn.compact
        def __call__(self, obs):
            return nn.BatchNorm(use_running_average=True)(obs[None])[0]

    pgjax.init(jax.random.key(0), bad(network=Frozen()))
    for network, message in (
        (Dropping(), "critic.network draws random numbers .rng 'dropout'"),
        (Averaging(), "critic.network writes to its collection 'batch_stats'"),
        (TwoOutputs(), "^critic.network must map one observation to a vector of features"),
        (Frozen(), "critic.network must have parameters only, got the collections .'batch_stats'"),
    ):
        with pytest.raises(ValueError, match=message):
            pgjax.init(jax.random.key(0), pgjax.ppo("CartPole-v1", **{"critic.network": network}))


class NoValue:
    """Nothing that a config has; its repr is Python's own."""


WRONG_VALUES = [NoValue(), NoValue().__eq__, lambda x: x, jax.nn.relu, [NoValue()], {"a": len}]
WALKED = {
    "ppo": pgjax.ppo("Pendulum-v1", critic=pgjax.SharedCritic()),
    "recurrent": pgjax.natural_policy_gradient("CartPole-v1", network=pgjax.Recurrent()),
    "wrapped": pgjax.reinforce(pgjax.StickyActions("CartPole-v1"), network=pgjax.CNN()),
}


def field_paths(node, prefix=""):
    """The dotted paths of a config's fields that it checks, outer ones first."""
    for name, value in parts(node).items():
        if not isinstance(node, nn.Module) or name != "name":
            yield prefix + name
        yield from field_paths(value, f"{prefix}{name}.")


@pytest.mark.parametrize("config", WALKED.values(), ids=WALKED)
def test_no_message_about_a_field_has_a_memory_address_or_a_second_line(config):
    paths = list(field_paths(config))
    assert {"env", "network", "optimizer.learning_rate", "ascent"} <= set(paths)
    for path in paths:
        for value in WRONG_VALUES:
            with pytest.raises((TypeError, ValueError)) as caught:
                checked(config.replace(**{path: value}))
            message = str(caught.value)
            assert " at 0x" not in message
            assert "\n" not in message


def test_a_function_in_place_of_its_name_is_named():
    with pytest.raises(ValueError, match=r"activation <function relu>; did you mean 'relu'\? "):
        checked(CONFIG.replace(**{"network.activation": jax.nn.relu}))
