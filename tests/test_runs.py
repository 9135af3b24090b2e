import csv
import json
import os
import signal
import sys

import jax
import numpy as np
import pytest
from matplotlib import image

import pgjax
from pgjax.runs import progress, recent_metrics
from pgjax.study import memory_estimate

CONFIG = pgjax.Config(env="Catch-bsuite", num_updates=7).replace(
    **{"network.hidden_sizes": (8,), "sampler.num_trajectories": 8}
)


def test_a_run_gives_the_numbers_of_train_and_leaves_them_on_disk(tmp_path):
    seen = []
    result = pgjax.run(CONFIG, 5, tmp_path / "run", lambda p: seen.append(p.num_updates))
    state, metrics = pgjax.train(jax.random.key(5), CONFIG)
    for name in ("episode_return", "entropy", "gradient_norm"):
        found, expected = getattr(result.metrics, name), getattr(metrics, name)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert seen[0] == 1
    assert seen[-1] == 7
    assert seen == sorted(seen)
    assert not result.interrupted
    with open(tmp_path / "run" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["update"]) for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal([int(row["env_steps"]) for row in rows], metrics.env_steps)
    written = np.array([float(row["episode_return"]) for row in rows], np.float32)
    np.testing.assert_array_equal(written, result.metrics.episode_return)
    loaded, config = pgjax.load(tmp_path / "run")
    assert config == CONFIG
    for a, b in zip(jax.tree.leaves(loaded.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    facts = json.loads((tmp_path / "run" / "config.json").read_text())
    assert facts["seed"] == 5
    assert facts["versions"]["jax"] == jax.__version__
    picture = image.imread(tmp_path / "run" / "learning_curve.png")
    assert picture.shape[0] > 300
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 10


def test_what_a_run_remembers_does_not_grow_with_its_blocks(monkeypatch):
    seen = []
    pgjax.run(CONFIG, on_block=seen.append)
    # A view would keep the device's array.
    assert all(leaf.base is None for now in seen for leaf in jax.tree.leaves(now.metrics))
    sizes, kept = [1, 5, 3] * 300, recent_metrics.RecentMetrics()
    for index, size in enumerate(sizes):
        filled = lambda x, n=size, i=index: np.full(n, i, x.dtype)
        kept.add(sum(sizes[: index + 1]), jax.tree.map(filled, seen[0].metrics))
        assert len(kept.parts) <= 12
    np.testing.assert_array_equal(kept.metrics().env_steps, np.repeat(np.arange(900), sizes))
    assert kept.bad_update == 1
    monkeypatch.setattr(recent_metrics, "MOST_UPDATES", 100)
    for index in range(900):
        kept.add(2700 + index, jax.tree.map(lambda x: x[:1], seen[0].metrics))
        assert sum(len(part.finite) for part in kept.parts) < 400
    assert len(kept.metrics().finite) == 100


def test_a_very_long_run_is_not_refused_for_its_metrics():
    long = CONFIG.replace(num_updates=10**9)
    result = pgjax.run(long, stop_at_return=-2.0)
    assert result.solved
    assert len(result.metrics.finite) == 1
    with pytest.raises(ValueError, match=r"metrics .*; num_updates is 1000000000, \d+ would fit"):
        memory_estimate.seeds_that_fit(long)
    with pytest.raises(ValueError, match=r"num_updates must be at most 2147483647"):
        pgjax.run(CONFIG.replace(num_updates=2**31))


def test_memory_is_unknown_where_the_system_does_not_say(monkeypatch):
    def missing(*args):
        raise OSError

    monkeypatch.setattr("builtins.open", missing)
    monkeypatch.delattr(os, "sysconf")
    assert memory_estimate.available_bytes() == sys.maxsize


@pytest.mark.parametrize("seed", [2**32, 1 + 2**32, 2**63, 2**64, np.uint64(2**63)])
def test_a_seed_beyond_a_keys_bits_is_refused(seed):
    with pytest.raises(
        ValueError, match=rf"seed must be below 2\*\*32.*; {int(seed) % 2**32} would"
    ):
        pgjax.run(CONFIG, seed)


def test_a_numpy_seed_is_the_python_seed(tmp_path):
    pgjax.run(CONFIG, np.int64(3), tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "config.json").read_text())
    assert facts["seed"] == 3


def test_on_block_ends_the_run_by_returning_false(tmp_path):
    result = pgjax.run(CONFIG, 0, tmp_path / "run", lambda now: now.num_updates < 1)
    assert (result.stopped, result.interrupted, result.solved) == (True, 0, False)
    assert len(result.metrics.finite) == 1
    assert int(pgjax.load(tmp_path / "run")[0].num_updates) == 1
    # None and other values that count as false do not.
    assert not pgjax.run(CONFIG, on_block=lambda now: 0).stopped
    resumed = pgjax.resume(tmp_path / "run")
    assert int(resumed.state.num_updates) == 7


@pytest.mark.parametrize("kind", [KeyError, StopIteration, OSError])
def test_what_was_made_is_saved_before_an_error_of_on_block_is_raised(tmp_path, kind):
    def fail(now):
        raise kind("mine")

    with pytest.raises(kind, match="mine"):
        pgjax.run(CONFIG, 0, tmp_path / "run", fail)
    assert int(pgjax.load(tmp_path / "run")[0].num_updates) == 1
    whole = pgjax.run(CONFIG, 0)
    resumed = pgjax.resume(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, whole.state.params, resumed.state.params)


@pytest.mark.devices(2)
def test_a_state_that_on_block_keeps_outlives_the_next_blocks():
    seen, states = [], []

    def keep(now):
        seen.append(now)
        if now.num_updates == 1:
            states.append(now.state)

    pgjax.run(CONFIG.replace(num_updates=80), on_block=keep, mesh=pgjax.make_mesh(2))
    once = pgjax.run(CONFIG.replace(num_updates=1))
    assert seen[0].state is states[0]
    assert int(pgjax.update(states[0], CONFIG)[0].num_updates) == 2
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        states[0].params,
        once.state.params,
    )
    with pytest.raises(
        ValueError, match=r"state after update \d+ is gone: read Progress\.state while"
    ):
        _ = seen[1].state


