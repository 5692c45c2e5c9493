"""A folder of images and masks: examples, and error messages that name the wrong file."""

import pathlib
import re
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tests.train.data.example_images import GRADIENT, write_image
from train.data.batch import IGNORED_LABEL
from train.data.sources.load import load_source, load_splits
from train.data.sources.mask_folder import open_mask_folder


@pytest.fixture
def masks(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two images per split, with masks of three classes and 255 in the first row."""
    mask = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3
    mask[0] = 255
    for split in ("train", "test"):
        for number, name in enumerate(("a", "b")):
            write_image(tmp_path / split / "images" / f"{name}.jpg", np.stack([GRADIENT] * 3, -1))
            write_image(tmp_path / split / "masks" / f"{name}.png", np.roll(mask, number, 1))
    return tmp_path


# Without classes.txt, the classes are announced.
NUMBERED = pytest.mark.filterwarnings("ignore:found no .*classes.txt")


@NUMBERED
@pytest.mark.parametrize("cache_bytes", [0, 2**28])
def test_masks_are_class_numbers(masks: pathlib.Path, cache_bytes: int) -> None:
    train = load_source("mask_folder", "train", data_dir=masks, cache_bytes=cache_bytes)
    assert (train.image_shape, train.label_shape, len(train)) == ((6, 8, 3), (6, 8), 2)
    assert train.class_names == ("0", "1", "2")
    for label in (train[0]["label"], train[0]["label"]):
        assert np.all(label[0] == IGNORED_LABEL)
        np.testing.assert_array_equal(label[1:], np.arange(8, 48).reshape(5, 8) % 3)


def test_classes_without_names_are_announced(masks: pathlib.Path) -> None:
    with pytest.warns(UserWarning, match=r"values 0 \.\. 2 of.*3 classes.* void.*ignored_values=2"):
        load_source("mask_folder", "train", data_dir=masks)


@NUMBERED
def test_palette_masks_are_read_as_indices(masks: pathlib.Path) -> None:
    path = masks / "train" / "masks" / "a.png"
    plain = load_source("mask_folder", "train", data_dir=masks)[0]["label"]
    with Image.open(path) as mask:
        mask.load()
    # The colors do not depend on the indices.
    mask.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    mask.save(path)
    with Image.open(path) as saved:
        assert saved.mode == "P"
    label = load_source("mask_folder", "train", data_dir=masks)[0]["label"]
    np.testing.assert_array_equal(label, plain)


@pytest.mark.parametrize("dtype", [bool, np.uint16])
def test_masks_with_1_and_16_bits(masks: pathlib.Path, dtype: type) -> None:
    (masks / "classes.txt").write_text("no\nyes\n")
    yes = np.arange(48).reshape(6, 8) % 2
    for name in ("a", "b"):
        write_image(masks / "train" / "masks" / f"{name}.png", yes.astype(dtype))
    label = load_source("mask_folder", "train", data_dir=masks)[0]["label"]
    np.testing.assert_array_equal(label, yes)


def test_classes_file_names_the_classes(masks: pathlib.Path) -> None:
    (masks / "classes.txt").write_text("sky\n a tree \nhouse\nmoon\n\n", encoding="utf-8")
    for source in load_splits("mask_folder", data_dir=masks):
        assert source.class_names == ("sky", "a tree", "house", "moon")


def test_more_than_255_classes_are_rejected(masks: pathlib.Path) -> None:
    (masks / "classes.txt").write_text("\n".join(f"class {k}" for k in range(256)))
    with pytest.raises(ValueError, match=r"expected at most 255 classes in .*, got 256"):
        load_source("mask_folder", "train", data_dir=masks)


def test_binary_masks_with_0_and_255_cause_a_warning(masks: pathlib.Path) -> None:
    (masks / "classes.txt").write_text("no\nyes\n")
    for name in ("a", "b"):
        write_image(masks / "train" / "masks" / f"{name}.png", 255 * np.uint8(GRADIENT > 90))
    with pytest.warns(UserWarning, match=r"masks/a\.png, contain only 0 and 255.* '255 yes'"):
        open_mask_folder("mask_folder", "train", str(masks))


def damage_mask(root: pathlib.Path) -> None:
    (root / "train" / "masks" / "a.png").unlink()


def damage_image(root: pathlib.Path) -> None:
    (root / "train" / "images" / "b.jpg").unlink()


def damage_mask_size(root: pathlib.Path) -> None:
    write_image(root / "train" / "masks" / "a.png", GRADIENT[:4] % 3)


def damage_mask_color(root: pathlib.Path) -> None:
    write_image(root / "train" / "masks" / "a.png", np.stack([GRADIENT] * 3, -1))


def damage_mask_format(root: pathlib.Path) -> None:
    (root / "train" / "masks" / "a.png").unlink()
    write_image(root / "train" / "masks" / "a.jpg", GRADIENT % 3)


def damage_gap(root: pathlib.Path) -> None:
    write_image(root / "train" / "masks" / "b.png", np.full_like(GRADIENT, 7))


def damage_all_masks(root: pathlib.Path) -> None:
    for name in ("a", "b"):
        write_image(root / "train" / "masks" / f"{name}.png", 255 * np.uint8(GRADIENT > 90))


def damage_classes(root: pathlib.Path) -> None:
    (root / "classes.txt").write_text("sky\n\nhouse\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_mask, r"ROOT/train/images/a\.jpg has no mask ROOT/train/masks/a\.png"),
        (
            damage_image,
            r"ROOT/train/masks/b\.png has no image of the same name in ROOT/train/images",
        ),
        (
            damage_mask_size,
            r"ROOT/train/masks/a\.png has 8 x 4 pixels, and its image ROOT/train/images/a\.jpg has "
            r"8 x 6",
        ),
        (
            damage_mask_color,
            r"got colors\. Write .* to ROOT/classes\.txt.*first:\n  \d+ \d+ \d+ NAME\n",
        ),
        (damage_mask_format, r"ROOT/train/masks/a\.jpg is not a PNG"),
        (damage_gap, r"without a gap.*got \[0, 1, 2, 7, 255\].* 7 in ROOT/train/masks/b\.png"),
        (damage_all_masks, r"got \[0, 255\] .* 255 in ROOT/train/masks/a\.png\. Probably .* gray"),
        (damage_classes, r"names in ROOT/classes\.txt, .* got \['sky', '', 'house'\]"),
    ],
)
def test_error_names_the_wrong_masks(
    damage: Callable[[pathlib.Path], None], message: str, masks: pathlib.Path
) -> None:
    damage(masks)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_splits("mask_folder", data_dir=masks)
    assert re.search(message.replace("ROOT", re.escape(str(masks))), str(error.value))


def test_error_names_a_mask_that_changed_when_it_is_read(masks: pathlib.Path) -> None:
    (masks / "classes.txt").write_text("sky\ntree\nhouse\n")
    train = load_source("mask_folder", "train", data_dir=masks)
    path = masks / "train" / "masks" / "b.png"
    write_image(path, np.full_like(GRADIENT, 3))
    with pytest.raises(ValueError, match=rf"got \[3\] in {re.escape(str(path))}\. .* void, set"):
        train[1]


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_mask_with_an_unknown_class_is_named_at_the_start(
    masks: pathlib.Path, split: str
) -> None:
    (masks / "classes.txt").write_text("sky\ntree\nhouse\n")
    for name in ("a", "b"):
        write_image(masks / split / "masks" / f"{name}.png", np.full_like(GRADIENT, 11))
    with pytest.raises(ValueError, match=r"2 of the files") as error:
        load_source("mask_folder", split, data_dir=masks)
    message = str(error.value)
    assert len(re.findall(r"\n.*0 \.\. 2, or 255 .*, got \[11\] in .*\.png\.", message)) == 2
    assert message.count("set --config.ignored_values=11") == 1
