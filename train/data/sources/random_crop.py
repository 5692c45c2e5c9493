"""Draw random rectangles of images, to crop for training."""

from __future__ import annotations

import math

import numpy as np

from aff_jax.images.resizing import Box

__all__ = ["CROP_AREAS", "CROP_ASPECTS", "random_box"]

CROP_AREAS = 0.08, 1.0
"""Smallest and largest share of the image's area in a random crop.

From Szegedy et al., Going Deeper with Convolutions, 2015, section 6, as `CROP_ASPECTS`. The random
resized crops of MXNet and GluonCV, with which the authors train, have the same ranges.
"""

CROP_ASPECTS = 3 / 4, 4 / 3
"""Smallest and largest width / height of a random crop."""


def random_box(
    rng: np.random.Generator,
    width: int,
    height: int,
    areas: tuple[float, float] = CROP_AREAS,
    aspect: float = 1.0,
) -> Box:
    """Draw a random rectangle inside an image.

    The area is uniform in `areas`. The aspect ratio is `aspect` times a factor, whose logarithm is
    uniform in the range of `CROP_ASPECTS`. A rectangle that is larger than the image is drawn
    again. After ten attempts the result is the largest central rectangle with a possible aspect
    ratio.

    Args:
        rng: Random generator.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        areas: Smallest and largest share of the image's area.
        aspect: width / height of the size to which the rectangle will be resized.

    Returns:
        The rectangle, inside the image.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*areas)
        drawn = aspect * math.exp(rng.uniform(math.log(CROP_ASPECTS[0]), math.log(CROP_ASPECTS[1])))
        w, h = round(math.sqrt(area * drawn)), round(math.sqrt(area / drawn))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, upper, left + w, upper + h
    w = min(width, max(1, round(height * CROP_ASPECTS[1] * aspect)))
    h = min(height, max(1, round(width / (CROP_ASPECTS[0] * aspect))))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h
