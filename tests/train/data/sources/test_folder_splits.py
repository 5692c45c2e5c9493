"""Which split chooses the best checkpoint, and which one is the test."""

import pathlib

import pytest

from train.data.sources.folder_splits import SplitNames, find_image_splits, find_mask_splits


def make(root: pathlib.Path, *folders: str) -> str:
    for folder in folders:
        (root / folder).mkdir(parents=True)
    return str(root)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_chooses_and_test_is_kept_apart(tmp_path: pathlib.Path, name: str) -> None:
    names = find_image_splits(make(tmp_path, "train/a", f"{name}/a", "test/a"))
    assert names[:2] == ("validation", "test")
    assert f"{name}/ chooses the best one; test/ is evaluated once" in names.note


def test_a_score_of_the_split_that_chooses_is_called_optimistic(tmp_path: pathlib.Path) -> None:
    names = find_image_splits(make(tmp_path, "train/a", "test/a"))
    assert names[:2] == ("test", "")
    assert "optimistic; add val/" in names.note


def test_validation_alone(tmp_path: pathlib.Path) -> None:
    names = find_mask_splits(make(tmp_path, "train/masks", "val/masks"))
    assert names == SplitNames("validation", "", "val/ chooses the best one; there is no test/")


def test_a_test_split_without_labels_is_announced(tmp_path: pathlib.Path) -> None:
    data_dir = make(tmp_path, "train/masks", "val/masks", "test/images")
    names = find_mask_splits(data_dir)
    assert names[:2] == ("validation", "")
    assert "test/ has no labels and is not evaluated" in names.note


def test_images_and_empty_masks_are_no_labels(tmp_path: pathlib.Path) -> None:
    make(tmp_path, "a/train/cat", "a/val/cat", "a/test/images")
    assert find_image_splits(str(tmp_path / "a")).test == ""
    make(tmp_path, "b/train/images", "b/val/images", "b/test/images")  # a class of this name
    assert find_image_splits(str(tmp_path / "b")).test == "test"
    make(tmp_path, "c/train/masks", "c/val/masks", "c/test/masks")
    assert find_mask_splits(str(tmp_path / "c")).test == ""


@pytest.mark.parametrize("find", [find_image_splits, find_mask_splits])
def test_labels_are_needed_for_evaluation(tmp_path: pathlib.Path, find: object) -> None:
    data_dir = make(tmp_path, "train/masks", "test")
    with pytest.raises(ValueError, match=r"got a test/ without them.*training images to .*val"):
        find(data_dir)  # type: ignore[operator]


@pytest.mark.parametrize("layout", ["test", "test/images"])
def test_a_flat_folder_of_test_images_has_no_labels(tmp_path: pathlib.Path, layout: str) -> None:
    data_dir = make(tmp_path, "train/cat", "valid/cat", layout)
    (tmp_path / layout / "1.jpg").write_bytes(b"")
    for find in (find_image_splits, find_mask_splits):
        names = find(data_dir)
        assert names[:2] == ("validation", "")
        assert names.note.startswith("valid/ chooses the best one; test/ has no labels")
