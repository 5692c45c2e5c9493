"""The geometry of evaluation, against sums over pixels written out in NumPy."""

import numpy as np
import pytest
from PIL import Image

from train.data.sources.resize import (
    AREA,
    ASPECT,
    IMAGE,
    MASK,
    RESIZE_RATIO,
    center_crop,
    crop_and_resize,
    evaluation_view,
    random_box,
    resize_shorter_side,
)


def triangle(old: int, new: int) -> np.ndarray:
    """Weights of the old pixels in each new one: a triangle as wide as two pixels, the larger."""
    scale = old / new
    width = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    distance = abs(centres[:, None] - (np.arange(old) + 0.5)[None, :])
    weights = np.maximum(1 - distance / width, 0)
    return weights / weights.sum(1, keepdims=True)


def ramp(height: int, width: int) -> np.ndarray:
    """Every pixel says where it is: red its column, green its row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, 0 * rows], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "length", "expected"),
    [(40, 60, 20, (20, 30)), (61, 40, 20, (30, 20)), (10, 15, 20, (20, 30)), (7, 7, 3, (3, 3))],
)
def test_resizing_is_antialiased_bilinear(
    height: int, width: int, length: int, expected: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    result = np.asarray(resize_shorter_side(Image.fromarray(pixels), length, IMAGE))
    assert result.shape == expected
    exact = triangle(height, expected[0]) @ pixels @ triangle(width, expected[1]).T
    # Pillow resizes columns and rows one after the other, each rounded to an integer.
    assert abs(result - exact).max() <= 1.01


def test_masks_get_no_new_values() -> None:
    mask = np.random.default_rng(0).choice(np.array([0, 3, 9, 255], np.uint8), (50, 70))
    view = np.asarray(evaluation_view(Image.fromarray(mask), 24, MASK))
    assert view.shape == (24, 24)
    assert set(np.unique(view)) == {0, 3, 9, 255}


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 100), (99, 70)])
def test_the_crop_is_the_middle(height: int, width: int) -> None:
    size = 28
    view = np.asarray(evaluation_view(Image.fromarray(ramp(height, width)), size, IMAGE))
    assert view.shape == (size, size, 3)
    # The middle pixel of the view shows the middle of the picture, to a pixel of the view.
    step = min(height, width) / round(RESIZE_RATIO * size)
    assert abs(view[..., 0].mean() - (width - 1) / 2) <= step
    assert abs(view[..., 1].mean() - (height - 1) / 2) <= step
    # It spans 224/256 of the shorter side.
    shorter = int(width > height)
    span = float(np.ptp(view[..., shorter].astype(int)))
    assert span == pytest.approx((size - 1) * step, abs=2)


def test_image_and_mask_stay_on_each_other() -> None:
    # Halves: bright where the mask is 1.
    mask = np.zeros((80, 120), np.uint8)
    mask[:, 50:] = 1
    image = evaluation_view(Image.fromarray(mask * 255), 56, IMAGE)
    view = np.asarray(evaluation_view(Image.fromarray(mask), 56, MASK))
    disagree = (np.asarray(image) > 127) != (view == 1)
    assert disagree.mean() <= 1 / 56  # at most the column of the border


def test_224_is_cut_out_of_256() -> None:
    resized = resize_shorter_side(Image.new("L", (300, 400)), round(224 * RESIZE_RATIO), IMAGE)
    assert resized.size == (256, 341)


def test_a_crop_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 x 8"):
        center_crop(Image.new("L", (9, 7)), 8)


def test_random_boxes_are_inside_and_of_the_drawn_areas_and_aspects():
    rng = np.random.default_rng(0)
    width, height = 400, 300
    boxes = np.array([random_box(rng, width, height) for _ in range(4000)])
    left, upper, right, lower = boxes.T
    assert (left >= 0).all()
    assert (upper >= 0).all()
    assert (right <= width).all()
    assert (lower <= height).all()
    w, h = right - left, lower - upper
    # A pixel of rounding on sides of at least 74.
    assert (w / h > 0.97 * ASPECT[0]).all()
    assert (w / h < 1.03 * ASPECT[1]).all()
    area = w * h / (width * height)
    assert (area > 0.97 * AREA[0]).all()
    # Below half of the image nearly every rectangle fits at the first try: areas are uniform there.
    small = area[area < 0.5]
    assert abs(np.mean(small) - (AREA[0] + 0.5) / 2) < 0.01  # 4 standard errors
    assert abs(np.mean(np.log(w / h)[area < 0.5])) < 0.015
    # Everywhere: both ends of the range of positions are reached.
    assert left.min() == upper.min() == 0
    assert (right == width).any()


@pytest.mark.parametrize(
    ("size", "box"),
    [((1000, 10), (493, 0, 506, 10)), ((10, 1000), (0, 493, 10, 506)), ((1, 1), (0, 0, 1, 1))],
)
def test_of_a_strip_the_middle_is_taken(size, box):
    """A rectangle of at least 8 % of the area and an aspect of at most 4 / 3 does not fit."""
    assert random_box(np.random.default_rng(0), *size) == box


def test_a_box_of_the_size_that_is_wanted_is_cut_out_as_it_is():
    picture = ramp(20, 30)
    cut = np.asarray(crop_and_resize(Image.fromarray(picture), (5, 2, 13, 10), 8, IMAGE))
    np.testing.assert_array_equal(cut, picture[2:10, 5:13])
