"""Several processes as one: JAX's own runtime, with errors that say what to look at."""

import contextlib
import os
import socket
import time

import jax
import numpy as np

from pgjax.core.components import check_int

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
    """Joins this process to the others; before anything else uses JAX.

    Without arguments, what SLURM, Open MPI, Kubernetes or a TPU slice says is used.

    Args:
      coordinator: "host:port" of process 0, reachable from all; all three or none must be given.
      num_processes, process_id: how many there are, and which this is, from 0.
      timeout: seconds to wait for the others.

    Raises:
      ValueError: arguments that do not make sense, or none and nothing to detect them from.
      TimeoutError: the coordinator, or some process, was not there in time.
      ConnectionError: its port is in use, two processes have one id, or they count differently.
    """
    given = (coordinator, num_processes, process_id)
    if any(value is None for value in given) and any(value is not None for value in given):
        raise ValueError("give all of coordinator, num_processes and process_id, or none of them")
    if coordinator is not None and num_processes is not None and process_id is not None:
        _check(coordinator, num_processes, process_id)
        _roll_call(coordinator, num_processes, process_id, timeout)
    try:
        jax.distributed.initialize(
            *given,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except ValueError as error:
        raise ValueError(
            "no SLURM, Open MPI, Kubernetes or TPU job detected; give the coordinator's host:port, "
            f"the number of processes and this one's id ({error})"
        ) from None
    except jax.errors.JaxRuntimeError as error:
        where = coordinator or "the coordinator"
        raise TimeoutError(
            f"not all processes had joined {where} after {timeout} s: {str(error).splitlines()[0]}"
        ) from None


def agreed(number: int) -> int:
    """Process 0's number, in every process."""
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
    # JAX raises some of its runtime's failures as ValueError, with the status for a beginning.
    of_runtime = isinstance(error, jax.errors.JaxRuntimeError)
    return is_running() and (of_runtime or str(error).startswith(_STATUSES))


def lost() -> str:
    """What to say when a collective operation fails."""
    who = f"process {jax.process_index()} of {jax.process_count()}"
    return f"{who} stops: another one failed or cannot be reached"


def leave(code: int) -> None:
    """Ends this process at once if it has joined others: an orderly exit would wait for them."""
    if is_running():
        os._exit(code)


def _check(coordinator: str, num_processes: int, process_id: int) -> None:
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 2**16):
        raise ValueError(f"coordinator must be host:port, got {coordinator!r}")
    check_int("num_processes", num_processes, 1, _MOST_PROCESSES)
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"process_id must be from 0 to num_processes - 1, got {process_id} of {num_processes}"
        )


def _roll_call(coordinator: str, num_processes: int, process_id: int, timeout: int) -> None:
    """Returns, in all processes, once all of them have met at the coordinator's port.

    JAX's own meeting ends a process by a fatal log when another does not come, and does not notice
    that they count differently. So they meet before, each with "ID NUMBER", its id and how many it
    counts; process 0 answers all of them alike, with "go" or what is wrong.
    """
    deadline = time.monotonic() + timeout
    if process_id == 0:
        _call(coordinator, num_processes, deadline, timeout)
        return
    with _connected(coordinator, deadline, timeout) as link:
        link.sendall(f"{process_id} {num_processes}\n".encode())
        answer = _line(link, timeout + _GRACE_SECONDS)
    if answer.startswith("late "):
        raise TimeoutError(answer.removeprefix("late "))
    if answer != "go":
        raise ConnectionError(
            answer.removeprefix("no ")
            if answer.startswith("no ")
            else f"process 0 at {coordinator} does not wait for process {process_id} of "
            f"{num_processes}: were all started with the same --num-processes, and only once?"
        )


def _call(coordinator: str, num_processes: int, deadline: float, timeout: int) -> None:
    """Process 0's part: hears who comes, answers when all are there or something is wrong."""
    links = {}
    try:
        with _listening(coordinator) as server:
            while len(links) < num_processes - 1:
                server.settimeout(max(0.01, deadline - time.monotonic()))
                _hear(server.accept()[0], links, num_processes)
        # The port is free again before anyone is told to go there.
        _answer(links, "go")
    except TimeoutError:
        missing = [str(i) for i in range(1, num_processes) if i not in links]
        shown = ", ".join(missing[:8]) + (", …" if len(missing) > 8 else "")
        late = (
            f"{len(missing)} of {num_processes} processes had not joined {coordinator} after "
            f"{timeout} s: missing id {shown}"
        )
        _answer(links, f"late {late}")
        raise TimeoutError(late) from None
    except ConnectionError as error:
        _answer(links, f"no {error}")
        raise


def _hear(link: socket.socket, links: dict[int, socket.socket], num_processes: int) -> None:
    """Adds a process that has come to the links, by its id; anybody else is sent away.

    Raises:
      ConnectionError: it counts another number of processes, or has the id of another.
    """
    words = _line(link, _GRACE_SECONDS).split()
    if len(words) != 2 or not all(word.isascii() and word.isdigit() for word in words):
        link.close()
        return
    process_id, counted = map(int, words)
    if counted != num_processes or process_id in links or process_id == 0:
        wrong = f"process 0 counts {num_processes} processes, process {process_id} counts {counted}"
        if counted == num_processes:
            wrong = f"two processes have the id {process_id} of {num_processes}"
        _answer({process_id: link}, f"no {wrong}")
        raise ConnectionError(wrong)
    links[process_id] = link


def _answer(links: dict[int, socket.socket], text: str) -> None:
    for link in links.values():
        with contextlib.suppress(OSError), link:
            link.sendall(f"{text}\n".encode())
            # The other side closes first: no connection lingers on the coordinator's port.
            link.settimeout(_GRACE_SECONDS)
            link.recv(1)


def _line(link: socket.socket, seconds: float) -> str:
    """The line that the other side sends in time; empty if none."""
    received, deadline = b"", time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while not received.endswith(b"\n") and len(received) < _LONGEST_LINE:
            link.settimeout(max(0.01, deadline - time.monotonic()))
            part = link.recv(_LONGEST_LINE)
            if not part:
                break
            received += part
    return received.decode(errors="replace").strip() if received.endswith(b"\n") else ""


def _listening(coordinator: str) -> socket.socket:
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


def _connected(coordinator: str, deadline: float, timeout: int) -> socket.socket:
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
