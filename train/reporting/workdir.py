"""What a workdir belongs to: one run with one config, kept beside its results in config.json."""

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train.runtime.distributed import gather_from_processes, is_primary_process
from train.runtime.writing import write_atomically

__all__ = [
    "CONFIG_FILE",
    "RESUMABLE_FIELDS",
    "claim_workdir",
    "has_checkpoint",
    "lock_workdir",
    "read_config",
    "require_same_config",
    "require_shared",
]

CONFIG_FILE = "config.json"
"""Name of the file that says which config a workdir belongs to."""

LOCK_FILE = "lock"
SHARED_FILE = ".shared"

PER_PROCESS = frozenset({"data_dir", "data_workers", "data_timeout_seconds"})
"""Config fields that the processes of one run may set differently."""

RESUMABLE_FIELDS = frozenset(
    {
        "data_dir",
        "keep_checkpoints",
        "log_every_steps",
        "checkpoint_every_minutes",
        "data_timeout_seconds",
        "device_cache_mib",
        "data_workers",
        "max_skipped_steps",
    }
)
"""Config fields that change where a run reads, what it keeps or how often it tells, and never what
it computes: a run may go on with other values."""

# What a run leaves in its workdir. Found without config.json, these belong to a run that nobody can
# name any more; files with other names are none of our business.
_RUN_FILES = (
    "checkpoints",
    "tensorboard",
    "metrics.jsonl",
    "summary.json",
    "curves.png",
    "confusion.png",
    "predictions.png",
)


def claim_workdir(workdir: str | os.PathLike[str], config: Any) -> bool:
    """Make `workdir` this config's; True where an earlier start of the same run did so already.

    `config` is an `ml_collections.ConfigDict` or a mapping of JSON values. The fields named in
    `RESUMABLE_FIELDS` are not compared, and config.json stays as the first start wrote it.
    Any number of processes may claim the same workdir at the same time.

    Raises:
        ValueError: the workdir belongs to another config, all differing fields listed; or its
            config.json cannot be read; or it holds a run's files and no config.json; or it is no
            directory. Nothing is written then.
    """
    if "://" in os.fspath(workdir):
        raise ValueError(
            f"workdir {os.fspath(workdir)!r} is a URL; expected a directory. Give one on a disk, "
            f"which all machines of a run have to share, and copy it to the bucket afterwards."
        )
    path = Path(workdir)
    if path.exists() and not path.is_dir():
        raise ValueError(f"workdir {path} is a file; expected a directory. Give another --workdir.")
    path.mkdir(parents=True, exist_ok=True)
    # Through JSON and back, so that what is compared has been what is stored (tuples are lists).
    text = json.dumps(_as_dict(config), indent=2, sort_keys=True) + "\n"

    # Listed before config.json is looked for: another process that claims the same workdir at this
    # moment writes config.json first and its results after.
    found = [name for name in _RUN_FILES if (path / name).exists()]
    if (path / CONFIG_FILE).exists():
        _require_same(path, _read(path / CONFIG_FILE), json.loads(text))
        return True
    if found:
        raise ValueError(
            f"workdir {path} has no {CONFIG_FILE} but holds {', '.join(found)}: a run's results "
            f"whose config is lost, so they can be neither continued nor overwritten. Give another "
            f"--workdir, or move these away."
        )
    write_atomically(path / CONFIG_FILE, text)
    return False


def has_checkpoint(workdir: str | os.PathLike[str]) -> bool:
    """Whether a run was saved there."""
    return any(path.name.isdigit() for path in Path(workdir).glob("checkpoints/*"))


