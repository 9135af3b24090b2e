"""`--import`: ids that a module registers, and environments that a folder names in it."""

import os
import sys

import jax
import pytest

import pgjax
from pgjax.cli.main import main
from pgjax.environments import gymnax_objects, ids, interface, own_imports
from pgjax.environments.suites import suite

MODULE = """
import os, gymnax
from gymnax.environments.bsuite.catch import Catch
from os import getcwd
class Mine(Catch):
    pass
def make():
    return Mine()
if "Mine-v0" not in gymnax.registered_envs:
    gymnax.register("Mine-v0", Mine)
"""
SMALL = ["--num-updates", "2", "--sampler.num-trajectories", "4", "--network.hidden-sizes", "4"]
FEW = ["--eval-episodes", "2"]
MANY = ["--eval-episodes", "2000000000"]
# Commands that need the environment, and what each refuses once it has it, before it compiles.
NEED_IT = {
    ("evaluate", "runs/a", *MANY): "--eval-episodes",
    ("resume", "runs/a", *FEW): "has made its 2 updates",
    ("render", "runs/a", "--output", "a.png"): "must end in .gif",
    ("export", "runs/a", "--format", "numpy", *MANY): "--eval-episodes",
    ("sweep", "Mine-v0", "--grid", "env_params.size=1"): "unknown parameter 'size' of Mine-v0",
    ("tune", "Mine-v0", "--space", "env_params.size=1"): "unknown parameter 'size' of Mine-v0",
    ("train", "Mine-v0", "--env-params.size", "1"): "unknown parameter 'size' of Mine-v0",
    ("train", "Mine-v0", *SMALL, *FEW, "--from", "runs/b"): "runs/b does not exist",
}


@pytest.fixture(autouse=True)
def forgotten(tmp_path, monkeypatch):
    """A folder with `mine.py`; nothing that a test imports or registers is left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(ids, "IMPORTED", {})
    monkeypatch.setattr(own_imports, "ALLOWED", set())
    (tmp_path / "mine.py").write_text(MODULE)
    yield
    _forget()


def _forget():
    ids.IMPORTED.clear()
    own_imports.ALLOWED.clear()
    sys.modules.pop("mine", None)
    registration = gymnax_objects.gymnax.registration
    registration._registry.pop("Mine-v0", None)
    if "Mine-v0" in registration.registered_envs:
        registration.registered_envs.remove("Mine-v0")


def test_a_run_of_a_registered_id_needs_its_module_named(capsys):
    train = ["train", "Mine-v0", *SMALL, *FEW, "--name", "a"]
    assert main(train) == 2
    assert "that a module of your own registers: --import MODULE" in capsys.readouterr().err
    assert main([*train, "--import", "mine"]) == 0
    capsys.readouterr()
    _forget()
    assert main(["evaluate", "runs/a", *FEW]) == 2
    error = capsys.readouterr().err
    assert "unknown environment 'Mine-v0'" in error
    assert "--import MODULE" in error
    assert len(error.splitlines()) == 1
    assert "mine" not in sys.modules
    assert main(["evaluate", "runs/a", *FEW, "--import", "mine"]) == 0
    assert pgjax.load("runs/a")[1].env == "Mine-v0"
    _check_all_commands(capsys)


def _check_all_commands(capsys):
    """Those that need the environment ask for its module and take it; others need none."""
    for command, later in NEED_IT.items():
        _forget()
        capsys.readouterr()
        assert main(list(command)) == 2
        error = capsys.readouterr().err
        assert "unknown environment 'Mine-v0'" in error, command
        assert "--import MODULE" in error, command
        assert main([*command, "--import", "mine"]) == 2
        error = capsys.readouterr().err
        assert later in error, command
        assert len(error.splitlines()) == 1
    _forget()
    assert main(["list"]) == 0
    assert main(["plot", "runs/a"]) == 0
    assert "Mine-v0" in capsys.readouterr().out
    assert "mine" not in sys.modules
    assert main(["envs", "Mine-v0", "--import", "mine"]) == 0


def test_a_module_that_is_named_makes_its_own_environments_alone():
    for name in ("mine:make", "mine:Mine", "mine:getcwd", "mine:os.getcwd", "mine:os"):
        with pytest.raises(ValueError, match=r"somebody's own code.*--import mine, or --env mine:"):
            interface.make(name)
    assert "mine" not in sys.modules
    interface.import_module("mine")
    assert type(interface.make("mine:make")).__name__ == "Mine"
    assert type(interface.make("mine:Mine")).__name__ == "Mine"
    for name in ("mine:getcwd", "mine:os.getcwd", "mine:os", "mine:nothing"):
        with pytest.raises(ValueError, match="somebody's own code"):
            interface.make(name)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("mine.py", "takes a module's name, as my_module, got 'mine.py'; write mine"),
        ("./pkg/mine.py", "got './pkg/mine.py'; write pkg.mine"),
        ("mine:make", "got 'mine:make'; write mine"),
        ("", "takes a module's name, as my_module, got ''"),
        ("nowhere_at_all", "module 'nowhere_at_all' cannot be imported: No module named"),
        ("divides", r"cannot be imported: ZeroDivisionError: .* \(divides.py, line"),
    ],
)
def test_what_is_no_module_is_one_line(name, answer, capsys, tmp_path):
    (tmp_path / "divides.py").write_text("1 / 0")
    with pytest.raises(ValueError, match=answer):
        interface.import_module(name)
    assert main(["evaluate", "runs/a", "--import", name]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert os.listdir(tmp_path)


def test_arrays_are_numbers_while_something_is_traced(tmp_path):
    """A module's first import, and its factory's call, may be inside the user's `jax.jit`."""
    constants = "import jax.numpy as jnp\nSIZE = int(jnp.arange(3).sum())\n"
    factory = "def of_size():\n    int(jnp.ones(SIZE).sum())\n    return Mine()\n"
    (tmp_path / "mine.py").write_text(constants + MODULE + factory)
    own_imports.ALLOWED.add("mine")
    config = pgjax.reinforce("mine:of_size", num_updates=2)
    _, metrics = jax.eval_shape(pgjax.train, jax.random.key(0), config)
    assert metrics.episode_return.shape == (2,)


def test_a_suites_project_is_imported_as_numbers_while_something_is_traced(tmp_path, monkeypatch):
    # Navix takes `int` of its arrays when it is imported.
    text = "import jax.numpy as jnp\nLIMIT = int(jnp.arange(3).sum())\n"
    (tmp_path / "a_project.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert jax.jit(lambda x: x + suite.imported("a_project", "mine").LIMIT)(1) == 4
    sys.modules.pop("a_project")
