"""Several processes as one run: how they find each other, and what they tell each other.

JAX does the work: each process sees all devices, and they end together. A process that dies or
hangs ends the others after a timeout, with SIGABRT and a message of JAX's that names it.
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

# What tells a process that it is one of several, set by what started it.
_COUNTS = {
    "SLURM_STEP_NUM_TASKS": "Slurm",
    "OMPI_COMM_WORLD_SIZE": "Open MPI",
}


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout_seconds: int = 100,
) -> bool:
    """Make this process one of several; whether it is one. Call it before JAX looks for devices.

    The three arguments are those of `jax.distributed.initialize`. Without any, they are found
    out on Slurm, Open MPI and TPU; and anywhere else the process is alone, and nothing is opened.
    `num_processes=1` says that it is alone in any case.

    A process that is not there within `timeout_seconds`, or not heard of for so long later, is
    given up, and with it the run.

    Where the others are not there in time, this process ends with a message and status 1: JAX would
    abort it, and cannot be asked not to.

    Raises:
        ValueError: an argument is missing or impossible.
        ConnectionError: JAX could not begin to look for the others.
    """
    given = {
        "coordinator_address": coordinator_address,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    if num_processes == 1 and coordinator_address is None and not process_id:
        return False
    named = [name for name, value in given.items() if value is not None]
    if named:
        _check(given, named)
    elif not _cluster():
        return False
    where = f"at {coordinator_address}" if named else f"by way of {_cluster()}"
    advice = (
        f"Start all {num_processes or ''} processes within that time, with the address of process "
        f"0 as all of them can reach it, and a port that is free there. A process that is to be "
        f"alone takes --num_processes=1."
    )
    too_late = ConnectionError(
        f"could not join the other processes {where} within {timeout_seconds} s. {advice}"
    )
    timer = threading.Timer(timeout_seconds, exit_immediately, (too_late,))
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            **given,  # type: ignore[arg-type]
            initialization_timeout=2 * timeout_seconds + 10,  # the timer comes first
            heartbeat_timeout_seconds=timeout_seconds,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise ConnectionError(
            f"could not join the other processes {where}: {error}\n{advice}"
        ) from error
    finally:
        timer.cancel()
    # When another process is lost, JAX aborts this one and says why; that is enough to read.
    faulthandler.disable()
    return jax.process_count() > 1


def _check(given: dict[str, Any], named: list[str]) -> None:
    """`ValueError` where the three arguments don't make one of several processes."""
    missing = [f"--{name}" for name in given if name not in named]
    if missing:
        raise ValueError(
            f"expected --coordinator_address, --num_processes and --process_id together, or none "
            f"of them; {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing."
        )
    address, count, index = given.values()
    if not re.fullmatch(r".+:\d{1,5}", address):
        raise ValueError(
            f"expected --coordinator_address=HOST:PORT, where process 0 runs and a port that is "
            f"free there, as in 10.0.0.1:1234; got {address!r}."
        )
    if not 0 <= index < count:
        raise ValueError(
            f"expected --process_id in 0 .. {count - 1} for --num_processes={count}, got {index}."
        )


def _cluster() -> str | None:
    """What started several processes, of which this is one, as far as one can tell."""
    for variable, name in _COUNTS.items():
        if int(os.environ.get(variable) or 1) > 1:
            return name
    chips = glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*")
    if chips and importlib.util.find_spec("libtpu"):
        return "TPU"  # how many hosts a pod has, JAX asks the machine's metadata server
    return None


def is_primary_process() -> bool:
    """Whether this process speaks for the run: process 0."""
    return jax.process_index() == 0


def gather_from_processes(value: Any) -> list[Any]:
    """The JSON `value` of each process, in their order; waits for all of them to come here."""
    text = json.dumps(value).encode()
    if jax.process_count() == 1:
        return [json.loads(text)]
    longest = int(np.max(multihost_utils.process_allgather(np.asarray(len(text)))))
    padded = np.frombuffer(text.ljust(longest), np.uint8)  # JSON does not mind trailing spaces
    return [json.loads(row.tobytes()) for row in multihost_utils.process_allgather(padded)]


def exit_immediately(error: Exception, traceback: bool = False) -> NoReturn:
    """End this process with an error, without waiting for its threads or for other processes.

    At an ordinary end Python waits for threads, also for those that hang, and JAX for the other
    processes, which wait for this one.
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
