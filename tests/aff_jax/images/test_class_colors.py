"""The colors of classes are distinct, and a background is black."""

import itertools

import pytest
from PIL import ImageColor

from aff_jax.images.class_colors import (
    BACKGROUND_COLOR,
    DISTINCT_COLORS,
    IGNORED_COLOR,
    colors_as_pixels,
    default_class_colors,
)


def test_class_colors_are_distinct():
    colors = [
        tuple(c)
        for c in colors_as_pixels([*DISTINCT_COLORS, BACKGROUND_COLOR, IGNORED_COLOR]).tolist()
    ]
    for one, other in itertools.combinations(colors, 2):
        assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) > 60


@pytest.mark.parametrize("name", ["background", "_background_", "BG"])
def test_a_background_is_black(name):
    assert default_class_colors([name, "b"]) == [BACKGROUND_COLOR, DISTINCT_COLORS[0]]


@pytest.mark.parametrize("name", ["road", "0", "background noise"])
def test_another_class_0_has_a_color(name):
    assert default_class_colors([name, *"bcdefghijkl"]) == [
        *DISTINCT_COLORS,
        *DISTINCT_COLORS[:2],
    ]


def test_colors_are_converted_as_pillow_does():
    assert [tuple(pixel) for pixel in colors_as_pixels(DISTINCT_COLORS).tolist()] == [
        ImageColor.getrgb(color) for color in DISTINCT_COLORS
    ]
    assert colors_as_pixels([]).shape == (0, 3)
