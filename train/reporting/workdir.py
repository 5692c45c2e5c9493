"""The directory of a run: its config, and checks that no other run uses it.

A workdir belongs to one run with one config, which is stored in config.json.
"""

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train.reporting.config_file import (
    CONFIG_FILE,
    differing_fields,
    flatten_fields,
    read_fields,
)
from train.runtime.distributed import gather_from_processes, is_primary_process
from train.runtime.writing import write_atomically

__all__ = [
    "LOCK_FILE",
    "METRICS_FILE",
    "PER_PROCESS_FIELDS",
    "SHARED_FILE",
    "SUMMARY_FILE",
    "check_same_config",
    "check_shared",
    "claim_workdir",
    "lock_workdir",
]

METRICS_FILE = "metrics.jsonl"
"""All logged metrics, one JSON object per line."""

SUMMARY_FILE = "summary.json"
"""The final metrics. A run that has this file is finished."""

LOCK_FILE = "lock"
"""An empty file that the process in this workdir locks."""

SHARED_FILE = ".shared"
"""A temporary file with which the processes of a run find out if they share the workdir."""

PER_PROCESS_FIELDS = frozenset({"data_dir", "data_workers", "data_timeout_seconds"})
"""Config fields that may differ between the processes of a run."""

_RUN_FILES = (
    "checkpoints",
    "tensorboard",
    METRICS_FILE,
    SUMMARY_FILE,
    "curves.png",
    "confusion.png",
    "predictions.png",
)
"""Files and directories that a run writes.

Without config.json their config is unknown. Files with other names are ignored.
"""


def claim_workdir(workdir: str | os.PathLike[str], config: ConfigDict) -> bool:
    """Create a workdir for a config, or check that it belongs to this config.

    The fields in `RESUMABLE_FIELDS` are not compared, and config.json is never changed. Any number
    of processes may claim the same workdir at the same time.

    Args:
        workdir: Directory of the run.
        config: The config.

    Returns:
        True if the workdir already had this config, False if it was created.

    Raises:
        ValueError: If the workdir belongs to another config, its config.json is not readable, it
            has files of a run but no config.json, or it is not a directory. For another config, the
            message lists all fields that differ. Nothing is written.
    """
    if "://" in os.fspath(workdir):
        raise ValueError(
            f"workdir {os.fspath(workdir)!r} is a URL; expected a directory. Use one on a file "
            f"system that all machines of the run share, and copy it to the bucket afterwards."
        )
    path = Path(workdir)
    if path.exists() and not path.is_dir():
        raise ValueError(f"workdir {path} is a file; expected a directory. Use another --workdir.")
    path.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"

    # List the files before the check for config.json: another process that claims the same workdir
    # at the same time writes config.json before the other files.
    found = [name for name in _RUN_FILES if (path / name).exists()]
    if (path / CONFIG_FILE).exists():
        _check_same(path, read_fields(path / CONFIG_FILE), config.to_dict())
        return True
    if found:
        raise ValueError(
            f"workdir {path} has no {CONFIG_FILE} but has {', '.join(found)} of a run with an "
            f"unknown config, so that run cannot be resumed or overwritten. Use another --workdir, "
            f"or move these files away."
        )
    write_atomically(path / CONFIG_FILE, text)
    return False


def check_same_config(config: ConfigDict) -> None:
    """Check that all processes of a run have the same config. All of them call this function.

    Args:
        config: The config.

    Raises:
        ValueError: If the configs differ in fields outside `PER_PROCESS_FIELDS`. The message lists
            the fields and the value of each process.
    """
    configs = [flatten_fields(fields) for fields in gather_from_processes(config.to_dict())]
    lines = [
        f"  {name}: {', '.join(json.dumps(fields.get(name)) for fields in configs)}"
        for name in sorted(set().union(*configs))
        if name not in PER_PROCESS_FIELDS
        and any(fields.get(name) != configs[0].get(name) for fields in configs)
    ]
    if lines:
        raise ValueError(
            "expected the same config for all processes of a run, got different ones by process:\n"
            + "\n".join(lines)
            + "\nStart all processes with the same flags."
        )


def check_shared(workdir: str | os.PathLike[str]) -> None:
    """Check that all processes of a run share a workdir. All of them call this function.

    Args:
        workdir: Directory of the run.

    Raises:
        ValueError: If a process does not see a file that the primary process has written.
    """
    path = Path(workdir) / SHARED_FILE
    (token, *_) = gather_from_processes(uuid.uuid4().hex)
    if is_primary_process():
        write_atomically(path, token)
    gather_from_processes(None)  # wait until it is written
    seen = gather_from_processes(path.exists() and path.read_text() == token)
    if not all(seen):
        missing = [str(index) for index, sees in enumerate(seen) if not sees]
        raise ValueError(
            f"workdir {workdir} is not the same directory for all processes: "
            f"{', '.join(missing)} cannot see the files of process 0. Use one on a file system "
            f"that all machines share, such as NFS."
        )
    gather_from_processes(None)  # wait until all processes have read it
    if is_primary_process():
        path.unlink()


@contextlib.contextmanager
def lock_workdir(workdir: str | os.PathLike[str]) -> Iterator[None]:
    """Lock a workdir against other runs.

    The system releases the lock when this process ends, even after a kill.

    Args:
        workdir: Directory of the run.

    Raises:
        ValueError: If another process of this machine has locked it.
    """
    with open(Path(workdir) / LOCK_FILE, "a") as file:
        # The processes of a run share the workdir, so only one of them can lock it.
        if is_primary_process():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(
                    f"workdir {workdir} is in use: another process is training in it. Wait until "
                    f"it ends, or use another --workdir."
                ) from error
        yield


def _check_same(path: Path, stored: dict[str, Any], current: dict[str, Any]) -> None:
    """Raise `ValueError` with all fields in which the two configs differ, if they do."""
    lines = differing_fields(stored, current)
    if lines:
        raise ValueError(
            f"workdir {path} belongs to a run with a different config:\n"
            + "\n".join(lines.values())
            + "\nUse another --workdir, or set these fields to the values of the workdir. To train "
            "this run for longer from its last checkpoint, with another learning rate or "
            "augmentation too, add --extend to `python -m train`. If one side has no such field, "
            "another version of this program started the run: use that version, or another "
            "--workdir."
        )
