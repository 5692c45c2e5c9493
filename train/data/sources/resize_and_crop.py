"""Resize and crop images of any size to squares: pure functions of Pillow images.

An image and its mask use the same geometry and different resampling filters.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

__all__ = [
    "AREAS",
    "ASPECTS",
    "IMAGE_FILTER",
    "MASK_FILTER",
    "RESIZE_RATIO",
    "Box",
    "center_crop",
    "crop_and_resize",
    "random_box",
    "resize_and_center_crop",
    "resize_shorter_side",
]

IMAGE_FILTER = Image.Resampling.BILINEAR
"""Resampling filter of images. Pillow's bilinear filter is antialiased where it shrinks."""

MASK_FILTER = Image.Resampling.NEAREST
"""Resampling filter of masks. Class numbers cannot be interpolated."""

RESIZE_RATIO = 256 / 224
"""Length of the shorter side before the center crop, divided by the side of the crop.

The ImageNet evaluation of open-aff (`train_imagenet.py`) crops 224 of 256 pixels, as is common
since Krizhevsky et al., 2012.
"""


def resize_and_center_crop(
    image: Image.Image, size: int, resampling: Image.Resampling, ratio: float = RESIZE_RATIO
) -> Image.Image:
    """Resize the shorter side to `round(ratio * size)` and crop the central square.

    Evaluation uses this deterministic view.

    Args:
        image: The image.
        size: Side of the square in pixels.
        resampling: Filter of the resize.
        ratio: Length of the shorter side before the crop, divided by `size`.

    Returns:
        An image of `size` x `size` pixels; the image itself if it already has this size.
    """
    if image.size == (size, size):
        return image
    return center_crop(resize_shorter_side(image, round(ratio * size), resampling), size)


def resize_shorter_side(
    image: Image.Image, length: int, resampling: Image.Resampling
) -> Image.Image:
    """Resize the shorter side to `length` pixels and keep the aspect ratio.

    The longer side is rounded. `PIL.ImageOps.cover` computes it from a rounded aspect ratio and is
    one pixel off for some sizes.

    Args:
        image: The image.
        length: Length of the shorter side in pixels.
        resampling: Filter of the resize.

    Returns:
        The resized image.
    """
    shorter = min(image.size)
    width, height = (max(length, round(side * length / shorter)) for side in image.size)
    return image.resize((width, height), resampling)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """Crop the central square. Offsets are rounded down.

    Args:
        image: The image.
        size: Side of the square in pixels.

    Returns:
        An image of `size` x `size` pixels.

    Raises:
        ValueError: If the image is smaller. Pillow would pad it with black.
    """
    if min(image.size) < size:
        raise ValueError(f"expected an image of at least {size} x {size}, got {image.size}.")
    left, top = ((side - size) // 2 for side in image.size)
    return image.crop((left, top, left + size, top + size))


AREAS, ASPECTS = (0.08, 1.0), (3 / 4, 4 / 3)
"""Ranges of a random crop: its share of the image's area, and its width / height.

From Szegedy et al., Going Deeper with Convolutions, 2015, section 6. The random resized crops of
MXNet and GluonCV, with which the authors train, have the same ranges.
"""

Box = tuple[int, int, int, int]
"""Left, upper, right and lower side in pixels, in Pillow's order."""


def random_box(rng: np.random.Generator, width: int, height: int) -> Box:
    """Draw a random rectangle inside an image.

    The area is uniform in `AREAS`, and the logarithm of the aspect ratio is uniform in the range of
    `ASPECTS`. A rectangle that is larger than the image is drawn again. After ten attempts the
    result is the largest central rectangle whose aspect ratio is in `ASPECTS`.

    Args:
        rng: Random generator.
        width: Width of the image in pixels.
        height: Height of the image in pixels.

    Returns:
        The rectangle, inside the image.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*AREAS)
        aspect = math.exp(rng.uniform(math.log(ASPECTS[0]), math.log(ASPECTS[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, upper, left + w, upper + h
    w = min(width, max(1, round(height * ASPECTS[1])))
    h = min(height, max(1, round(width / ASPECTS[0])))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def crop_and_resize(
    image: Image.Image, box: Box, size: int, resampling: Image.Resampling
) -> Image.Image:
    """Crop a box and resize it to `size` x `size` pixels.

    `Image.resize(..., box=box)` would read pixels outside the box at its borders.

    Args:
        image: The image.
        box: The rectangle to crop.
        size: Side of the result in pixels.
        resampling: Filter of the resize.

    Returns:
        An image of `size` x `size` pixels.
    """
    return image.crop(box).resize((size, size), resampling)
