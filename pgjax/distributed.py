"""Several processes as one: JAX's own runtime, with errors that say what to look at."""

import os
import socket
import time

import jax
import numpy as np

_HEARTBEAT_SECONDS = 20
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
    """
    given = (coordinator, num_processes, process_id)
    if any(value is None for value in given) and any(value is not None for value in given):
        raise ValueError("give all of coordinator, num_processes and process_id, or none of them")
    if coordinator is not None:
        _check(coordinator, num_processes, process_id)
        if process_id:
            _wait_for(coordinator, timeout)
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
    if num_processes < 1 or not 0 <= process_id < num_processes:
        raise ValueError(
            f"process_id must be from 0 to num_processes - 1, got {process_id} of {num_processes}"
        )


def _wait_for(coordinator: str, timeout: int) -> None:
    # JAX's own client ends the whole process, and not in words, when nobody answers.
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"no coordinator at {coordinator} after {timeout} s ({error}); is process 0 "
                    "running, and that address reachable from here?"
                ) from None
            time.sleep(0.2)
