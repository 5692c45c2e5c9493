"""Random changes to a batch of training images, on the device, inside the jitted step.

All functions are pure. Randomness comes from a key made of (seed, step), so a run that was
stopped goes on with the same random numbers. Within a batch, image i draws from the key folded
with its row in the *global* batch, `first_row + i`, so the outcome does not depend on how many
devices share the batch. Under `jax.pmap`, over B images a device,

    first_row = jax.lax.axis_index("batch") * B
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int, Key, Shaped, UInt8

from train.losses import IGNORE_LABEL

Images = Shaped[Array, "batch height width channels"]


def augmentation_key(seed: ArrayLike, step: ArrayLike) -> Key[Array, ""]:
    """Make the typed key of one training step: `fold_in(key(seed), step)`; both integer scalars."""
    return jax.random.fold_in(jax.random.key(seed), step)


def normalize(
    images: UInt8[Array, "batch height width channels"],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "batch height width channels"]:
    """Pixels with mean 0 and deviation 1 per channel: `(images / 255 - mean) / std`.

    `mean` and `std` are of pixels divided by 255, one number per channel. Computes in float32,
    or in `dtype` where that is wider, and rounds to `dtype` at the end.

    Raises `ValueError` for images that are not uint8 (probably normalized already), and when
    `mean` or `std` has not one number per channel.
    """
    if images.dtype != jnp.uint8:
        raise ValueError(
            f"expected images as uint8 in 0 .. 255, got {images.dtype}. Probably they have been "
            "normalized already; pass the feed's images."
        )
    channels = images.shape[-1]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise ValueError(
                f"expected one {name} per channel, so {channels} for images of shape "
                f"{images.shape}, got {len(values)}: {tuple(values)}. Probably the figures "
                "belong to another dataset."
            )
    wide = jnp.promote_types(jnp.float32, dtype)
    scaled = images.astype(wide) / 255
    return ((scaled - jnp.asarray(mean, wide)) / jnp.asarray(std, wide)).astype(dtype)


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
    return jax.vmap(crop)(_row_keys(key, images, first_row), padded)


def random_flip(key: Key[Array, ""], images: Images, first_row: ArrayLike = 0) -> Images:
    """Each image, mirrored left to right with probability 1/2; shape and dtype as before."""
    flipped = jax.vmap(jax.random.bernoulli)(_row_keys(key, images, first_row))
    return jnp.where(flipped[:, None, None, None], images[:, :, ::-1, :], images)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to training images: crop, then flip; by default nothing.

    `crop_padding` is `pad_and_crop`'s padding in pixels, `flip` mirrors half of the images.
    """

    crop_padding: int = 0
    flip: bool = False

    def __call__(
        self, key: Key[Array, ""], images: Images, first_row: ArrayLike = 0, fill: int = 0
    ) -> Images:
        """Augment a batch; shape and dtype as before. `fill` is what a crop moves in."""
        crop_key, flip_key = jax.random.split(key)
        images = pad_and_crop(crop_key, images, self.crop_padding, first_row, fill)
        return random_flip(flip_key, images, first_row) if self.flip else images

    def labels(
        self, key: Key[Array, ""], labels: Int[Array, "batch ..."], first_row: ArrayLike = 0
    ) -> Int[Array, "batch ..."]:
        """Labels of the images that the same key augments; shape and dtype as before.

        Labels of pixels, (batch, height, width), move with them, `IGNORE_LABEL` moving in; a label
        of a whole image, (batch,), is as before.
        """
        if labels.ndim == 1:
            return labels
        return self(key, labels[..., None], first_row, fill=IGNORE_LABEL)[..., 0]


def _row_keys(key: Key[Array, ""], images: Array, first_row: ArrayLike) -> Key[Array, " batch"]:
    rows = first_row + jnp.arange(len(images))
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)
