"""Pictures of any size made into squares: pure functions on Pillow images.

An image and its mask go the same way: the same geometry, and a resampling each.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

__all__ = [
    "AREA",
    "ASPECT",
    "IMAGE",
    "MASK",
    "RESIZE_RATIO",
    "Box",
    "center_crop",
    "crop_and_resize",
    "evaluation_view",
    "random_box",
    "resize_shorter_side",
]

IMAGE = Image.Resampling.BILINEAR
"""How images are resampled: bilinear, and over the whole area where they shrink (antialiased)."""

MASK = Image.Resampling.NEAREST
"""How masks are resampled: the nearest pixel, because there is nothing between two classes."""

RESIZE_RATIO = 256 / 224
"""Shorter side before the crop / side of the crop.

Source: the ImageNet evaluation of Attentional Feature Fusion (open-aff, train_imagenet.py: a crop
of 224 is 0.875 of 256), which is everybody's since Krizhevsky et al., 2012.
"""


def evaluation_view(
    picture: Image.Image, size: int, resampling: Image.Resampling, ratio: float = RESIZE_RATIO
) -> Image.Image:
    """The centre of a picture as `size` x `size` pixels, always the same.

        shorter side -> round(ratio * size), then the central square of side `size`

    A picture that has this size already stays as it is.
    """
    if picture.size == (size, size):
        return picture
    return center_crop(resize_shorter_side(picture, round(ratio * size), resampling), size)


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


AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
"""What a random crop takes of an image: a share of its area, and width / height.

Source: Szegedy et al., Going Deeper with Convolutions, 2015, section 6; so MXNet's and GluonCV's
random resized crop, with which the authors train.
"""

Box = tuple[int, int, int, int]
"""Left, upper, right and lower side in pixels, as Pillow has them."""


def random_box(rng: np.random.Generator, width: int, height: int) -> Box:
    """A rectangle inside a picture, its area drawn from `AREA` and its aspect from `ASPECT`.

    Area is uniform and aspect log-uniform; a rectangle that does not fit is drawn again. After ten
    tries it is the largest one in the middle whose aspect is in `ASPECT`.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*AREA)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, upper, left + w, upper + h
    w = min(width, max(1, round(height * ASPECT[1])))
    h = min(height, max(1, round(width / ASPECT[0])))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def crop_and_resize(
    picture: Image.Image, box: Box, size: int, resampling: Image.Resampling
) -> Image.Image:
    """What is in the box as `size` x `size` pixels."""
    return picture.crop(box).resize((size, size), resampling)
