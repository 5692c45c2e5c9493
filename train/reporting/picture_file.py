"""Draw pictures without risking the numbers of a run."""

import textwrap
from collections.abc import Callable
from pathlib import Path

from aff_jax.files.atomic_write import atomic_file

__all__ = ["write_picture"]


def write_picture(path: Path, draw: Callable[[Path], object], log: Callable[[str], object]) -> None:
    """Write the file of a picture, or log why that failed.

    An error is not raised, because no picture is worth the results of a run. Import
    `train.reporting.plots` in `draw`: the settings of matplotlib can be wrong too. After an error
    `path` is as it was.

    Args:
        path: Path of the picture.
        draw: Draws the picture and saves it in the given file.
        log: Called with a message if there is an error.
    """
    try:
        with atomic_file(path, overwrite=True) as partial:
            draw(partial)
    except Exception as error:  # any error of matplotlib, of a font or of the disk
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        log(
            f"Could not draw {path}: {reason}. All numbers are saved. To draw it again, fix the "
            f"error and start the same command."
        )
