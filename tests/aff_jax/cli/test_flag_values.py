"""The values of flags: what is accepted, and the errors."""

import argparse

import pytest

from aff_jax.cli.flag_values import image_size, positive


@pytest.mark.parametrize("text", ["0", "-1", "a", "1.5"])
def test_numbers_are_positive(text):
    assert positive("3") == 3
    with pytest.raises(argparse.ArgumentTypeError, match=f"a number of at least 1, got {text!r}"):
        positive(text)


def test_sizes_are_square_or_height_and_width():
    assert image_size("224") == (224, 224)
    assert image_size("240x320") == (240, 320)
    for text in ("0", "224x", "x224", "224x0", "-3", "a"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected 224 or"):
            image_size(text)
