"""A folder of images per class: examples, and error messages that name the wrong file."""

import pathlib
import pickle
import re
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tests.train.data.example_images import GRADIENT, encode, write_image
from train.data.sources.load import load_source, load_splits


@pytest.fixture
def images(tmp_path: pathlib.Path) -> pathlib.Path:
    """Three training images of cats and two of dogs, and one test image of each; all differ."""
    names = ["train/dog/1", "train/dog/2", "train/cat/b", "train/cat/a", "train/cat/deeper/c"]
    for number, name in enumerate([*names, "test/cat/1", "test/dog/1"]):
        write_image(tmp_path / f"{name}.png", GRADIENT + np.uint8(number))
    return tmp_path


def test_classes_are_the_folders_in_order(images: pathlib.Path) -> None:
    train, test = load_splits("image_folder", data_dir=images)
    assert train.class_names == test.class_names == ("cat", "dog")
    assert (train.image_shape, train.label_shape, train.num_classes) == ((6, 8, 1), (), 2)
    # By class, then by name: cats a, b, deeper/c, dogs 1, 2.
    assert [int(example["label"]) for example in train] == [0, 0, 0, 1, 1]
    assert [int(example["image"][0, 0, 0]) for example in train] == [3, 2, 4, 0, 1]
    assert [int(example["label"]) for example in test] == [0, 1]
    assert [int(example["index"]) for example in train] == [0, 1, 2, 3, 4]
    assert (train.mean, train.std) == ((0.449,), (0.226,))
    np.testing.assert_array_equal(train[0]["image"][..., 0], GRADIENT + 3)
    assert train[0]["label"].dtype == np.int32


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_folder_of_the_validation_split_has_three_names(images: pathlib.Path, name: str) -> None:
    (images / "test").rename(images / name)
    assert len(load_source("image_folder", "validation", data_dir=images)) == 2


def test_pickled_source_keeps_its_list_of_files(images: pathlib.Path) -> None:
    train = load_source(
        "image_folder", "train", data_dir=images, image_size=(4, 4), image_channels=3
    )
    pickled = pickle.dumps(train)
    write_image(images / "train" / "cat" / "aa.png")  # A new file must not change the positions.
    unpickled = pickle.loads(pickled)
    assert (len(unpickled), unpickled.image_shape) == (5, (4, 4, 3))
    np.testing.assert_array_equal(unpickled[4]["image"], train[4]["image"])


def test_images_outside_of_the_classes_are_a_warning(images: pathlib.Path) -> None:
    for name in ("train/stray.png", "train/.hidden.png", "train/notes.txt"):
        write_image(images / "stray.png")
        (images / "stray.png").rename(images / name)
    with pytest.warns(UserWarning, match=r"ignored images in .*train .* class: stray\.png\.$"):
        assert len(load_source("image_folder", "train", data_dir=images)) == 5


def test_every_file_that_cannot_be_opened_is_named(images: pathlib.Path) -> None:
    for name in ("cat/a.png", "dog/2.png"):
        (images / "train" / name).unlink()
        (images / "train" / name).symlink_to("/nowhere/image.png")
    with pytest.raises(ValueError, match=r"(?s)2 of the files .*cat/a\.png.*dog/2\.png"):
        load_source("image_folder", "train", data_dir=images)


def damage_class(root: pathlib.Path) -> None:
    (root / "train" / "bird").mkdir()


def damage_test_class(root: pathlib.Path) -> None:
    write_image(root / "test" / "bird" / "1.png")


def damage_images(root: pathlib.Path) -> None:
    for number in range(12):
        (root / "train" / "cat" / f"x{number:02}.png").write_text("not an image")


def damage_size(root: pathlib.Path) -> None:
    write_image(root / "train" / "dog" / "2.png", GRADIENT[:5])


def damage_color(root: pathlib.Path) -> None:
    write_image(root / "train" / "dog" / "2.png", np.stack([GRADIENT] * 3, -1))


def damage_depth(root: pathlib.Path) -> None:
    write_image(root / "train" / "dog" / "2.png", GRADIENT.astype(np.uint16))


def damage_layout(root: pathlib.Path) -> None:
    (root / "train" / "cat").rename(root / "cat")


