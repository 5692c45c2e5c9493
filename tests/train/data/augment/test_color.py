"""Color operations against Pillow."""

import jax
import numpy as np
import pytest

from tests.train.data.augment.pillow_operations import PILLOW, in_pillow
from tests.train.data.example_images import varied_images
from train.data.augment import color

FACTORS = [0.0, 0.1, 0.46, 0.64, 1.0, 1.36, 1.72, 1.9]
MAGNITUDES = {"Solarize": [0.0, 1.0, 110.0, 128.0, 255.0, 256.0], "Posterize": [1.0, 2.0, 4.0, 8.0]}
# Largest difference, which at most one pixel in 100 may have. Pillow computes autocontrast with
# floating-point numbers, so 255 (v - low) / (high - low) can be below an integer, and XLA can fuse
# the product and the sum of a blend and round once. The other operations are exact.
TOLERANCES = {"AutoContrast": 1, "Contrast": 1, "Color": 1, "Sharpness": 1}


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


def test_equalize_of_a_tpu_is_that_of_pillow(monkeypatch):
    def on_tpu(*arguments, default, cpu=None, tpu=None):
        return tpu(*arguments)

    monkeypatch.setattr(jax.lax, "platform_dependent", on_tpu)
    images = varied_images((12, 9, 3))
    result = jax.jit(jax.vmap(color.equalize))(images)
    expected = [in_pillow(PILLOW["Equalize"], image, None) for image in images]
    np.testing.assert_array_equal(result, np.stack(expected))


def test_sharpness_does_not_change_an_image_with_two_rows():
    image = varied_images((2, 5, 3))[0]
    np.testing.assert_array_equal(jax.jit(color.COLOR["Sharpness"])(image, 0.0), image)
