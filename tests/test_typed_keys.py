"""Environments that keep a typed key in their state, as those of other projects do."""

import gymnax.registration
import jax
import numpy as np
from environments_for_tests import KeyedCounter

import pgjax
from pgjax.cli.main import main
from pgjax.core import keys
from pgjax.study.checking import check_environment

SMALL = {"sampler.num_envs": 2, "sampler.length": 4, "ascent.minibatches": 1, "num_updates": 3}
CONFIG = pgjax.ppo(KeyedCounter(), network=pgjax.MLP(()), **SMALL)


def assert_same_bits(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(keys.unwrap_keys(a), keys.unwrap_keys(b))


def test_a_run_is_saved_and_resumed_to_the_same_bits(tmp_path):
    whole = pgjax.run(CONFIG, directory=tmp_path / "whole")
    first = CONFIG.replace(num_updates=1)
    pgjax.run(first, directory=tmp_path / "parts")
    resumed = pgjax.resume(tmp_path / "parts", config=CONFIG)
    assert_same_bits(resumed.state, whole.state)
    assert_same_bits(pgjax.load(tmp_path / "whole", CONFIG)[0], whole.state)


def test_it_is_swept_and_its_memory_estimated():
    assert pgjax.memory_estimate(CONFIG).state > 0
    sweep = pgjax.sweep(jax.random.key(0), CONFIG, {"optimizer.learning_rate": [0.0, 0.1]}, 2)
    assert sweep.state.streams.carry.env_state.key.shape == (2, 2, 2)
    seed = jax.random.split(jax.random.key(0), 2)[1]
    trained = pgjax.train(seed, CONFIG.replace(**{"optimizer.learning_rate": 0.1})).state
    alone = trained.streams.carry.env_state
    assert_same_bits(sweep.at(1, 1).state.streams.carry.env_state, alone)


def test_it_is_divided_over_devices():
    mesh = pgjax.make_mesh(2)
    ours, theirs = pgjax.run(CONFIG, mesh=mesh).state, pgjax.run(CONFIG).state
    assert_same_bits(ours.streams.carry.env_state, theirs.streams.carry.env_state)
    sweep = pgjax.sweep(jax.random.key(0), CONFIG, {"optimizer.learning_rate": [0.1]}, 2, mesh=mesh)
    assert sweep.state.streams.carry.env_state.others.shape == (1, 2, 2, 2)


def test_it_keeps_to_the_interface():
    assert check_environment(KeyedCounter(), num_steps=32) is None


def test_the_command_line_trains_and_resumes_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(gymnax.registration._registry, "Keyed-v0", KeyedCounter)
    monkeypatch.setattr(gymnax, "registered_envs", [*gymnax.registered_envs, "Keyed-v0"])
    folder = str(tmp_path / "run")
    sizes = ["--sampler.num-envs", "2", "--sampler.length", "4", "--num-updates", "2"]
    flags = ["--algorithm", "ppo", *sizes, "--ascent.minibatches", "1", "--directory", folder]
    code = main(["train", "Keyed-v0", *flags])
    assert (code, capsys.readouterr().err) == (0, "")
    code = main(["resume", folder, "--num-updates", "3"])
    assert (code, capsys.readouterr().err) == (0, "")