def require_same_config(config: Any) -> None:
    """Refuse processes of one run that were given different configs; all call it together.

    Raises:
        ValueError: lists the fields, `PER_PROCESS` excepted, and what each process has.
    """
    configs = [_flat(fields) for fields in gather_from_processes(_as_dict(config))]
    lines = [
        f"  {name}: {', '.join(json.dumps(fields.get(name)) for fields in configs)}"
        for name in sorted(set().union(*configs))
        if name not in PER_PROCESS and any(x.get(name) != configs[0].get(name) for x in configs)
    ]
    if lines:
        raise ValueError(
            "expected one config for all processes of a run, got others (by process):\n"
            + "\n".join(lines)
            + "\nStart all of them with the same flags."
        )


def require_shared(workdir: str | os.PathLike[str]) -> None:
    """Refuse a workdir that is not one directory for all processes; all call it together.

    Raises:
        ValueError: a process can't see what the first has written.
    """
    path = Path(workdir) / SHARED_FILE
    (token, *_) = gather_from_processes(uuid.uuid4().hex)
    if is_primary_process():
        write_atomically(path, token)
    gather_from_processes(None)  # until it is written
    seen = gather_from_processes(path.exists() and path.read_text() == token)
    if not all(seen):
        missing = [str(index) for index, sees in enumerate(seen) if not sees]
        raise ValueError(
            f"workdir {workdir} is not the same directory for all processes: "
            f"{', '.join(missing)} can't see what process 0 writes. Give one on a file system that "
            f"all machines share, such as NFS."
        )
    gather_from_processes(None)  # until all have looked
    if is_primary_process():
        path.unlink()


@contextlib.contextmanager
def lock_workdir(workdir: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other runs out of `workdir`; the lock goes with this process, however it ends.

    Raises `ValueError` where another process of this machine holds it.
    """
    with open(Path(workdir) / LOCK_FILE, "a") as file:
        # The processes of one run share their workdir: the first one locks it for all.
        if is_primary_process():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(
                    f"workdir {workdir} is in use: another process is training in it. Wait until "
                    f"it ends, or give another --workdir."
                ) from error
        yield


def read_config(workdir: str | os.PathLike[str]) -> ConfigDict:
    """The config of the run in `workdir`.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: its config.json cannot be read.
    """
    path = Path(workdir) / CONFIG_FILE
    if not path.exists():
        raise FileNotFoundError(
            f"expected the --workdir of a run, with a {CONFIG_FILE}; there is no {path}."
        )
    return ConfigDict(_with_tuples(_read(path)))


def _with_tuples(value: Any) -> Any:
    """JSON knows lists only; the fields of a network are tuples."""
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _as_dict(config: Any) -> dict[str, Any]:
    """The nested plain dict of a ConfigDict or mapping."""
    return config.to_dict() if hasattr(config, "to_dict") else dict(config)


def _read(path: Path) -> dict[str, Any]:
    """The config stored at `path`; `ValueError` where that is not a JSON object."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not even text
        raise ValueError(
            f"{path} is not readable JSON ({error}): it was cut short or edited by hand, so what "
            f"this workdir belongs to is unknown. Put the file right, or give another --workdir."
        ) from error
    if not isinstance(stored, dict):
        raise ValueError(
            f"{path} holds a {type(stored).__name__}; expected an object with the fields of a "
            f"config. Put the file right, or give another --workdir."
        )
    return stored


def _require_same(path: Path, stored: dict[str, Any], current: dict[str, Any]) -> None:
    """`ValueError` that lists every field in which the two configs differ."""
    before, now = _flat(stored), _flat(current)
    lines = []
    for name in sorted(before.keys() | now.keys()):
        if name in RESUMABLE_FIELDS or (
            name in before and name in now and before[name] == now[name]
        ):
            continue
        there, here = (
            json.dumps(fields[name]) if name in fields else "(no such field)"
            for fields in (before, now)
        )
        lines.append(f"  {name}: {there} in the workdir, {here} now")
    if lines:
        raise ValueError(
            f"workdir {path} belongs to a run with a different config:\n"
            + "\n".join(lines)
            + "\nGive another --workdir, or set these fields back to what the workdir has."
        )


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields under dotted names, as they are written on the command line."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
