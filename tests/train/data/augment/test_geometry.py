"""Flips against plain NumPy, affine maps against Pillow."""

import jax
import numpy as np
import pytest
from PIL import Image

from tests.train.data.example_images import random_images, varied_images
from train.data.augment import geometry
from train.data.augment.augmentation import augmentation_key


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
