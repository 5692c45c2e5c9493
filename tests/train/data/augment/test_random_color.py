"""Color jitter and PCA lighting against their formulas."""

import jax
import numpy as np
import pytest

from tests.train.data.augment.pillow_operations import PILLOW, in_pillow
from tests.train.data.example_images import varied_images
from train.data.augment.augmentation import augmentation_key
from train.data.augment.random_color import color_jitter, pca_lighting

# Running it operation by operation takes longer than compiling it.
JITTER = jax.jit(color_jitter)


def test_color_jitter_matches_pillow_in_every_order():
    key = augmentation_key(1, 2)
    images = np.repeat(varied_images((6, 7, 3)), 6, axis=0)
    result = np.asarray(JITTER(key, images, 0.9, 3))
    assert result.dtype == np.uint8
    orders, differences = set(), []
    for row, image in enumerate(images):
        order_key, factor_key = jax.random.split(jax.random.fold_in(key, 3 + row))
        order = jax.random.permutation(order_key, 3).tolist()
        factors = jax.random.uniform(factor_key, (3,), np.float32, 0.1, 1.9).tolist()
        orders.add(tuple(order))
        expected = image
        for place, operation in enumerate(order):
            name = ("Brightness", "Contrast", "Color")[operation]
            expected = in_pillow(PILLOW[name], expected, factors[place])
        differences.append(np.abs(expected.astype(int) - result[row]))
    assert len(orders) == 6
    # The differences of 1 above are multiplied by up to two factors of up to 1.9.
    assert np.max(differences) <= 4
    assert np.mean(np.array(differences) > 0) <= 1 / 30


@pytest.mark.slow
def test_brightness_factors_of_color_jitter_are_uniform():
    """Contrast and saturation keep the mean of a gray image, so only brightness changes it."""
    images = np.repeat(128 + varied_images((30, 30, 1))[:1] // 16, 500, axis=0)
    result = np.asarray(JITTER(augmentation_key(0, 0), images, 0.4))
    factors = np.sort(result.mean((1, 2, 3)) / images.mean())
    # Rounding down subtracts up to 1 in each of two operations: 0.015. The largest distance of 500
    # uniform numbers from their quantiles is below 1.63 / sqrt(500) of the range in 99 % of cases.
    expected = np.linspace(0.6, 1.4, 500)
    np.testing.assert_allclose(factors, expected, atol=0.015 + 0.8 * 1.63 / 500**0.5)


def test_pca_lighting_shifts_all_pixels_along_the_principal_components():
    images = np.repeat(np.full((1, 2, 2, 3), 128, np.uint8), 4000, axis=0)
    result = np.asarray(jax.jit(pca_lighting)(augmentation_key(0, 0), images, 0.1)).astype(float)
    assert np.all(result == result[:, :1, :1])
    shifts = result[:, 0, 0] - 128
    vectors = np.array([[-0.5675, -0.5808, -0.5836], [0.7192, -0.0045, -0.6948]])
    # The standard deviation is 0.1 times the eigenvalue, and rounding adds 1 / sqrt(12). Five
    # standard errors.
    for vector, eigenvalue in zip(vectors, (55.46, 4.794), strict=True):
        deviation = np.sqrt((0.1 * eigenvalue) ** 2 + 1 / 12)
        along = shifts @ vector
        assert abs(along.mean()) < 5 * deviation / 4000**0.5
        assert abs(along.std() / deviation - 1) < 5 / 8000**0.5


def test_pca_lighting_rejects_gray_images():
    images = varied_images((4, 4, 1))
    with pytest.raises(ValueError, match="for pca_lighting, got 1"):
        pca_lighting(augmentation_key(0, 0), images, 0.1)
