"""Resizing and cropping against sums over pixels in NumPy."""

import numpy as np
import pytest
from PIL import Image

from aff_jax.images import resizing
from aff_jax.images.resizing import (
    IMAGE_FILTER,
    MASK_FILTER,
    RESIZE_RATIO,
    Placement,
    classes_of_scores,
    place,
    resize_to_view,
)


def triangle(old: int, new: int) -> np.ndarray:
    """Return the weights of old pixels in new ones: triangles as wide as two larger pixels."""
    scale = old / new
    width = max(scale, 1.0)
    centers = (np.arange(new) + 0.5) * scale
    distance = abs(centers[:, None] - (np.arange(old) + 0.5)[None, :])
    weights = np.maximum(1 - distance / width, 0)
    return weights / weights.sum(1, keepdims=True)


def view_of(
    pixels: np.ndarray,
    size: tuple[int, int],
    resize: str,
    resampling: Image.Resampling,
    ratio: float = 1.0,
    fill: int = 0,
) -> np.ndarray:
    view = place(pixels.shape[:2], size, resize, ratio)
    return np.asarray(resize_to_view(Image.fromarray(pixels), view, size, resampling, fill))


def resize_scores(scores: np.ndarray, view: Placement, image: tuple[int, int]) -> np.ndarray:
    """Return the resized scores of all classes, from which classes are chosen; NaN if cropped."""
    resized = np.full((*image, scores.shape[-1]), np.nan, np.float32)
    inside, planes = resizing._resized_planes(scores, view, image)
    resized[inside] = np.stack([*planes], -1)
    return resized


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
    assert place((height, width), (length, length), "crop").resized == expected
    result = view_of(pixels, expected, "stretch", IMAGE_FILTER)
    exact = triangle(height, expected[0]) @ pixels @ triangle(width, expected[1]).T
    # Pillow resizes columns and rows in turn, and rounds both times.
    assert abs(result - exact).max() <= 1.01


def test_resized_masks_have_no_new_values() -> None:
    mask = np.random.default_rng(0).choice(np.array([0, 3, 9, 255], np.uint8), (50, 70))
    view = view_of(mask, (24, 24), "crop", MASK_FILTER, RESIZE_RATIO)
    assert view.shape == (24, 24)
    assert set(np.unique(view)) == {0, 3, 9, 255}


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 100), (99, 70)])
def test_crop_is_central(height: int, width: int) -> None:
    size = 28
    view = view_of(ramp(height, width), (size, size), "crop", IMAGE_FILTER, RESIZE_RATIO)
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
    image = view_of(mask * 255, (56, 56), "crop", IMAGE_FILTER, RESIZE_RATIO)
    view = view_of(mask, (56, 56), "crop", MASK_FILTER, RESIZE_RATIO)
    disagree = (image > 127) != (view == 1)
    assert disagree.mean() <= 1 / 56  # at most one column, at the edge


def test_224_pixels_are_cropped_from_256() -> None:
    assert place((400, 300), (224, 224), "crop", RESIZE_RATIO) == Placement(
        resized=(341, 256), source=(16, 58, 240, 282), offset=(0, 0)
    )


@pytest.mark.parametrize(
    ("image", "resize", "expected"),
    [
        ((30, 40), "pad", Placement((24, 32), (0, 0, 32, 24), (4, 0))),
        ((40, 30), "pad", Placement((32, 24), (0, 0, 24, 32), (0, 4))),
        ((1, 1000), "pad", Placement((1, 32), (0, 0, 32, 1), (15, 0))),
        ((30, 40), "stretch", Placement((32, 32), (0, 0, 32, 32), (0, 0))),
        ((30, 40), "crop", Placement((32, 43), (5, 0, 37, 32), (0, 0))),
        ((32, 32), "crop", Placement((32, 32), (0, 0, 32, 32), (0, 0))),
    ],
)
def test_images_are_placed_in_a_square(
    image: tuple[int, int], resize: str, expected: Placement
) -> None:
    assert place(image, (32, 32), resize) == expected


def test_images_of_the_same_aspect_are_whole_in_every_view() -> None:
    for resize in ("crop", "pad", "stretch"):
        assert place((360, 480), (120, 160), resize) == Placement(
            (120, 160), (0, 0, 160, 120), (0, 0)
        )


def test_padding_has_the_fill_value() -> None:
    mask = np.full((3, 4), 7, np.uint8)
    padded = view_of(mask, (8, 8), "pad", MASK_FILTER, fill=255)
    np.testing.assert_array_equal(padded[:1], 255)
    np.testing.assert_array_equal(padded[1:7], 7)
    np.testing.assert_array_equal(padded[7:], 255)


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("image", [(30, 40), (41, 23), (16, 16), (200, 150)])
def test_scores_return_to_the_image(image: tuple[int, int], resize: str) -> None:
    """Scores that are linear in the position of a pixel are the same in the view and the image."""
    size = (32, 48)
    view = place(image, size, resize)
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32) + 0.5
    scale = image[0] / view.resized[0], image[1] / view.resized[1]
    in_view = np.stack(
        [
            (rows - view.offset[0] + view.source[1]) * scale[0],
            (columns - view.offset[1] + view.source[0]) * scale[1],
        ],
        -1,
    )
    result = resize_scores(in_view, view, image)
    assert result.shape == (*image, 2)
    expected = np.stack(np.mgrid[: image[0], : image[1]].astype(np.float32) + 0.5, -1)
    known = ~np.isnan(result[..., 0])
    share = view.source[2] - view.source[0], view.source[3] - view.source[1]
    seen = share[0] * share[1] / (view.resized[0] * view.resized[1])
    assert known.mean() == pytest.approx(seen, abs=0.05)
    inner = np.zeros(image, bool)
    edge = [max(1, round(2 * side)) for side in scale]  # at the border, weights are cut off
    inner[edge[0] : -edge[0], edge[1] : -edge[1]] = True
    error = np.abs(result - expected)[known & inner]
    assert error.size
    # Pillow samples the triangle of its filter at pixel centers, so positions are exact to a tenth
    # of a pixel, and less exact next to the border of the crop.
    assert np.quantile(error, 0.8) < 0.1 * max(1, *scale)
    assert error.max() < 2 * max(1, *scale)


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("image", [(9, 20), (20, 9), (7, 5)])
def test_classes_are_the_argmax_of_the_resized_scores(image, resize):
    scores = np.random.default_rng(0).standard_normal((6, 8, 5)).astype(np.float32)
    scores[..., 3] = scores[..., 1]  # of equal scores the first one wins
    view = place(image, (6, 8), resize)
    resized = resize_scores(scores, view, image)
    outside = np.isnan(resized).any(-1)
    expected = np.where(outside, 255, np.nan_to_num(resized).argmax(-1))
    found = classes_of_scores(scores, view, image, cropped=255)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_scores_in_the_size_of_the_image_stay_as_they_are():
    scores = np.random.default_rng(0).standard_normal((6, 8, 5)).astype(np.float32)
    view = place((6, 8), (6, 8), "pad")
    np.testing.assert_array_equal(resize_scores(scores, view, (6, 8)), scores)
