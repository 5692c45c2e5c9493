"""Choose the splits of a user's folder: for the best checkpoint, and for the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from train.data.sources.folder_layout import SPLIT_FOLDERS, is_folder, subfolders

__all__ = ["SplitNames", "find_image_splits", "find_mask_splits"]


class SplitNames(NamedTuple):
    """The splits of a run besides the training split.

    Attributes:
        evaluation: Split that is evaluated during the run and that chooses the best checkpoint.
        test: Split on which the best checkpoint is evaluated at the end; "" is none.
        note: A sentence about them for the user; "" if there is nothing to say.
    """

    evaluation: str
    test: str = ""
    note: str = ""


def find_image_splits(data_dir: str | None) -> SplitNames:
    """Choose the splits of a folder with one folder per class.

    Args:
        data_dir: Folder that contains the folders of the splits.

    Returns:
        The splits. A test split without folders of classes has no labels and is left out.

    Raises:
        ValueError: If the only split for evaluation has no labels.
    """

    def has_labels(folder: Path) -> bool:
        # An "images" folder that training does not have is not a class.
        known = subfolders(folder.parent / "train") if is_folder(folder.parent / "train") else []
        found = subfolders(folder)
        return bool(found) and (found != ["images"] or "images" in known)

    return _find_splits(data_dir, has_labels, "folders of classes")


def find_mask_splits(data_dir: str | None) -> SplitNames:
    """Choose the splits of a folder with one mask per image.

    Args:
        data_dir: Folder that contains the folders of the splits.

    Returns:
        The splits. A test split without masks has no labels and is left out.

    Raises:
        ValueError: If the only split for evaluation has no labels.
    """

    def has_labels(folder: Path) -> bool:
        masks = folder / "masks"
        return is_folder(masks) and any(masks.iterdir())

    return _find_splits(data_dir, has_labels, "masks/")


def _find_splits(
    data_dir: str | None, has_labels: Callable[[Path], bool], labels: str
) -> SplitNames:
    """Choose the splits by the folders that exist and have labels."""
    root = Path(data_dir or "").expanduser()
    folders = SPLIT_FOLDERS["validation"]
    validation = next((folder for folder in folders if is_folder(root / folder)), "")
    has_test = bool(data_dir) and is_folder(root / "test")
    if not has_test:
        # If this one is missing too, opening it raises the error.
        return SplitNames(
            "validation", "", f"{validation}/ chooses the best one; there is no test/"
        )
    if not has_labels(root / "test"):
        if not validation:
            raise ValueError(
                f"expected val/ or a test/ with {labels} in {root}, got a test/ without them. "
                f"Evaluation needs labels: move a part of the training images to {root / 'val'}."
            )
        note = f"{validation}/ chooses the best one; test/ has no labels and is not evaluated"
        return SplitNames("validation", "", note)
    if validation:
        note = f"{validation}/ chooses the best one; test/ is evaluated once, at the end"
        return SplitNames("validation", "test", note)
    note = "test/ chooses the best one, so its score is optimistic; add val/ for a fair one"
    return SplitNames("test", "", note)
