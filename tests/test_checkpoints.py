import json
import os
import shutil

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from environments_for_tests import Contactless, Counter

import pgjax
from pgjax.environments import interface
from pgjax.runs import checkpoints, config_json
from pgjax.training import presets

CONFIG = pgjax.Config(env="Catch-bsuite", num_updates=2).replace(
    **{
        "optimizer.learning_rate": 3e-3,
        "optimizer.max_gradient_norm": 1.0,
        "network.hidden_sizes": (8,),
        "sampler.num_trajectories": 4,
    }
)


@pytest.fixture(scope="module")
def trained():
    return pgjax.train(jax.random.key(0), CONFIG).state


@pytest.fixture
def path(tmp_path, trained):
    pgjax.save(tmp_path / "checkpoint", trained, CONFIG)
    return tmp_path / "checkpoint"


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_load_needs_nothing_but_the_path(path, trained):
    state, config = pgjax.load(path)
    assert config == CONFIG
    assert jax.tree.structure(state) == jax.tree.structure(trained)
    assert_same_bits(state, trained)


def test_training_goes_on_with_the_same_bits(path, trained):
    state, config = pgjax.load(path)
    assert_same_bits(pgjax.update(state, config), pgjax.update(trained, CONFIG))


def test_arrays_without_elements_are_kept(tmp_path):
    config = pgjax.actor_critic(Contactless(), num_updates=2, network=pgjax.MLP((4,)))
    config = config.replace(**{"sampler.num_envs": 2, "sampler.length": 4})
    pgjax.run(config, 0, tmp_path / "run")
    state, _ = pgjax.load(tmp_path / "run", config)
    assert any(leaf.shape == (2, 0, 3) for leaf in jax.tree.leaves(state.streams))
    longer = config.replace(num_updates=3)
    resumed = pgjax.resume(tmp_path / "run", config=longer)
    assert_same_bits(resumed.state, pgjax.run(longer, 0).state)


def test_a_run_folder_is_loaded_through_its_checkpoint(path, trained):
    state, _ = pgjax.load(path.parent)
    assert_same_bits(state, trained)


def test_env_params_and_traced_floats_survive(tmp_path, trained):
    params = interface.default_params("CartPole-v1").replace(gravity=np.float32(11.5))
    config = pgjax.Config(env="CartPole-v1", env_params=params)
    config = config.replace(**{"optimizer.learning_rate": jax.numpy.float32(0.1)})
    pgjax.save(tmp_path / "c", pgjax.init(jax.random.key(0), config), config)
    _, loaded = pgjax.load(tmp_path / "c")
    assert loaded.env_params.gravity == 11.5
    assert loaded.env_params.max_steps_in_episode == 500
    assert np.float32(loaded.optimizer.learning_rate) == np.float32(0.1)


@pytest.mark.parametrize("env", presets.tuned())
def test_every_environments_params_survive(env):
    params = interface.default_params(env)
    config = pgjax.Config(env=env, env_params=params, num_updates=np.int64(3))
    text = json.dumps(config_json.to_dict(config))
    found = config_json.from_dict(json.loads(text))
    assert jax.tree.structure(found) == jax.tree.structure(config)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(config), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.shape(a) == np.shape(b)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("estimator", "type"), "GAF", "unknown estimator 'GAF'.*did you mean 'GAE'"),
        (("estimator", "lambda"), 0.5, "estimator is not one of this version's"),
        (
            ("optimizer", "learning_rate"),
            {"schedule": "linear_scedule", "arguments": {}},
            "unknown schedule 'linear_scedule'.*did you mean 'linear_schedule'",
        ),
    ],
)
def test_what_no_config_holds_is_named(path, value, message):
    data = config_json.to_dict(pgjax.ppo("CartPole-v1"))
    data[path[0]][path[1]] = value
    with pytest.raises(ValueError, match=message):
        config_json.from_dict(data)


def test_saving_again_replaces_and_leaves_nothing_behind(path, trained):
    later, _ = pgjax.update(trained, CONFIG)
    pgjax.save(path, later, CONFIG)
    state, _ = pgjax.load(path)
    assert int(state.num_updates) == 3
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint"]


def test_what_is_not_a_checkpoint_is_not_overwritten(tmp_path, trained):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter_1.tex").write_text("")
    with pytest.raises(ValueError, match="exists and is not a pgjax checkpoint"):
        pgjax.save(tmp_path / "thesis", trained, CONFIG)


def test_objects_of_the_users_own_need_the_config(tmp_path):
    config = pgjax.Config(env=Counter(), optimizer=lambda rate: optax.rmsprop(rate))
    state = pgjax.init(jax.random.key(0), config)
    pgjax.save(tmp_path / "c", state, config)
    with pytest.raises(ValueError, match=r"env \(.*Counter.*optimizer \(.*pass config"):
        pgjax.load(tmp_path / "c")
    loaded, _ = pgjax.load(tmp_path / "c", config=config)
    assert_same_bits(loaded, state)


def edit_manifest(path, **changes):
    """As another version would have written it."""
    manifest = json.loads((path / "pgjax.json").read_text())
    del manifest["seal"]
    sealed = checkpoints.sealed(manifest | changes)
    (path / "pgjax.json").write_text(json.dumps(sealed))


def test_a_checkpoint_with_former_module_paths_is_loaded(tmp_path):
    config = pgjax.Config("CartPole-v1", network=pgjax.Recurrent(cell=pgjax.MinGRU(4)))
    pgjax.save(tmp_path / "c", pgjax.init(jax.random.key(0), config), config)
    text = (tmp_path / "c" / "pgjax.json").read_text()
    assert '"pgjax.policies.recurrent.MinGRU"' in text
    former = json.loads(text.replace("pgjax.policies.recurrent", "pgjax.recurrent"))
    edit_manifest(tmp_path / "c", config=former["config"])
    assert '"pgjax.recurrent.MinGRU"' in (tmp_path / "c" / "pgjax.json").read_text()
    assert pgjax.load(tmp_path / "c")[1] == config


