"""What becomes of a pixel's colour: Pillow's operations on grey levels, jitter and lighting.

Images are uint8, (height, width, 3) in the order red, green, blue or (height, width, 1) for grey,
and stay so. Levels are rounded down after each operation, as in Pillow.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key, UInt8

from train.data.augment.per_image import Images, each_image, row_keys

__all__ = ["COLOR", "color_jitter", "pca_lighting"]

Image = UInt8[Array, "height width channels"]

# AlexNet's principal components of ImageNet's colours: columns are eigenvectors, each times its
# eigenvalue, in grey levels. Krizhevsky et al., 2012, section 4.1; figures as GluonCV has them.
_COMPONENTS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
) * [55.46, 4.794, 1.148]


def grey(image: Image) -> Int[Array, "height width 1"]:
    """Luma of ITU-R 601, (299 red + 587 green + 114 blue) / 1000, rounded; int32."""
    levels = image.astype(jnp.int32)
    if levels.shape[-1] == 1:
        return levels
    red, green, blue = jnp.split(levels, 3, axis=-1)
    # The weights in units of 2^-16, as in Pillow.
    return (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16


def smooth(image: Image) -> Int[Array, "height width channels"]:
    """A mean over 3 x 3 pixels in which the centre counts five times; the border as it was."""
    levels = jnp.asarray(image, jnp.int32)
    rows = levels[:-2] + levels[1:-1] + levels[2:]
    box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    inner = (2 * (box + 4 * levels[1:-1, 1:-1]) + 13) // 26
    if not inner.size:
        return levels
    # A choice: vectorized, an update in place would be a scatter, which is slow on accelerators.
    sides = ((1, 1), (1, 1), (0, 0))
    return jnp.where(np.pad(np.ones(inner.shape, bool), sides), jnp.pad(inner, sides), levels)


def autocontrast(image: Image, magnitude: ArrayLike = 0) -> Image:
    """Each channel stretched to 0 .. 255: floor(255 (v - low) / (high - low)); flat ones kept."""
    del magnitude
    levels = image.astype(jnp.int32)
    low, high = levels.min((0, 1)), levels.max((0, 1))
    stretched = 255 * (levels - low) // jnp.maximum(high - low, 1)
    return jnp.where(high > low, stretched, levels).astype(jnp.uint8)


def invert(image: Image, magnitude: ArrayLike = 0) -> Image:
    """255 - v."""
    del magnitude
    return 255 - image


def equalize(image: Image, magnitude: ArrayLike = 0) -> Image:
    """Each channel with all levels about equally often; one of too few pixels or levels is kept.

    v -> floor((step // 2 + pixels below v) / step),   step = pixels below the highest level // 255
    """
    del magnitude

    def equalize_channel(channel: UInt8[Array, " pixels"]) -> UInt8[Array, " pixels"]:
        below = jax.lax.platform_dependent(
            channel, cpu=below_by_scattering, default=below_by_comparing
        )
        step = below[channel.max()] // 255
        table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255).astype(jnp.uint8)
        return jnp.where(step > 0, table[channel], channel)

    channels = image.reshape(-1, image.shape[-1])
    return jax.vmap(equalize_channel, 1, 1)(channels).reshape(image.shape)


def below_by_scattering(channel: UInt8[Array, " pixels"]) -> Int[Array, "256"]:
    """How many pixels are below each level; int32. One addition a pixel, in turn."""
    counts = jnp.zeros(256, jnp.int32).at[channel].add(1)
    return jnp.cumsum(counts) - counts


def below_by_comparing(channel: UInt8[Array, " pixels"]) -> Int[Array, "256"]:
    """The same by 256 comparisons a pixel, all at once, where scattering is slow."""
    return jnp.sum(channel[:, None] < jnp.arange(256), axis=0, dtype=jnp.int32)


def solarize(image: Image, threshold: ArrayLike) -> Image:
    """255 - v where v is at least `threshold`, which is in 0 .. 256."""
    # Compared as integers: as uint8, a threshold of 256 would be 0.
    return jnp.where(image.astype(jnp.int32) < threshold, image, 255 - image)


def posterize(image: Image, bits: ArrayLike) -> Image:
    """The highest `bits` bits of v, 1 to 8; the others are 0."""
    dropped = 8 - jnp.asarray(bits).astype(jnp.uint8)
    return (image >> dropped) << dropped


def contrast(image: Image, factor: ArrayLike) -> Image:
    """`blend` with the mean grey of the image, rounded."""
    luma = grey(image)
    return blend((2 * jnp.sum(luma) + luma.size) // (2 * luma.size), image, factor)


def color(image: Image, factor: ArrayLike) -> Image:
    """`blend` with the grey image, also called saturation; a grey image is kept."""
    return blend(grey(image), image, factor)


def brightness(image: Image, factor: ArrayLike) -> Image:
    """`blend` with black."""
    return blend(jnp.int32(0), image, factor)


def sharpness(image: Image, factor: ArrayLike) -> Image:
    """`blend` with the smoothed image."""
    return blend(smooth(image), image, factor)


def blend(degenerate: Int[Array, "..."], image: Image, factor: ArrayLike) -> Image:
    """An image with more or less of what it has and a degenerate one has not, in float32.

    d + factor (v - d), cut off at 0 and 255, rounded down

    0 gives the degenerate image, 1 the image.
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
"""(image, magnitude) -> image, under the names that AutoAugment's policies use."""


def color_jitter(
    key: Key[Array, ""], images: Images, strength: float, first_row: ArrayLike = 0
) -> Images:
    """Brightness, contrast and saturation of each image, in an order drawn per image.

    Each has its factor, uniform in 1 - strength .. 1 + strength. GluonCV's ImageNet recipe has 0.4.

    Source: MXNet's RandomColorJitter, but for its saturation, which adds up no more than the blue
    part of the grey that it blends with; here it is Pillow's.
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

    return each_image(jitter, images, *jax.vmap(draw)(row_keys(key, images, first_row)))


def pca_lighting(
    key: Key[Array, ""], images: Images, deviation: float, first_row: ArrayLike = 0
) -> Images:
    """Each image with one shift of all its pixels along ImageNet's principal colours.

    v <- v + sum_k eigenvector_k eigenvalue_k alpha_k,   alpha_k ~ N(0, deviation^2)

    Rounded to the nearest level. GluonCV's ImageNet recipe has 0.1.

    Source: Krizhevsky et al., ImageNet Classification with Deep CNNs, 2012, section 4.1.

    Raises `ValueError` for images that are not of three channels.
    """
    if images.shape[-1] != 3:
        raise ValueError(
            f"expected images of 3 channels, red, green and blue, for pca_lighting, got "
            f"{images.shape[-1]}. Its components are those of ImageNet's colours: set pca_lighting "
            f"to 0."
        )
    normal = jax.vmap(lambda row_key: jax.random.normal(row_key, (3,), jnp.float32))
    alpha = deviation * normal(row_keys(key, images, first_row))
    # A sum in place of a matrix product, which a TPU would round to bfloat16.
    shifts = jnp.sum(jnp.float32(_COMPONENTS) * alpha[:, None, :], axis=-1)
    shifted = images.astype(jnp.float32) + shifts[:, None, None, :]
    return jnp.clip(jnp.round(shifted), 0, 255).astype(jnp.uint8)
