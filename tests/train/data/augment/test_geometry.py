"""Crop and flip against plain NumPy, affine maps against Pillow."""

import jax
import numpy as np
import pytest
from PIL import Image

from tests.train.data.example_images import random_images, varied_images, window_offsets
from train.data.augment import geometry
from train.data.augment.augmentation import augmentation_key


@pytest.mark.parametrize("padding", [1, 2])
def test_crops_are_windows_with_equal_frequencies(padding: int) -> None:
    images = random_images(900)
    crop = jax.jit(geometry.pad_and_crop, static_argnums=2)
    cropped = np.asarray(crop(augmentation_key(0, 0), images, padding))
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
    np.testing.assert_array_equal(geometry.pad_and_crop(key, images, 0), images)


def test_negative_padding_is_rejected() -> None:
    with pytest.raises(ValueError, match="padding of at least 0 pixels, got -1"):
        geometry.pad_and_crop(augmentation_key(0, 0), random_images(2), -1)


def test_half_of_the_images_are_flipped() -> None:
    images = random_images(900)
    flipped = np.asarray(jax.jit(geometry.random_flip)(augmentation_key(0, 0), images))
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (flipped == images).all(axis=(1, 2, 3))
    assert np.all(mirrored ^ kept)
    assert abs(mirrored.sum() - 450) < 6 * 15


@pytest.mark.parametrize("shape", [(19, 24, 3), (12, 9, 1)], ids=["color", "gray"])
@pytest.mark.parametrize("name", geometry.AFFINE)
def test_affine_maps_match_pillow(name, shape):
    """The results are equal, because both compute in units of 2^-16 pixels."""
    images = varied_images(shape)
    amounts = {"Rotate": (3, 30, 45, 90.5), "ShearX": (0.03, 0.27), "ShearY": (0.15, 0.3)}
    fill = (geometry.FILL,) * shape[-1]
    resample = jax.jit(jax.vmap(geometry.resample, in_axes=(0, None)))
    for amount in amounts.get(name, (1, 9, 30)):
        for way in (1, -1):
            matrix = geometry.AFFINE[name](way * amount, *shape[:2])
            result = resample(images, geometry.fixed_point(matrix))
            assert result.dtype == np.uint8
            for image, moved in zip(images, np.asarray(result), strict=True):
                picture = Image.fromarray(image if shape[-1] == 3 else image[..., 0])
                if name == "Rotate":
                    expected = picture.rotate(way * amount, fillcolor=fill)
                else:
                    affine = Image.Transform.AFFINE
                    expected = picture.transform(picture.size, affine, matrix, fillcolor=fill)
                np.testing.assert_array_equal(moved, np.asarray(expected).reshape(shape))


def test_affine_maps_of_amount_zero_change_nothing():
    image, resample = varied_images((7, 6, 3))[0], jax.jit(geometry.resample)
    for affine in geometry.AFFINE.values():
        identity = geometry.fixed_point(affine(0, 7, 6))
        np.testing.assert_array_equal(resample(image, identity), image)
