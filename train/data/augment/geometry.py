"""Where the pixels of an image come from: crop and flip, shear, translate and rotate.

An affine map is a matrix `(a, b, c, d, e, f)` in the order that Pillow's `Image.transform` has: the
output's pixel (x, y) comes from the input's

    (a x + b y + c, d x + e y + f)

with pixel centres at halves. Matrices are made of Python numbers in double precision, so that
`resample` gives the pixels that Pillow gives.
"""

import math
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Int, Key, UInt8

from train.data.augment.per_image import Images, row_keys

__all__ = ["AFFINE", "FILL", "Matrix", "fixed_point", "pad_and_crop", "random_flip", "resample"]

FILL = 128
"""The grey that moves in where an affine map looks beyond the image.

Source: AutoAugment's published ImageNet code (tensorflow/tpu); its CIFAR code has the mean colour.
"""

Matrix = tuple[float, float, float, float, float, float]


def pad_and_crop(
    key: Key[Array, ""],
    images: Images,
    padding: int,
    first_row: ArrayLike = 0,
    fill: int = 0,
) -> Images:
    """Each image, moved by up to `padding` pixels each way, `fill` moving in.

    Pads `padding` pixels on all four sides and cuts a window of the old size at an offset drawn
    per image, uniformly from {0 .. 2 * padding}^2. Any dtype, shape and dtype as before;
    `padding=0` changes nothing. The authors of Attentional Feature Fusion crop raw pixels, so
    that what moves in is black: call this before `normalize`.

    Raises `ValueError` for a negative padding.
    """
    if padding < 0:
        raise ValueError(f"expected a padding of at least 0 pixels, got {padding}.")
    if padding == 0:
        return images

    def crop(row_key: Key[Array, ""], padded_image: Array) -> Array:
        top, left = jax.random.randint(row_key, (2,), 0, 2 * padding + 1)
        return jax.lax.dynamic_slice(padded_image, (top, left, 0), images.shape[1:])

    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, sides, constant_values=fill)
    return jax.vmap(crop)(row_keys(key, images, first_row), padded)


def random_flip(key: Key[Array, ""], images: Images, first_row: ArrayLike = 0) -> Images:
    """Each image, mirrored left to right with probability 1/2; shape and dtype as before."""
    flipped = jax.vmap(jax.random.bernoulli)(row_keys(key, images, first_row))
    return jnp.where(flipped[:, None, None, None], images[:, :, ::-1, :], images)


def shear_x(amount: float, height: int, width: int) -> Matrix:
    """Rows moved by `amount` times their number."""
    del height, width
    return 1, amount, 0, 0, 1, 0


def shear_y(amount: float, height: int, width: int) -> Matrix:
    """Columns moved by `amount` times their number."""
    del height, width
    return 1, 0, 0, amount, 1, 0


def translate_x(pixels: float, height: int, width: int) -> Matrix:
    """All moved to the left by that many pixels."""
    del height, width
    return 1, 0, pixels, 0, 1, 0


def translate_y(pixels: float, height: int, width: int) -> Matrix:
    """All moved up by that many pixels."""
    del height, width
    return 1, 0, 0, 0, 1, pixels


def rotate(degrees: float, height: int, width: int) -> Matrix:
    """Turned around the centre, counterclockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y


AFFINE: dict[str, Callable[[float, int, int], Matrix]] = {
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Rotate": rotate,
}
"""(magnitude, height, width) -> matrix, under the names that AutoAugment's policies use."""


def fixed_point(matrix: Matrix) -> Int[np.ndarray, "6"]:
    """A matrix between pixel numbers, in units of 2^-16 pixels as `resample` takes it; int32.

    Images may have up to 32,767 pixels a side.
    """
    a, b, c, d, e, f = matrix
    centred = (a, b, c + (a + b) / 2, d, e, f + (d + e) / 2)
    return np.floor(np.array(centred) * 2**16 + 0.5).astype(np.int32)


def resample(
    image: UInt8[Array, "height width channels"],
    matrix: Int[Array, "6"],
    fill: int = FILL,
) -> UInt8[Array, "height width channels"]:
    """The nearest pixels that a matrix of `fixed_point` points to, and `fill` beyond the image."""
    height, width, channels = image.shape
    a, b, c, d, e, f = cast(list[Array], list(matrix))
    y, x = jnp.arange(height)[:, None], jnp.arange(width)
    column, row = (a * x + b * y + c) >> 16, (d * x + e * y + f) >> 16
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixels = image.reshape(height * width, channels)
    moved = jnp.take(pixels, jnp.where(inside, row * width + column, 0), axis=0, mode="clip")
    return jnp.where(inside[..., None], moved, fill).astype(image.dtype)