def edit_learning_rate(path):
    text = (path / "pgjax.json").read_text()
    assert '"learning_rate": 0.003' in text
    (path / "pgjax.json").write_text(text.replace('"learning_rate": 0.003', '"learning_rate": 0.3'))


def largest_array_file(path):
    files = [p for folder in path.glob("arrays-*") for p in folder.rglob("*") if p.is_file()]
    return max(files, key=lambda p: p.stat().st_size)


def replaced(file, make):
    file.unlink()
    make(file)


def fifo(file):
    os.mkfifo(file)


def zeros(file):
    file.symlink_to("/dev/zero")


def truncate(path):
    file = largest_array_file(path)
    file.write_bytes(file.read_bytes()[:-7])


def flip_a_byte(path):
    file = largest_array_file(path)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGE = [
    (lambda p: shutil.rmtree(p), "does not exist"),
    (lambda p: (p / "pgjax.json").unlink(), "holds no checkpoint"),
    (lambda p: (p / "pgjax.json").write_text("{"), "pgjax.json cannot be read"),
    (lambda p: (p / "pgjax.json").write_text("[]"), "must be an object, got \\[\\]"),
    (lambda p: (p / "pgjax.json").write_text("{}"), "has format None"),
    (lambda p: (p / "pgjax.json").write_text("[" * 10**5), "pgjax.json cannot be read"),
    (lambda p: edit_manifest(p, sha256={}), "field sha256 names no file"),
    (lambda p: edit_manifest(p, sha256={"d/0": ""}), r"field sha256.d/0 must be like \[0-9a-f\]"),
    (lambda p: edit_manifest(p, sha256=None), "field sha256 must be an object, got None"),
    (lambda p: edit_manifest(p, sha256={"a": "0" * 64}), "does not belong there"),
    (lambda p: edit_manifest(p, arrays="../elsewhere"), "field arrays must be like arrays-"),
    (lambda p: edit_manifest(p, notes=[]), "field notes must be"),
    (lambda p: edit_manifest(p, spare=1), "field spare is unknown"),
    (lambda p: edit_manifest(p, versions={"jax": "\x1b[31m"}), "holds control characters"),
    (lambda p: replaced(p / "pgjax.json", fifo), "pgjax.json cannot be read .*not a regular file"),
    (lambda p: replaced(p / "pgjax.json", zeros), "pgjax.json cannot be read .*not a regular file"),
    (lambda p: replaced(largest_array_file(p), zeros), "is missing"),
    (
        lambda p: edit_manifest(p, format=99),
        "has format 99; this version of pgjax reads format 3: load it with",
    ),
    (edit_learning_rate, "pgjax.json is damaged or was edited"),
    (lambda p: largest_array_file(p).unlink(), "is missing"),
    (truncate, "is damaged"),
    (flip_a_byte, "is damaged"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damage_is_named_and_nothing_is_loaded(path, damage, message):
    damage(path)
    with pytest.raises(ValueError, match=message):
        pgjax.load(path)


def test_a_config_of_another_network_or_version_is_refused(path):
    with pytest.raises(ValueError, match="does not fit its config"):
        pgjax.load(path, config=CONFIG.replace(**{"network.hidden_sizes": (9,)}))
    with pytest.raises(ValueError, match="does not fit its config"):
        pgjax.load(path, config=CONFIG.replace(**{"network.hidden_sizes": (8, 8)}))
    config = json.loads((path / "pgjax.json").read_text())["config"]
    edit_manifest(path, config=config | {"sampler": {"type": "Episodes", "number": 3}})
    with pytest.raises(ValueError, match="sampler is not one of this version's"):
        pgjax.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network.activation": "relu"}, "network.activation is 'relu', 'tanh' was saved"),
        ({"network.hidden_sizes": (9,)}, r"network.hidden_sizes is \[9\], \[8\] was saved"),
        ({"time_aware": True}, "time_aware is True, False was saved"),
        ({"normalize_observations": True}, "normalize_observations is True"),
        ({"optimizer": pgjax.SGD()}, r"opt_state\[1\]\[0\].count is int32\[\], which the config"),
        ({"env": "CartPole-v1"}, r"params.*bias'\] is float32\[3\], the config has float32\[2\]"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_a_config_that_does_not_fit_is_one_line_with_the_first_difference(path, changes, message):
    with pytest.raises(ValueError, match=f"does not fit its config: .*{message}") as refused:
        pgjax.load(path, config=CONFIG.replace(**changes))
    assert len(str(refused.value).splitlines()) == 1


def test_another_activation_of_a_users_own_module_is_another_function(tmp_path):
    class Own(nn.Module):
        activation: str

        @nn.compact
        def __call__(self, obs):
            return getattr(nn, self.activation)(nn.Dense(3)(obs.reshape(-1)))

    config = CONFIG.replace(network=Own("tanh"))
    pgjax.save(tmp_path / "c", pgjax.init(jax.random.key(0), config), config)
    pgjax.load(tmp_path / "c", config=config)
    with pytest.raises(ValueError, match=r"network.custom is .*relu.*tanh"):
        pgjax.load(tmp_path / "c", config=config.replace(network=Own("relu")))


def test_a_state_is_only_saved_with_its_own_config(tmp_path, trained):
    with pytest.raises(ValueError, match="do not belong together"):
        pgjax.save(tmp_path / "c", trained, pgjax.Config(env="CartPole-v1"))
    assert not list(tmp_path.iterdir())
