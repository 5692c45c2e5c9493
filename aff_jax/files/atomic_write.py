"""Write files atomically, with errors that name the file."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

__all__ = ["atomic_file", "check_target", "name_in_write_errors"]


@contextlib.contextmanager
def atomic_file(path: str | PathLike[str], overwrite: bool) -> Iterator[Path]:
    """Create a temporary file and move it to `path` at the end of the context.

    If the context raises an error, the temporary file is deleted and `path` is left as it was.

    Args:
        path: Path of the file to write.
        overwrite: Replace an existing file.

    Yields:
        Path of the temporary file, in the directory of `path`.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is False.
        FileNotFoundError: If its directory is missing.
        OSError: If the context cannot write the file. It has the name `path`.
    """
    path = Path(path)
    check_target(path, overwrite)
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    with name_in_write_errors(path):
        partial.touch(exist_ok=False)
    try:
        mode = partial.stat().st_mode
        with name_in_write_errors(path):
            yield partial
            partial.chmod(mode)  # safetensors creates files with mode 0600
            with open(partial, "rb") as written:
                os.fsync(written.fileno())
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_target(path: str | PathLike[str], overwrite: bool) -> None:
    """Check that a file can be written, before the work that makes its content.

    Args:
        path: Path of the file to write.
        overwrite: Whether the file may exist.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is False.
        FileNotFoundError: If its directory is missing.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: no directory {path.parent}. Create it first.")
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} already exists. Choose another path, or overwrite it: with "
            f"--overwrite on the command line, or overwrite=True in Python."
        )


@contextlib.contextmanager
def name_in_write_errors(path: str | PathLike[str]) -> Iterator[None]:
    """Name a file in errors that the system raises without one, such as that the disk is full.

    Args:
        path: The file that the context writes.

    Raises:
        OSError: If the context raises one. It has the same type and `path` as its file name.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
