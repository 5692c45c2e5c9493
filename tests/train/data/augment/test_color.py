"""Color operations against Pillow; color jitter and PCA lighting against their formulas."""

import jax
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tests.train.data.example_images import varied_images
from train.data.augment import color
from train.data.augment.augmentation import augmentation_key

PILLOW = {
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Invert": lambda image, _: ImageOps.invert(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Solarize": ImageOps.solarize,
    "Posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "Contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "Color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "Brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "Sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
}
FACTORS = [0.0, 0.1, 0.46, 0.64, 1.0, 1.36, 1.72, 1.9]
MAGNITUDES = {"Solarize": [0.0, 1.0, 110.0, 128.0, 255.0, 256.0], "Posterize": [1.0, 2.0, 4.0, 8.0]}
# Largest difference, which at most one pixel in 100 may have. Pillow computes autocontrast with
# floating-point numbers, so 255 (v - low) / (high - low) can be below an integer, and XLA can fuse
# the product and the sum of a blend and round once. The other operations are exact.
TOLERANCES = {"AutoContrast": 1, "Contrast": 1, "Color": 1, "Sharpness": 1}

# Running it operation by operation takes longer than compiling it.
color_jitter = jax.jit(color.color_jitter)


def in_pillow(operation, image, magnitude):
    picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
    return np.asarray(operation(picture, magnitude)).reshape(image.shape)


@pytest.mark.parametrize("shape", [(19, 23, 3), (22, 17, 1)], ids=["color", "gray"])
@pytest.mark.parametrize("name", color.COLOR)
def test_operations_match_pillow(name, shape):
    images = varied_images(shape)
    magnitudes = MAGNITUDES.get(
        name, FACTORS if name in TOLERANCES or name == "Brightness" else [0.0]
    )
    operation = jax.jit(jax.vmap(color.COLOR[name], in_axes=(0, None)))
    changed = False
    for magnitude in magnitudes:
        result = np.asarray(operation(images, np.float32(magnitude)))
        expected = np.stack([in_pillow(PILLOW[name], image, magnitude) for image in images])
        assert (result.dtype, result.shape) == (np.uint8, images.shape)
        difference = np.abs(result.astype(int) - expected)
        assert difference.max() <= TOLERANCES.get(name, 0)
        assert np.mean(difference > 0) <= 1 / 100
        changed |= np.any(expected != images)
    assert changed != (name == "Color" and shape[-1] == 1)


def test_both_ways_of_counting_agree():
    channel = varied_images((12, 9, 1))[3].reshape(-1)
    expected = np.array([np.sum(channel < level) for level in range(256)])
    for count_below in (color.count_below_by_scatter, color.count_below_by_comparison):
        np.testing.assert_array_equal(jax.jit(count_below)(channel), expected)


def test_sharpness_does_not_change_an_image_with_two_rows():
    image = varied_images((2, 5, 3))[0]
    np.testing.assert_array_equal(jax.jit(color.sharpness)(image, 0.0), image)


def test_color_jitter_matches_pillow_in_every_order():
    key = augmentation_key(1, 2)
    images = np.repeat(varied_images((6, 7, 3)), 6, axis=0)
    result = np.asarray(color_jitter(key, images, 0.9, 3))
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
    result = np.asarray(color_jitter(augmentation_key(0, 0), images, 0.4))
    factors = np.sort(result.mean((1, 2, 3)) / images.mean())
    # Rounding down subtracts up to 1 in each of two operations: 0.015. The largest distance of 500
    # uniform numbers from their quantiles is below 1.63 / sqrt(500) of the range in 99 % of cases.
    expected = np.linspace(0.6, 1.4, 500)
    np.testing.assert_allclose(factors, expected, atol=0.015 + 0.8 * 1.63 / 500**0.5)


def test_pca_lighting_shifts_all_pixels_along_the_principal_components():
    images = np.repeat(np.full((1, 2, 2, 3), 128, np.uint8), 4000, axis=0)
    result = np.asarray(jax.jit(color.pca_lighting)(augmentation_key(0, 0), images, 0.1)).astype(
        float
    )
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
        color.pca_lighting(augmentation_key(0, 0), images, 0.1)
