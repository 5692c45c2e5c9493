"""Write the files of a run atomically, and report the free disk space in errors."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from aff_jax.files.atomic_write import atomic_file

__all__ = ["explain_write_errors", "write_atomically"]


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that has either its old or its new contents at any time.

    Args:
        path: The file. It is replaced if it exists.
        text: The new contents, written as UTF-8.

    Raises:
        OSError: If the file could not be written. `path` is unchanged.
    """
    with explain_write_errors(path), atomic_file(path, overwrite=True) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Add a path and the free disk space to the message of an `OSError` of the body.

    Args:
        path: File or directory that the body writes.

    Raises:
        OSError: If the body raises it.
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            f"could not write {path}: {error.strerror or error}; "
            f"{shutil.disk_usage(path.parent).free:,} bytes are free. Free some disk space, or fix "
            f"the error, and start the same command again: it resumes from the last checkpoint."
        ) from error
