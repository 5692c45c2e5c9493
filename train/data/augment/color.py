"""Color augmentation: Pillow's operations, color jitter and PCA lighting.

Images are uint8 with the shape (height, width, 3) for RGB or (height, width, 1) for gray.
Operations keep the shape and the dtype. Values are rounded down after each operation, as in Pillow.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key, UInt8

from train.data.augment.random_per_image import Images, image_keys, map_images

__all__ = [
    "COLOR",
    "Image",
    "autocontrast",
    "blend",
    "brightness",
    "color",
    "color_jitter",
    "contrast",
    "count_below_by_comparison",
    "count_below_by_scatter",
    "equalize",
    "invert",
    "pca_lighting",
    "posterize",
    "sharpness",
    "smooth",
    "solarize",
    "to_gray",
]

Image = UInt8[Array, "height width channels"]
"""One uint8 image with 1 or 3 channels."""

# Principal components of ImageNet's colors for pixels in 0 .. 255. Each column is an eigenvector
# times its eigenvalue. From Krizhevsky et al., 2012, section 4.1, with the numbers of GluonCV.
_COMPONENTS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
) * [55.46, 4.794, 1.148]


def to_gray(image: Image) -> Int[Array, "height width 1"]:
    """Compute the luma of ITU-R 601, (299 R + 587 G + 114 B) / 1000, rounded to int32."""
    levels = image.astype(jnp.int32)
    if levels.shape[-1] == 1:
        return levels
    red, green, blue = jnp.split(levels, 3, axis=-1)
    # Pillow has the weights in units of 2^-16.
    return (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16


def smooth(image: Image) -> Int[Array, "height width channels"]:
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


def autocontrast(image: Image, magnitude: ArrayLike = 0) -> Image:
    """Stretch each channel to 0 .. 255: floor(255 (v - low) / (high - low)).

    A channel with only one value does not change.
    """
    del magnitude
    levels = image.astype(jnp.int32)
    low, high = levels.min((0, 1)), levels.max((0, 1))
    stretched = 255 * (levels - low) // jnp.maximum(high - low, 1)
    return jnp.where(high > low, stretched, levels).astype(jnp.uint8)


def invert(image: Image, magnitude: ArrayLike = 0) -> Image:
    """Invert the image: 255 - v."""
    del magnitude
    return 255 - image


def equalize(image: Image, magnitude: ArrayLike = 0) -> Image:
    """Equalize the histogram of each channel.

    A value v becomes::

        floor((step // 2 + pixels below v) / step),   step = pixels below the largest value // 255

    A channel whose step is 0, with too few pixels or values, does not change.
    """
    del magnitude

    def equalize_channel(channel: UInt8[Array, " pixels"]) -> UInt8[Array, " pixels"]:
        below = jax.lax.platform_dependent(
            channel, cpu=count_below_by_scatter, default=count_below_by_comparison
        )
        step = below[channel.max()] // 255
        table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255).astype(jnp.uint8)
        return jnp.where(step > 0, table[channel], channel)

    channels = image.reshape(-1, image.shape[-1])
    return jax.vmap(equalize_channel, 1, 1)(channels).reshape(image.shape)


def count_below_by_scatter(channel: UInt8[Array, " pixels"]) -> Int[Array, "256"]:
    """Count the pixels below each value as int32, with one sequential addition per pixel."""
    counts = jnp.zeros(256, jnp.int32).at[channel].add(1)
    return jnp.cumsum(counts) - counts


def count_below_by_comparison(channel: UInt8[Array, " pixels"]) -> Int[Array, "256"]:
    """Count the pixels below each value with 256 parallel comparisons per pixel.

    The result is that of `count_below_by_scatter`. Scatter is slow on accelerators.
    """
    return jnp.sum(channel[:, None] < jnp.arange(256), axis=0, dtype=jnp.int32)


def solarize(image: Image, threshold: ArrayLike) -> Image:
    """Invert the pixels with values of at least `threshold`, which is in 0 .. 256."""
    # Compare int32 values. A threshold of 256 would be 0 as uint8.
    return jnp.where(image.astype(jnp.int32) < threshold, image, 255 - image)


def posterize(image: Image, bits: ArrayLike) -> Image:
    """Keep the highest `bits` bits of each value, 1 to 8, and set the others to 0."""
    dropped = 8 - jnp.asarray(bits).astype(jnp.uint8)
    return (image >> dropped) << dropped


def contrast(image: Image, factor: ArrayLike) -> Image:
    """Change the contrast: `blend` with the rounded mean luma of the image."""
    luma = to_gray(image)
    return blend((2 * jnp.sum(luma) + luma.size) // (2 * luma.size), image, factor)


def color(image: Image, factor: ArrayLike) -> Image:
    """Change the saturation: `blend` with the gray image. A gray image does not change."""
    return blend(to_gray(image), image, factor)


def brightness(image: Image, factor: ArrayLike) -> Image:
    """Change the brightness: `blend` with black."""
    return blend(jnp.int32(0), image, factor)


def sharpness(image: Image, factor: ArrayLike) -> Image:
    """Change the sharpness: `blend` with the smoothed image."""
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


def color_jitter(
    key: Key[Array, ""], images: Images, strength: float, first_row: ArrayLike = 0
) -> Images:
    """Change the brightness, contrast and saturation of each image in a random order.

    Args:
        key: Key of the step.
        images: uint8 images.
        strength: Each factor is uniform in 1 - strength .. 1 + strength. GluonCV's ImageNet recipe
            has 0.4.
        first_row: Row of the first image in the global batch.

    Returns:
        uint8 images of the same shape.

    References:
        MXNet's RandomColorJitter, except its saturation, which uses only the blue term of the luma.
        The saturation here is Pillow's.
    """
    operations = (brightness, contrast, color)

    def draw(row_key: Key[Array, ""]) -> tuple[Int[Array, "3"], Float[Array, "3"]]:
        order_key, factor_key = jax.random.split(row_key)
        factors = jax.random.uniform(factor_key, (3,), jnp.float32, 1 - strength, 1 + strength)
        return jax.random.permutation(order_key, 3), factors

    def jitter(image: Image, order: Int[Array, "3"], factors: Float[Array, "3"]) -> Image:
        for operation, factor in zip(order, factors, strict=True):
            image = jax.lax.switch(operation, operations, image, factor)
        return image

    return map_images(jitter, images, *jax.vmap(draw)(image_keys(key, images, first_row)))


def pca_lighting(
    key: Key[Array, ""], images: Images, std: float, first_row: ArrayLike = 0
) -> Images:
    """Shift the pixels of each image along the principal components of ImageNet's colors.

    All pixels v of an image become, rounded to the nearest integer::

        v + sum_k eigenvector_k * eigenvalue_k * alpha_k,   alpha_k ~ N(0, std^2)

    Args:
        key: Key of the step.
        images: uint8 images with 3 channels.
        std: Standard deviation of alpha. GluonCV's ImageNet recipe has 0.1.
        first_row: Row of the first image in the global batch.

    Returns:
        uint8 images of the same shape.

    Raises:
        ValueError: If the images do not have 3 channels.

    References:
        Krizhevsky et al., ImageNet Classification with Deep CNNs, 2012, section 4.1.
    """
    if images.shape[-1] != 3:
        raise ValueError(
            f"expected images with 3 channels, red, green and blue, for pca_lighting, got "
            f"{images.shape[-1]}. It uses the principal components of ImageNet's colors: set "
            f"pca_lighting to 0."
        )
    normal = jax.vmap(lambda row_key: jax.random.normal(row_key, (3,), jnp.float32))
    alpha = std * normal(image_keys(key, images, first_row))
    # Use a sum instead of a matrix product, which a TPU would compute in bfloat16.
    shifts = jnp.sum(jnp.float32(_COMPONENTS) * alpha[:, None, :], axis=-1)
    shifted = images.astype(jnp.float32) + shifts[:, None, None, :]
    return jnp.clip(jnp.round(shifted), 0, 255).astype(jnp.uint8)
