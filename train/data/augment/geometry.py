"""Geometric augmentation: flip, shear, translate and rotate.

An affine map is a matrix `(a, b, c, d, e, f)` in the order of Pillow's `Image.transform`. The
output pixel (x, y) comes from the input pixel::

    (a x + b y + c, d x + e y + f)

where pixel centers are at half-integers. Matrices are computed in double precision with Python
numbers, so `resample` returns exactly Pillow's pixels.
"""

import math
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Int, Key, UInt8

from train.data.augment.random_per_image import Images, image_keys

__all__ = ["AFFINE", "FILL", "Matrix", "fixed_point", "random_flip", "resample"]

FILL = 128
"""Gray value of the pixels that an affine map takes from outside the image.

AutoAugment's published ImageNet code (tensorflow/tpu) has this value. Its CIFAR code has the mean
color.
"""

Matrix = tuple[float, float, float, float, float, float]
"""An affine map `(a, b, c, d, e, f)`, as above."""


def random_flip(key: Key[Array, ""], images: Images, first_row: ArrayLike = 0) -> Images:
    """Flip each image horizontally with probability 1/2.

    Args:
        key: Key of the step.
        images: Images of any dtype.
        first_row: Row of the first image in the global batch.

    Returns:
        Images of the same shape and dtype.
    """
    flipped = jax.vmap(jax.random.bernoulli)(image_keys(key, images, first_row))
    return jnp.where(flipped[:, None, None, None], images[:, :, ::-1, :], images)


def _rotate(degrees: float, height: int, width: int) -> Matrix:
    """Rotate the image counterclockwise around its center."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y


AFFINE: dict[str, Callable[[float, int, int], Matrix]] = {
    "ShearX": lambda amount, height, width: (1, amount, 0, 0, 1, 0),
    "ShearY": lambda amount, height, width: (1, 0, 0, amount, 1, 0),
    "TranslateX": lambda pixels, height, width: (1, 0, pixels, 0, 1, 0),
    "TranslateY": lambda pixels, height, width: (1, 0, 0, 0, 1, pixels),
    "Rotate": _rotate,
}
"""Functions of (magnitude, height, width) that return a matrix, by their names in AutoAugment.

"ShearX" moves row y to the left by `amount * y` pixels, and "ShearY" moves column x up by
`amount * x`. "TranslateX" moves the image to the left, "TranslateY" up. "Rotate" takes degrees.
"""


def fixed_point(matrix: Matrix) -> Int[np.ndarray, "6"]:
    """Convert a matrix to int32 in units of 2^-16 pixels, for integer pixel coordinates.

    Args:
        matrix: An affine map of pixel centers at half-integers.

    Returns:
        int32 `(6,)` for `resample`. Images may have up to 32,767 pixels per side.
    """
    a, b, c, d, e, f = matrix
    centered = (a, b, c + (a + b) / 2, d, e, f + (d + e) / 2)
    return np.floor(np.array(centered) * 2**16 + 0.5).astype(np.int32)


def resample(
    image: UInt8[Array, "height width channels"], matrix: Int[Array, "6"]
) -> UInt8[Array, "height width channels"]:
    """Apply an affine map to an image with nearest-neighbor resampling, as in Pillow.

    Args:
        image: uint8 image.
        matrix: A matrix from `fixed_point`.

    Returns:
        uint8 image of the same shape. Pixels from outside the image have the value `FILL`.
    """
    height, width, channels = image.shape
    a, b, c, d, e, f = cast(list[Array], list(matrix))
    y, x = jnp.arange(height)[:, None], jnp.arange(width)
    column, row = (a * x + b * y + c) >> 16, (d * x + e * y + f) >> 16
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixels = image.reshape(height * width, channels)
    moved = jnp.take(pixels, jnp.where(inside, row * width + column, 0), axis=0, mode="clip")
    return jnp.where(inside[..., None], moved, FILL).astype(image.dtype)
