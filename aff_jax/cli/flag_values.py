"""Parse the values of flags."""

import argparse
import re

__all__ = ["image_size", "positive"]


def positive(text: str) -> int:
    """Parse an integer of at least 1.

    Args:
        text: Value of a flag.

    Returns:
        The integer.

    Raises:
        ArgumentTypeError: If the text is not an integer of at least 1.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return number


def image_size(text: str) -> tuple[int, int]:
    """Parse the size of images, such as `224` or `240x320`.

    Args:
        text: Value of a flag: the side of a square, or height x width.

    Returns:
        (height, width).

    Raises:
        ArgumentTypeError: If it is neither.
    """
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected 224 or 240x320 (height x width), got {text!r}")
    return int(match[1]), int(match[2] or match[1])
