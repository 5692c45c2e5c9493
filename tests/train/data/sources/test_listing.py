"""What is found in a user's data folder, and what is said where it is not as expected."""

import pathlib

import pytest

from train.data.sources.listing import image_files, images_and_masks, split_folder, subfolders


def touch(root: pathlib.Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_images_are_found_in_order_and_at_any_depth(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "b.png", "a.JPG", "c/d/e.webp", "B.jpeg")
    found = [pathlib.Path(path).relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
    assert found == ["B.jpeg", "a.JPG", "b.png", "c/d/e.webp"]


def test_what_is_hidden_is_passed_over(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "a.png", ".DS_Store", "._a.png", ".cache/a.png", "__MACOSX/a.png", "cat/a.png")
    assert len(image_files(tmp_path)) == 2
    assert subfolders(tmp_path) == ["cat"]


def test_a_linked_folder_is_followed(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "elsewhere/a.png", "split/b.png")
    (tmp_path / "split" / "cat").symlink_to(tmp_path / "elsewhere")
    assert len(image_files(tmp_path / "split")) == 2
    assert subfolders(tmp_path / "split") == ["cat"]


def test_a_link_to_a_folder_above_is_not_followed_for_ever(tmp_path: pathlib.Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").touch()
    (tmp_path / "cat" / "all").symlink_to(tmp_path)
    assert image_files(tmp_path) == [str(tmp_path / "cat" / "a.png")]


def test_other_files_are_left_alone_and_told(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "a.png", "b.heic", *(f"notes{n:02}.txt" for n in range(12)))
    with pytest.warns(UserWarning, match=r"left alone.*b\.heic.*notes08\.txt and 3 more"):
        assert len(image_files(tmp_path)) == 1


@pytest.mark.parametrize(("split", "folder"), [("train", "train"), ("test", "validation")])
def test_where_a_split_lies(split: str, folder: str, tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "train/a.png", "validation/a.png")
    assert split_folder("mine", split, str(tmp_path)) == tmp_path / folder


def test_of_several_folders_to_evaluate_on_test_is_the_first(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "val/a.png", "test/a.png", "validation/a.png")
    assert split_folder("mine", "test", str(tmp_path)) == tmp_path / "test"


@pytest.mark.parametrize(
    ("split", "data_dir", "message"),
    [
        ("train", "", r"that holds train/ and test/ for data set 'mine'.*--config\.data_dir=PATH"),
        ("train", "nowhere", "got nowhere: no folder"),
        ("train[:50%]", ".", r"splits train, test of 'mine', got 'train\[:50%\]'"),
        ("train", ".", r"expected train/ in \., got only evaluation, training\. .* too high"),
        (
            "test",
            ".",
            r"expected test/ or val/ or validation/ in \., got only evaluation, tra",
        ),
    ],
)
def test_a_split_that_is_not_there(
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


def test_images_and_their_masks(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "images/b.jpg", "images/day/a.tif", "masks/b.png", "masks/day/a.png")
    images, masks = images_and_masks(tmp_path)
    assert images == [str(tmp_path / "images" / name) for name in ("b.jpg", "day/a.tif")]
    assert masks == [str(tmp_path / "masks" / name) for name in ("b.png", "day/a.png")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["images/a.jpg", "masks/b.png"], r"(?s)2 of .*images/a\.jpg has no .*b\.png has no image"),
        (
            ["images/a.jpg", "images/a.png", "masks/a.png"],
            r"images/a\..* and .*images/a\..* 'a'",
        ),
        (["images/a.jpg", "masks/a.jpg"], r"masks/a\.jpg is no PNG"),
        (["images/.a.jpg", "masks/.a.png"], r"images has no images \(\.bmp"),
    ],
)
def test_what_does_not_pair_is_named(
    files: list[str], message: str, tmp_path: pathlib.Path
) -> None:
    touch(tmp_path, *files)
    with pytest.raises(ValueError, match=message):
        images_and_masks(tmp_path)


def test_a_missing_folder_of_masks_is_named(tmp_path: pathlib.Path) -> None:
    touch(tmp_path, "images/a.png", "labels/a.png")
    with pytest.raises(FileNotFoundError, match=r"images/ and masks/ in .*, got no masks/"):
        images_and_masks(tmp_path)
