"""Heads of every action space: exact against enumerations and other libraries' formulas."""

import itertools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments_for_tests import Counter
from flax import struct
from scipy import stats

import pgjax
from pgjax.core.components import record, static
from pgjax.environments import interface, spaces
from pgjax.environments.interface import EnvState
from pgjax.policies import heads
from pgjax.policies.distributions import Categorical, MultiCategorical, Normal
from pgjax.training import updates
from pgjax.training.config import bind, checked

GYM = gymnasium.spaces
RNG = np.random.default_rng(0)


class Acts(Counter):
    """One step that pays the sum of the action's numbers; sees 0, and a mask if there is one."""

    def __init__(self, actions, mask=None):
        super().__init__(1, 1)
        self.actions, self.mask = actions, mask

    def reset_env(self, key, params):
        obs, state = super().reset_env(key, params)
        return self._seen(obs), state

    def step_env(self, key, state, action, params):
        obs, state, _, done, info = super().step_env(key, state, action, params)
        reward = sum(jnp.sum(x) * 1.0 for x in jax.tree.leaves(action))
        return self._seen(obs), state, reward, done, info

    def _seen(self, obs):
        if self.mask is None:
            return obs
        return {"obs": obs, "action_mask": jax.tree.map(jnp.asarray, self.mask)}

    def action_space(self, params=None):
        return self.actions

    def observation_space(self, params=None):
        space = super().observation_space(params)
        if self.mask is None:
            return space
        return spaces.Dict({"obs": space, "action_mask": mask_space_of(self.mask)})


def mask_space_of(mask):
    if isinstance(mask, dict):
        return spaces.Dict({name: mask_space_of(child) for name, child in mask.items()})
    if isinstance(mask, tuple):
        return spaces.Tuple(tuple(mask_space_of(child) for child in mask))
    return GYM.MultiBinary(len(mask))


def head_of(actions, distribution="auto", mask=None):
    return heads.of(interface.bind(Acts(actions, mask)), distribution)


def random_parameters(head, seed=0):
    """What the head's module says of some features, with random weights."""
    features, module = jnp.ones(3), head.module()
    variables = module.init(jax.random.key(seed), features)
    rng = np.random.default_rng(seed)
    variables = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), variables)
    return module.apply(variables, features)


NESTED = GYM.Dict(
    {
        "gear": GYM.Discrete(3),
        "more": GYM.Tuple((GYM.MultiDiscrete([2, 3]), GYM.MultiBinary((2, 1)), GYM.Discrete(2))),
    }
)
MASK = {"gear": [1, 0, 1], "more": ([1, 1, 0, 1, 1], [1, 1, 0, 1], ())}


def every_action():
    """All 3 · 6 · 4 · 2 of NESTED, stacked, and whether MASK allows each."""
    actions, allowed = [], []
    for gear, a, b, p, q, d in itertools.product(range(3), *map(range, (2, 3, 2, 2, 2))):
        array = np.array
        more = array([a, b], np.int32), array([[p], [q]], np.int32), np.int32(d)
        actions.append({"gear": np.int32(gear), "more": more})
        allowed.append(gear != 1 and b != 0 and q != 0)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *actions), np.array(allowed)


