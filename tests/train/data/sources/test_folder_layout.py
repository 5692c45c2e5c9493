"""Finding files in a user's folder, and error messages about an unexpected layout."""

import functools
import os
import pathlib
import re
import shutil
from collections.abc import Callable

import pytest

from aff_jax.images.image_folder import list_images
from train.data.sources.folder_layout import images_and_masks, split_folder, subfolders


def touch(root: pathlib.Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_hidden_files_are_ignored(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "a.png", ".DS_Store", "._a.png", ".cache/a.png", "__MACOSX/a.png", "cat/a.png")
    assert len(list_images(tmp_path)) == 2
    assert subfolders(tmp_path) == ["cat"]


def test_links_are_followed(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "elsewhere/a.png", "split/b.png")
    (tmp_path / "split" / "cat").symlink_to(tmp_path / "elsewhere")
    assert len(list_images(tmp_path / "split")) == 2
    assert subfolders(tmp_path / "split") == ["cat"]


@pytest.mark.parametrize(("split", "folder"), [("train", "train"), ("validation", "validation")])
def test_folder_of_a_split(split: str, folder: str, tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "train/a.png", "validation/a.png")
    assert split_folder("mine", split, str(tmp_path)) == tmp_path / folder


def test_training_images_alone_are_not_enough(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "train/a.png")
    with pytest.raises(FileNotFoundError, match=r"got train\..* a tenth, to .*val\.$"):
        split_folder("mine", "validation", str(tmp_path))


def test_val_and_test_are_different_splits(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "val/a.png", "test/a.png", "validation/a.png")
    assert split_folder("mine", "test", str(tmp_path)) == tmp_path / "test"
    assert split_folder("mine", "validation", str(tmp_path)) == tmp_path / "val"


def test_a_split_may_be_named_as_its_folder(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "val/a.png")
    assert split_folder("mine", "val", str(tmp_path)) == tmp_path / "val"


def test_without_a_test_split_the_other_one_is_suggested(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "train/a.png", "val/a.png")
    with pytest.raises(FileNotFoundError, match="Evaluate --split=validation, or add test/"):
        split_folder("mine", "test", str(tmp_path))


@pytest.mark.parametrize(
    ("split", "data_dir", "message"),
    [
        (
            "train",
            "",
            r"contains train/ and val/ for dataset 'mine'.*--config\.data_dir=PATH",
        ),
        ("train", "nowhere", "got nowhere, which is not a folder"),
        ("train[:50%]", ".", r"splits train, validation, test of 'mine', got 'train\[:50%\]'"),
        ("train", ".", r"expected train/ in \., got evaluation, training\. .* too high"),
        (
            "test",
            ".",
            r"expected test/ in \., got evaluation, tra",
        ),
    ],
)
def test_missing_split_is_rejected(
    split: str,
    data_dir: str,
    message: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    touch(tmp_path, "training/a.png", "evaluation/a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        split_folder("mine", split, data_dir)


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[pathlib.Path], None]:
    """Return a function that makes a folder unreadable, for the superuser too."""

    def forbid(folder: pathlib.Path) -> None:
        def refuse(original: Callable[[str], object], path: str) -> object:
            if os.fspath(path) == str(folder):
                raise PermissionError(13, "Permission denied", str(path))
            return original(path)

        for name in ("scandir", "listdir"):
            monkeypatch.setattr(os, name, functools.partial(refuse, getattr(os, name)))

    return forbid


@pytest.mark.parametrize("folder", ["train", "train/cat", "train/cat/night"])
def test_error_names_an_unreadable_folder(
    folder: str, tmp_path: pathlib.Path, unreadable: Callable[[pathlib.Path], None]
) -> None:
    touch(tmp_path, "train/cat/a.png", "train/cat/night/b.png")
    unreadable(tmp_path / folder)
    with pytest.raises(OSError, match=rf"{re.escape(str(tmp_path / folder))}\b.*Permission denied"):
        list_images(tmp_path / "train")
    if folder == "train":
        with pytest.raises(PermissionError, match=re.escape(str(tmp_path / folder))):
            subfolders(tmp_path / folder)


@pytest.mark.parametrize("link", ["train", "train/cat", "train/dog/more"])
def test_error_names_a_link_to_nothing(link: str, tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "train/dog/a.png", "unmounted")
    if link == "train":
        shutil.rmtree(tmp_path / "train")
    (tmp_path / link).symlink_to("/nowhere/images")
    message = rf"got links to nothing: {re.escape(str(tmp_path / link))}\. Mount or restore"

    def find() -> None:
        folder = split_folder("mine", "train", str(tmp_path))
        for name in subfolders(folder):
            list_images(folder / name)

    with pytest.raises(FileNotFoundError, match=message):
        find()


def test_missing_split_names_the_files_that_are_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected train/ in .*, got an empty folder\."):
        split_folder("mine", "train", str(tmp_path))
    touch(tmp_path, "b.zip", "a.png")
    with pytest.raises(FileNotFoundError, match=r"got no folders, only a\.png, b\.zip\. Training"):
        split_folder("mine", "train", str(tmp_path))


def test_images_and_masks_are_paired(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "images/b.jfif", "images/day/a.tif", "masks/b.png", "masks/day/a.png")
    images, masks = images_and_masks(tmp_path)
    assert images == [str(tmp_path / "images" / name) for name in ("b.jfif", "day/a.tif")]
    assert masks == [str(tmp_path / "masks" / name) for name in ("b.png", "day/a.png")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["images/a.jpg", "masks/b.png"], r"(?s)2 of .*images/a\.jpg has no .*b\.png has no image"),
        (
            ["images/a.jpg", "images/a.png", "masks/a.png"],
            r"images/a\..* and .*images/a\..* 'a'",
        ),
        (["images/a.jpg", "masks/a.jpg"], r"masks/a\.jpg is not a PNG"),
        (["images/.a.jpg", "masks/.a.png"], r"images has no images \(\.bmp"),
    ],
)
def test_error_names_files_without_a_partner(
    files: list[str], message: str, tmp_path: pathlib.Path
) -> None:
    touch(tmp_path, *files)
    with pytest.raises(ValueError, match=message):
        images_and_masks(tmp_path)


@pytest.mark.parametrize("ending", ["_mask", "_L", "-gt.labels"])
def test_masks_may_have_an_ending(ending: str, tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/a_1.jpg", "images/b/c.jpg")
    touch(tmp_path, *(f"masks/{stem}{ending}.png" for stem in ("a", "a_1", "b/c")))
    images, masks = images_and_masks(tmp_path)
    stems = [str(pathlib.Path(path).relative_to(tmp_path / "images"))[:-4] for path in images]
    assert masks == [str(tmp_path / "masks" / f"{stem}{ending}.png") for stem in stems]
    (tmp_path / "masks" / f"a{ending}.png").rename(tmp_path / "masks" / "a.png")
    message = rf"(?s)2 of .*a\.jpg has no mask .*a{ending}\.png.*a\.png has no image"
    with pytest.raises(ValueError, match=message):
        images_and_masks(tmp_path)


def test_error_names_a_missing_folder_of_masks(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "images/a.png", "labels/a.png")
    with pytest.raises(FileNotFoundError, match=r"images/ and masks/ in .*, got no masks/"):
        images_and_masks(tmp_path)
