"""The config of a run as config.json: read it, and compare it with another one."""

import json
import os
from pathlib import Path
from typing import Any

from flax import traverse_util
from ml_collections import ConfigDict

__all__ = [
    "CONFIG_FILE",
    "RESUMABLE_FIELDS",
    "differing_fields",
    "flatten_fields",
    "read_config",
    "read_fields",
]

CONFIG_FILE = "config.json"
"""The config of the run."""

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
"""Config fields that do not change what a run computes. A run may resume with other values."""


def read_config(workdir: str | os.PathLike[str]) -> ConfigDict:
    """Read the config of a run.

    Args:
        workdir: Directory of the run.

    Returns:
        The config, with tuples where config.json has lists.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If its config.json is not readable.
    """
    path = Path(workdir) / CONFIG_FILE
    if not path.exists():
        raise FileNotFoundError(
            f"expected the --workdir of a run, which has a {CONFIG_FILE}; found no {path}."
        )
    return ConfigDict(_with_tuples(read_fields(path)))


def _with_tuples(value: Any) -> Any:
    """Convert lists to tuples: JSON stores the tuples of a config as lists."""
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def read_fields(path: Path) -> dict[str, Any]:
    """Read a config.json.

    Args:
        path: The file.

    Returns:
        The values of the fields.

    Raises:
        ValueError: If it is not a JSON object.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not text
        raise ValueError(
            f"{path} is not readable JSON ({error}), so the config of this workdir is unknown. "
            f"Probably the file was truncated or edited. Fix it, or use another --workdir."
        ) from error
    if not isinstance(stored, dict):
        raise ValueError(
            f"{path} has a {type(stored).__name__}; expected an object with the fields of a "
            f"config. Fix the file, or use another --workdir."
        )
    return stored


def differing_fields(stored: dict[str, Any], current: dict[str, Any]) -> dict[str, str]:
    """Return the fields in which two configs differ, with a line that has both values.

    The fields in `RESUMABLE_FIELDS` are left out.

    Args:
        stored: Fields of the config in the workdir.
        current: Fields of the config of this start.

    Returns:
        Lines for an error message by field, such as `optimizer` or `model_fields.width`.
    """
    # JSON has lists for tuples.
    before, now = (flatten_fields(json.loads(json.dumps(fields))) for fields in (stored, current))
    lines = {}
    for name in sorted(before.keys() | now.keys()):
        if name in RESUMABLE_FIELDS or (
            name in before and name in now and before[name] == now[name]
        ):
            continue
        there, here = (
            json.dumps(fields[name]) if name in fields else "(no such field)"
            for fields in (before, now)
        )
        lines[name] = f"  {name}: {there} in the workdir, {here} now"
    return lines


def flatten_fields(config: dict[str, Any]) -> dict[str, Any]:
    """Flatten a config to dotted names, as in flags. An empty dict is a value.

    Args:
        config: The fields.

    Returns:
        Values by name, such as `model_fields.width`.
    """
    flat: dict[str, Any] = traverse_util.flatten_dict(
        config, is_leaf=lambda _, value: not value, sep="."
    )
    return flat
