"""A folder of masks as people have it: void, colors, other values, and the classes of a run."""

import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from aff_jax.images.class_colors import default_class_colors
from tests.train.data.example_images import encode, write_image
from train.data.batch import IGNORED_LABEL
from train.data.sources.load import load_source
from train.data.sources.mask_folder import open_mask_folder

VALUES = np.arange(64, dtype=np.uint8).reshape(8, 8) % 4
COLORS = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), (0, 0, 128)], np.uint8)
COLOR_LINES = "128 0 0 road\n0 128 0 tree\n0 0 128 house\n0 0 0 void\n"
NUMBERED = pytest.mark.filterwarnings("ignore:found no .*classes.txt")


def write(root: pathlib.Path, mask: np.ndarray, classes: str = "", split: str = "train") -> None:
    """Write a split of one image with this mask, and classes.txt."""
    image = np.arange(mask.shape[0] * mask.shape[1], dtype=np.uint8).reshape(mask.shape[:2])
    write_image(root / split / "images" / "a.png", image)
    write_image(root / split / "masks" / "a.png", mask)
    if classes:
        (root / "classes.txt").write_text(classes)


@NUMBERED
@pytest.mark.parametrize(("ignored", "names"), [((3,), "012"), ((0,), "123"), ((0, 3), "12")])
def test_ignored_labels_are_no_classes(
    tmp_path: pathlib.Path, ignored: tuple[int, ...], names: str
) -> None:
    write(tmp_path, VALUES)
    source = load_source("mask_folder", "train", data_dir=tmp_path, ignored_values=ignored)
    assert source.class_names == tuple(names)
    expected = np.where(np.isin(VALUES, ignored), IGNORED_LABEL, VALUES.astype(int) - int(names[0]))
    np.testing.assert_array_equal(source[0]["label"], expected)
    np.testing.assert_array_equal(source.class_counts, [16] * len(names))


def test_announced_classes_name_the_largest_value(tmp_path: pathlib.Path) -> None:
    write(tmp_path, np.arange(64, dtype=np.uint8).reshape(8, 8) % 12)
    with pytest.warns(UserWarning, match=r"0 \.\. 11 .* 12 classes.*ignored_values=11\."):
        load_source("mask_folder", "train", data_dir=tmp_path)


def test_an_ignored_value_that_no_mask_has_is_announced(tmp_path: pathlib.Path) -> None:
    write(tmp_path, VALUES, "a\nb\nc\nd\n")
    with pytest.warns(UserWarning, match=r"no training mask has .* \[9\] of ignored_values"):
        load_source("mask_folder", "train", data_dir=tmp_path, ignored_values=(9,))


def test_two_classes_must_remain(tmp_path: pathlib.Path) -> None:
    write(tmp_path, VALUES % 2, "a\nb\n")
    with pytest.raises(ValueError, match=r"two or more classes .* \[1, 255\], got \['a'\]"):
        load_source("mask_folder", "train", data_dir=tmp_path, ignored_values=(1,))


@pytest.mark.parametrize("kind", ["rgb", "palette"])
def test_masks_with_colors(tmp_path: pathlib.Path, kind: str) -> None:
    write(tmp_path, COLORS[VALUES], COLOR_LINES)
    if kind == "palette":
        mask = Image.fromarray(VALUES + np.uint8(7))
        mask.putpalette([0] * 21 + COLORS.ravel().tolist())
        mask.save(tmp_path / "train" / "masks" / "a.png")
    source = load_source("mask_folder", "train", data_dir=tmp_path)
    assert source.class_names == ("road", "tree", "house")
    expected = np.where(VALUES == 0, IGNORED_LABEL, VALUES.astype(int) - 1)
    np.testing.assert_array_equal(source[0]["label"], expected)
    np.testing.assert_array_equal(source.class_counts, [16, 16, 16])
    assert source.image_task.class_colors == ("#800000", "#008000", "#000080")


def test_a_palette_gives_the_colors_of_classes(tmp_path: pathlib.Path) -> None:
    write(tmp_path, VALUES, "sky\nroad\ntree\nhouse\n")
    task = load_source("mask_folder", "train", data_dir=tmp_path).image_task
    assert list(task.class_colors) == default_class_colors(task.class_names)
    mask = Image.fromarray(VALUES)
    mask.putpalette(COLORS.ravel().tolist())
    mask.save(tmp_path / "train" / "masks" / "a.png")
    source = load_source("mask_folder", "train", data_dir=tmp_path)
    assert source.image_task.class_colors == tuple(
        f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in COLORS.tolist()
    )


