"""Random erasing: replace a rectangle of an image with random pixels."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Key

from train.data.augment.random_per_image import Images, image_keys

__all__ = ["ERASED_AREAS", "ERASED_ASPECTS", "random_erasing", "rectangle_mask"]

ERASED_AREAS = 0.02, 0.4
"""Smallest and largest area of the rectangle, as a fraction of the image."""

ERASED_ASPECTS = 0.3, 1 / 0.3
"""Smallest and largest aspect ratio of the rectangle, height / width."""

_TRIES = 10
"""Number of rectangles that are drawn for an image.

Three in four fit, so about one image in a million has none.
"""


def rectangle_mask(
    top: ArrayLike, left: ArrayLike, bottom: ArrayLike, right: ArrayLike, height: int, width: int
) -> Bool[Array, "height width"]:
    """Return a mask of the pixels inside a rectangle.

    Args:
        top: First row.
        left: First column.
        bottom: Row after the last one.
        right: Column after the last one.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        Booleans, `(height, width)`. Rows and columns outside of the image are ignored.
    """
    row, column = jnp.arange(height)[:, None], jnp.arange(width)
    return (row >= top) & (row < bottom) & (column >= left) & (column < right)


def random_erasing(
    key: Key[Array, ""], images: Images, probability: float, first_row: ArrayLike = 0
) -> Images:
    """Replace a rectangle of each image with random pixels, with the given probability.

    The area of the rectangle is uniform in `ERASED_AREAS`, its aspect ratio is uniform in
    `ERASED_ASPECTS`, and its position is uniform over all positions inside the image. Pixels are
    uniform in 0 .. 255.

    Args:
        key: Key of the step.
        images: uint8 images.
        probability: Probability that an image is changed.
        first_row: Row of the first image in the global batch.

    Returns:
        uint8 images of the same shape.

    References:
        Zhong et al., Random Erasing Data Augmentation, AAAI 2020, section 3.2. As in its published
        code, a rectangle that does not fit is drawn again.
    """
    height, width, channels = images.shape[1:]

    def rectangle(row_key: Key[Array, ""]) -> Bool[Array, "height width"]:
        # Draw the numbers of all tries in one call: compiling a random generator takes longer than
        # running it.
        drawn = jax.random.uniform(row_key, (3 + 2 * _TRIES,), jnp.float32)
        area = height * width * _point_between(ERASED_AREAS, drawn[3 : 3 + _TRIES])
        aspect = _point_between(ERASED_ASPECTS, drawn[3 + _TRIES :])
        rows = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
        columns = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
        fits = (rows < height) & (columns < width)
        first = jnp.argmax(fits)
        rows, columns = rows[first], columns[first]
        top = (drawn[1] * (height - rows + 1)).astype(jnp.int32)
        left = (drawn[2] * (width - columns + 1)).astype(jnp.int32)
        erase = fits[first] & (drawn[0] < probability)
        return erase & rectangle_mask(top, left, top + rows, left + columns, height, width)

    def noise(row_key: Key[Array, ""]) -> Array:
        # Draw 32-bit words and use each for four pixels. The generator makes a word for each byte
        # otherwise.
        size = height * width * channels
        words = jax.random.bits(row_key, (-(-size // 4),), jnp.uint32)
        pixels = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)
        return pixels[:size].reshape(height, width, channels)

    place_key, noise_key = jax.random.split(key)
    erased = jax.vmap(rectangle)(image_keys(place_key, images, first_row))
    pixels = jax.vmap(noise)(image_keys(noise_key, images, first_row))
    return jnp.where(erased[..., None], pixels, images)


def _point_between(ends: tuple[float, float], fraction: Array) -> Array:
    return ends[0] + (ends[1] - ends[0]) * fraction
