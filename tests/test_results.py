"""Wrong results of the methods of one's own classes: refused while tracing, by name."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

import pgjax
from pgjax.core.components import record
from pgjax.critics.fitted import NetworkCritic
from pgjax.environments import spaces
from pgjax.environments.interface import Step
from pgjax.policies import heads

BANDIT = pgjax.FiniteMDP([[[1.0]] * 3], [[0.0, 0.0, 1.0]], [1.0], horizon=2)
FEATURES = jnp.ones(4)


def refused(message, error=ValueError, env=BANDIT, **parts):
    parts = {"network": pgjax.MLP((4,)), "sampler": pgjax.Episodes(4)} | parts
    config = pgjax.Config(env, **parts)
    with pytest.raises(error, match=message):
        jax.eval_shape(lambda key: pgjax.update(pgjax.init(key, config), config), jax.random.key(0))


def own(*bases, **members):
    return pgjax.component(type("Mine", bases, {"__annotations__": {}, **members}))()


def critic(**methods):
    def evaluate(self, critic_state, trajectories):
        rows, m = trajectories.valid.shape
        return pgjax.Values(jnp.zeros((rows + 1, m)))

    members = {"bound": lambda self, setting: self, "evaluate": evaluate}
    return own(pgjax.BaseCritic, pgjax.BoundCritic, **members | methods)


class Value(nn.Module):
    @nn.compact
    def __call__(self, features):
        return nn.Dense(1)(features)[0]


def joint(**methods):
    members = {
        "joint": True,
        "policy_module": lambda self, estimator, head: Value(),
        "lesson": lambda self, state, trajectories, values: (state, trajectories.reward, {}),
    }
    return critic(**members | methods)


def fitted(**methods):
    fields = {"network": None, "learning_rate": 0.1, "epochs": 1, "minibatches": 1}
    members = {
        "td_lambda": 1.0,
        "lesson_loss": lambda self, state, output, lesson: jnp.square(output - lesson[1]),
    }
    annotations = {"network": nn.Module | None, "learning_rate": float, "epochs": int}
    annotations |= {"minibatches": int, "td_lambda": float}
    return own(NetworkCritic, **fields | members | methods | {"__annotations__": annotations})


CRITICS = {
    "bound": (own(pgjax.BaseCritic, bound=lambda self, s: 3), "bound .*BoundCritic, got 3"),
    "policy_module": (critic(policy_module=lambda self, e, h: 3), "policy_module .*None, got 3"),
    "start": (critic(start=lambda self, key: "a"), "start must give a pytree of arrays, got 'a'"),
    "prepared": (critic(prepared=lambda self, s, t: jnp.ones(3)), "prepared must keep .*start"),
    "two": (critic(lesson=lambda self, s, t, v: (s, ())), r"lesson must give 3 values \(the st"),
    "report": (critic(lesson=lambda self, s, t, v: (s, (), 3)), "lesson must give a report,.* 3"),
    "vector": (
        critic(lesson=lambda self, s, t, v: (s, (), {"a": jnp.ones(3)})),
        r"lesson, 'a' must give float\[\] in its report, got \(3,\)",
    ),
    "name": (
        critic(lesson=lambda self, s, t, v: (s, (), {"entropy": jnp.ones(())})),
        "lesson has the name 'entropy', which is that of another metric",
    ),
    "fit": (
        critic(start=lambda self, key: jnp.zeros(()), fit=lambda *_: jnp.ones(3)),
        r"fit must keep .* of start\(\):  float32\[\] became float32\[3\]",
    ),
    "loss": (joint(loss=lambda *_: jnp.ones(3)), r"loss must give .*float\[\], got \(3,\)"),
    "joint": (joint(lesson=lambda self, s, t, v: (s, (), {})), r"lesson .* \[T, m, …\] with T, m"),
    "lesson_loss": (fitted(lesson_loss=lambda *_: jnp.ones(3)), r"lesson_loss .* got \(3,\)"),
    "integer": (fitted(lesson_loss=lambda *_: jnp.int32(1)), r"lesson_loss .* \(\) of int32"),
    "value": (fitted(value=lambda *_: jnp.ones(3)), r"value .* of shape \(\), got \(3,\)"),
    "output_shape": (fitted(output_shape=(0,)), "output_shape must give a tuple of positive"),
    "optimizer": (fitted(optimizer=lambda self: 3), "optimizer must .* optax.Gradient.*got 3"),
}


@pytest.mark.parametrize("case", CRITICS)
def test_of_a_critic(case):
    refused(f"critic Mine.{CRITICS[case][1]}", critic=CRITICS[case][0], estimator=pgjax.GAE())


def test_the_lists_of_a_critic_of_actions():
    def evaluate(self, critic_state, trajectories):
        rows, m = trajectories.valid.shape
        return pgjax.Values(jnp.zeros((rows + 1, m)), jnp.zeros((rows, m)))

    message = r"critic Mine.evaluate must give Values with probability \(\d+, 4, 3\).* got None"
    refused(message, critic=critic(evaluate=evaluate), estimator=pgjax.ActionValue())


ESTIMATORS = {
    "None": ({"weights": lambda self, tau: None}, r"weights must give \[T, m\] .* got None"),
    "complex": ({"weights": lambda self, tau: tau.reward * 1j}, "weights .* of complex64"),
    "actions": (
        {"weights": lambda self, tau: jnp.zeros((*tau.valid.shape, 7)), "all_actions": True},
        r"weights must give \[T, m, A\] with T, m, A = \(\d+, 4, 3\), got \(\d+, 4, 7\)",
    ),
    "discount": ({"discount": "a", "weights": lambda self, tau: tau.reward}, "discount .* 'a'"),
}


@pytest.mark.parametrize("case", ESTIMATORS)
def test_of_an_estimator(case):
    members, message = ESTIMATORS[case]
    refused(f"estimator Mine.{message}", estimator=own(pgjax.Estimator, **members))


OBJECTIVES = {
    "with_state": ({"with_state": lambda self, s: None}, "with_state must .* Objective, got None"),
    "start": ({"start": lambda self: "a"}, "start must give a pytree of arrays, got 'a'"),
    "integers": ({"contribution": lambda self, s: jnp.int32(s.log_prob)}, "contribution .* int32"),
}


@pytest.mark.parametrize("case", OBJECTIVES)
def test_of_an_objective(case):
    members, message = OBJECTIVES[case]
    members = {"contribution": lambda self, s: s.log_prob * s.weight} | members
    refused(f"objective Mine.{message}", objective=own(pgjax.Objective, **members))


@pytest.mark.parametrize("ascent", [pgjax.Passes(1, 1), pgjax.TrustRegion()])
def test_a_metric_of_objective_and_ascent(ascent):
    objective = own(
        pgjax.Objective,
        contribution=lambda self, s: s.log_prob * s.weight,
        report=lambda self, s: {"kl": s.entropy},
    )
    message = f"objective Mine and ascent {type(ascent).__name__} both report 'kl': give one"
    refused(message, objective=objective, ascent=ascent)


GRADIENTS = {
    "direction": (jnp.ones(3), "the parameters, in its Gradient's direction"),
    "objective": (jnp.ones(3), r"a Gradient with objective float\[\], got \(3,\)"),
    "extra": (None, "a report, a dict .* got None"),
}


@pytest.mark.parametrize("field", GRADIENTS)
def test_of_an_ascent(field):
    def climb(self, *arguments):
        place, gradient = pgjax.GradientStep().climb(*arguments)
        return place, gradient._replace(**{field: GRADIENTS[field][0]})

    refused(
        f"ascent Mine.climb must .*{GRADIENTS[field][1]}", ascent=own(pgjax.Ascent, climb=climb)
    )


def test_the_metrics_of_an_ascent():
    ascent = own(
        pgjax.Ascent,
        climb=lambda self, *arguments: pgjax.GradientStep().climb(*arguments),
        report=lambda self, s: {"entropy": s.entropy},
    )
    refused("ascent Mine.report has the name 'entropy'", ascent=ascent)


def optimizer(init, update):
    def mine(rate):
        return optax.GradientTransformation(init, update)

    return mine


OPTIMIZERS = {
    "state": (lambda p: "a", lambda g, s, p: (g, s), "its state must be a .* got 'a'"),
    "change": (lambda p: (), lambda g, s, p: (g, jnp.ones(3)), "its state changes from init"),
    "shape": (
        lambda p: (),
        lambda g, s, p: (jax.tree.map(lambda x: x[:1], g), s),
        r"its updates must .*, \(\d,.*\), got \(1,",
    ),
}


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_of_an_optimizer(case):
    init, update, message = OPTIMIZERS[case]
    refused(f"makes no step .*{message}", TypeError, optimizer=optimizer(init, update))


def sample(change):
    return lambda self, *arguments: change(*pgjax.Episodes.sample(self, *arguments))


SAMPLERS = {
    "width": (TypeError, {"width": None}, "width must be an integer .* got None"),
    "num_rows": (ValueError, {"num_rows": lambda *_: 0}, "num_rows must be at least 1, got 0"),
    "horizon": (TypeError, {"resolve_horizon": lambda *_: 2.5}, "resolve_horizon .* got 2.5"),
    "start": (ValueError, {"start": lambda *_: jnp.ones(3)}, r"start must .* m = 4, got \(3,\)"),
    "one": (ValueError, {"sample": sample(lambda tau, _: tau)}, "sample must give 2 values"),
    "streams": (ValueError, {"sample": sample(lambda t, _: (t, t.valid))}, "sample must keep"),
    "reward": (
        ValueError,
        {"sample": sample(lambda tau, s: (tau.replace(reward=jnp.ones(3)), s))},
        r"sample, 'reward' must give float\[T, n\] with n = 4, got \(3,\)",
    ),
    "obs": (
        ValueError,
        {"sample": sample(lambda tau, s: (tau.replace(obs=tau.obs[:-1]), s))},
        r"sample, 'obs' must give leaves \[T, n, …\]",
    ),
    "final_obs": (
        ValueError,
        {"sample": sample(lambda tau, s: (tau.replace(final_obs=None), s))},
        "sample, 'final_obs' must keep .* of one row of 'obs'",
    ),
    "repair": (ValueError, {"repair": lambda *_: ((), 1.0)}, "repair must give bool.* 1.0"),
    "divisor": (ValueError, {"divisor": lambda *_: 0.0}, "divisor must give a positive number"),
    "counts": (
        ValueError,
        {"counts": lambda *_: (jnp.zeros(()), jnp.ones(3))},
        r"counts must give counts, int32\[3\], got \(3,\)",
    ),
}


@pytest.mark.parametrize("case", SAMPLERS)
def test_of_a_sampler(case):
    error, members, message = SAMPLERS[case]

    class Mine(pgjax.Episodes):
        pass

    for name, member in members.items():
        setattr(Mine, name, member)
    refused(f"sampler Mine.{message}", error, sampler=pgjax.component(Mine)(4))


def test_a_class_attribute_that_a_contract_asks_for():
    methods = {name: vars(pgjax.Episodes)[name] for name in pgjax.Sampler.__abstractmethods__}
    message = "Mine is no Sampler yet: it needs the class attribute whole_episodes: whether each"
    with pytest.raises(TypeError, match=message):
        own(pgjax.Sampler, **methods)


def memory_network(**methods):
    members = {
        "initial_memory": lambda self: jnp.zeros(3),
        "__call__": lambda self, obs, memory: (FEATURES, memory),
    }
    return type("Mine", (pgjax.MemoryNetwork,), members | methods)()


MEMORIES = {
    "features": ({"__call__": lambda self, o, m: FEATURES}, r"Mine.__call__ must give 2 .*\(4,\)"),
    "shape": ({"__call__": lambda self, o, m: (FEATURES, m[:2])}, "made float32.2. of float32.3."),
    "text": ({"__call__": lambda self, o, m: (FEATURES, "a")}, "made 'a' of float32.3."),
    "start": ({"initial_memory": lambda self: "a"}, "Mine.initial_memory must .* got 'a'"),
    "replay": ({"replay": lambda self, o, m, s: None}, "Mine.replay must give 2 values"),
    "rows": ({"replay": lambda *_: (FEATURES, ())}, r"Mine.replay must give .* got \(4,\)"),
    "width": (
        {"replay": lambda self, o, m, starts: (jnp.ones((len(starts), 5)), m)},
        r"Mine.replay must give .* as many as __call__ gives, got \(\d+, 5\)",
    ),
    "window": ({"window": -1}, ".window must be at least 1, got -1"),
}


@pytest.mark.parametrize("case", MEMORIES)
def test_of_a_network_with_memory(case):
    members, message = MEMORIES[case]
    refused(f"network.*{message}", network=memory_network(**members))


def test_the_network_without_memory():
    network = memory_network(without_memory=nn.nowrap(lambda self: pgjax.Recurrent()))
    message = "Mine.without_memory must give a Flax module without memory, got Recurrent"
    refused(message, network=network, estimator=pgjax.GAE())


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        (lambda self, x: jnp.ones(64), r"2 values \(a, b\), got \(64,\)"),
        (lambda self, x: (jnp.ones(()), jnp.ones(64)), r"a float.* = 64, got \(\)"),
        (lambda self, x: (jnp.ones(64), jnp.ones(3)), r"b float.* = 64, got \(3,\)"),
    ],
)
def test_of_a_linear_cell(coefficients, message):
    cell = type("Mine", (pgjax.LinearCell,), {"coefficients": nn.compact(coefficients)})
    message = f"cell Mine.coefficients must give {message}"
    refused(message, network=pgjax.Recurrent(cell=cell))


def test_of_a_cell():
    class Mine(nn.RNNCellBase):
        features: int = 64
        num_feature_axes = 1

        def initialize_carry(self, rng, input_shape):
            return jnp.zeros(64)

        def __call__(self, carry, inputs):
            return carry

    refused(
        r"cell Mine.__call__ must give 2 values .* got \(64,\)", network=pgjax.Recurrent(cell=Mine)
    )


def with_head(make):
    class Own(spaces.Discrete):
        pass

    class Bandit(pgjax.FiniteMDP):
        def __init__(self):
            super().__init__([[[1.0]] * 3], [[0.0, 0.0, 1.0]], [1.0], horizon=1)

        def action_space(self, params=None):
            return Own(3)

    spaces.register(Own)
    heads.register(Own, ("categorical",))(make)
    return Bandit()


def head(**methods):
    cls = type("Mine", (heads.CategoricalHead,), {"__annotations__": {}, **methods})
    return with_head(lambda part, space, bounds, distribution: record(cls)(space.n))


class Apart(nn.Module):
    @nn.compact
    def __call__(self, features):
        return nn.Dense(3)(features)


HEADS = {
    "module": ({"module": lambda self: 3}, "head Mine.module must give a Flax module, got 3"),
    "structure": ({"module": lambda self: Apart()}, r"Mine.distribution does not take .*, \(3,\):"),
    "size": (
        {"module": lambda self: heads.CategoricalHead(5).module()},
        r"distribution Categorical.probabilities must give .* n = 3, .* got \(5,\)",
    ),
    "distribution": ({"distribution": lambda *_: 3}, "Mine.distribution must give a Distribution"),
    "noise": ({"noise": lambda *_: jnp.ones(())}, r"Mine.noise must give leaves .* got \(\)"),
    "num_actions": ({"num_actions": 5}, r"probabilities must give .* n = 5, .* got \(3,\)"),
    "encode": ({"encode": lambda *_: jnp.ones(())}, r"Mine.encode must give float\[k\], got \(\)"),
    "random": ({"random_action": lambda *_: None}, "Mine.random_action must give an action of"),
    "excludes": ({"excludes_all": lambda *_: None}, r"excludes_all must give bool\[\] for None"),
}


@pytest.mark.parametrize("case", HEADS)
def test_of_a_head(case):
    members, message = HEADS[case]
    refused(message, (TypeError, ValueError), env=head(**members))


DISTRIBUTIONS = {
    "mode": (lambda self: jnp.ones(5), r"mode must keep .* sample\(\):  int32\[\] became float32"),
    "log_prob": (lambda self, action: jnp.ones(3), r"log_prob must give float\[\], nats, got \(3,"),
    "entropy": (lambda self: None, r"entropy must give float\[\], nats, got None"),
    "divergence": (lambda self, other: jnp.ones(3), r"divergence must give float\[\]"),
    "environment_action": (
        lambda self, action: jnp.ones(3),
        r"action of the space:  \[\], got \[3",
    ),
}


@pytest.mark.parametrize("method", DISTRIBUTIONS)
def test_of_a_distribution(method):
    members = {"__annotations__": {}, method: DISTRIBUTIONS[method][0]}
    cls = record(
        type("Mine", (type(heads.CategoricalHead(3).distribution((jnp.ones(3),))),), members)
    )
    env = head(distribution=lambda self, parameters, mask=None: cls(*parameters))
    refused(f"distribution Mine.{method}.*{DISTRIBUTIONS[method][1].removeprefix(method)}", env=env)


@pytest.mark.parametrize("made", [3, None])
def test_a_maker_of_heads_that_makes_none(made):
    def mine(part, space, bounds, distribution):
        return made

    refused(f"mine must make a pgjax.Head, got {made}", TypeError, env=with_head(mine))


def test_a_maker_of_heads_with_other_arguments():
    message = r"decorates a function of \(part, space, .*\), and <lambda> takes \(space\)"
    with pytest.raises(TypeError, match=message):
        heads.register(spaces.Discrete)(lambda space: None)


def test_a_head_that_is_no_record():
    class Mine(heads.CategoricalHead):
        pass

    env = with_head(lambda part, space, bounds, distribution: Mine(space.n))
    refused("head Mine lacks the decorator @record", TypeError, env=env)


class Counter(pgjax.Environment):
    name, limit, bounds = "Counter", 20, None
    observation_space, action_space = spaces.Box(0.0, 1.0, (1,)), spaces.Discrete(2)

    def reset(self, key):
        return jnp.zeros(1), jnp.int32(0)

    def step(self, key, env_state, action):
        return Step(jnp.zeros(1), env_state + 1, jnp.zeros(()), jnp.bool_(False), env_state >= 19)


ENVIRONMENTS = {
    "reset": (lambda *_: jnp.zeros(1), r"reset must give 2 values \(obs, env_state\), got \(1,\)"),
    "step": (
        lambda self, key, env_state, action: Step(jnp.zeros(1), env_state, None, True, True),
        "step must give a number for reward, got None",
    ),
    "limit": (2.5, "limit must be an integer .* got 2.5"),
    "name": (3, "name must be a text, got 3"),
    "bounds": ((0.0, 1.0), r"bounds must be .* None of other .* got \(0.0, 1.0\) for Discrete"),
}


@pytest.mark.parametrize("member", ENVIRONMENTS)
def test_of_an_environment(member):
    value, message = ENVIRONMENTS[member]
    env = type("Mine", (Counter,), {member: value})()
    refused(f"Mine.{message}", (TypeError, ValueError), env=env)
