"""Random changes to a batch of training images, on the device, inside the jitted step.

All functions are pure. Randomness comes from a key made of (seed, step), so a run that was
stopped goes on with the same random numbers; how an image has its own is in `per_image.py`.

The order of things is that of GluonCV's training scripts, which the authors of Attentional Feature
Fusion used:

    AutoAugment, crop, flip, color jitter, PCA lighting   on uint8, as Pillow has it
    random erasing                                        on uint8; theirs have none
    mixup or cutmix, label smoothing                      theirs after normalize, with equal result
    normalize

Their ImageNet recipe crops to the size of training after AutoAugment; here the source has cropped
before. For CIFAR the order is theirs to the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int, Key, UInt8

from train.data.augment.autoaugment import autoaugment
from train.data.augment.color import color_jitter, pca_lighting
from train.data.augment.erasing import random_erasing
from train.data.augment.geometry import pad_and_crop, random_flip
from train.data.augment.per_image import Images
from train.data.labels import IGNORE_LABEL

STREAMS = (
    "crop",
    "flip",
    "autoaugment",
    "color_jitter",
    "pca_lighting",
    "random_erasing",
    "mixing",
)
"""What draws random numbers in a step, each with a key of its own; append, and old runs go on."""


def augmentation_key(seed: ArrayLike, step: ArrayLike) -> Key[Array, ""]:
    """Make the typed key of one training step: `fold_in(key(seed), step)`; both integer scalars."""
    return jax.random.fold_in(jax.random.key(seed), step)


def stream(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The key of one of the `STREAMS` in the step of `key`."""
    return jax.random.fold_in(key, STREAMS.index(name))


def normalize(
    images: Images,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: DTypeLike = jnp.float32,
    mixed: bool = False,
) -> Float[Array, "batch height width channels"]:
    """Pixels with mean 0 and deviation 1 per channel: `(images / 255 - mean) / std`.

    `mean` and `std` are of pixels divided by 255, one number per channel. Computes in float32,
    or in `dtype` where that is wider, and rounds to `dtype` at the end. Images are uint8, or, if
    `mixed`, the float32 levels that `Mixing` makes of them.

    Raises `ValueError` for images that are not of that type (probably normalized already), and
    when `mean` or `std` has not one number per channel.
    """
    expected = jnp.dtype(jnp.float32 if mixed else jnp.uint8)
    if images.dtype != expected:
        raise ValueError(
            f"expected images as {expected} in 0 .. 255, got {images.dtype}. Probably they have "
            "been normalized already; pass the feed's images."
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


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to training images, in the order of this module; by default nothing.

    `crop_padding` is `pad_and_crop`'s padding in pixels, `flip` mirrors half of the images,
    `autoaugment` names one of `POLICIES`, "" for none, `color_jitter` is its strength,
    `pca_lighting` its deviation, and `random_erasing` its probability.
    """

    crop_padding: int = 0
    flip: bool = False
    autoaugment: str = ""
    color_jitter: float = 0.0
    pca_lighting: float = 0.0
    random_erasing: float = 0.0

    def __call__(
        self, key: Key[Array, ""], images: Images, first_row: ArrayLike = 0
    ) -> UInt8[Array, "batch height width channels"]:
        """Augment a batch of uint8 images; shape and dtype as before."""
        if self.autoaugment:
            policy_key = stream(key, "autoaugment")
            images = autoaugment(policy_key, images, self.autoaugment, first_row)
        images = self._move(key, images, first_row)
        changes = {
            "color_jitter": color_jitter,
            "pca_lighting": pca_lighting,
            "random_erasing": random_erasing,
        }
        for name, change in changes.items():
            if amount := getattr(self, name):
                images = change(stream(key, name), images, amount, first_row)
        return images

    def labels(
        self, key: Key[Array, ""], labels: Int[Array, "batch ..."], first_row: ArrayLike = 0
    ) -> Int[Array, "batch ..."]:
        """Labels of the images that the same key augments; shape and dtype as before.

        Labels of pixels, (batch, height, width), move with them, `IGNORE_LABEL` moving in; a label
        of a whole image, (batch,), is as before.
        """
        if labels.ndim == 1:
            return labels
        return self._move(key, labels[..., None], first_row, fill=IGNORE_LABEL)[..., 0]

    def _move(
        self, key: Key[Array, ""], images: Images, first_row: ArrayLike, fill: int = 0
    ) -> Images:
        crop_key, flip_key = stream(key, "crop"), stream(key, "flip")
        images = pad_and_crop(crop_key, images, self.crop_padding, first_row, fill)
        return random_flip(flip_key, images, first_row) if self.flip else images
