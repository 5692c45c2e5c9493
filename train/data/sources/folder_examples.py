"""Encoded examples in separate image files, and checks that name every file with a problem."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from aff_jax.images.image_files import Header
from train.data.sources.class_table import ClassTable
from train.data.sources.encoded_examples import EncodedExample
from train.data.sources.folder_layout import check_no_problems

__all__ = ["FolderExamples", "check_files", "collect_examples"]

_THREADS = 8
"""Number of threads that read files. They mostly wait for the disk or the network."""

_MANY_FILES = 1000
"""Smallest number of files whose check shows its progress, in a terminal."""

_MAX_NOTES = 2
"""Largest number of notes on files at the end of an error message."""


A = TypeVar("A")
B = TypeVar("B")


@dataclasses.dataclass
class FolderExamples:
    """The files of one split. Implements `EncodedExamples`.

    Attributes:
        images: Paths of the image files.
        labels: Class numbers, or paths of the mask files.
        class_table: Which class each value of a mask is; None for classification.
        pixel_counts: Number of pixels of each class in all masks.
        class_colors: Color of each class as `#rrggbb`; () if it is not known.
    """

    name: str
    class_names: tuple[str, ...]
    images: tuple[str, ...]
    labels: tuple[str, ...] | tuple[int, ...]
    image_shape: tuple[int, int, int]
    mixed_sizes: str
    mixed_channels: str
    is_mask: bool
    # Photographs of a phone are often stored rotated, and their masks are not.
    use_exif_orientation: bool = True
    class_table: ClassTable | None = None
    pixel_counts: tuple[int, ...] = ()
    class_colors: tuple[str, ...] = ()

    @property
    def class_counts(self) -> np.ndarray | None:
        """Return the number of images, or of pixels of masks, of each class."""
        if self.is_mask:
            return np.asarray(self.pixel_counts, np.int64)
        return np.bincount(np.asarray(self.labels, np.int64), minlength=len(self.class_names))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> EncodedExample:
        image, label = self.images[position], self.labels[position]
        if isinstance(label, int):
            return EncodedExample(Path(image).read_bytes(), label, image, image)
        return EncodedExample(Path(image).read_bytes(), Path(label).read_bytes(), image, label)


def collect_examples(
    name: str,
    headers: Sequence[Header],
    class_names: tuple[str, ...],
    images: Sequence[str],
    labels: Sequence[str] | Sequence[int],
) -> FolderExamples:
    """Combine the files of a split, and describe how the shapes of the images differ.

    Args:
        name: Name of the split, for error messages.
        headers: Header of each image.
        class_names: Names of the classes, in the order of their numbers.
        images: Paths of the image files.
        labels: Class number of each image, or path of its mask file.

    Returns:
        The examples of the split.
    """
    return FolderExamples(
        name=name,
        class_names=class_names,
        images=tuple(images),
        labels=tuple(labels),  # type: ignore[arg-type]
        image_shape=headers[0],
        mixed_sizes=_describe_mixture(images, [f"{h.width} x {h.height}" for h in headers]),
        mixed_channels=_describe_mixture(
            images, ["gray" if h.channels == 1 else "color" for h in headers]
        ),
        is_mask=isinstance(labels[0], str),
    )


def check_files(folder: Path, check: Callable[[A], B], files: Sequence[A]) -> list[B]:
    """Call a function on each file, in threads, with a progress bar if there are many.

    Args:
        folder: Folder of the files, for the error message.
        check: Function of a file. It raises a `ValueError` for a file with a problem.
        files: Paths, or other values that identify a file.

    Returns:
        The results, in the order of the files.

    Raises:
        ValueError: If `check` raised it or an `OSError` for some of the files. The message lists
            all of them, and the notes of the errors once.
    """

    def attempt(file: A) -> B | ValueError | OSError:
        try:
            return check(file)
        except (ValueError, OSError) as error:
            return error

    console = Console(stderr=True)
    with ThreadPool(_THREADS) as pool:
        results = list(
            track(
                pool.imap(attempt, files, chunksize=64),
                f"checking {folder}",
                total=len(files),
                console=console,
                transient=True,
                disable=len(files) < _MANY_FILES or not console.is_terminal,
            )
        )
    errors = ValueError, OSError
    failed = [result for result in results if isinstance(result, errors)]
    notes = [note for error in failed for note in getattr(error, "__notes__", ())]
    # Many files often have the same problem.
    check_no_problems([*map(str, failed)], folder, "\n".join([*dict.fromkeys(notes)][:_MAX_NOTES]))
    return [result for result in results if not isinstance(result, errors)]


def _describe_mixture(images: Sequence[str], kinds: Sequence[str]) -> str:
    """Name two images of different kinds, or return "" if all have the same kind."""
    for image, kind in zip(images, kinds, strict=True):
        if kind != kinds[0]:
            return f"{images[0]} is {kinds[0]}, {image} is {kind}"
    return ""