def test_masks_with_0_and_255_need_a_table(tmp_path: pathlib.Path) -> None:
    write(tmp_path, 255 * (VALUES > 1).astype(np.uint8))
    with pytest.raises(ValueError, match=r"one per line: '0 NAME', '255 NAME'\."):
        load_source("mask_folder", "train", data_dir=tmp_path)
    (tmp_path / "classes.txt").write_text("0 no\n255 yes\n")
    source = load_source("mask_folder", "train", data_dir=tmp_path)
    np.testing.assert_array_equal(source[0]["label"], VALUES > 1)
    assert source.image_task.mask_values == (0, 255)


def test_gray_values_of_jpeg_are_recognized(tmp_path: pathlib.Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8)
    write(tmp_path, noise)
    with pytest.raises(ValueError, match=r"and \d+ more in .*compressed as JPEG"):
        load_source("mask_folder", "train", data_dir=tmp_path)


def test_all_masks_with_a_problem_are_listed_in_a_file(
    tmp_path: pathlib.Path, cache_home: pathlib.Path
) -> None:
    write(tmp_path, VALUES, "a\nb\nc\nd\n")
    for number in range(12):
        write_image(tmp_path / "train" / "images" / f"{number:02}.png", VALUES)
        write_image(tmp_path / "train" / "masks" / f"{number:02}.png", VALUES + np.uint8(8))
    with pytest.raises(ValueError, match=r"(?s)12 of the files .*and 2 more; all") as error:
        load_source("mask_folder", "train", data_dir=tmp_path)
    file = pathlib.Path(re.findall(r"listed in (\S+)", str(error.value))[0])
    assert file.is_relative_to(cache_home)
    lines = file.read_text().splitlines()
    assert [f"{number:02}.png" in lines[number] for number in range(12)] == [True] * 12


@pytest.mark.parametrize("mask_is_rotated", [True, False])
def test_a_rotated_photograph_and_its_mask(tmp_path: pathlib.Path, mask_is_rotated: bool) -> None:
    stored = np.arange(48, dtype=np.uint8).reshape(6, 8)
    mask = np.rot90(stored, -1) if mask_is_rotated else stored
    write(tmp_path, mask % 3, "a\nb\nc\n")
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer rotates it clockwise
    (tmp_path / "train" / "images" / "a.png").unlink()
    data = encode(Image.fromarray(5 * stored), "JPEG", exif=exif, quality=100)
    (tmp_path / "train" / "images" / "a.jpg").write_bytes(data)
    if not mask_is_rotated:
        with pytest.raises(ValueError, match=r"a\.png has 8 x 6 .* 6 x 8\. Probably .* EXIF"):
            load_source("mask_folder", "train", data_dir=tmp_path)
        return
    example = load_source("mask_folder", "train", data_dir=tmp_path)[0]
    np.testing.assert_array_equal(example["label"], mask % 3)
    image = example["image"][..., 0]
    assert np.abs(image.astype(int) - 5 * mask.astype(int)).max() < 5


def test_lossless_formats_are_masks(tmp_path: pathlib.Path) -> None:
    write(tmp_path, VALUES, "a\nb\nc\nd\n")
    (tmp_path / "train" / "masks" / "a.png").unlink()
    write_image(tmp_path / "train" / "masks" / "a.tif", VALUES)
    source = load_source("mask_folder", "train", data_dir=tmp_path)
    np.testing.assert_array_equal(source[0]["label"], VALUES)


def open_with(root: pathlib.Path, *class_names: str, split: str = "train") -> tuple[str, ...]:
    source = load_source("mask_folder", split, data_dir=root, class_names=class_names)
    return source.class_names


def test_another_order_of_classes_is_noticed(tmp_path: pathlib.Path) -> None:
    write(tmp_path, VALUES % 2, "sky\ntree\n")
    assert open_with(tmp_path, "sky", "tree") == ("sky", "tree")
    (tmp_path / "classes.txt").write_text("tree\nsky\n")
    with pytest.raises(ValueError, match=r"'sky' was class 0 and is class 1"):
        open_with(tmp_path, "sky", "tree")
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"classes\.txt with the classes sky, tree .. .*restore"):
        open_with(tmp_path, "sky", "tree")


def test_classes_of_a_run_replace_the_training_masks(tmp_path: pathlib.Path) -> None:
    """Without classes.txt, and without a warning on each start."""
    write(tmp_path, VALUES, split="val")
    assert open_with(tmp_path, "0", "1", "2", "3", "4", split="validation") == tuple("01234")
    found = open_mask_folder(
        "masks", "validation", str(tmp_path), class_names=("1", "2", "3"), ignored_values=(0,)
    )
    assert found.class_names == ("1", "2", "3")
    with pytest.raises(ValueError, match=r"values 1 \.\. 2, or 255 .* got \[0, 3\]"):
        open_with(tmp_path, "1", "2", split="validation")
