"""Masks as they are stored, and the labels they are converted to."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from tests.train.data.example_images import encode, write_image
from train.data.batch import IGNORED_LABEL
from train.data.sources.class_table import ClassTable, color_code
from train.data.sources.mask_files import (
    check_values,
    decode_mask,
    mask_labels,
    read_facts,
    read_palette,
)

SKY, TREE, VOID = (0, 128, 255), (128, 0, 0), (0, 0, 0)
COLORS = ClassTable(
    ("sky", "tree"), {color_code(SKY): 0, color_code(TREE): 1, color_code(VOID): 255}, by_color=True
)


def numbered(classes: int) -> ClassTable:
    return ClassTable.numbered(map(str, range(classes)))


def palette_image(values: np.ndarray, *colors: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette([channel for color in colors for channel in color])
    assert image.mode == "P"
    return image


def test_values_are_unchanged_and_only_255_is_ignored() -> None:
    mask = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)
    read = decode_mask(encode(mask), (2, 3), numbered(3), "a mask")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, mask)
    labels = mask_labels(read)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [[0, 1, 2], [IGNORED_LABEL, 2, 0]])


def test_rgb_palette_and_gray_masks_have_the_same_labels(tmp_path: pathlib.Path) -> None:
    values = np.array([[0, 1, 2], [2, 2, 0]])
    expected = np.array([[0, 1, 255], [255, 255, 0]])
    colors = palette_image(values, SKY, TREE, VOID)
    rgb = colors.convert("RGB")
    for mask in (colors, rgb, rgb.convert("RGBA")):
        np.testing.assert_array_equal(decode_mask(encode(mask), (2, 3), COLORS, "a"), expected)
        mask.save(tmp_path / "a.png")
        assert check_values(read_facts(tmp_path / "a.png"), COLORS, "a").tolist() == [2, 1]
    # Gray 200 is the color (200, 200, 200).
    grays = ClassTable(("no", "yes"), {0: 0, color_code((200,) * 3): 1}, by_color=True)
    gray = np.array([[0, 200]], np.uint8)
    np.testing.assert_array_equal(decode_mask(encode(gray), (1, 2), grays, "a"), [[0, 1]])
    write_image(tmp_path / "b.png", gray)
    assert check_values(read_facts(tmp_path / "b.png"), grays, "b").tolist() == [1, 1]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((4, 2), np.uint8), r"shape \(4, 6\) of its image, got \(4, 2\) for cat\.png"),
        (np.zeros((4, 6, 3), np.uint8), r"cat\.png has .* mode 'RGB': expected one channel"),
        (np.full((4, 6), 11, np.uint8), r"0 \.\. 10, or 255 .* got \[11\] in cat\.png"),
        (np.eye(4, 6, dtype=np.uint8) * 254, r"got \[254\] in cat\.png"),
    ],
)
def test_error_names_a_mask_that_does_not_match(mask: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_mask(encode(mask), (4, 6), numbered(11), "cat.png")


def test_message_says_what_an_unknown_value_may_be() -> None:
    with pytest.raises(ValueError, match=r"got \[11\]") as error:
        decode_mask(encode(np.full((2, 2), 11, np.uint8)), (2, 2), numbered(11), "cat.png")
    for cause in ("void, set --config.ignored_values=11.", "a class, add its name", "as JPEG"):
        assert cause in str(error.value)
    with pytest.raises(ValueError, match=r"ignored_values='\(7, 9\)'"):
        decode_mask(encode(np.array([[7, 9]], np.uint8)), (1, 2), numbered(3), "cat.png")
    with pytest.raises(ValueError, match=r"got \[1 2 3\] in cat\.png.*line .* '1 2 3 void'"):
        decode_mask(encode(np.full((1, 2, 3), (1, 2, 3), np.uint8)), (1, 2), COLORS, "cat.png")


@pytest.mark.parametrize("mode", ["1", "P", "I;16", "I"])
def test_stored_values_are_read_in_every_mode(mode: str, tmp_path: pathlib.Path) -> None:
    values = np.array([[0, 1, 1], [1, 1, 0]], np.uint8)
    mask = {
        "1": Image.fromarray(values * 255).convert("1"),
        "P": palette_image(values, (90, 90, 90), (10, 20, 30)),
        "I;16": Image.fromarray(values.astype(np.uint16)),
        "I": Image.fromarray(values.astype(np.int32)),
    }[mode]
    assert mask.mode == mode
    data = encode(mask, "TIFF" if mode == "I" else "PNG")
    read = decode_mask(data, (2, 3), numbered(2), "a mask")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, values)
    path = tmp_path / "a"
    path.write_bytes(data)
    facts = read_facts(path)
    assert facts[:4] == (2, 3, False, {0: 2, 1: 4})
    assert check_values(facts, numbered(3), "a").tolist() == [2, 4, 0]


@pytest.mark.parametrize("value", [256, 65535])
def test_16_bit_values_do_not_overflow(value: int) -> None:
    with pytest.raises(ValueError, match=rf"got \[{value}\] in cat\.png"):
        decode_mask(encode(np.full((2, 2), value, np.uint16)), (2, 2), numbered(3), "cat.png")


def test_16_bit_values_can_be_classes() -> None:
    table = ClassTable(("road", "tree"), {7001: 0, 300: 1, 255: 255})
    mask = encode(np.array([[7001, 300, 255]], np.uint16))
    np.testing.assert_array_equal(decode_mask(mask, (1, 3), table, "a"), [[0, 1, 255]])


def test_error_names_a_truncated_mask() -> None:
    noise = np.random.default_rng(0).integers(0, 3, (64, 64), np.uint8)
    with pytest.raises(ValueError, match=r"cannot read cat\.png: .*truncated"):
        decode_mask(encode(noise)[:-200], (64, 64), numbered(3), "cat.png")


def test_jpeg_masks_are_recognized(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.png"  # also under another name
    path.write_bytes(encode(np.zeros((8, 8), np.uint8), "JPEG"))
    with pytest.raises(ValueError, match=r"a\.png is compressed as JPEG.*again as PNG"):
        read_facts(path)
    with pytest.raises(ValueError, match="compressed as JPEG"):
        decode_mask(path.read_bytes(), (8, 8), numbered(2), "a.png")
    # Converted to PNG, it has more colors than a mask.
    write_image(path, np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8))
    for table in (COLORS, numbered(2)):
        with pytest.raises(ValueError, match=r"more than 4,096 .*compressed as JPEG"):
            check_values(read_facts(path), table, "a.png")


def test_colors_without_a_table_are_listed_as_lines(tmp_path: pathlib.Path) -> None:
    write_image(tmp_path / "a.png", np.array([[SKY, TREE, SKY]], np.uint8))
    with pytest.raises(ValueError, match=r"a\.png has colors: expected class numbers") as error:
        check_values(read_facts(tmp_path / "a.png"), numbered(2), "a.png")
    (note,) = error.value.__notes__
    assert note.endswith("first:\n  0 128 255 NAME\n  128 0 0 NAME")


def test_palettes_color_the_classes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.png"
    palette_image(np.zeros((2, 2)), SKY, TREE, VOID).save(path)
    assert read_palette(path, numbered(2)) == ("#0080ff", "#800000")
    assert read_palette(path, numbered(9)) == ()  # the palette is shorter
    palette_image(np.zeros((2, 2)), SKY, SKY).save(path)
    assert read_palette(path, numbered(2)) == ()
    write_image(path, np.zeros((2, 2), np.uint8))
    assert read_palette(path, numbered(2)) == ()
