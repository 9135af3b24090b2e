"""Metrics as DataFrames: the same numbers, in rows that say whose they are."""

import sys

import numpy as np
import pytest

import pgjax
from pgjax.core.types import Metrics

CONFIG = pgjax.Config(env="Catch-bsuite", num_updates=3)


def metrics_of(returns):
    """Metrics with these returns; the others are zeros."""
    names = ("episode_length", "num_episodes", "env_steps", "entropy", "gradient_norm", "objective")
    zeros = {name: np.zeros(returns.shape) for name in names}
    finite = np.ones(returns.shape, bool)
    return Metrics(episode_return=returns, finite=finite, extra={"kl": -returns}, **zeros)


def sweep_of(grid, num_seeds=2):
    shape = (*map(len, grid.values()), num_seeds, 3)
    returns = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return pgjax.Sweep(CONFIG, grid, num_seeds, metrics_of(returns), 0.0, 0.0, 1, _states=())


def test_a_row_of_a_sweep_is_an_update_of_a_run():
    pytest.importorskip("pandas")
    grid = {"optimizer.learning_rate": (0.1, 0.2), "network": (pgjax.MLP((8,)), pgjax.MLP((9,)))}
    sweep = sweep_of(grid)
    frame = sweep.frame()
    assert len(frame) == sweep.metrics.finite.size
    assert list(frame.columns[:5]) == [*grid, "seed", "update", "episode_return"]
    assert set(frame["network"]) == {"hidden sizes [8]", "hidden sizes [9]"}
    of_run = frame[(frame["optimizer.learning_rate"] == 0.2) & (frame["seed"] == 1)]
    of_run = of_run[of_run["network"] == "hidden sizes [8]"]
    np.testing.assert_array_equal(of_run["update"], [1, 2, 3])
    np.testing.assert_array_equal(of_run["episode_return"], sweep.metrics.episode_return[1, 0, 1])
    np.testing.assert_array_equal(of_run["kl"], sweep.metrics.extra["kl"][1, 0, 1])


def test_a_setting_of_texts_or_none_keeps_them():
    pytest.importorskip("pandas")
    frame = sweep_of({"estimator.baseline": ("none", "mean")}).frame()
    assert set(frame["estimator.baseline"]) == {"none", "mean"}


def test_a_row_of_a_run_is_an_update():
    pytest.importorskip("pandas")
    config = CONFIG.replace(**{"network.hidden_sizes": (4,), "sampler.num_trajectories": 2})
    result = pgjax.run(config)
    frame = result.metrics_frame()
    np.testing.assert_array_equal(frame["update"], [1, 2, 3])
    np.testing.assert_array_equal(frame["episode_return"], result.metrics.episode_return)
    np.testing.assert_array_equal(frame["env_steps"], result.metrics.env_steps)


def test_without_pandas_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"DataFrames need the extra: .*pgjax-rl\[frames\]"):
        sweep_of({"estimator.discount": (0.9, 1.0)}).frame()
