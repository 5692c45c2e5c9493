"""`mask_folder`: a segmentation dataset of a user's images, with one mask per image.

Names and headers are checked when the dataset is opened, and the error lists every file with a
problem. Pixels are checked when they are decoded.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from aff_jax.images.image_files import Header, open_image, read_header
from train.data.sources.folder_examples import FolderExamples, check_files, collect_examples
from train.data.sources.folder_layout import images_and_masks, split_folder
from train.data.sources.mask_files import IGNORED_VALUE, mask_values, read_mask

__all__ = ["CLASSES_FILE", "open_mask_folder"]

CLASSES_FILE = "classes.txt"
"""File with the names of the classes, one per line."""

# Pillow's modes with one channel whose values are read as they are stored.
_MASK_MODES = ("1", "L", "P", "I;16", "I;16B", "I")
# Number of masks that are read at the start to detect binary masks with the values 0 and 255.
_NUM_SAMPLED = 16


def open_mask_folder(
    name: str, split: str, data_dir: str | None, label_key: str = ""
) -> FolderExamples:
    """Open `DATA_DIR/train/images/x.jpg` with `DATA_DIR/train/masks/x.png`, or another split.

    A mask is a PNG image with one channel or a palette, and its values are class numbers. Pixels
    with the value 255 are ignored. `DATA_DIR/classes.txt` names the classes, one per line, starting
    with class 0. Without this file all training masks are read, and the classes are the numbers up
    to the largest value.

    Args:
        name: Name of the dataset, for error messages.
        split: "train", "validation" or "test".
        data_dir: Folder that contains the folders of the splits.
        label_key: Not used.

    Returns:
        The examples of the split.

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If an image has no mask, a mask has no image or not the size of its image, a
            file is not an image, or the classes are not numbered without a gap.
    """
    folder = split_folder(name, split, data_dir)
    train_folder = split_folder(name, "train", data_dir)
    images, masks = images_and_masks(folder)
    headers = check_files(folder, _check_pair, list(zip(images, masks, strict=True)))
    classes_file = train_folder.parent / CLASSES_FILE
    if os.path.lexists(classes_file):  # a link to nothing is an error
        class_names = _read_class_names(classes_file)
        _warn_of_binary_masks(masks)
    else:
        train_masks = masks if folder == train_folder else images_and_masks(train_folder)[1]
        class_names = _count_classes(train_masks, classes_file)
    if len(class_names) > IGNORED_VALUE:
        raise ValueError(
            f"expected at most {IGNORED_VALUE} classes in {train_folder.parent}, because labels "
            f"are stored in 8 bits and {IGNORED_VALUE} is ignored, got {len(class_names)}. Merge "
            f"some of them."
        )
    return collect_examples(f"{name} {folder.name}", headers, class_names, images, masks)


def _read_class_names(path: Path) -> tuple[str, ...]:
    names = [line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines()]
    if len(names) < 2 or len(set(names)) < len(names) or "" in names:
        raise ValueError(
            f"expected two or more names in {path}, a different one on each line, the first one "
            f"for mask value 0, got {names}."
        )
    return tuple(names)


def _count_classes(masks: Sequence[str], classes_file: Path) -> tuple[str, ...]:
    """Return the numbers from 0 to the largest value of the masks, as names."""
    folder = Path(os.path.commonpath([os.path.dirname(mask) for mask in masks]))
    values = check_files(folder, _read_values, masks)
    found = set().union(*values)
    largest = max(found - {IGNORED_VALUE}, default=0)
    if largest == 0 or not set(range(largest + 1)) <= found:
        worst = largest or max(found)
        example = next(mask for mask, has in zip(masks, values, strict=True) if worst in has)
        raise ValueError(
            f"expected masks whose values are the class numbers 0, 1, 2 .. without a gap, and "
            f"{IGNORED_VALUE} for ignored pixels, got {sorted(found)} in {folder}, {worst} in "
            f"{example}. Probably the masks contain gray values, such as 0 and 255 for no and yes; "
            f"save them as class numbers. If they are class numbers, name all classes in "
            f"{classes_file}, one per line."
        )
    warnings.warn(
        f"found no {classes_file}, so the values 0 .. {largest} of the training masks are "
        f"{largest + 1} classes named by their numbers. If one of them means void, save it as "
        f"{IGNORED_VALUE}, which is ignored.",
        stacklevel=2,
    )
    return tuple(map(str, range(largest + 1)))


def _read_values(path: str) -> set[int]:
    return set(mask_values(read_mask(path, path)).tolist())


def _warn_of_binary_masks(masks: Sequence[str]) -> None:
    sampled = masks[:_NUM_SAMPLED]
    found = set().union(*check_files(Path(masks[0]).parent, _read_values, sampled))
    if found == {0, IGNORED_VALUE}:
        warnings.warn(
            f"the first {len(sampled)} masks, starting with {masks[0]}, contain only 0 and "
            f"{IGNORED_VALUE}, which is ignored. If {IGNORED_VALUE} means yes, save it as 1.",
            stacklevel=2,
        )


def _check_pair(example: tuple[str, str]) -> Header:
    path, mask_path = example
    header = read_header(path, path)
    with open_image(mask_path, mask_path) as mask:
        mode, (width, height) = mask.mode, mask.size
    if mode not in _MASK_MODES:
        raise ValueError(
            f"{mask_path} has Pillow's mode {mode!r}: expected one channel of class numbers, or a "
            f"palette."
        )
    if (width, height) != (header.width, header.height):
        raise ValueError(
            f"{mask_path} has {width} x {height} pixels, and its image {path} has "
            f"{header.width} x {header.height}."
        )
    return header
