"""What makes things slow here is named, one line each, with what to do."""

import os
import sys
from types import SimpleNamespace

import jax
import pytest

from pgjax.cli import diagnosis


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """A machine of two cores on which nothing is slow."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    monkeypatch.setattr(diagnosis, "_has_nvidia", lambda: False)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")


@pytest.fixture
def flag(request):
    before = getattr(jax.config, request.param)
    jax.config.update(request.param, True)
    yield request.param
    jax.config.update(request.param, before)


def test_where_nothing_is_slow_it_says_nothing():
    assert list(diagnosis._problems()) == []


FLAGS = ("jax_disable_jit", "jax_debug_nans", "jax_enable_x64", "jax_log_compiles")


@pytest.mark.parametrize("flag", FLAGS, indirect=True)
def test_each_of_jaxs_flags_is_named(flag):
    (problem,) = diagnosis._problems()
    assert problem.startswith(f"{flag.upper()} is on: ")
    assert problem.endswith("; unset it")


@pytest.mark.parametrize(
    ("where", "name", "value", "expected"),
    [
        (diagnosis, "_has_nvidia", lambda: True, "an NVIDIA GPU is here but JAX has no plugin"),
        (os, "sched_getaffinity", lambda pid: {1}, "this process may use 1 of 2 cores"),
        (os, "getloadavg", lambda: (7.25, 1.0, 1.0), "the machine is busy: load 7.2 on 2 cores"),
        (sys, "gettrace", lambda: print, "a debugger or a coverage tool traces Python"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_each_trouble_of_the_machine_is_named(where, name, value, expected, monkeypatch):
    monkeypatch.setattr(where, name, value)
    (problem,) = diagnosis._problems()
    assert expected in problem


@pytest.mark.parametrize(("number", "expected"), [(None, "2 CPU devices"), (1, "1 of 2 CPU dev")])
def test_devices_in_words(number, expected, monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="cpu")] * 2)
    assert diagnosis.device_line(number).startswith(expected)


def test_an_accelerator_is_named_by_its_kind(monkeypatch):
    class Device:
        platform, device_kind = "gpu", "Some GPU"

    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    assert diagnosis.device_line() == "1 x Some GPU"


@pytest.mark.parametrize("slow", [True, False])
def test_the_report_ends_with_what_is_slow_or_that_nothing_is(slow, monkeypatch):
    monkeypatch.setattr(diagnosis, "_small_run", lambda: (1.5, 2e6))
    monkeypatch.setattr(diagnosis, "_has_nvidia", lambda: slow)
    lines = list(diagnosis.report())
    assert "CartPole-v1, 64 trajectories of up to 100 steps, 2x64 MLP: 2,000,000 steps/s" in lines
    assert "compiling that took 1.5 s; every other shape compiles anew" in lines
    assert lines[-1].startswith("slow: an NVIDIA GPU" if slow else "nothing found that makes it")
