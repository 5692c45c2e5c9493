"""Read masks, images whose values or colors are classes, and convert them to labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from aff_jax.images.image_files import open_image
from train.data.batch import IGNORED_LABEL
from train.data.sources.class_table import (
    IGNORED_VALUE,
    ClassTable,
    color_code,
    color_of,
    color_text,
)

__all__ = [
    "MaskFacts",
    "check_values",
    "decode_mask",
    "describe_colors",
    "mask_labels",
    "read_facts",
    "read_palette",
]

_VALUE_MODES = ("1", "L", "P", "I;16", "I;16B", "I")
"""Pillow's modes of masks whose values are classes."""

_COLOR_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA")
"""Pillow's modes of masks whose colors are classes."""

_MAX_VALUES = 4096
"""Largest number of values of a mask of classes."""

_MAX_NAMED = 8
"""Largest number of values in a message."""

_MAX_COLORS = 20
"""Largest number of colors in a message."""


class MaskFacts(NamedTuple):
    """The values of a mask, without their places.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        is_color: Whether the stored values are colors, as `color_code` numbers them.
        counts: Number of pixels of each stored value; none if there are too many values.
        colors: Color of each of these values, for masks with a palette or with 8 bits.
    """

    height: int
    width: int
    is_color: bool
    counts: Mapping[int, int]
    colors: Mapping[int, int]


def decode_mask(
    data: bytes, shape: tuple[int, ...], table: ClassTable, origin: str
) -> UInt8[np.ndarray, "height width"]:
    """Decode a mask and check its shape and its values.

    Args:
        data: Bytes of an image file. The values of a palette image are its indices, unless the
            table has colors.
        shape: (height, width) of the image that the mask belongs to.
        table: The classes.
        origin: Name of the mask in error messages.

    Returns:
        uint8 `(height, width)`: the class number of each pixel, or `IGNORED_VALUE`.

    Raises:
        ValueError: If the mask cannot be read, has another shape, or has a value that is not a
            class.
    """
    with open_image(data, origin) as image:
        mode, file_format = image.mode, image.format
        if table.by_color and mode in _COLOR_MODES:
            red, green, blue = np.moveaxis(np.array(image.convert("RGB"), np.uint32), -1, 0)
            stored = red << 16 | green << 8 | blue
        else:
            stored = np.array(image)
            stored = stored.astype(np.uint8) if stored.dtype == bool else stored
    _check_kind(mode, file_format, table, origin)
    if stored.shape != shape:
        raise ValueError(
            f"expected a mask with the shape {shape} of its image, got {stored.shape} for "
            f"{origin}. Probably image and mask were resized separately; create the mask again "
            f"from an image of this size."
        )
    labels, unknown = table.labels(stored)
    if unknown:
        raise ValueError(f"{_describe_unknown(unknown, table, origin)} {_advice(unknown, table)}")
    return labels


def read_facts(path: str | os.PathLike[str]) -> MaskFacts:
    """Read the values of a mask and count them.

    Args:
        path: The mask.

    Returns:
        The facts.

    Raises:
        ValueError: If the file is not a complete image, or its format or mode is not one of masks.
        OSError: If it may not be read.
    """
    origin = os.fspath(path)
    counts: dict[int, int] = {}
    colors: dict[int, int] = {}
    with open_image(path, origin) as image:
        mode, file_format, (width, height) = image.mode, image.format, image.size
        if mode in _VALUE_MODES and mode in _COLOR_MODES:  # 8 bits or one
            counts, colors = _count_values(image)
        elif mode in _VALUE_MODES:
            found, number = np.unique(np.array(image), return_counts=True)
            if len(found) <= _MAX_VALUES:
                counts = dict(zip(found.tolist(), number.tolist(), strict=True))
        elif mode in _COLOR_MODES:
            pixels: Any = image.convert("RGB").getcolors(_MAX_VALUES) or []
            counts = {color_code(color): count for count, color in pixels}
    _check_kind(mode, file_format, None, origin)
    return MaskFacts(height, width, mode not in _VALUE_MODES, counts, colors)


def check_values(facts: MaskFacts, table: ClassTable, origin: str) -> Int[np.ndarray, " classes"]:
    """Check that a mask has only classes, and count their pixels.

    Args:
        facts: The values of the mask.
        table: The classes.
        origin: Name of the mask in error messages.

    Returns:
        Number of pixels of each class, int64 `(classes,)`.

    Raises:
        ValueError: If the mask has colors and the table has values, or it has a value that is not
            a class. A note says what the value may be.
    """
    if facts.is_color and facts.counts and not table.by_color:
        error = ValueError(f"{origin} has colors: expected class numbers.")
        error.add_note(describe_colors(facts.counts, "classes.txt"))
        raise error
    if not facts.counts:
        raise ValueError(
            f"{origin} has more than {_MAX_VALUES:,} different values, so it is not a mask. It "
            f"was probably compressed as JPEG, or resized with interpolation, or is a photograph."
        )
    counts = facts.counts
    if table.by_color and not facts.is_color:
        if not facts.colors:
            raise ValueError(f"{origin} has 16 or 32 bits per pixel: expected colors of 8 bits.")
        counts = {}
        for value, number in facts.counts.items():
            counts[facts.colors[value]] = counts.get(facts.colors[value], 0) + number
    if unknown := table.unknown(counts):
        error = ValueError(_describe_unknown(unknown, table, origin))
        error.add_note(_advice(unknown, table))
        raise error
    return table.count(counts)