def oracle_of(parameters, mask=None):
    """p(a) of all actions in the order of `every_action`, from logits, in NumPy."""

    def probabilities(logits, mask):
        weights = np.exp(np.asarray(logits, np.float64)) * np.asarray(mask)
        return weights / weights.sum()

    (gear,), ((ab,), (pq,), (d,)) = parameters["gear"], parameters["more"]
    ones = {"gear": [1] * 3, "more": ([1] * 5, [1] * 4, ())}
    one, (two, three, _) = (mask or ones)["gear"], (mask or ones)["more"]
    parts = (
        probabilities(gear, one),
        probabilities(ab[:2], two[:2]),
        probabilities(ab[2:], two[2:]),
        probabilities(pq[:2], three[:2]),
        probabilities(pq[2:], three[2:]),
        probabilities(d, [1, 1]),
    )
    return np.array([np.prod(each) for each in itertools.product(*parts)])


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_a_joint_s_numbers_are_those_of_the_enumeration(mask):
    head = head_of(NESTED, mask=mask)
    actions, allowed = every_action()
    masks = None if mask is None else jax.tree.map(jnp.asarray, mask, is_leaf=is_list)
    both = [random_parameters(head, seed) for seed in (0, 1)]
    one, other = (head.distribution(parameters, masks) for parameters in both)
    p, q = (oracle_of(parameters, mask) for parameters in both)
    assert mask is None or (p[~allowed] == 0).all()
    log_probs = jax.vmap(one.log_prob)(actions)
    np.testing.assert_allclose(np.exp(log_probs), p, rtol=1e-4, atol=1e-12)
    left = p > 0
    np.testing.assert_allclose(one.entropy(), -(p[left] @ np.log(p[left])), rtol=1e-5)
    divergence = p[left] @ np.log(p[left] / q[left])
    np.testing.assert_allclose(one.divergence(other), divergence, rtol=1e-4)
    most = jax.tree.map(lambda x: x[np.argmax(p)], actions)
    jax.tree.map(np.testing.assert_array_equal, one.mode(), most)


def is_list(node):
    return isinstance(node, list)


def arrays_of(mask):
    return jax.tree.map(np.asarray, mask, is_leaf=is_list)


def test_a_joint_is_sampled_with_its_probabilities():
    head = head_of(NESTED, mask=MASK)
    masks = jax.tree.map(jnp.asarray, MASK, is_leaf=is_list)
    parameters = random_parameters(head)
    distribution = head.distribution(parameters, masks)
    number = 20_000
    noise = head.noise(jax.random.key(2), (number,))
    samples = jax.tree.leaves(jax.vmap(distribution.sample)(noise))
    actions = jax.tree.leaves(every_action()[0])
    names = {row.tobytes(): i for i, row in enumerate(rows(actions))}
    counts = np.bincount([names[row.tobytes()] for row in rows(samples)], minlength=len(names))
    p = oracle_of(parameters, MASK)
    assert (counts[p == 0] == 0).all()
    assert stats.chisquare(counts[p > 0], number * p[p > 0]).pvalue > 1e-4


def rows(leaves):
    flat = [np.asarray(x).reshape(len(x), -1).astype(np.int32) for x in leaves]
    return np.concatenate(flat, axis=1)


def test_a_hybrid_s_numbers_are_sums_over_its_parts():
    head = head_of(GYM.Tuple((GYM.Discrete(2), GYM.Box(-np.inf, np.inf, (2,)))))
    distribution = head.distribution(random_parameters(head))
    assert [type(part) for part in distribution.parts] == [Categorical, Normal]
    p = np.asarray(distribution.parts[0].probabilities(), np.float64)
    normal = stats.norm(distribution.parts[1].mean, np.exp(distribution.parts[1].log_std))
    x = np.array([0.3, -0.7], np.float32)
    log_prob = distribution.log_prob((jnp.int32(1), jnp.asarray(x)))
    np.testing.assert_allclose(log_prob, np.log(p[1]) + normal.logpdf(x).sum(), rtol=1e-5)
    entropy = -(p @ np.log(p)) + normal.entropy().sum()
    np.testing.assert_allclose(distribution.entropy(), entropy, rtol=1e-5)


def test_integers_of_many_values_are_one_row_each():
    head = head_of(GYM.MultiDiscrete(np.array([[2, 7], [1, 3]])))
    distribution = head.distribution((jnp.arange(13.0),))
    assert isinstance(distribution, MultiCategorical)
    np.testing.assert_array_equal(distribution.mode(), [[1, 6], [0, 2]])
    log_prob = distribution.log_prob(jnp.array([[0, 0], [0, 1]]))
    pieces = ([0.0, 1.0], np.arange(2.0, 9.0), [9.0], [10.0, 11.0, 12.0])
    chosen = zip(pieces, (0, 0, 0, 1), strict=True)
    expected = sum(piece[i] - np.log(np.exp(piece).sum()) for piece, i in chosen)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)


