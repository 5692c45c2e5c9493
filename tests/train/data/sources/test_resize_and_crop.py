"""Resizing and cropping against sums over pixels in NumPy."""

import numpy as np
import pytest
from PIL import Image

from train.data.sources.resize_and_crop import (
    AREAS,
    ASPECTS,
    IMAGE_FILTER,
    MASK_FILTER,
    RESIZE_RATIO,
    center_crop,
    crop_and_resize,
    random_box,
    resize_and_center_crop,
    resize_shorter_side,
)


def triangle(old: int, new: int) -> np.ndarray:
    """Return the weights of old pixels in new ones: triangles as wide as two larger pixels."""
    scale = old / new
    width = max(scale, 1.0)
    centers = (np.arange(new) + 0.5) * scale
    distance = abs(centers[:, None] - (np.arange(old) + 0.5)[None, :])
    weights = np.maximum(1 - distance / width, 0)
    return weights / weights.sum(1, keepdims=True)


def ramp(height: int, width: int) -> np.ndarray:
    """Return an image whose red channel is the column and whose green channel is the row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, 0 * rows], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "length", "expected"),
    [
        (40, 60, 20, (20, 30)),
        (61, 40, 20, (30, 20)),  # 30.5, rounded to even
        (115, 56, 28, (58, 28)),  # 57.5; `PIL.ImageOps.cover` returns 57
        (10, 15, 20, (20, 30)),
        (7, 7, 3, (3, 3)),
    ],
)
def test_resizing_is_antialiased_bilinear(
    height: int, width: int, length: int, expected: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    result = np.asarray(resize_shorter_side(Image.fromarray(pixels), length, IMAGE_FILTER))
    assert result.shape == expected
    exact = triangle(height, expected[0]) @ pixels @ triangle(width, expected[1]).T
    # Pillow resizes columns and rows in turn, and rounds both times.
    assert abs(result - exact).max() <= 1.01


def test_resized_masks_have_no_new_values() -> None:
    mask = np.random.default_rng(0).choice(np.array([0, 3, 9, 255], np.uint8), (50, 70))
    view = np.asarray(resize_and_center_crop(Image.fromarray(mask), 24, MASK_FILTER))
    assert view.shape == (24, 24)
    assert set(np.unique(view)) == {0, 3, 9, 255}


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 100), (99, 70)])
def test_crop_is_central(height: int, width: int) -> None:
    size = 28
    view = np.asarray(
        resize_and_center_crop(Image.fromarray(ramp(height, width)), size, IMAGE_FILTER)
    )
    assert view.shape == (size, size, 3)
    # The centers of the view and the image agree to within a pixel of the view.
    step = min(height, width) / round(RESIZE_RATIO * size)
    assert abs(view[..., 0].mean() - (width - 1) / 2) <= step
    assert abs(view[..., 1].mean() - (height - 1) / 2) <= step
    # The view spans 224/256 of the shorter side.
    shorter = int(width > height)
    span = float(np.ptp(view[..., shorter].astype(int)))
    assert span == pytest.approx((size - 1) * step, abs=2)


def test_image_and_mask_stay_aligned() -> None:
    # The image is bright where the mask is 1.
    mask = np.zeros((80, 120), np.uint8)
    mask[:, 50:] = 1
    image = resize_and_center_crop(Image.fromarray(mask * 255), 56, IMAGE_FILTER)
    view = np.asarray(resize_and_center_crop(Image.fromarray(mask), 56, MASK_FILTER))
    disagree = (np.asarray(image) > 127) != (view == 1)
    assert disagree.mean() <= 1 / 56  # at most one column, at the edge


def test_224_pixels_are_cropped_from_256() -> None:
    resized = resize_shorter_side(
        Image.new("L", (300, 400)), round(224 * RESIZE_RATIO), IMAGE_FILTER
    )
    assert resized.size == (256, 341)


def test_crop_larger_than_the_image_is_rejected() -> None:
    with pytest.raises(ValueError, match="at least 8 x 8"):
        center_crop(Image.new("L", (9, 7)), 8)


def test_random_boxes_have_the_documented_distribution():
    rng = np.random.default_rng(0)
    width, height = 400, 300
    boxes = np.array([random_box(rng, width, height) for _ in range(4000)])
    left, upper, right, lower = boxes.T
    assert (left >= 0).all()
    assert (upper >= 0).all()
    assert (right <= width).all()
    assert (lower <= height).all()
    w, h = right - left, lower - upper
    # Sides have at least 74 pixels and are rounded.
    assert (w / h > 0.97 * ASPECTS[0]).all()
    assert (w / h < 1.03 * ASPECTS[1]).all()
    area = w * h / (width * height)
    assert (area > 0.97 * AREAS[0]).all()
    # Nearly all rectangles below half of the area fit immediately, so their areas are uniform.
    small = area[area < 0.5]
    assert abs(np.mean(small) - (AREAS[0] + 0.5) / 2) < 0.01  # 4 standard errors
    assert abs(np.mean(np.log(w / h)[area < 0.5])) < 0.015
    # Positions reach both ends of their range.
    assert left.min() == upper.min() == 0
    assert (right == width).any()


@pytest.mark.parametrize(
    ("size", "box"),
    [((1000, 10), (493, 0, 506, 10)), ((10, 1000), (0, 493, 10, 506)), ((1, 1), (0, 0, 1, 1))],
)
def test_random_box_of_a_strip_is_central(size, box):
    """No rectangle with 8 % of the area and an aspect ratio of at most 4 / 3 fits."""
    assert random_box(np.random.default_rng(0), *size) == box


def test_crop_of_the_final_size_is_not_resized():
    pixels = ramp(20, 30)
    crop = np.asarray(crop_and_resize(Image.fromarray(pixels), (5, 2, 13, 10), 8, IMAGE_FILTER))
    np.testing.assert_array_equal(crop, pixels[2:10, 5:13])
