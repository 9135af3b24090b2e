"""Several processes: two real ones on the loopback address."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pgjax
from pgjax.cli.main import main
from pgjax.core import processes

TRAIN = [sys.executable, "-u", "-m", "pgjax.cli", "train", "CartPole-v1"]
SETTINGS = ["--num-updates", "4", "--sampler.num-trajectories", "8", "--eval-episodes", "8"]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(process_id, port, folder, *options, settings=SETTINGS):
    where = ["--distributed", "--coordinator", f"127.0.0.1:{port}", "--num-processes", "2"]
    command = [*TRAIN, *settings, *where, "--process-id", str(process_id), *options]
    return subprocess.Popen(
        [*command, "--directory", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # The test run's own number of virtual devices is not the processes'.
        env={name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
    )


def rows(folder):
    """The metrics of each update, without the seconds."""
    columns = (0, *range(2, 9))
    return np.genfromtxt(folder / "metrics.csv", delimiter=",", skip_header=1, usecols=columns)


def test_two_processes_give_what_one_gives(tmp_path):
    port = free_port()
    several = [start(i, port, tmp_path / "two") for i in (0, 1)]
    outputs = [process.communicate(timeout=300) for process in several]
    assert [process.returncode for process in several] == [0, 0], outputs
    assert (
        main([*TRAIN[4:], *SETTINGS, "--devices", "1", "--directory", str(tmp_path / "one")]) == 0
    )
    np.testing.assert_allclose(rows(tmp_path / "two"), rows(tmp_path / "one"), rtol=1e-3, atol=1e-3)
    two, config = pgjax.load(tmp_path / "two")
    one, _ = pgjax.load(tmp_path / "one")
    assert config.env == "CartPole-v1"
    assert int(two.num_updates) == 4
    np.testing.assert_allclose(
        two.params["network"]["Dense_0"]["kernel"],
        one.params["network"]["Dense_0"]["kernel"],
        rtol=1e-2,
        atol=1e-4,
    )
    # Only the first one talks.
    assert "on 2 of 2 CPU devices" in outputs[0][0]
    assert re.sub(r"\[Gloo\].*\n", "", outputs[1][0]) == ""


def test_a_process_that_dies_ends_the_other_with_a_message(tmp_path):
    port, settings = free_port(), ["--num-updates", "1000000", "--eval-episodes", "8"]
    several = [start(i, port, tmp_path / "run", settings=settings) for i in (0, 1)]
    metrics, deadline = tmp_path / "run" / "metrics.csv", time.monotonic() + 120
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 2):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    several[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    _, error = several[0].communicate(timeout=60)
    several[1].communicate()
    assert time.monotonic() - killed < 45
    assert several[0].returncode not in (0, None)
    assert re.search("process 0 of 2 stops: another one failed|another task died", error), error
    assert json.loads((tmp_path / "run" / "config.json").read_text())


def test_a_coordinator_that_is_not_there(capsys):
    port = free_port()
    several = ["--distributed", "--num-processes", "2", "--process-id", "1", "--timeout", "1"]
    address = f"127.0.0.1:{port}"
    assert main(["train", "CartPole-v1", *several, "--coordinator", address]) == 3
    error = capsys.readouterr().err
    assert f"no coordinator at {address} after 1 s" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coordinator", "localhost:1"], "need --distributed"),
        (["--distributed", "--coordinator", "localhost:1"], "all of coordinator"),
        (
            [
                "--distributed",
                *["--coordinator", "here", "--num-processes", "2", "--process-id", "0"],
            ],
            "port",
        ),
        (
            [
                "--distributed",
                *["--coordinator", "h:1", "--num-processes", "2", "--process-id", "2"],
            ],
            "got 2 of 2",
        ),
        (["--distributed", "--timeout", "0"], "--timeout must be at least 1, got 0"),
        (["--devices", "0"], "at least 1"),
        (["--devices", "two"], "expected a whole number"),
        (["--devices", "9"], "9 devices asked for"),
        (["--devices", "7"], "multiple of the 7 devices, got 64; 63 or 70 would do"),
    ],
)
def test_bad_options_are_one_line(options, message, capsys):
    assert main(["train", "Catch-bsuite", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_nothing_to_detect():
    schedulers = ("SLURM_", "OMPI_", "KUBERNETES_")
    done = subprocess.run(
        [*TRAIN, "--distributed", "--timeout", "5"],
        env={k: v for k, v in os.environ.items() if not k.startswith(schedulers)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "no SLURM, Open MPI, Kubernetes or TPU job detected" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def meet(*members, timeout=5):
    """What each of the processes (id, number counted) gets from a roll call; None: all is well."""
    coordinator = f"127.0.0.1:{free_port()}"

    def one(process):
        process_id, counted = process
        try:
            return processes._roll_call(coordinator, counted, process_id, timeout)
        except (TimeoutError, ConnectionError) as error:
            return error

    with ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(one, members))


def test_processes_that_are_all_there_meet_in_any_order():
    assert meet((2, 3), (0, 3), (1, 3)) == [None] * 3


@pytest.mark.parametrize(
    ("members", "kind", "message"),
    [
        ([(0, 3), (1, 3)], TimeoutError, "1 of 3 processes had not joined .* missing id 2"),
        ([(0, 2), (1, 3)], ConnectionError, "process 0 counts 2 processes, process 1 counts 3"),
        ([(0, 3), (1, 2)], ConnectionError, "process 0 counts 3 processes, process 1 counts 2"),
        ([(0, 3), (1, 3), (1, 3)], ConnectionError, "two processes have the id 1 of 3"),
    ],
)
def test_every_process_is_told_who_is_missing_or_counts_differently(members, kind, message):
    for error in meet(*members, timeout=2):
        assert isinstance(error, kind)
        assert re.search(message, str(error))
        assert len(str(error).splitlines()) == 1


def test_a_port_in_use_and_a_service_that_answers_otherwise(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        several = ["--distributed", "--coordinator", address, "--num-processes", "2"]
        assert main(["train", "CartPole-v1", *several, "--process-id", "0"]) == 3
        error = capsys.readouterr().err
        assert re.search(f"cannot listen at {address} .*another port", error)
        assert len(error.splitlines()) == 1

        def refuse():
            with other.accept()[0] as link:
                link.sendall(b"HTTP/1.1 400 Bad Request\n")

        with ThreadPoolExecutor(1) as pool:
            pool.submit(refuse)
            with pytest.raises(ConnectionError, match="does not wait for process 1 of 2"):
                processes._roll_call(address, 2, 1, 2)


def test_a_stranger_at_the_port_is_sent_away():
    coordinator = f"127.0.0.1:{free_port()}"
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(processes._roll_call, coordinator, 2, 0, 5)
        with processes._connect(coordinator, time.monotonic() + 5, 5) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n")
            assert stranger.recv(1) == b""
        assert pool.submit(processes._roll_call, coordinator, 2, 1, 5).result() is None
        assert first.result() is None
