"""`profile`: its table, its trace, and what it says where there can be none."""

import re

import jax
import pytest

import pgjax
from pgjax.cli.main import main

FLAGS = ["Catch-bsuite", "--sampler.num-trajectories", "4", "--network.hidden-sizes", "4"]
ROWS = (
    *("trace to a jaxpr", "lower to StableHLO", "compile by XLA", "one update"),
    *("environment steps", "compiled program", "arguments", "outputs", "temporaries", "peak"),
)


def test_the_command_prints_a_table_and_writes_a_trace(tmp_path, capsys):
    folder = tmp_path / "profile"
    assert main(["train", *FLAGS, "--profile", str(folder)]) == 0
    out = capsys.readouterr().out
    rows = dict(re.findall(r"^  (\S.*?)  +(\S.*)$", out, re.MULTILINE))
    assert [*rows] == [*ROWS, "trace of an update"]
    assert rows["trace of an update"] == str(folder)
    for name in ROWS[:3]:
        assert re.fullmatch(r"\d+\.\d\d s", rows[name])
    assert re.fullmatch(r"[\d,]+ per second", rows["environment steps"])
    for name in ("arguments", "temporaries", "peak"):
        assert re.fullmatch(r"\S+ (B|KiB|MiB)", rows[name])
    files = [path.name for path in folder.rglob("*") if path.is_file()]
    assert "perfetto_trace.json.gz" in files
    assert any(name.endswith(".xplane.pb") for name in files)
    # Nothing was trained.
    assert [path.name for path in tmp_path.iterdir()] == ["profile"]


def test_a_folder_that_cannot_be_written_is_one_line_before_compilation(tmp_path, capsys):
    (tmp_path / "file").touch()
    for folder in ("file", "file/inside"):
        assert main(["train", *FLAGS, "--profile", str(tmp_path / folder)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(r"a profile cannot be written to .* \(.*\): give another folder$", line)


def test_without_a_profiler_there_is_the_table_and_one_line(tmp_path, monkeypatch):
    def start_trace(*args, **options):
        raise RuntimeError("no profiler here\nand a second line")

    monkeypatch.setattr(jax.profiler, "start_trace", start_trace)
    config = pgjax.reinforce("Catch-bsuite", network=pgjax.MLP((4,)), optimizer=pgjax.SGD())
    config = config.replace(**{"sampler.num_trajectories": 4})
    profile = pgjax.profile(config, tmp_path / "profile")
    assert (profile.directory, profile.problem) == (None, "no profiler here")
    last = profile.rows()["trace of an update"]
    assert last == "none: JAX's profiler is not available here (no profiler here)"
    # Four episodes of 9 steps; the median of three times is at most half of their sum.
    assert 0 < profile.steps_per_second * profile.update_seconds <= 3 * 4 * 9 / 2
    known = (profile.argument_bytes, profile.output_bytes, profile.temporary_bytes)
    assert all(size is not None and size > 0 for size in known)
    assert profile.peak_bytes is not None
    assert profile.peak_bytes <= sum(size for size in (*known, profile.program_bytes) if size)


def test_what_cannot_be_is_refused(tmp_path):
    config = pgjax.reinforce("Catch-bsuite")
    with pytest.raises(TypeError, match="seed must be an integer"):
        pgjax.profile(config, seed=1.5)
    with pytest.raises(ValueError, match=r"a multiple of the .* devices"):
        pgjax.profile(config.replace(**{"sampler.num_trajectories": 3}), mesh=pgjax.make_mesh(2))
    assert not list(tmp_path.iterdir())
