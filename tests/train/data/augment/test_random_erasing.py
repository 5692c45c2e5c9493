"""Random erasing: sizes, positions and frequency of the rectangles, and their noise."""

import jax
import numpy as np
import pytest

from train.data.augment.augmentation import augmentation_key
from train.data.augment.random_erasing import random_erasing as erase

# Running it operation by operation takes longer than compiling it.
random_erasing = jax.jit(erase)


@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_one_rectangle_of_an_image_is_replaced(probability):
    count, height, width = 1500, 30, 40
    # One random pixel in 256 equals the original. Two originals detect all changed pixels.
    masks = []
    for level in (0, 255):
        images = np.full((count, height, width, 3), level, np.uint8)
        result = np.asarray(random_erasing(augmentation_key(0, 0), images, probability))
        assert result.dtype == np.uint8
        masks.append((result != level).any(-1))
    mask = masks[0] | masks[1]
    erased = mask.any((1, 2))
    assert abs(erased.sum() - probability * count) <= 5 * (count * 0.3 * 0.7) ** 0.5
    if probability == 1:
        assert erased.all()
    rows, columns = mask[erased].any(2), mask[erased].any(1)
    sides = np.stack([rows.sum(1), columns.sum(1)])
    # All pixels between the first and the last row and column of a rectangle are replaced.
    np.testing.assert_array_equal(mask[erased], rows[:, :, None] & columns[:, None, :])
    for side in (rows, columns):
        assert np.all(np.abs(np.diff(side.astype(int), axis=1)).sum(1) <= 2)
    areas = sides.prod(0) / (height * width)
    assert 0.015 < areas.min() < 0.05
    assert 0.35 < areas.max() < 0.42
    # Rounding the sides changes extreme aspect ratios.
    aspects = sides[0] / sides[1]
    assert 0.25 < aspects.min() < 0.4
    assert 2.5 < aspects.max() < 4
    # Rectangles cover every row and every column.
    assert rows.any(0).all()
    assert columns.any(0).all()


def test_noise_is_uniform_and_independent():
    images = np.zeros((1500, 30, 40, 3), np.uint8)
    result = np.asarray(random_erasing(augmentation_key(0, 0), images, 1.0))
    noise = result[(result > 0).any(-1)]
    # Pixels that are 0 in all channels are missing. Five standard errors.
    assert abs(noise.mean() - 127.5) < 5 * 74 / noise.size**0.5
    assert np.all(np.abs(np.corrcoef(noise.T) - np.eye(3)) < 5 / len(noise) ** 0.5)
    assert len(np.unique(noise)) == 256


def test_probability_zero_changes_nothing():
    images = np.full((1500, 30, 40, 3), 7, np.uint8)
    np.testing.assert_array_equal(random_erasing(augmentation_key(0, 0), images, 0.0), images)
