"""A user's own folders as data sets: `image_folder` for classification, `mask_folder` for masks.

All names and headers are checked when a folder is opened, and everything that is wrong is told at
once; pixels are checked when they are decoded. (TFDS's ImageFolder needs TensorFlow to read, and
counts a class that only the test split has.)
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TypeVar

from train.data.sources.images import Header, picture, read_header
from train.data.sources.listing import (
    IMAGE_SUFFIXES,
    image_files,
    images_and_masks,
    refuse,
    some,
    split_folder,
    subfolders,
)
from train.data.sources.masks import IGNORED_VALUE, mask_values, read_mask
from train.data.sources.records import Encoded

__all__ = ["FolderRecords", "open_image_folder", "open_mask_folder"]

CLASSES_FILE = "classes.txt"
# Pillow's modes of one channel whose values are stored as they are.
_MASK_MODES = ("1", "L", "P", "I;16", "I;16B", "I")
# Masks that are read at the start to see whether they hold class numbers at all.
_GLANCED = 16
# Headers wait for the disk, most of all for one across a network.
_THREADS = 8

A = TypeVar("A")
B = TypeVar("B")


@dataclasses.dataclass
class FolderRecords:
    """The files of one split; attributes and use as in `Records`.

    `images` are paths of image files; `labels` are paths of masks or class numbers.
    """

    name: str
    class_names: tuple[str, ...]
    images: tuple[str, ...]
    labels: tuple[str, ...] | tuple[int, ...]
    image_shape: tuple[int, int, int]
    mixed_sizes: str
    mixed_channels: str
    is_mask: bool
    # A phone's photograph lies on its side without this, and its mask does not.
    upright: bool = True

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Encoded:
        image, label = self.images[position], self.labels[position]
        if isinstance(label, int):
            return Encoded(Path(image).read_bytes(), label, image, image)
        return Encoded(Path(image).read_bytes(), Path(label).read_bytes(), image, label)


def open_image_folder(
    name: str, split: str, data_dir: str | None, label_key: str = ""
) -> FolderRecords:
    """Open DATA_DIR/train/CLASS/*.jpg or DATA_DIR/test/CLASS/*.jpg, in the order of their names.

    Classes are the folders in train/, in the order of their names. Images may lie deeper. For
    test/, val/ and validation/ are taken as well.

    Raises `FileNotFoundError` for a folder that is not there, and `ValueError` for a class without
    images, a class of the test split that training does not have, and files that are no images.
    """
    folder = split_folder(name, split, data_dir)
    train_folder = split_folder(name, "train", data_dir)
    class_names = subfolders(train_folder)
    if len(class_names) < 2:
        raise ValueError(
            f"expected a folder of images for each of two or more classes in {train_folder}, as in "
            f"{train_folder / 'cat'} and {train_folder / 'dog'}, got {class_names or 'none'}."
        )
    unknown = [str(folder / found) for found in subfolders(folder) if found not in class_names]
    if unknown:
        raise ValueError(
            f"expected the classes of {train_folder}, got others: {some(unknown)}. A network "
            f"cannot answer with a class that it was not trained on. Remove or rename these."
        )
    images, labels, empty = [], [], []
    for number, class_name in enumerate(class_names):
        place = folder / class_name
        found = image_files(place) if place.is_dir() else []
        if place.is_dir() and not found:
            empty.append(str(place))
        images += found
        labels += [number] * len(found)
    if empty:
        raise ValueError(
            f"expected images ({', '.join(IMAGE_SUFFIXES)}) in the folder of every class, got none "
            f"in {some(empty)}. Add images or remove the folder."
        )
    if not images:
        raise ValueError(f"expected a folder of images for each class in {folder}, got none.")
    headers = _look_into(folder, _check_image, images)
    return _records(name, folder, headers, tuple(class_names), images, tuple(labels), False)


def open_mask_folder(
    name: str, split: str, data_dir: str | None, label_key: str = ""
) -> FolderRecords:
    """Open DATA_DIR/train/images/x.jpg with DATA_DIR/train/masks/x.png, and test/ likewise.

    A mask is a PNG image of one channel, or with a palette, whose values are class numbers; 255 is
    not counted. DATA_DIR/classes.txt has the classes' names, the first line that of 0. Where it is
    missing, all training masks are read, and the classes are the numbers up to the largest.

    Raises `FileNotFoundError` for a folder that is not there, and `ValueError` for an image without
    a mask and a mask without an image, one whose size is not its image's, and files that are no
    images.
    """
    folder = split_folder(name, split, data_dir)
    train_folder = split_folder(name, "train", data_dir)
    images, masks = images_and_masks(folder)
    headers = _look_into(folder, _check_pair, list(zip(images, masks, strict=True)))
    classes_file = train_folder.parent / CLASSES_FILE
    if classes_file.exists():
        class_names = _read_classes(classes_file)
        _warn_of_no_and_yes(masks)
    else:
        train_masks = masks if folder == train_folder else images_and_masks(train_folder)[1]
        class_names = _count_classes(train_masks, classes_file)
    if len(class_names) > IGNORED_VALUE:
        raise ValueError(
            f"expected at most {IGNORED_VALUE} classes in {train_folder.parent}, because a label "
            f"is kept in 8 bits and {IGNORED_VALUE} is not counted, got {len(class_names)}. Merge "
            f"some of them."
        )
    return _records(name, folder, headers, class_names, images, tuple(masks), True)


def _read_classes(path: Path) -> tuple[str, ...]:
    names = [line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines()]
    if len(names) < 2 or len(set(names)) < len(names) or "" in names:
        raise ValueError(
            f"expected two or more names in {path}, a different one on each line, the first for "
            f"mask value 0, got {names}."
        )
    return tuple(names)


def _count_classes(masks: Sequence[str], classes_file: Path) -> tuple[str, ...]:
    """The numbers from 0 to the largest in the masks, as names."""
    folder = Path(os.path.commonpath([os.path.dirname(mask) for mask in masks]))
    values = _look_into(folder, _values_of, masks)
    found = set().union(*values)
    largest = max(found - {IGNORED_VALUE}, default=0)
    if largest == 0 or not set(range(largest + 1)) <= found:
        worst = largest or max(found)
        example = next(mask for mask, has in zip(masks, values, strict=True) if worst in has)
        raise ValueError(
            f"expected masks whose values are the class numbers 0, 1, 2 .. without a gap, and "
            f"{IGNORED_VALUE} where a pixel is not counted, got {sorted(found)} in {folder}, "
            f"{worst} in {example}. Probably they hold grey values, as 0 and 255 for no and yes; "
            f"save them as class numbers. If they are, name all classes in {classes_file}, one a "
            f"line."
        )
    return tuple(map(str, range(largest + 1)))


def _values_of(path: str) -> set[int]:
    return set(mask_values(read_mask(path, path)).tolist())


def _warn_of_no_and_yes(masks: Sequence[str]) -> None:
    some_masks = masks[:_GLANCED]
    found = set().union(*_look_into(Path(masks[0]).parent, _values_of, some_masks))
    if found == {0, IGNORED_VALUE}:
        warnings.warn(
            f"the first {len(some_masks)} masks, from {masks[0]} on, hold only 0 and "
            f"{IGNORED_VALUE}, which is not counted. If it stands for yes, save it as 1.",
            stacklevel=2,
        )


def _records(
    name: str,
    folder: Path,
    headers: Sequence[Header],
    class_names: tuple[str, ...],
    images: Sequence[str],
    labels: tuple[str, ...] | tuple[int, ...],
    is_mask: bool,
) -> FolderRecords:
    return FolderRecords(
        name=f"{name} {folder.name}",
        class_names=class_names,
        images=tuple(images),
        labels=labels,
        image_shape=headers[0],
        mixed_sizes=_mixed(images, [f"{h.width} x {h.height}" for h in headers]),
        mixed_channels=_mixed(images, ["grey" if h.channels == 1 else "colour" for h in headers]),
        is_mask=is_mask,
    )


def _check_image(path: str) -> Header:
    return read_header(path, path)


def _check_pair(example: tuple[str, str]) -> Header:
    path, mask_path = example
    header = read_header(path, path)
    with picture(mask_path, mask_path) as mask:
        mode, (width, height) = mask.mode, mask.size
    if mode not in _MASK_MODES:
        raise ValueError(
            f"{mask_path} has Pillow's mode {mode!r}: expected one channel of class numbers, or a "
            f"palette"
        )
    if (width, height) != (header.width, header.height):
        raise ValueError(
            f"{mask_path} has {width} x {height} pixels, and its image {path} has "
            f"{header.width} x {header.height}"
        )
    return header


def _look_into(folder: Path, look: Callable[[A], B], files: Sequence[A]) -> list[B]:
    """What `look` makes of each; all that it refuses with a `ValueError` is told at once."""

    def attempt(file: A) -> B | ValueError:
        try:
            return look(file)
        except ValueError as error:
            return error

    with ThreadPool(_THREADS) as pool:
        results = list(pool.imap(attempt, files, chunksize=64))
    refuse([str(result) for result in results if isinstance(result, ValueError)], folder)
    return [result for result in results if not isinstance(result, ValueError)]


def _mixed(images: Sequence[str], kinds: Sequence[str]) -> str:
    """Two images of different kinds, or "" where all are of one."""
    for image, kind in zip(images, kinds, strict=True):
        if kind != kinds[0]:
            return f"{images[0]} is {kinds[0]}, {image} is {kind}"
    return ""
