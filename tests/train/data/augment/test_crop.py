"""Crops against all windows that NumPy finds."""

import jax
import numpy as np
import pytest

from tests.train.data.example_images import random_images, window_offsets
from train.data.augment import crop
from train.data.augment.augmentation import augmentation_key


@pytest.mark.parametrize("padding", [1, 2])
def test_crops_are_windows_with_equal_frequencies(padding: int) -> None:
    images = random_images(900)
    pad_and_crop = jax.jit(crop.pad_and_crop, static_argnums=2)
    cropped = np.asarray(pad_and_crop(augmentation_key(0, 0), images, padding))
    assert cropped.shape == images.shape
    assert cropped.dtype == images.dtype
    counts: dict[tuple[int, int], int] = {}
    for original, result in zip(images, cropped, strict=True):
        (offset,) = window_offsets(original, result, padding)
        counts[offset] = counts.get(offset, 0) + 1
    windows = (2 * padding + 1) ** 2
    assert len(counts) == windows
    # The counts are binomial. Six standard deviations.
    expected = 900 / windows
    assert all(abs(count - expected) < 6 * expected**0.5 for count in counts.values())


def test_zero_padding_changes_nothing() -> None:
    images = random_images(4)
    key = augmentation_key(0, 0)
    np.testing.assert_array_equal(crop.pad_and_crop(key, images, 0), images)


def test_negative_padding_is_rejected() -> None:
    with pytest.raises(ValueError, match="padding of at least 0 pixels, got -1"):
        crop.pad_and_crop(augmentation_key(0, 0), random_images(2), -1)


@pytest.mark.parametrize("windows", [crop.windows_by_slices, crop.windows_by_selection])
def test_both_ways_take_the_window_at_every_offset(windows):
    padding = 2
    offsets = np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(25, 2)
    images = random_images(25)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    found = jax.jit(windows, static_argnums=2)(padded, offsets, padding)
    assert found.dtype == images.dtype
    for original, window, offset in zip(images, np.asarray(found), offsets, strict=True):
        assert window_offsets(original, window, padding) == [tuple(offset)]
