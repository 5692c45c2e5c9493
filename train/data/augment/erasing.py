"""Rectangles of an image: where they are, and random erasing.

Sources: Zhong et al., Random Erasing Data Augmentation, AAAI 2020, section 3.2, and its published
code for how a rectangle that does not fit is drawn again.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Key

from train.data.augment.per_image import Images, row_keys

__all__ = ["inside", "random_erasing"]

AREAS = 0.02, 0.4
"""Smallest and largest share of the image that is erased."""

ASPECTS = 0.3, 1 / 0.3
"""Smallest and largest height of the rectangle over its width."""

# Rectangles drawn for an image: three in four fit, so that one image in a million has none.
_TRIES = 10


def inside(
    top: ArrayLike, left: ArrayLike, bottom: ArrayLike, right: ArrayLike, height: int, width: int
) -> Bool[Array, "height width"]:
    """Which pixels are in the rows from `top` to before `bottom`, and so for columns."""
    row, column = jnp.arange(height)[:, None], jnp.arange(width)
    return (row >= top) & (row < bottom) & (column >= left) & (column < right)


def random_erasing(
    key: Key[Array, ""], images: Images, probability: float, first_row: ArrayLike = 0
) -> Images:
    """Each image with that probability with one rectangle of random pixels, uniform in 0 .. 255.

    The rectangle's area is uniform in `AREAS` of the image, height over width in `ASPECTS`, and its
    place wherever it fits; shape and dtype (uint8) as before.
    """
    height, width, channels = images.shape[1:]

    def rectangle(row_key: Key[Array, ""]) -> Bool[Array, "height width"]:
        # All tries are drawn at once: compiling a random generator takes longer than running it.
        drawn = jax.random.uniform(row_key, (3 + 2 * _TRIES,), jnp.float32)
        area = height * width * _between(AREAS, drawn[3 : 3 + _TRIES])
        aspect = _between(ASPECTS, drawn[3 + _TRIES :])
        rows = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
        columns = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
        fits = (rows < height) & (columns < width)
        first = jnp.argmax(fits)
        rows, columns = rows[first], columns[first]
        top = (drawn[1] * (height - rows + 1)).astype(jnp.int32)
        left = (drawn[2] * (width - columns + 1)).astype(jnp.int32)
        done = fits[first] & (drawn[0] < probability)
        return done & inside(top, left, top + rows, left + columns, height, width)

    def noise(row_key: Key[Array, ""]) -> Array:
        # Four pixels of each word that the generator makes: bytes would cost it a word each.
        size = height * width * channels
        words = jax.random.bits(row_key, (-(-size // 4),), jnp.uint32)
        pixels = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)
        return pixels[:size].reshape(height, width, channels)

    place_key, noise_key = jax.random.split(key)
    erased = jax.vmap(rectangle)(row_keys(place_key, images, first_row))
    pixels = jax.vmap(noise)(row_keys(noise_key, images, first_row))
    return jnp.where(erased[..., None], pixels, images)


def _between(ends: tuple[float, float], share: Array) -> Array:
    return ends[0] + (ends[1] - ends[0]) * share
