"""A user's folders: what is read, and that every message names the file that is wrong."""

import pathlib
import pickle
import re
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from train.data.labels import IGNORE_LABEL
from train.data.sources.folders import open_mask_folder
from train.data.sources.source import load_source, load_splits

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def write(path: pathlib.Path, pixels: np.ndarray = GREY) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def images(tmp_path: pathlib.Path) -> pathlib.Path:
    """Three cats and two dogs to train with, one of each to evaluate with; all different."""
    names = ["train/dog/1", "train/dog/2", "train/cat/b", "train/cat/a", "train/cat/deeper/c"]
    for number, name in enumerate([*names, "test/cat/1", "test/dog/1"]):
        write(tmp_path / f"{name}.png", GREY + np.uint8(number))
    return tmp_path


@pytest.fixture
def masks(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two images with masks of three classes in each split; 255 in the first row."""
    mask = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3
    mask[0] = 255
    for split in ("train", "test"):
        for number, name in enumerate(("a", "b")):
            write(tmp_path / split / "images" / f"{name}.jpg", np.stack([GREY] * 3, -1))
            write(tmp_path / split / "masks" / f"{name}.png", np.roll(mask, number, 1))
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
    np.testing.assert_array_equal(train[0]["image"][..., 0], GREY + 3)
    assert train[0]["label"].dtype == np.int32


@pytest.mark.parametrize("name", ["val", "validation"])
def test_the_evaluation_split_has_three_names(images: pathlib.Path, name: str) -> None:
    (images / "test").rename(images / name)
    assert len(load_source("image_folder", "test", data_dir=images)) == 2


def test_a_folder_travels_with_its_list_of_files(images: pathlib.Path) -> None:
    train = load_source("image_folder", "train", data_dir=images, image_size=4, image_channels=3)
    pickled = pickle.dumps(train)
    write(images / "train" / "cat" / "aa.png")  # a file more must not move the others
    again = pickle.loads(pickled)
    assert (len(again), again.image_shape) == (5, (4, 4, 3))
    np.testing.assert_array_equal(again[4]["image"], train[4]["image"])


@pytest.mark.parametrize("cache_bytes", [0, 2**28])
def test_masks_are_class_numbers(masks: pathlib.Path, cache_bytes: int) -> None:
    train = load_source("mask_folder", "train", data_dir=masks, cache_bytes=cache_bytes)
    assert (train.image_shape, train.label_shape, len(train)) == ((6, 8, 3), (6, 8), 2)
    assert train.class_names == ("0", "1", "2")
    for label in (train[0]["label"], train[0]["label"]):
        assert np.all(label[0] == IGNORE_LABEL)
        np.testing.assert_array_equal(label[1:], np.arange(8, 48).reshape(5, 8) % 3)


def test_a_palette_is_read_as_indices(masks: pathlib.Path) -> None:
    path = masks / "train" / "masks" / "a.png"
    plain = load_source("mask_folder", "train", data_dir=masks)[0]["label"]
    with Image.open(path) as mask:
        mask.load()
    # Colours that tell nothing of the indices.
    mask.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    mask.save(path)
    with Image.open(path) as saved:
        assert saved.mode == "P"
    again = load_source("mask_folder", "train", data_dir=masks)[0]["label"]
    np.testing.assert_array_equal(again, plain)


@pytest.mark.parametrize("dtype", [bool, np.uint16])
def test_masks_of_other_depths(masks: pathlib.Path, dtype: type) -> None:
    (masks / "classes.txt").write_text("no\nyes\n")
    yes = np.arange(48).reshape(6, 8) % 2
    for name in ("a", "b"):
        write(masks / "train" / "masks" / f"{name}.png", yes.astype(dtype))
    label = load_source("mask_folder", "train", data_dir=masks)[0]["label"]
    np.testing.assert_array_equal(label, yes)


def test_a_file_names_the_classes(masks: pathlib.Path) -> None:
    (masks / "classes.txt").write_text("sky\n a tree \nhouse\nmoon\n\n", encoding="utf-8")
    for source in load_splits("mask_folder", data_dir=masks):
        assert source.class_names == ("sky", "a tree", "house", "moon")


def test_more_classes_than_a_mask_can_name_are_refused(masks: pathlib.Path) -> None:
    (masks / "classes.txt").write_text("\n".join(f"class {k}" for k in range(256)))
    with pytest.raises(ValueError, match=r"expected at most 255 classes in .*, got 256"):
        load_source("mask_folder", "train", data_dir=masks)


def test_no_and_yes_as_0_and_255_are_told(masks: pathlib.Path) -> None:
    (masks / "classes.txt").write_text("no\nyes\n")
    for name in ("a", "b"):
        write(masks / "train" / "masks" / f"{name}.png", (GREY > 90).astype(np.uint8) * 255)
    with pytest.warns(UserWarning, match=r"masks/a\.png on, hold only 0 and 255.* save it as 1"):
        open_mask_folder("mask_folder", "train", str(masks))


def damage_class(root: pathlib.Path) -> None:
    (root / "train" / "bird").mkdir()


def damage_test_class(root: pathlib.Path) -> None:
    write(root / "test" / "bird" / "1.png")


def damage_images(root: pathlib.Path) -> None:
    for number in range(12):
        (root / "train" / "cat" / f"x{number:02}.png").write_text("no image")


def damage_size(root: pathlib.Path) -> None:
    write(root / "train" / "dog" / "2.png", GREY[:5])


def damage_color(root: pathlib.Path) -> None:
    write(root / "train" / "dog" / "2.png", np.stack([GREY] * 3, -1))


def damage_depth(root: pathlib.Path) -> None:
    write(root / "train" / "dog" / "2.png", GREY.astype(np.uint16))


def damage_layout(root: pathlib.Path) -> None:
    (root / "train" / "cat").rename(root / "cat")


def damage_test_size(root: pathlib.Path) -> None:
    for name in ("cat", "dog"):
        write(root / "test" / name / "1.png", GREY[:4])


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
            r"ROOT/train/cat/a\.png is grey, ROOT/train/dog/2\.png is colour.*image_channels=3",
        ),
        (damage_depth, r"8 bits a channel.*'I;16' in ROOT/train/dog/2\.png"),
        (damage_layout, r"two or more classes in ROOT/train.*got \['dog'\]"),
        (damage_test_size, r"\(6, 8, 1\) in training and \(4, 8, 1\) in evaluation.*image_size"),
    ],
)
def test_what_is_wrong_with_images_is_named(
    damage: Callable[[pathlib.Path], None], message: str, images: pathlib.Path
) -> None:
    damage(images)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_splits("image_folder", data_dir=images)
    assert re.search(message.replace("ROOT", re.escape(str(images))), str(error.value))


def test_pixels_cut_short_are_named_when_they_are_read(images: pathlib.Path) -> None:
    path = images / "train" / "cat" / "b.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    for file in (images / "train").rglob("*.png"):
        write(file, noise)
    path.write_bytes(path.read_bytes()[:-1000])
    train = load_source("image_folder", "train", data_dir=images)
    train[0]
    with pytest.raises(ValueError, match=rf"cannot read {re.escape(str(path))}: .*truncated"):
        train[1]


def test_sizes_and_channels_may_be_mixed_where_they_are_chosen(images: pathlib.Path) -> None:
    damage_size(images)
    damage_color(images)
    train, test = load_splits("image_folder", data_dir=images, image_size=4, image_channels=3)
    assert train.image_shape == test.image_shape == (4, 4, 3)
    assert all(example["image"].shape == (4, 4, 3) for example in train)
    assert train.mean == (0.485, 0.456, 0.406)


def damage_mask(root: pathlib.Path) -> None:
    (root / "train" / "masks" / "a.png").unlink()


def damage_image(root: pathlib.Path) -> None:
    (root / "train" / "images" / "b.jpg").unlink()


def damage_mask_size(root: pathlib.Path) -> None:
    write(root / "train" / "masks" / "a.png", GREY[:4] % 3)


def damage_mask_color(root: pathlib.Path) -> None:
    write(root / "train" / "masks" / "a.png", np.stack([GREY] * 3, -1))


def damage_mask_format(root: pathlib.Path) -> None:
    (root / "train" / "masks" / "a.png").unlink()
    write(root / "train" / "masks" / "a.jpg", GREY % 3)


def damage_gap(root: pathlib.Path) -> None:
    write(root / "train" / "masks" / "b.png", np.full_like(GREY, 7))


def damage_all_masks(root: pathlib.Path) -> None:
    for name in ("a", "b"):
        write(root / "train" / "masks" / f"{name}.png", (GREY > 90).astype(np.uint8) * 255)


def damage_classes(root: pathlib.Path) -> None:
    (root / "classes.txt").write_text("sky\n\nhouse\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_mask, r"ROOT/train/images/a\.jpg has no mask ROOT/train/masks/a\.png"),
        (damage_image, r"ROOT/train/masks/b\.png has no image of that name in ROOT/train/images"),
        (
            damage_mask_size,
            r"ROOT/train/masks/a\.png has 8 x 4 pixels, and its image ROOT/train/images/a\.jpg has "
            r"8 x 6",
        ),
        (damage_mask_color, r"ROOT/train/masks/a\.png has Pillow's mode 'RGB': expected one chan"),
        (damage_mask_format, r"ROOT/train/masks/a\.jpg is no PNG"),
        (damage_gap, r"without a gap.*got \[0, 1, 2, 7, 255\].* 7 in ROOT/train/masks/b\.png"),
        (damage_all_masks, r"got \[0, 255\] .* 255 in ROOT/train/masks/a\.png\. Probably .* grey"),
        (damage_classes, r"names in ROOT/classes\.txt, .* got \['sky', '', 'house'\]"),
    ],
)
def test_what_is_wrong_with_masks_is_named(
    damage: Callable[[pathlib.Path], None], message: str, masks: pathlib.Path
) -> None:
    damage(masks)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_splits("mask_folder", data_dir=masks)
    assert re.search(message.replace("ROOT", re.escape(str(masks))), str(error.value))


def test_a_value_beyond_the_classes_is_named_when_it_is_read(masks: pathlib.Path) -> None:
    (masks / "classes.txt").write_text("sky\ntree\n")
    train = load_source("mask_folder", "train", data_dir=masks)
    path = masks / "train" / "masks" / "b.png"
    with pytest.raises(ValueError, match=rf"got \[2\] in {re.escape(str(path))}"):
        train[1]
