"""Masks as they are stored, and the labels they are converted to."""

import numpy as np
import pytest
from PIL import Image

from tests.train.data.example_images import encode
from train.data.batch import IGNORE_LABEL
from train.data.sources.mask_files import decode_mask, mask_labels, mask_values


def test_values_are_unchanged_and_only_255_is_ignored() -> None:
    mask = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)
    read = decode_mask(encode(mask), (2, 3), 3, "a mask")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, mask)
    labels = mask_labels(read)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [[0, 1, 2], [IGNORE_LABEL, 2, 0]])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((4, 2), np.uint8), r"shape \(4, 6\) of its image, got \(4, 2\) for cat\.png"),
        (np.zeros((4, 6, 3), np.uint8), r"one channel .* got \(4, 6, 3\) for cat\.png"),
        (np.full((4, 6), 11, np.uint8), r"0 \.\. 10, or 255 .* got \[11\] in cat\.png"),
        (np.eye(4, 6, dtype=np.uint8) * 254, r"got \[254\] in cat\.png"),
    ],
)
def test_error_names_a_mask_that_does_not_match(mask: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_mask(encode(mask), (4, 6), 11, "cat.png")


@pytest.mark.parametrize("mode", ["1", "P", "I;16", "I"])
def test_stored_values_are_read_in_every_mode(mode: str) -> None:
    values = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    mask = {
        "1": Image.fromarray(values * 255).convert("1"),
        "P": Image.fromarray(values),
        "I;16": Image.fromarray(values.astype(np.uint16)),
        "I": Image.fromarray(values.astype(np.int32)),
    }[mode]
    if mode == "P":
        mask.putpalette([90, 90, 90, 10, 20, 30] + [0] * 762)
    assert mask.mode == mode
    data = encode(mask, "TIFF" if mode == "I" else "PNG")
    read = decode_mask(data, (2, 3), 2, "a mask")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("value", [256, 65535])
def test_16_bit_values_do_not_overflow(value: int) -> None:
    with pytest.raises(ValueError, match=rf"got \[{value}\] in cat\.png"):
        decode_mask(encode(np.full((2, 2), value, np.uint16)), (2, 2), 3, "cat.png")


def test_error_names_a_truncated_mask() -> None:
    noise = np.random.default_rng(0).integers(0, 3, (64, 64), np.uint8)
    with pytest.raises(ValueError, match=r"cannot read cat\.png: .*truncated"):
        decode_mask(encode(noise)[:-200], (64, 64), 3, "cat.png")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mask_values_are_distinct_and_ascending(dtype: type) -> None:
    assert mask_values(np.array([[9, 0], [255, 9]], dtype)).tolist() == [0, 9, 255]
