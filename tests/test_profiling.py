"""`profile`: its table, its trace, and what it says where there can be none."""

import re

import jax
import pytest

import pgjax
from pgjax.cli.main import main
from pgjax.runs.device_limits import Limits
from pgjax.runs.update_parts import UpdateParts

FLAGS = ["Catch-bsuite", "--sampler.num-trajectories", "4", "--network.hidden-sizes", "4"]
PARTS = (
    *("- rollout", "- critic's values", "- ascent", "- critic's fit", "- all else"),
    *("weights alone", "a gradient"),
)
ROWS = (
    *("trace to a jaxpr", "lower to StableHLO", "compile by XLA", "one update"),
    *(*PARTS, "environment steps", "large matrix product", "large copy"),
    *("compiled program", "arguments", "outputs", "temporaries", "peak"),
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
    for name in PARTS:
        assert re.fullmatch(r"\S+ ms, \d+ %", rows[name])
    assert rows["- critic's values"] == rows["- critic's fit"] == "0 ms, 0 %"  # there is none
    *_, first, second = re.sub(r"\n(?![ A-Z])", " ", out).strip().splitlines()
    assert re.match(r"The (rollout|ascent) takes \d+ % of an update; .* speed\.$", first)
    assert re.match(r"Twice the trajectories take .* to sample: 4 .*fill this device\.$", second)
    assert all(len(line) <= 80 for line in out.splitlines() if str(folder) not in line)
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


def parts(**changes):
    seconds = {"rollout": 0.02, "values": 0.0, "ascent": 0.03, "fit": 0.0}
    seconds |= {"weights": 0.001, "gradient": 0.01}
    return UpdateParts(**{**seconds, "num_steps": 1000, "operations": 2e4, **changes})


def profiled(twice, **changes):
    times = {"trace_seconds": 1.0, "lower_seconds": 1.0, "compile_seconds": 1.0}
    sizes = dict.fromkeys(["program", "argument", "output", "temporary", "peak"], None)
    return pgjax.Profile(
        **times,
        update_seconds=0.1,
        steps_per_second=1e4,
        width=64,
        parts=parts(**changes),
        limits=Limits(1e10, 1e9),
        twice_seconds=twice,
        **{f"{name}_bytes": size for name, size in sizes.items()},
    )


def test_the_sentences_follow_from_the_parts():
    first, second = profiled(twice=0.03).sentences()
    # Three forward passes of 1000 steps of 2e4 operations in 0.01 s, of 1e10 a second.
    speed = "a gradient runs at 60.0% of a matrix product's speed."
    assert first == f"The ascent takes 30 % of an update; {speed}"
    assert second == (
        "Twice the trajectories take 1.5 times as long to sample: 64 do not fill this device."
    )
    first, second = profiled(twice=0.1, rollout=0.05).sentences()
    speed = "its policy runs at 4.0% of a matrix product's speed."
    assert first == f"The rollout takes 50 % of an update; {speed}"
    assert "take 2.0 times as long to sample: 64 fill this device" in second
    assert profiled(None, values=0.04, fit=0.01).sentences() == (
        "The critic takes 50 % of an update.",
    )
    assert profiled(None, operations=0.0).sentences() == ("The ascent takes 30 % of an update.",)


def test_the_parts_and_the_rest_are_an_update():
    rows = profiled(None).rows()
    assert rows["one update"] == "100 ms"
    assert rows["- rollout"] == "20 ms, 20 %"
    assert rows["- all else"] == "50 ms, 50 %"
    assert profiled(None, ascent=0.2).rows()["- all else"] == "0 ms, 0 %"


@pytest.mark.parametrize(
    "config",
    [
        pgjax.ppo("CartPole-v1", critic=pgjax.SharedCritic()),
        pgjax.actor_critic("Catch-bsuite", network=pgjax.Recurrent(pgjax.MLP((4,)), 4)),
        pgjax.natural_policy_gradient("Catch-bsuite"),
    ],
    ids=["shared critic", "recurrent actor-critic", "natural gradient"],
)
def test_every_algorithm_has_its_parts(config):
    small = {"sampler.num_envs": 4, "sampler.length": 8}
    profile = pgjax.profile(config.replace(**small))
    found = profile.parts
    times = found.rollout, found.values, found.ascent, found.weights, found.gradient
    assert all(0 < seconds < 1 for seconds in times)
    assert 16 < found.num_steps <= 32
    assert found.operations > 0
    assert profile.limits.operations > 1e8
    assert profile.limits.copied_bytes > 1e7
    assert profile.twice_seconds is not None
    assert len(profile.sentences()) == 2


@pytest.mark.devices(2)
def test_on_two_devices():
    config = pgjax.reinforce("Catch-bsuite").replace(**{"sampler.num_trajectories": 4})
    profile = pgjax.profile(config, mesh=pgjax.make_mesh(2))
    assert profile.parts.num_steps == 4 * 9
    assert profile.width == 4


def test_an_environment_on_the_host_is_not_doubled():
    config = pgjax.ppo("gymnasium/CartPole-v1").replace(
        **{"sampler.num_envs": 4, "sampler.length": 8}
    )
    profile = pgjax.profile(config)
    assert profile.twice_seconds is None
    assert 16 < profile.parts.num_steps <= 32
    assert len(profile.sentences()) == 1
