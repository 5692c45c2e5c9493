"""What lies in a user's data folder: its splits, class folders, images, and masks beside them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "IMAGE_SUFFIXES",
    "SPLIT_FOLDERS",
    "image_files",
    "images_and_masks",
    "refuse",
    "some",
    "split_folder",
    "subfolders",
]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Files with other names are left alone; so is everything whose name begins with a dot."""

SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "validation")}
"""Where each split lies: in the first of these folders that is there."""

# Files that are wrong are named up to this many.
_NAMED = 10


def split_folder(name: str, split: str, data_dir: str | None) -> Path:
    """Where the split of a data set lies; `FileNotFoundError` that says what is there instead."""
    if not data_dir:
        raise ValueError(
            f"expected the folder that holds train/ and test/ for data set {name!r}, got none. Set "
            f"--config.data_dir=PATH."
        )
    if split not in SPLIT_FOLDERS:
        raise ValueError(
            f"expected one of the splits {', '.join(SPLIT_FOLDERS)} of {name!r}, got {split!r}."
        )
    root = Path(data_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"expected a folder with train/ and test/, got {root}: no folder.")
    for folder in SPLIT_FOLDERS[split]:
        if (root / folder).is_dir():
            return root / folder
    expected = " or ".join(f"{folder}/" for folder in SPLIT_FOLDERS[split])
    raise FileNotFoundError(
        f"expected {expected} in {root}, got only {some(subfolders(root)) or 'no folder'}. "
        f"Training and evaluation need examples of their own. Perhaps data_dir is one folder too "
        f"high or too low."
    )


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, ascending, less the hidden ones."""
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir() and not entry.name.startswith((".", "__"))
    )


def image_files(folder: Path) -> list[str]:
    """Paths of the image files in a folder and below it, ascending."""
    images: list[str] = []
    others: list[str] = []
    seen = set()  # a link to a folder above would be followed for ever
    for place, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        for file in files:
            if not file.startswith("."):
                is_image = file.lower().endswith(IMAGE_SUFFIXES)
                (images if is_image else others).append(os.path.join(place, file))
    if others:
        warnings.warn(
            f"left alone, because their names do not end as images' do: {some(sorted(others))}.",
            stacklevel=3,
        )
    return sorted(images)


def images_and_masks(folder: Path) -> tuple[list[str], list[str]]:
    """Paths of the images of a split and, in the same order, of their masks.

    Raises `ValueError` that names every image without a mask and every mask without an image.
    """
    found = {}
    for kind in ("images", "masks"):
        if not (folder / kind).is_dir():
            raise FileNotFoundError(f"expected images/ and masks/ in {folder}, got no {kind}/.")
        found[kind] = _by_stem(folder / kind)
    images, masks = found["images"], found["masks"]
    wrong = [
        f"{image} has no mask {folder / 'masks' / stem}.png"
        for stem, image in images.items()
        if stem not in masks
    ]
    wrong += [
        f"{mask} has no image of that name in {folder / 'images'}"
        for stem, mask in masks.items()
        if stem not in images
    ]
    wrong += [
        f"{mask} is no PNG: other formats may change a mask's values"
        for stem, mask in masks.items()
        if stem in images and not mask.lower().endswith(".png")
    ]
    if not images and not wrong:
        wrong = [f"{folder / 'images'} has no images ({', '.join(IMAGE_SUFFIXES)})"]
    refuse(wrong, folder)
    return [*images.values()], [masks[stem] for stem in images]


def _by_stem(folder: Path) -> dict[str, str]:
    """Image files by what an image and its mask have in common: the path without its suffix."""
    files: dict[str, str] = {}
    for path in image_files(folder):
        stem = os.path.splitext(os.path.relpath(path, folder))[0]
        if stem in files:
            raise ValueError(
                f"expected one file for each name, got {files[stem]} and {path}: nobody can say "
                f"which belongs to the image or mask {stem!r}. Rename or remove one."
            )
        files[stem] = path
    return files


def refuse(wrong: Sequence[str], folder: Path) -> None:
    """`ValueError` that tells what is wrong with each file, if anything is."""
    if wrong:
        listed = "".join(f"\n  {line}" for line in wrong[:_NAMED])
        more = f"\n  and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise ValueError(f"{len(wrong)} of the files in {folder} cannot be used:{listed}{more}")


def some(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