def test_an_existing_folder_is_refused_and_left_alone(tmp_path):
    with pytest.raises(ValueError, match="exists"):
        pgjax.run(CONFIG, directory=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_bad_config_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="discount"):
        pgjax.run(CONFIG.replace(**{"estimator.discount": 2.0}), directory=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_run_beyond_the_memory_is_refused(tmp_path):
    huge = CONFIG.replace(**{"sampler.num_trajectories": 2_000_000})
    with pytest.raises(ValueError, match=r"one seed needs \d+ GiB, .*available .*, \d+ would fit"):
        pgjax.run(huge, directory=tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.devices(2)
def test_a_run_divided_over_devices_that_stops_at_a_return(tmp_path):
    config = CONFIG.replace(num_updates=60)
    config = config.replace(**{"sampler.num_trajectories": 16})
    plain = pgjax.run(config, 1, stop_at_return=-0.3)
    divided = pgjax.run(config, 1, tmp_path / "run", mesh=pgjax.make_mesh(2), stop_at_return=-0.3)
    for result in (plain, divided):
        assert result.solved
        assert not result.interrupted
        assert len(result.metrics.episode_return) == int(result.state.num_updates) < 60
    np.testing.assert_allclose(
        divided.metrics.episode_return, plain.metrics.episode_return, rtol=1e-4, atol=1e-5
    )
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(divided.state.params)} == {1}
    loaded, _ = pgjax.load(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, loaded.params, divided.state.params)


def test_interruption_saves_what_was_done(tmp_path):
    def interrupt(progress):
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    result = pgjax.run(CONFIG, 0, tmp_path / "run", interrupt)
    assert result.interrupted
    assert len(result.metrics.episode_return) == 1
    state, _ = pgjax.load(tmp_path / "run")
    assert int(state.num_updates) == 1
    # Whatever it was: a process that was started in the background ignores Ctrl-C.
    assert signal.getsignal(signal.SIGINT) is before


def test_env_steps_go_on_past_the_device_counter(tmp_path):
    before = 2**32 - 5
    metrics = pgjax.train(jax.random.key(0), CONFIG).metrics
    wrapped = metrics.replace(env_steps=metrics.env_steps + np.uint32(before % 2**32))
    found = progress.on_host(wrapped, 7, before)
    np.testing.assert_array_equal(found.env_steps, before + np.asarray(metrics.env_steps, np.int64))


def test_a_target_meant_as_a_number_is_written_out():
    with pytest.raises(TypeError, match=r"stop_at_return must be a number, got '500'; write 500$"):
        pgjax.run(CONFIG, stop_at_return="500")