SPACES = {
    "discrete": GYM.Discrete(3),
    "multi-discrete": GYM.MultiDiscrete([3, 2]),
    "multi-binary": GYM.MultiBinary(3),
    "box": GYM.Box(-1.0, np.inf, (2,)),
    "integers": GYM.Box(-3, 4, (2,), np.int16),
    "64 bits": GYM.Box(-1.0, 1.0, (2,), np.float64),
    "integers of 64 bits": GYM.Box(-3, 4, (2,), np.int64),
    "nested": NESTED,
    "hybrid": GYM.Tuple((GYM.Discrete(2), GYM.Dict({"x": GYM.Box(0.0, 2.0, (1,))}))),
}


@pytest.mark.parametrize("name", SPACES)
def test_actions_are_in_gymnasium_s_own_space(name):
    space = SPACES[name]
    head = head_of(space)
    distribution = head.distribution(random_parameters(head))
    noise = jax.tree.map(lambda x: x[0], head.noise(jax.random.key(1), (1,)))
    action = distribution.environment_action(distribution.sample(noise))
    for found in (action, head.random_action(jax.random.key(3))):
        assert in_space(found, space)
    widths = {"discrete": 3, "multi-discrete": 5, "multi-binary": 6, "nested": 14, "hybrid": 3}
    assert head.encode(action).shape == (widths.get(name, 2),)
    assert head.num_actions == (3 if name == "discrete" else None)
    read = spaces.read("space", space)
    assert jax.tree.map(describe, spaces.example(read)) == jax.tree.map(describe, action)


def describe(x):
    return x.shape, x.dtype


