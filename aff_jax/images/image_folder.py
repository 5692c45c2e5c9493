"""Find the image files in a folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_NAMED",
    "OTHER_IMAGE_SUFFIXES",
    "abbreviate",
    "check_links",
    "list_images",
]

IMAGE_SUFFIXES = (
    ".bmp",
    ".jfif",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
"""Suffixes of image files. Other files, and names that start with a dot, are ignored."""

OTHER_IMAGE_SUFFIXES = (".avif", ".gif", ".heic", ".heif", ".jp2", ".tga")
"""Suffixes of images that cameras and web pages have and that datasets do not accept."""

MAX_NAMED = 10
"""Error messages name at most this many files."""


def list_images(
    folder: Path,
    skip: Path | None = None,
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
    broken_links: bool = False,
) -> list[str]:
    """List the image files in a folder and its subfolders.

    Links are followed. Files with other suffixes are ignored with a warning.

    Args:
        folder: The folder.
        skip: A folder in it that is left out.
        suffixes: Suffixes of image files.
        broken_links: Whether to list links to nothing like images, which then cannot be read,
            whatever their suffix is.

    Returns:
        Paths in ascending order.

    Raises:
        OSError: If a folder may not be read, or a link without the suffix of an image leads to
            nothing and `broken_links` is False.
    """
    images: list[str] = []
    others: list[str] = []
    # A link to a parent folder would be followed forever.
    visited = set() if skip is None else {os.path.realpath(skip)}
    for place, folders, files in os.walk(folder, onerror=_raise_os_error, followlinks=True):
        if (real_path := os.path.realpath(place)) in visited:
            folders.clear()
            continue
        visited.add(real_path)
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        for file in files:
            if not file.startswith("."):
                is_image = file.lower().endswith(suffixes)
                (images if is_image else others).append(os.path.join(place, file))
    if broken_links:
        images += _broken_links(others)
        others = sorted({*others} - {*images})
    check_links(others)
    if others:
        warnings.warn(
            f"ignored files without the suffix of an image: {abbreviate(sorted(others))}.",
            stacklevel=3,
        )
    return sorted(images)


def _raise_os_error(error: OSError) -> None:
    # `os.walk` leaves out what it cannot read.
    raise OSError(
        f"cannot read the folder {error.filename}: {error.strerror}. Its images would be missing: "
        f"fix its permissions, or remove it."
    ) from error


def check_links(paths: Sequence[str]) -> None:
    """Raise an error that names the links to nothing among some paths, if there are any.

    Args:
        paths: The paths.

    Raises:
        FileNotFoundError: If there are such links.
    """
    if broken := _broken_links(paths):
        raise FileNotFoundError(
            f"expected files and folders, got links to nothing: {abbreviate(sorted(broken))}. "
            f"Mount or restore what they lead to, or remove them."
        )


def _broken_links(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if os.path.islink(path) and not os.path.exists(path)]


def abbreviate(names: Sequence[str]) -> str:
    """Join the first names of a list, and append the number of the others.

    Args:
        names: The names.

    Returns:
        The names, separated by commas.
    """
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
