"""Pictures of any size made into squares: pure functions on Pillow images.

An image and its mask go the same way: the same geometry, and a resampling each.
"""

from __future__ import annotations

from PIL import Image

__all__ = ["IMAGE", "MASK", "RESIZE_RATIO", "center_crop", "evaluation_view", "resize_shorter_side"]

IMAGE = Image.Resampling.BILINEAR
"""How images are resampled: bilinear, and over the whole area where they shrink (antialiased)."""

MASK = Image.Resampling.NEAREST
"""How masks are resampled: the nearest pixel, because there is nothing between two classes."""

RESIZE_RATIO = 256 / 224
"""Shorter side before the crop / side of the crop.

Source: the ImageNet evaluation of Attentional Feature Fusion (open-aff, train_imagenet.py: a crop
of 224 is 0.875 of 256), which is everybody's since Krizhevsky et al., 2012.
"""


def evaluation_view(picture: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    """The centre of a picture as `size` x `size` pixels, always the same.

    shorter side -> round(RESIZE_RATIO * size), then the central square of side `size`
    """
    return center_crop(resize_shorter_side(picture, round(RESIZE_RATIO * size), resampling), size)


def resize_shorter_side(
    picture: Image.Image, length: int, resampling: Image.Resampling
) -> Image.Image:
    """A picture whose shorter side is `length` pixels; the longer one is in proportion, rounded."""
    shorter = min(picture.size)
    width, height = (max(length, round(side * length / shorter)) for side in picture.size)
    return picture.resize((width, height), resampling)


def center_crop(picture: Image.Image, size: int) -> Image.Image:
    """The central `size` x `size` pixels, rounded to the upper left.

    Raises `ValueError` for a picture that is smaller: Pillow would fill up with black.
    """
    if min(picture.size) < size:
        raise ValueError(f"expected a picture of at least {size} x {size}, got {picture.size}.")
    left, top = ((side - size) // 2 for side in picture.size)
    return picture.crop((left, top, left + size, top + size))
