"""What policies see: normalised observations, grids, masks; and schedules of what they learn by."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from environments_for_tests import Counter
from scipy import stats

import pgjax
from pgjax.environments import spaces
from pgjax.policies import normalizers
from pgjax.policies.distributions import Beta
from pgjax.runs import config_json
from pgjax.training import training
from pgjax.training.config import checked


def test_statistics_are_those_of_all_valid_observations():
    random = np.random.default_rng(0)
    batches = [1000.0 + random.normal(size=(7, 3, 2)) * [1.0, 20.0] for _ in range(3)]
    masks = [random.random((7, 3)) < 0.6 for _ in batches]
    statistics = normalizers.init(jnp.zeros(2))
    for batch, mask in zip(batches, masks, strict=True):
        statistics = normalizers.add(statistics, jnp.asarray(batch, jnp.float32), jnp.asarray(mask))
    seen = np.concatenate([b[m] for b, m in zip(batches, masks, strict=True)])
    np.testing.assert_allclose(statistics.mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.variance, seen.var(0), rtol=2e-3)
    assert float(statistics.number) == len(seen)
    unchanged = normalizers.add(statistics, jnp.zeros((7, 3, 2)), jnp.zeros((7, 3), bool))
    jax.tree.map(np.testing.assert_array_equal, unchanged, statistics)


def test_normalised_training_keeps_statistics_of_what_it_saw_and_evaluation_does_not_move_them():
    config = pgjax.Config(
        "CartPole-v1", normalize_observations=True, sampler=pgjax.Episodes(8), num_updates=1
    )
    start = pgjax.init(jax.random.key(0), config)
    tau = pgjax.sample_trajectories(jax.random.split(start.key)[1], start, config)
    state, _ = pgjax.train(jax.random.key(0), config)
    seen = np.asarray(tau.obs)[np.asarray(tau.valid)]
    found = state.variables["normalizer"]
    np.testing.assert_allclose(found.mean, seen.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.variance, seen.var(0), rtol=1e-3)
    before = jax.tree.map(np.array, found)
    pgjax.evaluate(jax.random.key(1), state, config, 4)
    jax.tree.map(np.testing.assert_array_equal, state.variables["normalizer"], before)


def test_a_checkpoint_holds_statistics_critic_and_streams(tmp_path):
    config = pgjax.ppo("CartPole-v1", normalize_observations=True, num_updates=2)
    state, _ = pgjax.train(jax.random.key(0), config)
    pgjax.save(tmp_path / "saved", state, config)
    loaded, found = pgjax.load(tmp_path / "saved")
    assert found == config
    key = lambda s: s.replace(key=jax.random.key_data(s.key))
    jax.tree.map(np.testing.assert_array_equal, key(loaded), key(state))
    again, one = pgjax.update(loaded, found), pgjax.update(state, config)
    jax.tree.map(np.testing.assert_array_equal, key(again[0]), key(one[0]))


def test_a_convolution_is_flax_s():
    cnn = pgjax.CNN(channels=(5,), hidden_sizes=(), activation="relu")
    obs = jax.random.normal(jax.random.key(0), (10, 8, 4))
    variables = cnn.init(jax.random.key(1), obs)
    kernel = variables["params"]["kernel_8x6"].reshape(3, 3, 4, 5)
    bias = variables["params"]["bias_8x6"] + 0.1
    params = {"kernel_8x6": variables["params"]["kernel_8x6"], "bias_8x6": bias}
    conv = nn.Conv(5, (3, 3), padding="VALID")
    expected = jax.nn.relu(conv.apply({"params": {"kernel": kernel, "bias": bias}}, obs))
    found = cnn.apply({"params": params}, obs)
    np.testing.assert_allclose(found, expected.ravel(), rtol=1e-5, atol=1e-5)


def test_a_cnn_trains_on_a_grid():
    config = pgjax.ppo("Breakout-MinAtar", network=pgjax.CNN(hidden_sizes=(16,)))
    config = config.replace(
        **{"sampler.num_envs": 4, "sampler.length": 8, "num_updates": 2, "distribution": "auto"}
    )
    _, metrics = pgjax.train(jax.random.key(0), config)
    assert metrics.finite.all()


class Masked(Counter):
    """Four actions, of which only those that the mask names are legal; the others pay −100."""

    def _obs(self, state):
        mask = jnp.array([True, False, True, False]) ^ (state.time % 2 == 1)
        return {"clock": jnp.ones(1), "action_mask": mask}

    def reset_env(self, key, params):
        _, state = super().reset_env(key, params)
        return self._obs(state), state

    def step_env(self, key, state, action, params):
        legal = self._obs(state)["action_mask"][action]
        _, state, _, done, info = super().step_env(key, state, action, params)
        return self._obs(state), state, jnp.where(legal, 1.0, -100.0), done, info

    def action_space(self, params=None):
        return spaces.Discrete(4)

    def observation_space(self, params=None):
        return spaces.Dict(
            {"clock": spaces.Box(0.0, 1.0, (1,)), "action_mask": spaces.Box(0, 1, (4,), bool)}
        )


def test_masked_actions_are_never_taken_and_gradients_stay_finite():
    config = pgjax.Config(Masked(lifetime=20, limit=20), sampler=pgjax.Episodes(32), num_updates=3)
    state, metrics = pgjax.train(jax.random.key(0), config.replace(**{
        "objective.entropy_coefficient": 0.1
    }))  # fmt: skip
    np.testing.assert_array_equal(metrics.episode_return, 20.0)
    assert metrics.finite.all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    np.testing.assert_allclose(metrics.entropy[0], np.log(2), rtol=1e-3)
    natural = config.replace(
        objective=pgjax.ImportanceRatio(), ascent=pgjax.TrustRegion(), optimizer=pgjax.SGD(1.0)
    )
    assert pgjax.train(jax.random.key(0), natural)[1].finite.all()


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (2.0, 5.0), (30.0, 1.5)])
def test_beta_agrees_with_scipy(a, b):
    low, high = -2.0, 4.0
    arrays = (jnp.full((1,), x) for x in (a, b, low, high))
    distribution = Beta(*arrays)
    expected = stats.beta(a, b, loc=low, scale=high - low)
    for x in (0.05, 0.5, 0.93):
        action = float(distribution.environment_action(jnp.array([x]))[0])
        density = distribution.log_prob(jnp.array([x]))
        np.testing.assert_allclose(density, expected.logpdf(action), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(distribution.entropy(), expected.entropy(), rtol=1e-4, atol=1e-4)
    noise = distribution.noise(jax.random.key(0), (4000, 1))
    samples = jax.jit(jax.vmap(distribution.sample))(noise)
    drawn = np.asarray(jax.vmap(distribution.environment_action)(samples)).ravel()
    assert stats.kstest(drawn, expected.cdf).pvalue > 1e-3
    mode = float(distribution.environment_action(distribution.mode())[0])
    if a > 1:
        grid = np.linspace(low, high, 20_001)[1:-1]
        assert mode == pytest.approx(grid[np.argmax(expected.pdf(grid))], abs=1e-3)


def test_beta_actions_are_legal_and_learn():
    config = pgjax.Config(
        "Pendulum-v1", distribution="beta", sampler=pgjax.Episodes(4, horizon=20), num_updates=2
    )
    state, metrics = pgjax.train(jax.random.key(0), config)
    assert metrics.finite.all()
    tau = pgjax.sample_trajectories(jax.random.key(1), state, config)
    assert ((tau.action > 0) & (tau.action < 1)).all()


def schedule(start, end=0.0, steps=4):
    return pgjax.Schedule(
        optax.linear_schedule, init_value=start, end_value=end, transition_steps=steps
    )


def test_a_schedule_is_followed_from_update_to_update():
    config = pgjax.Config("Catch-bsuite", optimizer=pgjax.SGD(schedule(1.0)), num_updates=6)
    state = pgjax.init(jax.random.key(0), config)
    for rate in (1.0, 0.75, 0.5, 0.25, 0.0):
        fixed = config.replace(**{"optimizer.learning_rate": rate})
        expected, _ = pgjax.update(state, fixed)
        state, _ = pgjax.update(state, config)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
            state.params,
            expected.params,
        )


def test_other_numbers_in_a_schedule_do_not_recompile():
    config = pgjax.Config("Catch-bsuite", optimizer=pgjax.Adam(schedule(0.013)), num_updates=3)
    pgjax.train(jax.random.key(0), config)
    before = training._train._cache_size()
    pgjax.train(jax.random.key(0), config.replace(**{"optimizer.learning_rate": schedule(0.02)}))
    assert training._train._cache_size() == before


def test_a_schedule_comes_back_from_json():
    config = pgjax.ppo("CartPole-v1", critic=pgjax.Critic(network=pgjax.MLP((8,))))
    config = config.replace(
        **{"optimizer.learning_rate": schedule(0.01), "objective.epsilon": schedule(0.2, 0.1)}
    )
    data = json.loads(json.dumps(config_json.to_dict(config)))
    assert config_json.from_dict(data) == config
    own = config.replace(**{"optimizer.learning_rate": pgjax.Schedule(lambda: lambda n: 0.1)})
    checked(own)
    with pytest.raises(ValueError, match=r"optimizer.learning_rate \(Schedule"):
        config_json.from_dict(config_json.to_dict(own))


def test_a_time_aware_policy_sees_what_share_of_the_time_is_gone():
    for sampler in (pgjax.Episodes(2, horizon=4), pgjax.Segments(2, 6)):
        env = Counter(lifetime=9, limit=4)
        estimator = pgjax.GAE()
        config = pgjax.Config(env, time_aware=True, sampler=sampler, estimator=estimator)
        state = pgjax.init(jax.random.key(0), config)
        tau = pgjax.sample_trajectories(jax.random.key(1), state, config)
        np.testing.assert_allclose(tau.obs["time"], tau.obs["obs"][..., 0] / 4)
        assert tau.obs["time"].max() >= 0.75
        np.testing.assert_allclose(tau.final_obs["time"], tau.final_obs["obs"][..., 0] / 4)
        assert state.params["network"]["Dense_0"]["kernel"].shape[0] == 2


class WithMask(Counter):
    """A Dict observation, whose mask allows one action."""

    def reset_env(self, key, params):
        obs, state = super().reset_env(key, params)
        return {"count": obs, "action_mask": jnp.array([False, True])}, state

    def step_env(self, key, state, action, params):
        obs, state, reward, done, info = super().step_env(key, state, action, params)
        return {"count": obs, "action_mask": jnp.array([False, True])}, state, reward, done, info

    def observation_space(self, params=None):
        count = super().observation_space(params)
        return spaces.Dict({"count": count, "action_mask": spaces.Box(0, 1, (2,), bool)})


def test_the_time_joins_the_entries_of_a_dict_and_leaves_its_mask():
    config = pgjax.Config(WithMask(), time_aware=True, sampler=pgjax.Episodes(4))
    state = pgjax.init(jax.random.key(0), config)
    tau = pgjax.sample_trajectories(jax.random.key(1), state, config)
    assert set(tau.obs) == {"count", "action_mask", "time"}
    assert (tau.action[tau.valid] == 1).all()
    assert state.params["network"]["Dense_0"]["kernel"].shape[0] == 2


def test_exact_answers_are_refused_where_the_policy_knows_more_than_the_state():
    mdp = pgjax.FiniteMDP([[[1.0], [1.0]]], [[0.0, 1.0]], [1.0], horizon=2)
    for changes in ({"time_aware": True}, {"network": pgjax.Recurrent()}):
        config = pgjax.Config(mdp, **changes)
        state = pgjax.init(jax.random.key(0), config)
        with pytest.raises(TypeError, match="a function of the state alone"):
            pgjax.tabular.policy_gradient(state, config)


class MaskOf(Counter):
    """Shows a mask of the given entries beside the count, whatever the actions are."""

    def __init__(self, entries, actions, stays=True):
        super().__init__(3, 3)
        self.entries, self.actions, self.stays = entries, actions, stays

    def _shown(self, obs, state):
        last = state.time >= 3
        mask = jnp.asarray(self.entries) & (self.stays | ~jnp.asarray(last))
        return {"count": obs, "action_mask": mask}

    def reset_env(self, key, params):
        obs, state = super().reset_env(key, params)
        return self._shown(obs, state), state

    def step_env(self, key, state, action, params):
        obs, state, reward, done, info = super().step_env(key, state, action, params)
        return self._shown(obs, state), state, reward, done, info

    def action_space(self, params=None):
        return self.actions

    def observation_space(self, params=None):
        mask = spaces.Box(0, 1, (len(self.entries),), bool)
        return spaces.Dict({"count": super().observation_space(params), "action_mask": mask})


@pytest.mark.parametrize(
    ("entries", "actions", "kind", "message"),
    [
        ([True] * 3, spaces.Discrete(4), ValueError, r"one entry for each of 4.*got \(3,\)"),
        ([True], spaces.Discrete(4), ValueError, r"one entry for each of 4.*got \(1,\)"),
        ([True], spaces.Box(0.0, 1.0, (1,)), TypeError, "'action_mask' needs Discrete actions"),
    ],
)
def test_a_mask_that_does_not_fit_the_actions_is_refused_by_name(entries, actions, kind, message):
    env = MaskOf(entries, actions)
    with pytest.raises(kind, match="MaskOf: .*" + message):
        pgjax.init(jax.random.key(0), pgjax.Config(env))
    with pytest.raises(ValueError, match=message):
        pgjax.check_environment(env, num_steps=16)


def test_an_update_in_which_a_mask_excluded_every_action_is_not_made():
    for entries, finite in (([False] * 3, False), ([True, True, False], True)):
        # After an episode's end a mask may exclude all, as nothing is done there.
        env = MaskOf(entries, spaces.Discrete(3), stays=False)
        estimator = pgjax.RewardToGo(baseline="none")
        config = pgjax.Config(env, sampler=pgjax.Episodes(4), estimator=estimator)
        config = config.replace(**{"objective.entropy_coefficient": 1.0})
        state = pgjax.init(jax.random.key(0), config)
        after, metrics = pgjax.update(state, config)
        assert bool(metrics.finite) is finite
        same = jax.tree.map(lambda a, b: bool((a == b).all()), after.params, state.params)
        assert all(jax.tree.leaves(same)) is not finite
        if finite:
            pgjax.check_environment(env, num_steps=16)
        else:
            with pytest.raises(ValueError, match="an action_mask without any action"):
                pgjax.check_environment(env, num_steps=16)
