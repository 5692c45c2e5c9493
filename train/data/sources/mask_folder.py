"""`mask_folder`: a segmentation dataset of a user's images, with one mask per image.

Names, headers and all masks are checked when the dataset is opened, and the error lists every file
with a problem. The pixels of images are checked when they are decoded.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aff_jax.images.image_files import Header, read_header
from train.data.sources.class_table import IGNORED_VALUE, MAX_CLASSES, ClassTable
from train.data.sources.classes_file import CLASSES_FILE, read_classes_file
from train.data.sources.folder_examples import FolderExamples, check_files, collect_examples
from train.data.sources.folder_layout import images_and_masks, split_folder
from train.data.sources.mask_cache import MaskCache
from train.data.sources.mask_files import MaskFacts, check_values, describe_colors, read_palette

__all__ = ["open_mask_folder"]

_MAX_LISTED = 12
"""Largest number of values that are listed.

More of them are gray values, or masks that were compressed as JPEG.
"""


def open_mask_folder(
    name: str,
    split: str,
    data_dir: str | None,
    label_key: str = "",
    *,
    class_names: Sequence[str] = (),
    ignored_values: Sequence[int] = (),
) -> FolderExamples:
    """Open `DATA_DIR/train/images/x.jpg` with `DATA_DIR/train/masks/x.png`, or another split.

    A mask is a PNG, TIFF or BMP image. `DATA_DIR/classes.txt` says which of its values or colors is
    which class, see `read_classes_file`. Without this file the classes are the values 0, 1, 2 .. of
    the training masks. Pixels with the value 255 are ignored unless classes.txt names it.

    Args:
        name: Name of the dataset, for error messages.
        split: "train", "validation" or "test".
        data_dir: Folder that contains the folders of the splits.
        label_key: Not used.
        class_names: Names of the classes of a run, if there is one. Without classes.txt they
            replace the values of the training masks, which are then not needed.
        ignored_values: More values that are ignored.

    Returns:
        The examples of the split.

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If an image has no mask, a mask has no image or not the size of its image, a
            file is not an image, a mask has a value that is not a class, or the classes are not
            numbered without a gap.
    """
    folder = split_folder(name, split, data_dir)
    classes_file = folder.parent / CLASSES_FILE
    images, masks = images_and_masks(folder)
    if os.path.lexists(classes_file):  # a link to nothing is an error
        table = read_classes_file(classes_file).ignoring(ignored_values)
    elif class_names:
        table = _table_of_names(class_names, classes_file).ignoring(ignored_values)
    else:
        train_folder = split_folder(name, "train", data_dir)
        train_masks = masks if folder == train_folder else images_and_masks(train_folder)[1]
        table = _table_of_masks(train_folder, train_masks, classes_file, ignored_values)
    if len(table.class_names) < 2:
        raise ValueError(
            f"expected two or more classes in {folder.parent} besides the ignored values "
            f"{[value for value, k in table.numbers.items() if k == IGNORED_VALUE]}, got "
            f"{[*table.class_names]}. Check --config.ignored_values."
        )

    cache = MaskCache(folder / "masks")

    def check_pair(pair: tuple[str, str]) -> tuple[Header, MaskFacts, np.ndarray]:
        image, mask = pair
        header, facts = read_header(image, image), cache.read(mask)
        _check_size(header, facts, image, mask)
        return header, facts, check_values(facts, table, mask)

    try:
        checked = check_files(folder, check_pair, list(zip(images, masks, strict=True)))
    finally:
        cache.save()
    headers, facts, counts = zip(*checked, strict=True)
    if not class_names and not classes_file.exists():
        _warn_of_numbers(table, classes_file, ignored_values)
    _warn_of_values(facts, table, masks, ignored_values if split == "train" else ())
    examples = collect_examples(f"{name} {folder.name}", headers, table.class_names, images, masks)
    examples.class_table = table
    examples.pixel_counts = tuple(np.sum(counts, axis=0).tolist())
    examples.class_colors = table.class_colors or read_palette(masks[0], table)
    return examples


def _table_of_names(class_names: Sequence[str], classes_file: Path) -> ClassTable:
    """Return the table of a run without classes.txt, whose classes are named by their values."""
    if not all(name.isdecimal() for name in class_names):
        raise ValueError(
            f"expected {classes_file} with the classes {', '.join(class_names[:5])} .. of this "
            f"run, got no such file. It says which value of a mask is which class: restore it."
        )
    numbers = {int(name): number for number, name in enumerate(class_names)}
    return ClassTable(tuple(class_names), {IGNORED_VALUE: IGNORED_VALUE, **numbers})


def _table_of_masks(
    folder: Path, masks: Sequence[str], classes_file: Path, ignored_values: Sequence[int]
) -> ClassTable:
    """Return the values from 0 to the largest one of the training masks as classes."""
    cache = MaskCache(folder / "masks")

    def read(mask: str) -> MaskFacts:
        facts = cache.read(mask)
        if not facts.counts:
            check_values(facts, ClassTable((), {}), mask)  # raises
        return facts

    try:
        facts = check_files(folder, read, masks)
    finally:
        cache.save()
    colors = Counter[int]()
    for mask in facts:
        colors.update(mask.counts if mask.is_color else {})
    if colors:
        raise ValueError(
            f"expected masks of class numbers in {folder / 'masks'}, got colors. "
            f"{describe_colors(colors, classes_file)}"
        )
    found = set[int]().union(*(mask.counts for mask in facts))
    largest = max(found - {IGNORED_VALUE, *ignored_values}, default=0)
    if largest == 0 or not set(range(largest + 1)) <= found | {*ignored_values}:
        worst = largest or max(found)
        example = next(
            path for path, fact in zip(masks, facts, strict=True) if worst in fact.counts
        )
        raise ValueError(
            f"expected masks whose values are the class numbers 0, 1, 2 .. without a gap, and "
            f"{IGNORED_VALUE} for ignored pixels, got {_list_values(found)} in {folder / 'masks'}, "
            f"{worst} in {example}. {_advice(found, classes_file)}"
        )
    if largest >= MAX_CLASSES:
        raise ValueError(
            f"expected at most {MAX_CLASSES} classes in {folder.parent}, because labels are "
            f"stored in 8 bits, got {largest + 1}. Merge some of them in {classes_file}."
        )
    return ClassTable.numbered(map(str, range(largest + 1))).ignoring(ignored_values)


def _warn_of_numbers(table: ClassTable, classes_file: Path, ignored_values: Sequence[int]) -> None:
    """Warn that classes have no names, and that one of them may be void."""
    first, largest = table.class_names[0], table.class_names[-1]
    void = (
        f" If one of them means void, often the largest, set --config.ignored_values={largest}. "
        f"{IGNORED_VALUE} is ignored."
    )
    warnings.warn(
        f"found no {classes_file}, so the values {first} .. {largest} of the training masks are "
        f"{len(table.class_names)} classes named by their numbers.{'' if ignored_values else void}",
        stacklevel=3,
    )


def _list_values(values: set[int]) -> str:
    ascending = sorted(values)
    more = f" and {len(ascending) - _MAX_LISTED} more" if len(ascending) > _MAX_LISTED else ""
    return f"{ascending[:_MAX_LISTED]}{more}"


def _advice(found: set[int], classes_file: Path) -> str:
    """Return what unknown values of masks probably are, and what to do."""
    if len(found) > _MAX_LISTED:
        return (
            f"Probably the masks contain gray values, or were compressed as JPEG or resized with "
            f"interpolation: export them again as PNG. If all of these values are classes, name "
            f"them in {classes_file}, one per line, as in '7 tree'."
        )
    lines = ", ".join(f"'{value} NAME'" for value in sorted(found))
    return (
        f"Probably the masks contain gray values, such as 0 and 255 for no and yes. Name these "
        f"values in {classes_file}, one per line: {lines}. A value named 'void' is ignored."
    )


def _warn_of_values(
    facts: Sequence[MaskFacts], table: ClassTable, masks: Sequence[str], ignored: Sequence[int]
) -> None:
    """Warn of masks with 0 and 255 only, and of ignored values that no mask has."""
    if table.by_color:
        return
    found = set[int]().union(*(mask.counts for mask in facts))
    if found == {0, IGNORED_VALUE} and table.numbers[IGNORED_VALUE] == IGNORED_VALUE:
        warnings.warn(
            f"the {len(masks)} masks, starting with {masks[0]}, contain only 0 and "
            f"{IGNORED_VALUE}, which is ignored. If {IGNORED_VALUE} means yes, begin each line of "
            f"{CLASSES_FILE} with its value, as in '0 no' and '255 yes'.",
            stacklevel=3,
        )
    if absent := sorted({*ignored} - found):
        warnings.warn(
            f"no training mask has the values {absent} of ignored_values. Check the number.",
            stacklevel=3,
        )


def _check_size(header: Header, facts: MaskFacts, image: str, mask: str) -> None:
    """Raise an error if a mask does not have the size of its image."""
    if (facts.height, facts.width) == (header.height, header.width):
        return
    is_rotated = (facts.width, facts.height) == (header.height, header.width)
    hint = (
        " Probably the image is rotated by its EXIF orientation and the mask was drawn on the "
        "unrotated one: rotate the mask, or remove the orientation from the image."
    )
    raise ValueError(
        f"{mask} has {facts.width} x {facts.height} pixels, and its image {image} has "
        f"{header.width} x {header.height}.{hint if is_rotated else ''}"
    )
