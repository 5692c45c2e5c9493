"""`image_folder`: a dataset of a user's images, with one folder per class.

Names and headers are checked when the dataset is opened, and the error lists every file with a
problem. Pixels are checked when they are decoded. TFDS's `ImageFolder` needs TensorFlow for reading
and accepts classes that only the test split has.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from aff_jax.images.image_files import Header, read_header
from aff_jax.images.image_folder import IMAGE_SUFFIXES, abbreviate, list_images
from train.data.sources.folder_examples import FolderExamples, check_files, collect_examples
from train.data.sources.folder_layout import is_folder, split_folder, subfolders

__all__ = ["open_image_folder"]


def open_image_folder(
    name: str,
    split: str,
    data_dir: str | None,
    label_key: str = "",
    *,
    class_names: Sequence[str] = (),
) -> FolderExamples:
    """Open `DATA_DIR/train/CLASS/*.jpg`, or the same in `val/` or `test/`.

    The classes are the folders in `train/` in alphabetical order. Images may be in subfolders of
    them.

    Args:
        name: Name of the dataset, for error messages.
        split: "train", "validation" or "test".
        data_dir: Folder that contains the folders of the splits.
        label_key: Not used.
        class_names: Names of the classes of a run, if there is one. They replace the folders in
            `train/` if that does not exist.

    Returns:
        The examples of the split.

    Raises:
        FileNotFoundError: If the folder does not exist, or has a link to nothing.
        OSError: If a folder may not be read.
        ValueError: If a class has no images, another split has a class that training does not
            have, or a file is not an image.
    """
    folder = split_folder(name, split, data_dir)
    if not class_names or is_folder(folder.parent / "train"):
        class_names = _training_classes(split_folder(name, "train", data_dir))
    unknown = [str(folder / found) for found in subfolders(folder) if found not in class_names]
    if unknown:
        raise ValueError(
            f"expected the classes of {folder.parent / 'train'}, got others: "
            f"{abbreviate(unknown)}. A network cannot predict a class that it was not trained on. "
            f"Remove or rename these folders."
        )
    images, labels, empty = [], [], []
    for number, class_name in enumerate(class_names):
        class_folder = folder / class_name
        has_class = is_folder(class_folder)
        found = list_images(class_folder) if has_class else []
        if has_class and not found:
            empty.append(str(class_folder))
        images += found
        labels += [number] * len(found)
    if empty:
        raise ValueError(
            f"expected images ({', '.join(IMAGE_SUFFIXES)}) in the folder of every class, got none "
            f"in {abbreviate(empty)}. Add images or remove the folder."
        )
    files = [name for name in os.listdir(folder) if not name.startswith(".")]
    stray = [name for name in files if name.lower().endswith(IMAGE_SUFFIXES)]
    if stray:
        warnings.warn(
            f"ignored images in {folder} that are in no folder of a class: "
            f"{abbreviate(sorted(stray))}.",
            stacklevel=2,
        )
    if not images:
        raise ValueError(f"expected a folder of images for each class in {folder}, got none.")
    headers = check_files(folder, _check_image, images)
    return collect_examples(f"{name} {folder.name}", headers, tuple(class_names), images, labels)


def _training_classes(folder: Path) -> list[str]:
    class_names = subfolders(folder)
    if len(class_names) < 2:
        raise ValueError(
            f"expected a folder of images for each of two or more classes in {folder}, such as "
            f"{folder / 'cat'} and {folder / 'dog'}, got {class_names or 'none'}."
        )
    return class_names


def _check_image(path: str) -> Header:
    return read_header(path, path)
