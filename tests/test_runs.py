import csv
import json
import os
import signal

import jax
import numpy as np
import pytest
from matplotlib import image

import pgjax
from pgjax import runs

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


def test_what_a_run_remembers_does_not_grow_with_its_blocks():
    seen = []
    pgjax.run(CONFIG, on_block=seen.append)
    # A view would keep the device's array.
    assert all(leaf.base is None for now in seen for leaf in jax.tree.leaves(now.metrics))
    sizes, made = [1, 5, 3] * 300, []
    for index, size in enumerate(sizes):
        filled = lambda x, n=size, i=index: np.full(n, i, x.dtype)
        runs._remember(made, jax.tree.map(filled, seen[0].metrics))
        assert len(made) <= 12
    joined = runs._joined(*made)
    np.testing.assert_array_equal(joined.env_steps, np.repeat(np.arange(900), sizes))


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
    found = pgjax.runs._on_host(wrapped, 7, before)
    np.testing.assert_array_equal(found.env_steps, before + np.asarray(metrics.env_steps, np.int64))
