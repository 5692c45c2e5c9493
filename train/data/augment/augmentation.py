"""Augmentation of a batch of training images, and normalization.

All functions are pure and run on the device, inside the jitted step. Random numbers are derived
from (seed, step) and the row of an image (see `random_per_image.py`), so a resumed run uses the
same ones.

The order follows GluonCV's training scripts, which the authors of Attentional Feature Fusion
used::

    AutoAugment, crop, flip, color jitter, PCA lighting   on uint8, as in Pillow
    random erasing                                        on uint8; not in GluonCV
    mixup or CutMix, label smoothing                      in GluonCV after normalize
    normalize

Mixing before or after normalization has the same result. GluonCV's ImageNet script crops to the
training size after AutoAugment; here the source has cropped before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int, Key, UInt8

from aff_jax.images.normalization import normalize_pixels
from train.data.augment.autoaugment import autoaugment
from train.data.augment.crop import pad_and_crop
from train.data.augment.geometry import random_flip
from train.data.augment.random_color import color_jitter, pca_lighting
from train.data.augment.random_erasing import random_erasing
from train.data.augment.random_per_image import Images
from train.data.batch import IGNORED_LABEL

__all__ = ["STREAMS", "Augmentation", "augmentation_key", "normalize", "stream_key"]

STREAMS = (
    "crop",
    "flip",
    "autoaugment",
    "color_jitter",
    "pca_lighting",
    "random_erasing",
    "mixing",
)
"""Users of random numbers in a step. Each has its own key, derived from its position here.

Only append to this tuple. Otherwise the augmentation of runs that resume would change.
"""


def augmentation_key(seed: ArrayLike, step: ArrayLike) -> Key[Array, ""]:
    """Derive the key of one training step: `fold_in(key(seed), step)`.

    Args:
        seed: Seed of the run.
        step: Step, counted from 0.

    Returns:
        A typed key.
    """
    return jax.random.fold_in(jax.random.key(seed), step)


def stream_key(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """Derive the key of one of the `STREAMS`.

    Args:
        key: Key of the step, from `augmentation_key`.
        name: Name in `STREAMS`.

    Returns:
        A typed key.
    """
    return jax.random.fold_in(key, STREAMS.index(name))


def normalize(
    images: Images,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: DTypeLike = jnp.float32,
    mixed: bool = False,
) -> Float[Array, "batch height width channels"]:
    """Normalize images: `(images / 255 - mean) / std`.

    Unlike `aff_jax.images.normalization.normalize_pixels`, it refuses images of other dtypes.

    Args:
        images: uint8 images, or float32 images in 0 .. 255 from `Mixup` if `mixed`.
        mean: Mean of the pixels divided by 255, per channel.
        std: Standard deviation of the pixels divided by 255, per channel.
        dtype: Type of the result.
        mixed: Whether the images come from `Mixup`.

    Returns:
        Images of the same shape, of dtype `dtype`.

    Raises:
        ValueError: If the images have another dtype, or `mean` or `std` does not have one number
            per channel.
    """
    expected = jnp.dtype(jnp.float32 if mixed else jnp.uint8)
    if images.dtype != expected:
        raise ValueError(
            f"expected images as {expected} in 0 .. 255, got {images.dtype}. Probably they are "
            "already normalized; pass the images of the feed."
        )
    channels = images.shape[-1]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise ValueError(
                f"expected one {name} per channel, so {channels} for images of shape "
                f"{images.shape}, got {len(values)}: {tuple(values)}. Probably they belong to "
                "another dataset."
            )
    return normalize_pixels(images, mean, std, dtype)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images in the order of this module. The default changes nothing.

    Attributes:
        crop_padding: Padding of `pad_and_crop` in pixels.
        flip: Whether to flip half of the images horizontally.
        autoaugment: Name of an AutoAugment policy in `POLICIES`; "" is none.
        color_jitter: Strength of `color_jitter`; 0 is off.
        pca_lighting: Standard deviation of `pca_lighting`; 0 is off.
        random_erasing: Probability of `random_erasing`.
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
        """Augment a batch of uint8 images.

        Args:
            key: Key of the step.
            images: uint8 images of this device.
            first_row: Row of the first image in the global batch.

        Returns:
            uint8 images of the same shape.
        """
        if self.autoaugment:
            policy_key = stream_key(key, "autoaugment")
            images = autoaugment(policy_key, images, self.autoaugment, first_row)
        images = self._crop_and_flip(key, images, first_row)
        changes = {
            "color_jitter": color_jitter,
            "pca_lighting": pca_lighting,
            "random_erasing": random_erasing,
        }
        for name, change in changes.items():
            if amount := getattr(self, name):
                images = change(stream_key(key, name), images, amount, first_row)
        return images

    def labels(
        self, key: Key[Array, ""], labels: Int[Array, "batch ..."], first_row: ArrayLike = 0
    ) -> Int[Array, "batch ..."]:
        """Apply the crop and the flip of the images to labels of pixels.

        Args:
            key: The key that augments the images.
            labels: Labels of pixels (batch, height, width), or of images (batch,), which do not
                change.
            first_row: Row of the first image in the global batch.

        Returns:
            Labels of the same shape and dtype. Pixels of the padding have `IGNORED_LABEL`.
        """
        if labels.ndim == 1:
            return labels
        return self._crop_and_flip(key, labels[..., None], first_row, fill=IGNORED_LABEL)[..., 0]

    def _crop_and_flip(
        self, key: Key[Array, ""], images: Images, first_row: ArrayLike, fill: int = 0
    ) -> Images:
        crop_key, flip_key = stream_key(key, "crop"), stream_key(key, "flip")
        images = pad_and_crop(crop_key, images, self.crop_padding, first_row, fill)
        return random_flip(flip_key, images, first_row) if self.flip else images
