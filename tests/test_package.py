"""The package's front door: public names, and that it opens without starting JAX's devices."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pgjax

SOURCE = Path(pgjax.__file__)


def python(program):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


def test_public_names_are_there_and_the_same_to_type_checkers():
    tree = ast.parse(SOURCE.with_suffix(".pyi").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    names = [alias for node in imports for alias in node.names]
    assert all(alias.asname == alias.name for alias in names)  # exported, not only imported
    assert {alias.name for alias in names} == set(pgjax.__all__)
    assert len(names) == len(pgjax.__all__)
    assert set(pgjax.__all__) <= set(dir(pgjax))
    for name in pgjax.__all__:
        assert getattr(pgjax, name).__doc__, name


def test_unknown_names():
    with pytest.raises(AttributeError, match="'pgjax' has no attribute 'tarin'"):
        pgjax.tarin  # noqa: B018


def test_devices_and_processes_can_be_settled_after_the_import():
    program = (
        "import jax, pgjax; jax.config.update('jax_num_cpu_devices', 3); print(pgjax.make_mesh())"
    )
    assert "3" in python(program)


def test_the_command_line_uses_every_core_and_keeps_programs(tmp_path):
    program = (
        "import os; os.sched_getaffinity = lambda pid: {0, 1, 2, 3}\n"
        f"os.environ['XDG_CACHE_HOME'] = {str(tmp_path / 'cache')!r}\n"
        "from pgjax.cli.main import main\n"
        "flags = '--num-updates 2 --eval-episodes 4'.split()\n"
        f"main(['train', 'Catch-bsuite', *flags, '--directory', {str(tmp_path / 'run')!r}])\n"
        "import jax; print(jax.config.jax_compilation_cache_dir)"
    )
    out = python(program)
    assert "on 4 of 4 CPU devices" in out
    assert str(tmp_path / "cache" / "pgjax") in out
    assert list((tmp_path / "cache" / "pgjax").glob("jit_advance-*"))


def test_the_compilation_cache_can_be_turned_off(tmp_path):
    program = (
        "from pgjax.cli import startup; import jax\n"
        "startup.prepare('evaluate', ['--no-compilation-cache'])\n"
        "print(jax.config.jax_enable_compilation_cache, jax.config.jax_compilation_cache_dir)"
    )
    assert python(program).strip() == "False None"
