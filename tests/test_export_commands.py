"""`pgjax export` as a user has it: a file that a process without pgjax runs; what is refused."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import pgjax
from pgjax.cli.main import main
from pgjax.runs.export import traced

CONFIG = pgjax.ppo("Pendulum-v1", network=pgjax.MLP((4,)))

# What the card says, in a process that must not need pgjax.
READER = """
import sys
import numpy as np
from jax import export
with open("policy.stablehlo", "rb") as file:
    program = export.deserialize(bytearray(file.read()))
action, memory = program.call(np.load("obs.npy"), ())
assert memory == () and "pgjax" not in sys.modules
np.save("action.npy", action)
"""


@pytest.mark.slow
def test_a_file_of_stablehlo_acts_in_a_process_without_pgjax(tmp_path):
    pytest.importorskip("flatbuffers")
    state = pgjax.init(jax.random.key(0), CONFIG)
    pgjax.save(tmp_path / "run", state, CONFIG)
    command = [sys.executable, "-m", "pgjax.cli", "export", "run", "--format", "stablehlo"]
    command += ["--deterministic", "--eval-episodes", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "stablehlo"
    obs = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.save(folder / "obs.npy", obs)
    read = subprocess.run(
        [sys.executable, "-c", READER], cwd=folder, capture_output=True, text=True
    )
    assert read.returncode == 0, read.stderr
    expected, _ = pgjax.Agent(state, CONFIG).act(obs, deterministic=True)
    np.testing.assert_allclose(np.load(folder / "action.npy"), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("format", ["numpy", "stablehlo"])
def test_samples_of_a_beta_are_refused_in_one_line_that_names_the_mode(
    format, tmp_path, capsys, monkeypatch
):
    config = CONFIG.replace(distribution="beta")
    state = pgjax.init(jax.random.key(0), config)
    pgjax.save(tmp_path / "run", state, config)
    # Nothing compiles before the refusal.
    monkeypatch.setattr("pgjax.study.evaluation.evaluate", lambda *_: pytest.fail("evaluated"))
    assert main(["export", str(tmp_path / "run"), "--format", format]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pgjax: samples of Beta are drawn by rejection")
    assert line.endswith("export the mode, deterministic=True (--deterministic)")
    assert not (tmp_path / "run" / format).exists()
    assert traced.exported(state, config, True).deterministic
