"""Start a run on several processes, and exchange values between them.

JAX does the work: each process sees all devices, and all processes end together. If a process dies
or hangs, JAX ends the others after a timeout, with SIGABRT and a message that names the process.
"""

import faulthandler
import glob
import importlib.util
import json
import multiprocessing
import os
import re
import sys
import threading
import traceback as traceback_module
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

__all__ = ["exit_immediately", "gather_from_processes", "initialize", "is_primary_process"]

_PROCESS_COUNTS = {
    "SLURM_STEP_NUM_TASKS": "Slurm",
    "OMPI_COMM_WORLD_SIZE": "Open MPI",
}
"""Environment variables with the number of processes that a launcher has started, and its name."""


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout_seconds: int = 100,
) -> bool:
    """Connect this process to the other processes of a run. Call this before JAX finds devices.

    The first three arguments are passed to `jax.distributed.initialize`. Without them JAX detects
    the values on Slurm, Open MPI and TPU. Elsewhere the run has one process, and no port is opened.

    If another process is missing after the timeout, this process prints an error and ends with
    status 1. JAX alone would abort the process, and has no option to change that.

    Args:
        coordinator_address: `HOST:PORT` of process 0.
        num_processes: Number of processes. 1 alone disables the detection.
        process_id: Index of this process, from 0.
        timeout_seconds: Seconds after which a process that does not connect, or later does not
            respond, ends the run.

    Returns:
        True if the run has several processes.

    Raises:
        ValueError: If an argument is missing or out of range.
        ConnectionError: If JAX could not start to connect.
    """
    arguments = {
        "coordinator_address": coordinator_address,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    if num_processes == 1 and coordinator_address is None and not process_id:
        return False
    if any(value is not None for value in arguments.values()):
        _check_arguments(arguments)
        where = f"at {coordinator_address}"
    elif launcher := _detect_launcher():
        where = f"through {launcher}"
    else:
        return False
    advice = (
        f"Start all {num_processes or ''} processes within that time. Give the address of process "
        f"0 that all of them can reach, and a port that is free there. Use --num_processes=1 for a "
        f"run with one process."
    )
    timeout_error = ConnectionError(
        f"could not connect to the other processes {where} within {timeout_seconds} s. {advice}"
    )
    timer = threading.Timer(timeout_seconds, exit_immediately, (timeout_error,))
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            **arguments,  # type: ignore[arg-type]
            initialization_timeout=2 * timeout_seconds + 10,  # the timer ends first
            heartbeat_timeout_seconds=timeout_seconds,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise ConnectionError(
            f"could not connect to the other processes {where}: {error}\n{advice}"
        ) from error
    finally:
        timer.cancel()
    # When another process is lost, JAX aborts this one with a message. Stack traces would hide it.
    faulthandler.disable()
    return jax.process_count() > 1


def _check_arguments(arguments: dict[str, Any]) -> None:
    """Raise `ValueError` if the arguments don't describe one of several processes."""
    missing = [f"--{name}" for name, value in arguments.items() if value is None]
    if missing:
        raise ValueError(
            f"expected --coordinator_address, --num_processes and --process_id together, or none "
            f"of them; {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing."
        )
    address, count, index = arguments.values()
    if not re.fullmatch(r".+:\d{1,5}", address):
        raise ValueError(
            f"expected --coordinator_address=HOST:PORT with the address of process 0 and a port "
            f"that is free there, as in 10.0.0.1:1234, got {address!r}."
        )
    if not 0 <= index < count:
        raise ValueError(
            f"expected --process_id in 0 .. {count - 1} for --num_processes={count}, got {index}."
        )


def _detect_launcher() -> str | None:
    """Return what may have started several processes, or None.

    JAX detects the addresses itself. This decides only whether to ask JAX: it would open a port for
    a Slurm step with one task too, and several such steps on one machine would use the same port.
    """
    for variable, name in _PROCESS_COUNTS.items():
        if int(os.environ.get(variable) or 1) > 1:
            return name
    chips = glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*")
    if chips and importlib.util.find_spec("libtpu"):
        return "TPU"  # JAX reads the number of machines from the metadata server
    return None


def is_primary_process() -> bool:
    """Return whether this is process 0, which prints and writes the files of the run."""
    return jax.process_index() == 0


def gather_from_processes(value: Any) -> list[Any]:
    """Gather a JSON value from each process, and wait for all processes.

    Args:
        value: The value of this process.

    Returns:
        The values of all processes, in the order of their indices.

    Raises:
        TypeError: If the value is not JSON.
        ConnectionError: If another process cannot be reached.
    """
    text = json.dumps(value).encode()
    if jax.process_count() == 1:
        return [json.loads(text)]
    try:
        longest = int(np.max(multihost_utils.process_allgather(np.asarray(len(text)))))
        padded = np.frombuffer(text.ljust(longest), np.uint8)  # JSON ignores trailing spaces
        rows = multihost_utils.process_allgather(padded)
    except (RuntimeError, ValueError) as error:  # the class depends on where the connection breaks
        raise ConnectionError(
            f"{error}\nProbably another process of the run has ended or cannot be reached: see its "
            f"messages. Start all processes again to resume from the last checkpoint."
        ) from error
    return [json.loads(row.tobytes()) for row in rows]


def exit_immediately(error: Exception, traceback: bool = False) -> NoReturn:
    """Print an error and end this process without waiting for threads or other processes.

    A normal exit would wait for threads that hang, and JAX would wait for the other processes,
    which wait for this one.

    Args:
        error: The error.
        traceback: Whether to print the stack trace too.
    """
    sys.stdout.flush()
    if traceback:
        traceback_module.print_exception(error)
    else:
        print(f"error: {error}", file=sys.stderr)
    sys.stderr.flush()
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(1)