def describe_colors(counts: Mapping[int, int], classes_file: str | os.PathLike[str]) -> str:
    """Say how the classes of masks with colors are named.

    Args:
        counts: Number of pixels of each color.
        classes_file: File with the classes.

    Returns:
        A sentence and the lines of the file, with the most frequent colors first.
    """
    common = sorted(counts, key=lambda code: -counts[code])
    lines = "".join(f"\n  {_as_text(code, True)} NAME" for code in common[:_MAX_COLORS])
    more = f"\n  and {len(common) - _MAX_COLORS} more" if len(common) > _MAX_COLORS else ""
    return (
        f"Write the color of each class to {os.fspath(classes_file)}, one per line, and 'void' for "
        f"pixels to ignore. Found, the most frequent first:{lines}{more}"
    )


def read_palette(path: str | os.PathLike[str], table: ClassTable) -> tuple[str, ...]:
    """Read the colors of the classes from the palette of a mask.

    Args:
        path: The mask.
        table: The classes.

    Returns:
        The color of each class as `#rrggbb`; () if the mask has no palette, or one of grays or with
        equal colors for different classes.

    Raises:
        ValueError: If the file is not an image.
        OSError: If it may not be read.
    """
    with open_image(path, os.fspath(path)) as image:
        palette = image.getpalette() if image.mode == "P" else None
    if palette is None or table.by_color:
        return ()
    entries = [tuple(palette[3 * value : 3 * value + 3]) for value in table.first_values()]
    is_gray = all(len(set(color)) == 1 for color in entries)
    if is_gray or () in entries or len(set(entries)) < len(entries):
        return ()
    return tuple(color_text(color_code(color)) for color in entries)


def mask_labels(mask: UInt8[np.ndarray, "height width"]) -> Int[np.ndarray, "height width"]:
    """Convert a mask to labels: `IGNORED_VALUE` becomes `IGNORED_LABEL`.

    Args:
        mask: uint8 `(height, width)`.

    Returns:
        int32 labels of the same shape.
    """
    return np.where(mask == IGNORED_VALUE, IGNORED_LABEL, mask.astype(np.int32))


def _count_values(image: Image.Image) -> tuple[dict[int, int], dict[int, int]]:
    """Return the number of pixels and the color of each value, of an image with 8 bits or one."""
    pixels: Any = image.getcolors(256)
    values = np.array([[value for _, value in pixels]], np.uint8)
    shown = Image.fromarray(values)
    if image.mode == "P":
        shown.putpalette(image.getpalette() or [])
    shown_colors = np.array(shown.convert("RGB"))[0].tolist()
    if image.mode == "1":  # Pillow's white is 255
        values //= 255
    counts = dict(zip(values[0].tolist(), (count for count, _ in pixels), strict=True))
    return counts, dict(zip(counts, map(color_code, shown_colors), strict=True))


def _check_kind(mode: str, file_format: str | None, table: ClassTable | None, origin: str) -> None:
    """Raise an error if masks are not stored in this format or mode."""
    if file_format in ("JPEG", "MPO", "WEBP"):
        raise ValueError(
            f"{origin} is compressed as {file_format}, which changes the values of a mask. Export "
            f"the masks again as PNG; renaming or converting the file does not help."
        )
    if table is None:
        supported = mode in _VALUE_MODES or mode in _COLOR_MODES
    else:
        supported = mode in (_COLOR_MODES if table.by_color else _VALUE_MODES)
    if not supported:
        kind = "colors of 8 bits" if table and table.by_color else "one channel, or a palette"
        raise ValueError(f"{origin} has Pillow's mode {mode!r}: expected {kind}.")


def _describe_unknown(unknown: Sequence[int], table: ClassTable, origin: str) -> str:
    classes = [value for value in table.numbers if table.numbers[value] != IGNORED_VALUE]
    named = ", ".join(_as_text(value, table.by_color) for value in unknown[:_MAX_NAMED])
    more = f" and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
    if table.by_color:
        expected = f"the {len(table.numbers)} colors of classes.txt"
    else:
        expected = f"mask values {_as_ranges(classes)}, or {IGNORED_VALUE} for ignored pixels"
    return f"expected {expected}, got [{named}]{more} in {origin}."


def _advice(unknown: Sequence[int], table: ClassTable) -> str:
    """Return what unknown values may be."""
    if table.by_color:
        color = _as_text(unknown[0], True)
        void, name = f"give them a line in classes.txt, as in '{color} void'", f"'{color} NAME'"
    else:
        several = f"'{tuple(unknown[:_MAX_NAMED])}'"
        void = f"set --config.ignored_values={unknown[0] if len(unknown) == 1 else several}"
        name = "its name"
    return (
        f"If these pixels are void, {void}. If they are a class, add {name} to classes.txt. If "
        f"they are at the borders of classes, the mask was compressed as JPEG or resized with "
        f"interpolation: export it again as PNG."
    )


def _as_text(value: int, is_color: bool) -> str:
    return " ".join(map(str, color_of(value))) if is_color else str(value)


def _as_ranges(values: Sequence[int]) -> str:
    """Describe values: `0 .. 10` without a gap, else all of them."""
    ascending = sorted(values)
    if ascending == list(range(ascending[0], ascending[-1] + 1)):
        return f"{ascending[0]} .. {ascending[-1]}"
    return ", ".join(map(str, ascending))