def damage_test_size(root: pathlib.Path) -> None:
    for name in ("cat", "dog"):
        write_image(root / "test" / name / "1.png", GRADIENT[:4])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_class, r"in the folder of every class, got none in ROOT/train/bird\."),
        (damage_test_class, r"classes of ROOT/train, got others: ROOT/test/bird\. A network"),
        (
            damage_images,
            r"12 of the files in ROOT/train cannot be used:\n  cannot read ROOT/train/cat/x00\.png"
            r"(.|\n)*x09\.png.*\n  and 2 more",
        ),
        (
            damage_size,
            r"ROOT/train/cat/a\.png is 8 x 6, ROOT/train/dog/2\.png is 8 x 5.*image_size",
        ),
        (
            damage_color,
            r"ROOT/train/cat/a\.png is gray, ROOT/train/dog/2\.png is color.*image_channels=3",
        ),
        (damage_depth, r"8 bits per channel.*'I;16' in ROOT/train/dog/2\.png"),
        (damage_layout, r"two or more classes in ROOT/train.*got \['dog'\]"),
        (damage_test_size, r"\(6, 8, 1\) in training and \(4, 8, 1\) in evaluation.*image_size"),
    ],
)
def test_error_names_the_wrong_images(
    damage: Callable[[pathlib.Path], None], message: str, images: pathlib.Path
) -> None:
    damage(images)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_splits("image_folder", data_dir=images)
    assert re.search(message.replace("ROOT", re.escape(str(images))), str(error.value))


def test_error_names_a_truncated_image_when_it_is_read(images: pathlib.Path) -> None:
    path = images / "train" / "cat" / "b.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    for file in (images / "train").rglob("*.png"):
        write_image(file, noise)
    path.write_bytes(path.read_bytes()[:-1000])
    train = load_source("image_folder", "train", data_dir=images)
    train[0]
    with pytest.raises(ValueError, match=rf"cannot read {re.escape(str(path))}: .*truncated"):
        train[1]


def test_images_can_differ_if_size_and_channels_are_chosen(images: pathlib.Path) -> None:
    damage_size(images)
    damage_color(images)
    train, test = load_splits("image_folder", data_dir=images, image_size=(4, 4), image_channels=3)
    assert train.image_shape == test.image_shape == (4, 4, 3)
    assert all(example["image"].shape == (4, 4, 3) for example in train)
    assert train.mean == (0.485, 0.456, 0.406)


def test_validation_may_lack_a_class(images: pathlib.Path) -> None:
    (images / "test").rename(images / "val")
    write_image(images / "train" / "bird" / "1.png")
    train, validation = load_splits("image_folder", data_dir=images)
    assert train.class_names == validation.class_names == ("bird", "cat", "dog")
    assert [int(example["label"]) for example in validation] == [1, 2]
    np.testing.assert_array_equal(validation.class_counts, [0, 1, 1])
    write_image(images / "val" / "fish" / "1.png")
    with pytest.raises(ValueError, match=r"got others: .*val/fish\."):
        load_splits("image_folder", data_dir=images)


def test_a_new_folder_of_a_class_is_noticed(images: pathlib.Path) -> None:
    names = ("cat", "dog")
    assert load_source("image_folder", "train", data_dir=images, class_names=names).num_classes == 2
    write_image(images / "train" / "bird" / "1.png")
    with pytest.raises(ValueError, match=r"with, got 3 in 'image_folder' in .*New: 'bird'"):
        load_source("image_folder", "test", data_dir=images, class_names=names)


def test_classes_of_a_run_replace_the_training_folder(images: pathlib.Path) -> None:
    shutil.rmtree(images / "train")
    test = load_source("image_folder", "test", data_dir=images, class_names=("bird", "cat", "dog"))
    assert test.class_names == ("bird", "cat", "dog")
    assert [int(example["label"]) for example in test] == [1, 2]
    with pytest.raises(ValueError, match=r"got others: .*test/dog\."):
        load_source("image_folder", "test", data_dir=images, class_names=("bird", "cat"))


def test_photographs_are_rotated(images: pathlib.Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer rotates it clockwise
    photograph = encode(Image.fromarray(GRADIENT), "JPEG", exif=exif, quality=100)
    (images / "train" / "cat" / "0.jpg").write_bytes(photograph)
    train = load_source("image_folder", "train", data_dir=images, image_size=(8, 6), resize="pad")
    difference = train[0]["image"][..., 0].astype(int) - np.rot90(GRADIENT, -1)
    assert np.abs(difference).max() < 5
