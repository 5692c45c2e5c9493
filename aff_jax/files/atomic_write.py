"""Write a file so that it is there whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

__all__ = ["atomic_file"]


@contextlib.contextmanager
def atomic_file(path: str | PathLike[str], overwrite: bool) -> Iterator[Path]:
    """An empty file beside `path` that takes its place in the end, or disappears on an error."""
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists already; name another, or overwrite it with intent")
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    partial.touch(exist_ok=False)
    try:
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors makes files that nobody else may read
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