MIXED = GYM.Tuple((GYM.MultiDiscrete([2, 3]), GYM.Dict({"x": GYM.Box(0.0, 2.0, (1,))})))
MIXED_MASK = np.array([1, 1, 0, 1, 1]), ()
ALGORITHMS = {
    "a critic of actions": {"estimator": pgjax.ActionValue(), "sampler": pgjax.Episodes(4)},
    "proximal": {
        "estimator": pgjax.GAE(),
        "objective": pgjax.ClippedRatio(),
        "ascent": pgjax.Passes(epochs=2, minibatches=2),
        "sampler": pgjax.Segments(2, 4),
    },
    "trust region": {"ascent": pgjax.TrustRegion(), "sampler": pgjax.Episodes(4)},
    "a shared trunk": {
        "estimator": pgjax.GAE(),
        "critic": pgjax.SharedCritic(),
        "sampler": pgjax.Segments(2, 4),
    },
    "a memory": {
        "estimator": pgjax.GAE(),
        "network": pgjax.Recurrent(pgjax.MLP((2,)), 2),
        "ascent": pgjax.Passes(epochs=2, minibatches=2),
        "sampler": pgjax.Segments(2, 4),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_ascent_takes_joint_actions(name):
    fields = {"network": pgjax.MLP((2,)), "num_updates": 1} | ALGORITHMS[name]
    config = pgjax.Config(Acts(MIXED, MIXED_MASK), **fields)
    _, metrics = pgjax.train(jax.random.key(0), config)
    assert metrics.finite.all()
    assert metrics.gradient_norm[0] > 0


def test_an_environment_with_joint_actions_is_checked():
    pgjax.check_environment(Acts(MIXED), num_steps=16)


def test_the_critic_of_joint_actions_cannot_list_them():
    estimator = pgjax.ActionValue(all_actions=True)
    config = pgjax.Config(Acts(MIXED), sampler=pgjax.Episodes(2), estimator=estimator)
    with pytest.raises(TypeError, match=r"all_actions needs Discrete actions, not Tuple\(\(Multi"):
        pgjax.init(jax.random.key(0), config)


@pytest.mark.slow
def test_a_policy_of_joint_actions_is_kept_and_evaluated(tmp_path):
    env, sampler = Acts(NESTED, arrays_of(MASK)), pgjax.Episodes(4)
    config = pgjax.Config(env, network=pgjax.MLP((2,)), sampler=sampler, num_updates=1)
    state, _ = pgjax.train(jax.random.key(0), config)
    pgjax.save(tmp_path / "kept", state, config)
    again, config = pgjax.load(tmp_path / "kept", config)
    actor = bind(config, 0).policy
    obs = {"obs": jnp.zeros(1), "action_mask": jax.tree.map(jnp.asarray, arrays_of(MASK))}
    best = sum(
        jnp.sum(x) for x in jax.tree.leaves(actor.apply(again.policy_variables, obs, ())[0].mode())
    )
    for x in (state, again):
        returns = pgjax.evaluate(jax.random.key(1), x, config, 4, True).returns
        np.testing.assert_array_equal(returns, np.full(4, best))


def in_space(action, space):
    parts = spaces.children(space)
    if parts is not None:
        return all(in_space(action[name], child) for name, child in parts.items())
    action = np.asarray(action)
    if not isinstance(space, GYM.Discrete):
        assert action.dtype == np.dtype(jax.dtypes.canonicalize_dtype(space.dtype))
    return space.contains(action.astype(space.dtype))


def test_a_distribution_is_that_of_the_parts_that_it_covers():
    space = GYM.Tuple((GYM.Discrete(2), GYM.Box(-1.0, 1.0, (1,)), GYM.Box(0.0, 1.0, ())))
    families = {
        "auto": "Categorical, TanhNormal",
        "categorical": "Categorical, TanhNormal",
        "normal": "Categorical, Normal",
        "beta": "Categorical, Beta",
    }
    for distribution, family in families.items():
        assert head_of(space, distribution).family == family
    assert str(head_of(space)) == "Tuple(Discrete(2), Box(1), Box())"
    assert str(head_of(GYM.Dict({"a": SPACES["integers"]}))) == "Dict(a: Box(2) int16)"


REFUSED = {
    "no box": (NESTED, "beta", TypeError, r"Acts: action_space: .*'beta' needs a Box, not Dict"),
    "no discrete part": (
        GYM.Tuple((GYM.Box(0.0, 1.0, (1,)),)),
        "categorical",
        TypeError,
        "'categorical' needs Discrete actions, not Tuple",
    ),
    "no bounds": (
        GYM.Tuple((GYM.Discrete(2), GYM.Box(-np.inf, 1.0, (1,)))),
        "beta",
        TypeError,
        r"Acts: action_space\[1\]: distribution 'beta' needs finite bounds",
    ),
    "a text": (
        GYM.Dict({"a": GYM.Text(3)}),
        "auto",
        TypeError,
        r"action_space\['a'\] must be made",
    ),
    "a graph": (
        GYM.Tuple((GYM.Discrete(2), GYM.Dict({"g": GYM.Graph(GYM.Discrete(2), None)}))),
        "auto",
        TypeError,
        r"action_space\[1\]\['g'\] must be made of Box, Discrete, .*got Graph",
    ),
    "complex numbers": (
        spaces.Dict({"z": spaces.Box(0.0, 1.0, (1,), np.complex64)}),
        "auto",
        TypeError,
        r"action_space\['z'\] must hold real numbers, got the dtype complex64",
    ),
    "nothing": (GYM.Tuple(()), "auto", TypeError, "at least one part"),
    "a start": (
        GYM.MultiDiscrete([2, 2], start=[0, 1]),
        "auto",
        ValueError,
        "action_space must start at 0",
    ),
    "no value": (spaces.MultiDiscrete([2, 0]), "auto", ValueError, "at least one value everywhere"),
    "no size": (spaces.MultiDiscrete([2.5]), "auto", TypeError, "nvec must be made of integers"),
    "no bits": (spaces.MultiBinary((0,)), "auto", ValueError, "at least one bit"),
}


@pytest.mark.parametrize(
    ("space", "distribution", "kind", "message"), REFUSED.values(), ids=REFUSED
)
def test_what_no_head_covers_is_refused_by_name(space, distribution, kind, message):
    with pytest.raises(kind, match=message):
        pgjax.init(jax.random.key(0), pgjax.Config(Acts(space), distribution=distribution))


MASKS = {
    "flat": ([1] * 5, ValueError, "'action_mask' must be a Dict, as the actions Dict.gear"),
    "unknown": ({"gears": [1] * 3}, ValueError, r"'action_mask'\['gears'\] is for no part"),
    "long": ({"gear": [1] * 4}, ValueError, r"\['gear'\] must have one entry for each of 3 act"),
    "short tuple": ({"more": ([1] * 5,)}, ValueError, r"\['more'\] must have 3 entries.*got 1"),
    "rows": (
        {"more": ([1] * 2, (), ())},
        ValueError,
        r"\['more'\]\[0\] must have one entry for all 5 values",
    ),
}


@pytest.mark.parametrize(("mask", "kind", "message"), MASKS.values(), ids=MASKS)
def test_a_mask_that_does_not_fit_is_refused_by_name(mask, kind, message):
    env = Acts(NESTED, arrays_of(mask))
    with pytest.raises(kind, match=f"Acts: the observation's .*{message}"):
        pgjax.init(jax.random.key(0), pgjax.Config(env))
    with pytest.raises(ValueError, match=message):
        pgjax.check_environment(env, num_steps=16)


MISFITS = {
    "no mask": ({}, r"expected all entries of observation_space, got no entry 'action_mask'"),
    "an array": ({"action_mask": np.ones(5)}, r"\['action_mask'\]: .*got no entry 0"),
    "a dict": ({"action_mask": {"a": np.ones(5)}}, r"\['action_mask'\]: .*got no entry 0"),
    "short": ({"action_mask": (np.ones(4), ())}, r"\[0\]: expected the shape \(5,\).*float32\[4\]"),
}


@pytest.mark.parametrize(("entries", "message"), MISFITS.values(), ids=MISFITS)
def test_a_mask_that_is_not_what_its_space_says_is_refused_by_name(entries, message):
    class Liar(Acts):
        def _seen(self, obs):
            return jax.tree.map(jnp.asarray, {"obs": obs, **entries})

    with pytest.raises(ValueError, match=f"Liar: the observation.*{message}"):
        pgjax.init(jax.random.key(0), pgjax.Config(Liar(MIXED, MIXED_MASK)))


def test_a_mask_of_real_numbers_is_refused():
    env = Acts(GYM.Tuple((GYM.Box(0.0, 1.0, (2,)), GYM.Discrete(2))), (np.ones(2), np.ones(2)))
    with pytest.raises(TypeError, match=r"\[0\] needs Discrete actions, not Box\(2\)"):
        pgjax.init(jax.random.key(0), pgjax.Config(env))


def test_an_update_in_which_a_part_had_no_action_is_not_made():
    nothing_left = np.array([1, 1, 0, 0, 0]), ()
    for mask, finite in ((MIXED_MASK, True), (nothing_left, False)):
        env = Acts(MIXED, mask)
        config = pgjax.Config(env, sampler=pgjax.Episodes(2), num_updates=1)
        state = pgjax.init(jax.random.key(0), config)
        _, metrics = pgjax.update(state, config)
        assert metrics.finite == finite
    with pytest.raises(ValueError, match="an action_mask without any action"):
        pgjax.check_environment(env, num_steps=16)


def test_a_space_of_somebody_s_own_is_a_class_a_head_and_two_lines():
    class Sign(spaces.Discrete):
        """−1 or 1."""

        def __init__(self):
            super().__init__(2)

    @record
    class SignHead(heads.CategoricalHead):
        n: int = static()

        def __str__(self):
            return "Sign"

        def distribution(self, parameters, mask=None):
            return SignCategorical(*parameters)

        def random_action(self, key):
            return 2 * super().random_action(key) - 1

    @record
    class SignCategorical(Categorical):
        def environment_action(self, action):
            return 2 * action - 1

    class Pays(Acts):
        def step_env(self, key, state, action, params):
            obs, state, _, done, info = super().step_env(key, state, action, params)
            return obs, state, 1.0 * action, done, info

    @heads.register(Sign, ("categorical",))
    def make(part, space, bounds, distribution):
        return SignHead(2)

    spaces.register(Sign)
    assert str(head_of(Sign())) == "Sign"
    assert str(head_of(spaces.Tuple((Sign(), spaces.Discrete(2))))) == "Tuple(Sign, Discrete(2))"
    config = pgjax.Config(
        Pays(Sign()), sampler=pgjax.Episodes(16), optimizer=pgjax.Adam(0.1), num_updates=30
    )
    _, metrics = pgjax.train(jax.random.key(0), config)
    assert abs(metrics.episode_return[0]) < 0.8
    assert metrics.episode_return.min() < 0.2
    assert metrics.episode_return[-1] > 0.9


class TwoSteps(Acts):
    """Shows one of three places. Its trajectories are enumerated by hand: two actions, which pay
    and lead on by known tables, from the first place."""

    REWARD = np.random.default_rng(3).normal(size=(3, 2, 2, 3))
    FOLLOWS = np.random.default_rng(4).integers(0, 3, size=(3, 2, 2, 3))

    def __init__(self):
        super().__init__(GYM.Tuple((GYM.Discrete(2), GYM.MultiDiscrete([2, 3]))))
        self._params = self._params.replace(lifetime=2, max_steps_in_episode=2)

    def _seen(self, obs):
        return jnp.zeros(3)

    def observation_space(self, params=None):
        return spaces.Box(0.0, 1.0, (3,))


def two_steps_of(state, bound):
    """U(θ) by enumeration of both actions, from the logits; and each trajectory with p(τ)."""
    every = list(itertools.product(range(2), range(2), range(3)))

    def probabilities(params, place):
        obs = jnp.eye(3)[place]
        distribution, _ = bound.policy.apply({"params": params}, obs, ())
        gear, pair = distribution.parts
        rows = [jax.nn.softmax(x) for x in (gear.logits, pair.logits[0, :2], pair.logits[1])]
        return jnp.einsum("a,b,c->abc", *rows)

    def trajectories(params):
        p = [probabilities(params, place) for place in range(3)]
        for one, two in itertools.product(every, repeat=2):
            place = int(TwoSteps.FOLLOWS[(0, *one)])
            rewards = TwoSteps.REWARD[(0, *one)], TwoSteps.REWARD[(place, *two)]
            yield (one, two, place, rewards), p[0][one] * p[place][two]

    def performance(params):
        return sum(p * sum(rewards) for (*_, rewards), p in trajectories(params))

    return performance, list(trajectories(state.params))


def trajectories_of(found):
    """`Trajectories` [2, 1] of each, stacked."""
    one, two, place, rewards = zip(*found, strict=True)
    number, actions = len(found), np.array([one, two]).transpose(1, 0, 2)[:, :, None]
    obs = np.stack([np.tile(np.eye(3)[0], (number, 1)), np.eye(3)[list(place)]], 1)[:, :, None]
    last = np.tile(np.array([[False], [True]]), (number, 1, 1))
    return pgjax.Trajectories(
        obs=obs,
        memory=(),
        action=(actions[..., 0], actions[..., 1:]),
        log_prob=np.zeros((number, 2, 1)),
        reward=np.array(rewards)[..., None],
        valid=np.ones_like(last),
        terminated=last,
        truncated=np.zeros_like(last),
        final_obs=np.zeros((number, 1, 3)),
        final_memory=(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [pgjax.TotalReturn(), pgjax.RewardToGo(baseline="none")])
def test_the_expected_gradient_of_joint_actions_is_exact(estimator):
    jax.config.update("jax_enable_x64", True)
    try:
        sampler, network = pgjax.Episodes(1), pgjax.MLP((3,))
        config = pgjax.Config(TwoSteps(), sampler=sampler, network=network, estimator=estimator)
        state, bound = pgjax.init(jax.random.key(0), config), bind(checked(config), 0)
        params = jax.tree.map(lambda x: RNG.normal(size=x.shape), state.params)
        state = state.replace(params=params)
        performance, found = two_steps_of(state, bound)
        tau = trajectories_of([values for values, _ in found])
        weights = np.array([probability for _, probability in found])

        def estimate(tau):
            surrogate = updates.task(state, tau, bound).surrogate
            return surrogate.gradient(state.params, surrogate.batch()).direction

        estimates = jax.jit(jax.vmap(estimate))(tau)
        expected = jax.grad(performance)(state.params)
    finally:
        jax.config.update("jax_enable_x64", False)
    np.testing.assert_allclose(weights.sum(), 1.0)
    for actual, exact in zip(*map(jax.tree.leaves, (estimates, expected)), strict=True):
        np.testing.assert_allclose(np.tensordot(weights, actual, axes=1), exact, atol=1e-9)
        assert np.abs(exact).max() > 1e-3


class Lock(Acts):
    """Shows one of three; pays 1 for its combination, less for a part of it. Optimum: 1."""

    TARGETS = np.array([[0, 2, 1, 1], [1, 0, 0, 3], [1, 1, 1, 0]])

    def __init__(self):
        super().__init__(GYM.MultiDiscrete([2, 3, 2, 4]))

    def reset_env(self, key, params):
        shown = jax.random.randint(key, (), 0, 3)
        return jax.nn.one_hot(shown, 3), Shown(time=0, shown=shown)

    def step_env(self, key, state, action, params):
        right = action == jnp.asarray(self.TARGETS)[state.shown]
        reward = 0.5 * jnp.mean(right) + 0.5 * jnp.all(right)
        return jnp.zeros(3), state.replace(time=state.time + 1), reward, jnp.bool_(True), {}

    def observation_space(self, params=None):
        return spaces.Box(0.0, 1.0, (3,))


@struct.dataclass
class Shown(EnvState):
    shown: jax.Array


class Drive(Lock):
    """A gear and how far to go in it: pays 1 less what is missing. Optimum: 1."""

    def __init__(self):
        Acts.__init__(self, GYM.Tuple((GYM.Discrete(3), GYM.Box(-2.0, 1.0, (1,)))))

    def step_env(self, key, state, action, params):
        gear, (distance,) = action
        best = jnp.array([-1.0, 0.0, 0.5])[state.shown]
        reward = jnp.where(gear == (state.shown + 1) % 3, 1.0, 0.0) - jnp.square(distance - best)
        return jnp.zeros(3), state.replace(time=state.time + 1), reward, jnp.bool_(True), {}


class Recall(Lock):
    """Shows one of two at first, and pays 1 for saying which at the end, three steps later. Saying
    neither would pay 10, but a mask forbids it, and saying anything before. Optimum: 1."""

    def __init__(self):
        actions = GYM.Dict({"say": GYM.Discrete(4), "wave": GYM.MultiBinary(2)})
        Acts.__init__(self, actions)
        self._params = self._params.replace(lifetime=4, max_steps_in_episode=4)

    def reset_env(self, key, params):
        shown = jax.random.randint(key, (), 0, 2)
        state = Shown(time=0, shown=shown)
        return self.look(jax.nn.one_hot(shown, 2), state), state

    def look(self, obs, state):
        last = state.time == 3
        say = jnp.stack([last, last, False, jnp.logical_not(last)])
        return {"obs": obs, "action_mask": {"say": say}}

    def step_env(self, key, state, action, params):
        last, say = state.time == 3, action["say"]
        reward = jnp.where(last, 1.0 * (say == state.shown), 0.0) + 10.0 * (say == 2)
        reward -= 0.1 * jnp.sum(action["wave"])
        state = state.replace(time=state.time + 1)
        return self.look(jnp.zeros(2), state), state, reward, last, {}

    def observation_space(self, params=None):
        mask = spaces.Dict({"say": spaces.Box(0, 1, (4,), bool)})
        return spaces.Dict({"obs": spaces.Box(0.0, 1.0, (2,)), "action_mask": mask})


PROBES = {
    "multi-discrete": (Lock(), {}, 0.999),
    "hybrid": (Drive(), {"sampler": pgjax.Episodes(128)}, 0.99),
    "masked with a memory": (Recall(), {"network": pgjax.Recurrent(pgjax.MLP((8,)), 8)}, 0.999),
}


@pytest.mark.slow
@pytest.mark.parametrize(("env", "changes", "nearly"), PROBES.values(), ids=PROBES)
def test_ten_of_ten_seeds_find_the_optimum(env, changes, nearly):
    fields = {"network": pgjax.MLP((16,)), "sampler": pgjax.Episodes(64)} | changes
    config = pgjax.Config(env, optimizer=pgjax.Adam(0.03), num_updates=200, **fields)
    keys = jax.random.split(jax.random.key(0), 10)
    state, metrics = jax.vmap(pgjax.train, (0, None))(keys, config)
    assert metrics.finite.all()
    play = jax.vmap(lambda key, state: pgjax.evaluate(key, state, config, 64, True))
    means = play(keys, state).mean
    assert (means >= nearly).all(), means
    assert (means <= 1.0 + 1e-6).all(), means
