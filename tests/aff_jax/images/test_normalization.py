"""Normalized pixels against NumPy in float64, in every dtype and in compiled functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax.images.normalization import normalize_pixels

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), np.uint8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # Values up to 2.7: three roundings in float32, one in bfloat16 with 8 bits.
    [(np.float64, 1e-14), (np.float32, 1e-6), (jnp.bfloat16, 2.7 * 2**-8)],
)
def test_pixels_are_normalized_per_channel(dtype: type, tolerance: float) -> None:
    expected = (PIXELS / 255 - MEAN) / STD
    with jax.enable_x64(True):
        for function in (normalize_pixels, jax.jit(normalize_pixels, static_argnums=(1, 2, 3))):
            found = function(PIXELS, MEAN, STD, dtype)
            assert (found.shape, found.dtype) == (PIXELS.shape, dtype)
            np.testing.assert_allclose(found.astype(np.float64), expected, atol=tolerance)


def test_a_numpy_array_stays_one() -> None:
    assert isinstance(normalize_pixels(PIXELS, MEAN, STD), np.ndarray)
