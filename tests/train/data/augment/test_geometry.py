"""Crop and flip against plain NumPy, affine maps against Pillow."""

import jax
import numpy as np
import pytest
from PIL import Image

from tests.train.data.sources.pictures import pictures, scenes, window_offsets
from train.data.augment import geometry
from train.data.augment.augmentation import augmentation_key


@pytest.mark.parametrize("padding", [1, 2])
def test_crops_are_windows_and_every_window_comes(padding: int) -> None:
    images = pictures(900)
    cropped = np.asarray(geometry.pad_and_crop(augmentation_key(0, 0), images, padding))
    assert cropped.shape == images.shape
    assert cropped.dtype == images.dtype
    counts: dict[tuple[int, int], int] = {}
    for original, crop in zip(images, cropped, strict=True):
        (offset,) = window_offsets(original, crop, padding)
        counts[offset] = counts.get(offset, 0) + 1
    windows = (2 * padding + 1) ** 2
    assert len(counts) == windows
    # Binomial counts: six standard deviations.
    expected = 900 / windows
    assert all(abs(count - expected) < 6 * expected**0.5 for count in counts.values())


def test_no_padding_changes_nothing() -> None:
    images = pictures(4)
    key = augmentation_key(0, 0)
    np.testing.assert_array_equal(geometry.pad_and_crop(key, images, 0), images)


def test_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="padding of at least 0 pixels, got -1"):
        geometry.pad_and_crop(augmentation_key(0, 0), pictures(2), -1)


def test_flips_mirror_half_of_the_images() -> None:
    images = pictures(900)
    flipped = np.asarray(geometry.random_flip(augmentation_key(0, 0), images))
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (flipped == images).all(axis=(1, 2, 3))
    assert np.all(mirrored ^ kept)
    assert abs(mirrored.sum() - 450) < 6 * 15


@pytest.mark.parametrize("shape", [(19, 24, 3), (12, 9, 1)], ids=["color", "grey"])
@pytest.mark.parametrize("name", geometry.AFFINE)
def test_affine_maps_are_pillows(name, shape):
    """Exactly: both count in units of 2^-16 pixels."""
    images = scenes(shape)
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


def test_no_amount_of_an_affine_map_is_the_image():
    image = scenes((7, 6, 3))[0]
    for affine in geometry.AFFINE.values():
        still = geometry.fixed_point(affine(0, 7, 6))
        np.testing.assert_array_equal(geometry.resample(image, still), image)
