"""Masks as they lie on disk, and the labels they are made into."""

import io

import numpy as np
import pytest
from PIL import Image

from train.data.masks import decode_mask, mask_labels
from train.losses import IGNORE_LABEL


def as_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def test_a_mask_comes_back_and_only_255_is_ignored() -> None:
    mask = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)
    read = decode_mask(as_png(mask), (2, 3), 3, "a mask")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, mask)
    labels = mask_labels(read)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [[0, 1, 2], [IGNORE_LABEL, 2, 0]])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((4, 2), np.uint8), r"\(4, 6\) pixels, as its image, got \(4, 2\) for cat\.png"),
        (np.zeros((4, 6, 3), np.uint8), r"one channel .* got \(4, 6, 3\) for cat\.png"),
        (np.full((4, 6), 11, np.uint8), r"0 \.\. 10, or 255 .* got \[11\] in cat\.png"),
        (np.eye(4, 6, dtype=np.uint8) * 254, r"got \[254\] in cat\.png"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(mask: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_mask(as_png(mask), (4, 6), 11, "cat.png")
