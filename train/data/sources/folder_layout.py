"""Find the splits, classes, images and masks in a user's folder."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from aff_jax.images.image_folder import (
    IMAGE_SUFFIXES,
    MAX_NAMED,
    abbreviate,
    check_links,
    list_images,
)
from train.data.sources.cache_files import cache_path, write_cached

__all__ = [
    "MASK_SUFFIXES",
    "SPLIT_FOLDERS",
    "check_no_problems",
    "images_and_masks",
    "is_folder",
    "split_folder",
    "subfolders",
]

MASK_SUFFIXES = (".bmp", ".pgm", ".png", ".ppm", ".tif", ".tiff")
"""Suffixes of masks: formats that keep the values of pixels."""

SPLIT_FOLDERS = {
    "train": ("train",),
    "validation": ("val", "valid", "validation"),
    "test": ("test",),
}
"""Folder names of each split. The first one that exists is used."""


def split_folder(name: str, split: str, data_dir: str | None) -> Path:
    """Find the folder of a split.

    Args:
        name: Name of the dataset, for error messages.
        split: "train", "validation" or "test", or a folder name of one of these, such as "val".
        data_dir: Folder that contains the folders of the splits.

    Returns:
        The first of `SPLIT_FOLDERS` that exists.

    Raises:
        ValueError: If `data_dir` is empty, or there is no such split.
        FileNotFoundError: If the folder does not exist.
    """
    if not data_dir:
        raise ValueError(
            f"expected the folder that contains train/ and val/ for dataset {name!r}, got none. "
            f"Set --config.data_dir=PATH."
        )
    split = next((known for known, names in SPLIT_FOLDERS.items() if split in names), split)
    if split not in SPLIT_FOLDERS:
        raise ValueError(
            f"expected one of the splits {', '.join(SPLIT_FOLDERS)} of {name!r}, got {split!r}."
        )
    root = Path(data_dir)
    if not is_folder(root):
        raise FileNotFoundError(
            f"expected a folder with train/ and val/, got {root}, which is not a folder. Check "
            f"--config.data_dir."
        )
    for folder in SPLIT_FOLDERS[split]:
        if is_folder(root / folder):
            return root / folder
    expected = " or ".join(f"{folder}/" for folder in SPLIT_FOLDERS[split])
    found = abbreviate(subfolders(root))
    if not found:
        files = abbreviate(sorted(os.listdir(root)))
        found = f"no folders, only {files}" if files else "an empty folder"
    hint = "Perhaps data_dir is one folder too high or too low."
    if split == "test" and any(is_folder(root / name) for name in SPLIT_FOLDERS["validation"]):
        hint = "Evaluate --split=validation, or add test/."
    elif split != "train" and is_folder(root / "train"):
        hint = f"Move a part of the training examples, such as a tenth, to {root / 'val'}."
    raise FileNotFoundError(
        f"expected {expected} in {root}, got {found}. Training, evaluation and test need separate "
        f"examples. {hint}"
    )


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder or a link to one.

    Args:
        path: Any path, which need not exist.

    Returns:
        True for a folder.

    Raises:
        OSError: If it may not be read, or is a link to nothing. `Path.is_dir` would return False.
    """
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        check_links([os.fspath(path)])
        return False


def subfolders(folder: Path) -> list[str]:
    """List the folders in a folder, except those whose names start with a dot or two underscores.

    Args:
        folder: The folder.

    Returns:
        Names in ascending order.

    Raises:
        OSError: If the folder may not be read, or has a link to nothing.
    """
    names = [name for name in os.listdir(folder) if not name.startswith((".", "__"))]
    return sorted(name for name in names if is_folder(folder / name))


def images_and_masks(folder: Path) -> tuple[list[str], list[str]]:
    """List the images of a split and their masks.

    Args:
        folder: Folder of the split, with the folders `images/` and `masks/`.

    Returns:
        A tuple of the paths of the images and, in the same order, the paths of their masks. The
        mask of `a.jpg` is `a.png`, or `a_mask.png` if most masks have that ending.

    Raises:
        FileNotFoundError: If there is no `images/` or no `masks/` in the folder.
        ValueError: If an image has no mask, or a mask has no image. The message names all of them.
    """
    found = {}
    for kind in ("images", "masks"):
        if not is_folder(folder / kind):
            raise FileNotFoundError(f"expected images/ and masks/ in {folder}, got no {kind}/.")
        found[kind] = _by_stem(folder / kind)
    images, masks = found["images"], found["masks"]
    ending = _common_ending(masks, images)
    expected = {stem + ending: image for stem, image in images.items()}
    problems = [
        f"{image} has no mask {folder / 'masks' / stem}.png"
        for stem, image in expected.items()
        if stem not in masks
    ]
    problems += [
        f"{mask} has no image of the same name in {folder / 'images'}"
        for stem, mask in masks.items()
        if stem not in expected
    ]
    problems += [
        f"{mask} is not a PNG file: JPEG and WebP change the values of a mask. Export the masks "
        f"again as PNG ({', '.join(MASK_SUFFIXES)} are read)"
        for stem, mask in masks.items()
        if stem in expected and not mask.lower().endswith(MASK_SUFFIXES)
    ]
    if not images and not problems:
        problems = [f"{folder / 'images'} has no images ({', '.join(IMAGE_SUFFIXES)})"]
    check_no_problems(problems, folder)
    return [*images.values()], [masks[stem] for stem in expected]


def _by_stem(folder: Path) -> dict[str, str]:
    """Return image files by their relative path without the suffix, which a mask shares."""
    files: dict[str, str] = {}
    for path in list_images(folder):
        stem = os.path.splitext(os.path.relpath(path, folder))[0]
        if stem in files:
            raise ValueError(
                f"expected one file for each name, got {files[stem]} and {path}. Either could "
                f"belong to the image or mask {stem!r}; rename or remove one."
            )
        files[stem] = path
    return files


def _common_ending(masks: Collection[str], images: Collection[str]) -> str:
    """Return what most masks have after the name of an image, such as `_mask` or CamVid's `_L`."""
    endings = Counter({"": sum(stem in images for stem in masks)})
    for stem in masks:
        starts = (match.start() for match in re.finditer(r"[_.\-]", stem))
        endings.update(stem[start:] for start in starts if stem[:start] in images)
    return max(endings, key=lambda ending: (endings[ending], -len(ending)))


def check_no_problems(problems: Sequence[str], folder: Path, note: str = "") -> None:
    """Raise an error that lists the problems of files, if there are any.

    Args:
        problems: One line for each file with a problem.
        folder: Folder of the files.
        note: The last lines of the message, about all files.

    Raises:
        ValueError: If there are problems. The message has the first ten, and names a file in the
            cache directory that has all of them.
    """
    if problems:
        listed = "".join(f"\n  {line}" for line in problems[:MAX_NAMED])
        more = f"\n  and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
        if more:
            file = cache_path("problems", folder, ".txt")
            if write_cached(file, "".join(f"{line}\n" for line in problems)):
                more += f"; all of them are listed in {file}"
        last = f"\n{note}" if note else ""
        raise ValueError(
            f"{len(problems)} of the files in {folder} cannot be used:{listed}{more}{last}"
        )
