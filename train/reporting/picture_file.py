"""Draw pictures without risking the numbers of a run."""

import contextlib
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from aff_jax.files.atomic_write import atomic_file

__all__ = ["picture_file"]


@contextlib.contextmanager
def picture_file(path: Path, log: Callable[[str], object]) -> Iterator[Path]:
    """Create a temporary file for a picture, and move it to `path` at the end of the context.

    An error in the body is logged and not raised, because no picture is worth the results of a run.
    Import `train.reporting.plots` in the body: the settings of matplotlib can be wrong too. After
    an error `path` is as it was.

    Args:
        path: Path of the picture.
        log: Called with a message if there is an error.

    Yields:
        Path of the temporary file.
    """
    try:
        with atomic_file(path, overwrite=True) as partial:
            yield partial
    except Exception as error:  # any error of matplotlib, of a font or of the disk
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        log(
            f"Could not draw {path}: {reason}. All numbers are saved. To draw it again, fix the "
            f"error and start the same command."
        )
