"""The color operations of Pillow that AutoAugment applies at random.

Images are uint8 with the shape (height, width, 3) for RGB or (height, width, 1) for gray.
Operations keep the shape and the dtype. Values v are clipped to 0 .. 255 and rounded down after
each operation, as in Pillow.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Int, UInt8

from train.data.augment.histogram import apply_table, count_below

__all__ = ["COLOR", "Image", "brightness", "color", "contrast", "equalize"]

Image = UInt8[Array, "height width channels"]
"""One uint8 image with 1 or 3 channels."""


def _to_gray(image: Image) -> Int[Array, "height width 1"]:
    """Return the luma of ITU-R 601, `(299 R + 587 G + 114 B) / 1000`, rounded to int32."""
    levels = image.astype(jnp.int32)
    if levels.shape[-1] == 1:
        return levels
    red, green, blue = jnp.split(levels, 3, axis=-1)
    # Pillow has the weights in units of 2^-16.
    return (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16


def _smooth(image: Image) -> Int[Array, "height width channels"]:
    """Average over 3 x 3 pixels, with weight 5 for the center. The border does not change."""
    levels = jnp.asarray(image, jnp.int32)
    rows = levels[:-2] + levels[1:-1] + levels[2:]
    box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    inner = (2 * (box + 4 * levels[1:-1, 1:-1]) + 13) // 26
    if not inner.size:
        return levels
    # Select with `where`. Under `vmap`, an update in place would be a scatter, which is slow on
    # accelerators.
    sides = ((1, 1), (1, 1), (0, 0))
    return jnp.where(np.pad(np.ones(inner.shape, bool), sides), jnp.pad(inner, sides), levels)


def _autocontrast(image: Image) -> Image:
    """Stretch to 0 .. 255: `floor(255 (v - low) / (high - low))` per channel, v if high = low."""
    levels = image.astype(jnp.int32)
    low, high = levels.min((0, 1)), levels.max((0, 1))
    stretched = 255 * (levels - low) // jnp.maximum(high - low, 1)
    return jnp.where(high > low, stretched, levels).astype(jnp.uint8)


def equalize(image: Image) -> Image:
    """Equalize the histogram of each channel.

    A value v becomes::

        floor((step // 2 + pixels below v) / step),   step = pixels below the largest value // 255

    A channel whose step is 0, with too few pixels or values, does not change.

    Args:
        image: uint8 `(height, width, channels)`.

    Returns:
        uint8 image of the same shape.
    """

    def equalize_channel(channel: UInt8[Array, " pixels"]) -> UInt8[Array, " pixels"]:
        below = count_below(channel)
        step = below[channel.max()] // 255
        table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255).astype(jnp.uint8)
        return jnp.where(step > 0, apply_table(table, channel), channel)

    channels = image.reshape(-1, image.shape[-1])
    return jax.vmap(equalize_channel, 1, 1)(channels).reshape(image.shape)


def _solarize(image: Image, threshold: ArrayLike) -> Image:
    """Invert the pixels with values of at least `threshold`, 0 (all) to 256 (none)."""
    # Compare int32 values. A threshold of 256 would be 0 as uint8.
    return jnp.where(image.astype(jnp.int32) < threshold, image, 255 - image)


def _posterize(image: Image, bits: ArrayLike) -> Image:
    """Keep the highest `bits` bits of each value, 1 to 8, and set the others to 0."""
    dropped = 8 - jnp.asarray(bits).astype(jnp.uint8)
    return (image >> dropped) << dropped


def contrast(image: Image, factor: ArrayLike) -> Image:
    """Change the contrast: `d + factor * (v - d)`, where d is the rounded mean luma of the image.

    Args:
        image: uint8 `(height, width, channels)`.
        factor: 0 returns a uniform gray image, and 1 returns the image.

    Returns:
        uint8 image of the same shape.
    """
    luma = _to_gray(image)
    return _blend((2 * jnp.sum(luma) + luma.size) // (2 * luma.size), image, factor)


def color(image: Image, factor: ArrayLike) -> Image:
    """Change the saturation: `d + factor * (v - d)`, where d is the gray image.

    Args:
        image: uint8 `(height, width, channels)`.
        factor: 0 returns the gray image, and 1 returns the image.

    Returns:
        uint8 image of the same shape. An image with one channel does not change.
    """
    return _blend(_to_gray(image), image, factor)


def brightness(image: Image, factor: ArrayLike) -> Image:
    """Change the brightness: `factor * v`.

    Args:
        image: uint8 `(height, width, channels)`.
        factor: 0 returns a black image, and 1 returns the image.

    Returns:
        uint8 image of the same shape.
    """
    return _blend(jnp.int32(0), image, factor)


def _blend(degenerate: Int[Array, "..."], image: Image, factor: ArrayLike) -> Image:
    """Return `d + factor * (v - d)` of images d and v, clipped to 0 .. 255 and rounded down."""
    start = degenerate.astype(jnp.float32)
    mixed = start + jnp.float32(factor) * (image.astype(jnp.float32) - start)
    return jnp.clip(mixed, 0, 255).astype(jnp.uint8)


COLOR: dict[str, Callable[[Array, Array], Array]] = {
    "AutoContrast": lambda image, magnitude: _autocontrast(image),
    "Invert": lambda image, magnitude: 255 - image,
    "Equalize": lambda image, magnitude: equalize(image),
    "Solarize": _solarize,
    "Posterize": _posterize,
    "Contrast": contrast,
    "Color": color,
    "Brightness": brightness,
    "Sharpness": lambda image, factor: _blend(_smooth(image), image, factor),
}
"""Functions of (image, magnitude) that return an image, by their names in AutoAugment."""
