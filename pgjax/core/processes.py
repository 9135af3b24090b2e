"""Joins several processes by JAX's own runtime, with errors that say what to look at."""

import contextlib
import os
import socket
import time

import jax
import numpy as np

from pgjax.core.components import check_int
from pgjax.core.names import shown

_HEARTBEAT_SECONDS = 20
_MOST_PROCESSES = 2**20
_MOST_WAITING = 1024
_GRACE_SECONDS = 5
_LONGEST_LINE = 1000
_STATUSES = (
    "UNKNOWN:",
    "INTERNAL:",
    "UNAVAILABLE:",
    "ABORTED:",
    "CANCELLED:",
    "DEADLINE_EXCEEDED:",
)


def start(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout: int = 60,
) -> None:
    """Joins this process to the others; call it before anything else uses JAX.

    Without arguments, SLURM, Open MPI, Kubernetes or a TPU slice decides them.

    Args:
      coordinator: "host:port" of process 0, reachable from all; all three or none must be given.
      num_processes: the number of processes.
      process_id: this process's number, from 0.
      timeout: seconds to wait for the others.

    Raises:
      ValueError: arguments that do not make sense, or none, and no job to detect them from.
      TimeoutError: the coordinator, or some process, did not come in time.
      ConnectionError: its port is in use, two processes have the same id, or `num_processes`
        differs between processes.
    """
    arguments = (coordinator, num_processes, process_id)
    if any(value is None for value in arguments) and any(value is not None for value in arguments):
        raise ValueError("give all of coordinator, num_processes and process_id, or none of them")
    if coordinator is not None and num_processes is not None and process_id is not None:
        _check(coordinator, num_processes, process_id)
        _roll_call(coordinator, num_processes, process_id, timeout)
    try:
        jax.distributed.initialize(
            *arguments,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except ValueError as error:
        raise ValueError(
            "no SLURM, Open MPI, Kubernetes or TPU job detected; give the coordinator's host:port, "
            f"the number of processes and this one's id ({error})"
        ) from None
    except jax.errors.JaxRuntimeError as error:
        address, reason = coordinator or "the coordinator", str(error).splitlines()[0]
        raise TimeoutError(
            f"not all processes had joined {address} after {timeout} s: {reason}"
        ) from None


def broadcast(number: int) -> int:
    """Sends process 0's number to every process, which gets it as the result; all must call it."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def is_first() -> bool:
    """Whether this process prints and writes."""
    return jax.process_index() == 0


def is_running() -> bool:
    """Whether this process has joined others."""
    return jax.distributed.is_initialized()


def is_loss(error: Exception) -> bool:
    """Whether an error says that a collective operation failed, so that others may be gone."""
    # JAX raises some of its runtime's failures as a ValueError that begins with the status.
    from_runtime = isinstance(error, jax.errors.JaxRuntimeError)
    return is_running() and (from_runtime or str(error).startswith(_STATUSES))


def loss_message() -> str:
    """The message for a collective operation that failed."""
    process = f"process {jax.process_index()} of {jax.process_count()}"
    return f"{process} stops: another one failed or cannot be reached"


def leave(code: int) -> None:
    """Ends this process at once if it has joined others: an orderly exit would wait for them."""
    if is_running():
        os._exit(code)


def _check(coordinator: str, num_processes: int, process_id: int) -> None:
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 2**16):
        raise ValueError(f"coordinator must be host:port, got {shown(coordinator)}")
    check_int("num_processes", num_processes, 1, _MOST_PROCESSES)
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"process_id must be from 0 to num_processes - 1, got {process_id} of {num_processes}"
        )


def _roll_call(coordinator: str, num_processes: int, process_id: int, timeout: int) -> None:
    """Returns, in all processes, once all of them have met at the coordinator's port.

    JAX's own meeting ends a process by a fatal log when another does not come, and does not notice
    different numbers of processes. So they meet before: each sends "ID NUMBER", its id and its
    number of processes; process 0 gives all of them the same answer, "go" or the error.
    """
    deadline = time.monotonic() + timeout
    if process_id == 0:
        _await_others(coordinator, num_processes, deadline, timeout)
        return
    with _connect(coordinator, deadline, timeout) as link:
        link.sendall(f"{process_id} {num_processes}\n".encode())
        answer = _read_line(link, timeout + _GRACE_SECONDS)
    if answer.startswith("late "):
        raise TimeoutError(answer.removeprefix("late "))
    if answer != "go":
        raise ConnectionError(
            answer.removeprefix("no ")
            if answer.startswith("no ")
            else f"process 0 at {coordinator} does not wait for process {process_id} of "
            f"{num_processes}: were all started with the same --num-processes, and only once?"
        )


def _await_others(coordinator: str, num_processes: int, deadline: float, timeout: int) -> None:
    """Process 0's part: collects the others, and answers once all have come or an error occurs."""
    links = {}
    try:
        with _listen(coordinator) as server:
            while len(links) < num_processes - 1:
                server.settimeout(max(0.01, deadline - time.monotonic()))
                _add_process(server.accept()[0], links, num_processes)
        # The port is free again before "go" sends the others there.
        _answer(links, "go")
    except TimeoutError:
        missing = [str(i) for i in range(1, num_processes) if i not in links]
        shown = ", ".join(missing[:8]) + (", …" if len(missing) > 8 else "")
        message = (
            f"{len(missing)} of {num_processes} processes had not joined {coordinator} after "
            f"{timeout} s: missing id {shown}"
        )
        _answer(links, f"late {message}")
        raise TimeoutError(message) from None
    except ConnectionError as error:
        _answer(links, f"no {error}")
        raise


def _add_process(link: socket.socket, links: dict[int, socket.socket], num_processes: int) -> None:
    """Adds a process that connected to the links, by its id; closes any other connection.

    Raises:
      ConnectionError: it has another number of processes, or an id that is in use.
    """
    words = _read_line(link, _GRACE_SECONDS).split()
    if len(words) != 2 or not all(word.isascii() and word.isdigit() for word in words):
        link.close()
        return
    process_id, counted = map(int, words)
    if counted != num_processes or process_id in links or process_id == 0:
        error = f"process 0 counts {num_processes} processes, process {process_id} counts {counted}"
        if counted == num_processes:
            error = f"two processes have the id {process_id} of {num_processes}"
        _answer({process_id: link}, f"no {error}")
        raise ConnectionError(error)
    links[process_id] = link


def _answer(links: dict[int, socket.socket], text: str) -> None:
    for link in links.values():
        with contextlib.suppress(OSError), link:
            link.sendall(f"{text}\n".encode())
            # The other side closes first: no connection lingers on the coordinator's port.
            link.settimeout(_GRACE_SECONDS)
            link.recv(1)


def _read_line(link: socket.socket, seconds: float) -> str:
    """The line that the other side sends within so many seconds; empty if it sends none."""
    received, deadline = b"", time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while not received.endswith(b"\n") and len(received) < _LONGEST_LINE:
            link.settimeout(max(0.01, deadline - time.monotonic()))
            part = link.recv(_LONGEST_LINE)
            if not part:
                break
            received += part
    return received.decode(errors="replace").strip() if received.endswith(b"\n") else ""


def _listen(coordinator: str) -> socket.socket:
    port = int(coordinator.rpartition(":")[2])
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_MOST_WAITING
            )
        return socket.create_server(("", port), backlog=_MOST_WAITING)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConnectionError(
            f"process 0 cannot listen at {coordinator} ({reason}); give all processes another port"
        ) from None


def _connect(coordinator: str, deadline: float, timeout: int) -> socket.socket:
    host, _, port = coordinator.rpartition(":")
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=_GRACE_SECONDS)
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"no coordinator at {coordinator} after {timeout} s ({error}); is process 0 "
                    "running, and that address reachable from here?"
                ) from None
            time.sleep(0.2)
