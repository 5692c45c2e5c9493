"""Small files in the user's cache directory. What cannot be written is computed again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from aff_jax.files.atomic_write import atomic_file
from aff_jax.files.user_cache import user_cache

__all__ = ["cache_path", "read_cached", "write_cached"]


def cache_path(kind: str, folder: str | os.PathLike[str], suffix: str) -> Path:
    """Return the file in the cache directory that belongs to a folder of data.

    Args:
        kind: Folder in the cache directory.
        folder: Folder of the data.
        suffix: Suffix of the file.

    Returns:
        A path in `user_cache(kind)`.
    """
    name = hashlib.sha256(os.path.realpath(folder).encode()).hexdigest()[:24]
    return user_cache(kind) / f"{name}{suffix}"


def read_cached(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: The file.

    Returns:
        Its value, or None if it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_cached(path: Path, text: str) -> bool:
    """Write a file at once, so that another process never reads a part of it.

    Args:
        path: The file, in a folder that need not exist.
        text: The content.

    Returns:
        Whether it was written. A full disk, for example, is not an error.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, overwrite=True) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError:
        return False
    return True
