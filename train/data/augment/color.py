"""The color operations of Pillow that AutoAugment applies at random.

Images are uint8 with the shape (height, width, 3) for RGB or (height, width, 1) for gray.
Operations keep the shape and the dtype. Values are rounded down after each operation, as in Pillow.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Int, UInt8

from train.data.augment.histogram import apply_table, count_below

__all__ = [
    "COLOR",
    "Image",
    "autocontrast",
    "blend",
    "brightness",
    "color",
    "contrast",
    "equalize",
    "invert",
    "posterize",
    "sharpness",
    "smooth",
    "solarize",
    "to_gray",
]

Image = UInt8[Array, "height width channels"]
"""One uint8 image with 1 or 3 channels."""


def to_gray(image: Image) -> Int[Array, "height width 1"]:
    """Compute the luma of ITU-R 601, (299 R + 587 G + 114 B) / 1000, rounded to int32.

    Args:
        image: uint8 `(height, width, 3)`, or `(height, width, 1)`, which is only
            converted to int32.

    Returns:
        int32 `(height, width, 1)`, 0 .. 255.
    """
    levels = image.astype(jnp.int32)
    if levels.shape[-1] == 1:
        return levels
    red, green, blue = jnp.split(levels, 3, axis=-1)
    # Pillow has the weights in units of 2^-16.
    return (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16


def smooth(image: Image) -> Int[Array, "height width channels"]:
    """Average over 3 x 3 pixels, with weight 5 for the center. The border does not change.

    Args:
        image: uint8 `(height, width, channels)`.

    Returns:
        int32 of the same shape, 0 .. 255, rounded to the nearest integer.
    """
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


def autocontrast(image: Image, magnitude: ArrayLike = 0) -> Image:
    """Stretch each channel to 0 .. 255: floor(255 (v - low) / (high - low)).

    A channel with only one value does not change.

    Args:
        image: uint8 `(height, width, channels)`.
        magnitude: Not used.

    Returns:
        uint8 image of the same shape.
    """
    del magnitude
    levels = image.astype(jnp.int32)
    low, high = levels.min((0, 1)), levels.max((0, 1))
    stretched = 255 * (levels - low) // jnp.maximum(high - low, 1)
    return jnp.where(high > low, stretched, levels).astype(jnp.uint8)


def invert(image: Image, magnitude: ArrayLike = 0) -> Image:
    """Invert the image: 255 - v.

    Args:
        image: uint8 `(height, width, channels)`.
        magnitude: Not used.

    Returns:
        uint8 image of the same shape.
    """
    del magnitude
    return 255 - image


def equalize(image: Image, magnitude: ArrayLike = 0) -> Image:
    """Equalize the histogram of each channel.

    A value v becomes::

        floor((step // 2 + pixels below v) / step),   step = pixels below the largest value // 255

    A channel whose step is 0, with too few pixels or values, does not change.

    Args:
        image: uint8 `(height, width, channels)`.
        magnitude: Not used.

    Returns:
        uint8 image of the same shape.
    """
    del magnitude

    def equalize_channel(channel: UInt8[Array, " pixels"]) -> UInt8[Array, " pixels"]:
        below = count_below(channel)
        step = below[channel.max()] // 255
        table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255).astype(jnp.uint8)
        return jnp.where(step > 0, apply_table(table, channel), channel)

    channels = image.reshape(-1, image.shape[-1])
    return jax.vmap(equalize_channel, 1, 1)(channels).reshape(image.shape)


def solarize(image: Image, threshold: ArrayLike) -> Image:
    """Invert the pixels with values of at least `threshold`.

    Args:
        image: uint8 `(height, width, channels)`.
        threshold: Number in 0 .. 256. 0 inverts all pixels, and 256 inverts none.

    Returns:
        uint8 image of the same shape.
    """
    # Compare int32 values. A threshold of 256 would be 0 as uint8.
    return jnp.where(image.astype(jnp.int32) < threshold, image, 255 - image)


def posterize(image: Image, bits: ArrayLike) -> Image:
    """Keep the highest `bits` bits of each value, and set the others to 0.

    Args:
        image: uint8 `(height, width, channels)`.
        bits: Number of bits, 1 to 8.

    Returns:
        uint8 image of the same shape.
    """
    dropped = 8 - jnp.asarray(bits).astype(jnp.uint8)
    return (image >> dropped) << dropped


def contrast(image: Image, factor: ArrayLike) -> Image:
    """Change the contrast: `blend` with the rounded mean luma of the image.

    Args:
        image: uint8 `(height, width, channels)`.
        factor: 0 returns a uniform gray image, and 1 returns the image.

    Returns:
        uint8 image of the same shape.
    """
    luma = to_gray(image)
    return blend((2 * jnp.sum(luma) + luma.size) // (2 * luma.size), image, factor)


def color(image: Image, factor: ArrayLike) -> Image:
    """Change the saturation: `blend` with the gray image. A gray image does not change.

    Args:
        image: uint8 `(height, width, channels)`.
        factor: 0 returns the gray image, and 1 returns the image.

    Returns:
        uint8 image of the same shape.
    """
    return blend(to_gray(image), image, factor)


def brightness(image: Image, factor: ArrayLike) -> Image:
    """Change the brightness: `blend` with black.

    Args:
        image: uint8 `(height, width, channels)`.
        factor: 0 returns a black image, and 1 returns the image.

    Returns:
        uint8 image of the same shape.
    """
    return blend(jnp.int32(0), image, factor)


def sharpness(image: Image, factor: ArrayLike) -> Image:
    """Change the sharpness: `blend` with the smoothed image.

    Args:
        image: uint8 `(height, width, channels)`.
        factor: 0 returns the smoothed image, and 1 returns the image.

    Returns:
        uint8 image of the same shape.
    """
    return blend(smooth(image), image, factor)


def blend(degenerate: Int[Array, "..."], image: Image, factor: ArrayLike) -> Image:
    """Interpolate or extrapolate between a degenerate image d and an image v, in float32.

    The result is clipped to 0 .. 255 and rounded down::

        d + factor * (v - d)

    Args:
        degenerate: Image d, int32, of a shape that broadcasts to that of `image`.
        image: Image v.
        factor: 0 returns the degenerate image, and 1 returns the image.

    Returns:
        uint8 image of the shape of `image`.
    """
    start = degenerate.astype(jnp.float32)
    mixed = start + jnp.float32(factor) * (image.astype(jnp.float32) - start)
    return jnp.clip(mixed, 0, 255).astype(jnp.uint8)


COLOR: dict[str, Callable[[Array, Array], Array]] = {
    "AutoContrast": autocontrast,
    "Invert": invert,
    "Equalize": equalize,
    "Solarize": solarize,
    "Posterize": posterize,
    "Contrast": contrast,
    "Color": color,
    "Brightness": brightness,
    "Sharpness": sharpness,
}
"""Functions of (image, magnitude) that return an image, by their names in AutoAugment."""
