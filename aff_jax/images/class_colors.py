"""The colors in which classes are drawn."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

__all__ = [
    "BACKGROUND_COLOR",
    "DISTINCT_COLORS",
    "IGNORED_COLOR",
    "colors_as_pixels",
    "default_class_colors",
]

DISTINCT_COLORS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
"""Ten colors that remain distinct with color vision deficiencies.

References:
    M. A. Petroff, Accessible Color Sequences for Data Visualization, 2021, arXiv 2107.02270.
"""

BACKGROUND_COLOR = "#000000"
"""Color of class 0 if its name says that it is the background."""

IGNORED_COLOR = "#ffffff"
"""Color of pixels that are ignored or cropped."""


def default_class_colors(class_names: Sequence[str]) -> list[str]:
    """Return the colors of classes for which a dataset has none.

    Class 0 is black if its name says that it is the background. The other classes share ten colors.

    Args:
        class_names: Names of the classes.

    Returns:
        Colors as `#rrggbb`.
    """
    background = re.sub("[^a-z]", "", class_names[0].lower()) in ("background", "bg")
    colors = itertools.islice(itertools.cycle(DISTINCT_COLORS), len(class_names) - background)
    return [BACKGROUND_COLOR] * background + list(colors)


def colors_as_pixels(colors: Sequence[str]) -> UInt8[np.ndarray, "colors 3"]:
    """Convert colors to pixels.

    Args:
        colors: Colors as `#rrggbb`.

    Returns:
        uint8 red, green and blue, `(colors, 3)`.
    """
    return np.array([list(bytes.fromhex(color[1:])) for color in colors], np.uint8).reshape(-1, 3)
