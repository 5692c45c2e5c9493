"""Files of a run: written whole or not at all, with an error that says how much room there is."""

import shutil
from pathlib import Path

from aff_jax.files.atomic_write import atomic_file

__all__ = ["not_written", "write_atomically"]


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path`, replacing what is there; at no moment is a part of it there.

    Raises:
        OSError: it could not be written; `path` is as before then.
    """
    try:
        with atomic_file(path, overwrite=True) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path: Path, error: OSError) -> OSError:
    """The error that says which file could not be written, and how much room there is."""
    return OSError(
        f"could not write {path}: {error.strerror or error}; "
        f"{shutil.disk_usage(path.parent).free:,} bytes are free there. Free some space, or put "
        f"right what else is wrong, and start again: the run goes on from its last checkpoint."
    )
