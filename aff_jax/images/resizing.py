"""Resize images of any size to the size that a network reads, and logits back to the image.

An image and its mask use the same geometry and different resampling filters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from aff_jax.lookup import look_up

__all__ = [
    "IMAGE_FILTER",
    "MASK_FILTER",
    "RESIZES",
    "RESIZE_RATIO",
    "Box",
    "Placement",
    "classes_of_logits",
    "place",
    "resize_to_view",
]

IMAGE_FILTER = Image.Resampling.BILINEAR
"""Resampling filter of images. Pillow's bilinear filter is antialiased where it shrinks."""

MASK_FILTER = Image.Resampling.NEAREST
"""Resampling filter of masks. Class numbers cannot be interpolated."""

RESIZE_RATIO = 256 / 224
"""Size before the center crop, divided by the size of the crop.

The ImageNet evaluation of open-aff (`train_imagenet.py`) crops 224 of 256 pixels, as is common
since Krizhevsky et al., 2012.
"""

Box = tuple[int, int, int, int]
"""Left, upper, right and lower side in pixels, in Pillow's order."""


class Placement(NamedTuple):
    """Placement of an image in the view, the array that a network reads.

    The image is resized to `resized`, the box `source` is cropped from it, and lies in the view
    with its upper left corner at `offset`. The rest of the view is padding.

    Attributes:
        resized: (height, width) of the whole image after it was resized.
        source: Box of the resized image that the view has.
        offset: (row, column) of the box in the view.
    """

    resized: tuple[int, int]
    source: Box
    offset: tuple[int, int]


def _crop(image_size: tuple[int, int], view_size: tuple[int, int], ratio: float) -> Placement:
    # The image covers `view_size` times the ratio. If it has exactly the size of the view, nothing
    # is resized or cropped.
    if image_size == view_size:
        return Placement(image_size, (0, 0, view_size[1], view_size[0]), (0, 0))
    height, width = image_size
    cover_height, cover_width = (round(ratio * side) for side in view_size)
    # Compared as products of integers, so that no rounding decides which side is longer.
    if cover_height * width >= cover_width * height:  # the height decides
        resized = cover_height, max(cover_width, round(width * cover_height / height))
    else:
        resized = max(cover_height, round(height * cover_width / width)), cover_width
    top, left = ((side - view) // 2 for side, view in zip(resized, view_size, strict=True))
    return Placement(resized, (left, top, left + view_size[1], top + view_size[0]), (0, 0))


def _pad(image_size: tuple[int, int], view_size: tuple[int, int], ratio: float) -> Placement:
    del ratio
    (height, width), (view_height, view_width) = image_size, view_size
    if view_height * width <= view_width * height:  # the height fills the view
        resized = view_height, max(1, round(width * view_height / height))
    else:
        resized = max(1, round(height * view_width / width)), view_width
    offset = (view_height - resized[0]) // 2, (view_width - resized[1]) // 2
    return Placement(resized, (0, 0, resized[1], resized[0]), offset)


def _stretch(image_size: tuple[int, int], view_size: tuple[int, int], ratio: float) -> Placement:
    del image_size, ratio
    return Placement(view_size, (0, 0, view_size[1], view_size[0]), (0, 0))


RESIZES = {"crop": _crop, "pad": _pad, "stretch": _stretch}
"""Ways to bring an image to the size of the view, by name.

* "crop": resize the image until it covers the view, times the ratio, and crop the center.
* "pad": resize the whole image until it fits into the view, and pad it with black.
* "stretch": resize height and width separately, which changes the aspect ratio.
"""


def place(
    image_size: tuple[int, int], view_size: tuple[int, int], resize: str, crop_ratio: float = 1.0
) -> Placement:
    """Compute the placement of an image in the view.

    Args:
        image_size: (height, width) of the image.
        view_size: (height, width) of the view.
        resize: Name in `RESIZES`.
        crop_ratio: For "crop", the size before the crop divided by the size of the view.

    Returns:
        The placement.

    Raises:
        ValueError: If there is no such way to resize.
    """
    return look_up(RESIZES, "resize", resize)(image_size, view_size, crop_ratio)


def resize_to_view(
    image: Image.Image,
    placement: Placement,
    view_size: tuple[int, int],
    resampling: Image.Resampling,
    fill: int = 0,
) -> Image.Image:
    """Resize an image, crop it and pad it.

    Args:
        image: The image or the mask.
        placement: Its placement, from `place`.
        view_size: (height, width) of the view.
        resampling: Filter of the resize.
        fill: Value of the padding.

    Returns:
        An image of the size of the view; the image itself if nothing changes.
    """
    height, width = placement.resized
    if (image.width, image.height) != (width, height):
        image = image.resize((width, height), resampling)
    if placement.source != (0, 0, image.width, image.height):
        image = image.crop(placement.source)
    if (image.height, image.width) == view_size:
        return image
    color = fill if len(image.getbands()) == 1 else (fill,) * len(image.getbands())
    padded = Image.new(image.mode, (view_size[1], view_size[0]), color)
    padded.paste(image, (placement.offset[1], placement.offset[0]))
    return padded


def classes_of_logits(
    logits: Float[np.ndarray, "view_height view_width classes"],
    placement: Placement,
    image_size: tuple[int, int],
    cropped: int,
) -> UInt8[np.ndarray, "height width"]:
    """Return the class with the highest logit for each pixel of the image.

    The logits are resized bilinearly from the view to the image, the inverse of `resize_to_view`.
    They are resized class by class, since all of them at once would need much memory.

    Args:
        logits: Logits of at most 255 classes, `(height, width, classes)` of the view.
        placement: Placement of the image in the view.
        image_size: (height, width) of the image.
        cropped: Value of the pixels that were cropped.

    Returns:
        uint8 classes, `(height, width)` of the image.
    """
    result = np.full(image_size, cropped, np.uint8)
    inside, planes = _resized_planes(logits, placement, image_size)
    best = next(planes)
    classes = np.zeros(best.shape, np.uint8)
    for k, plane in enumerate(planes, start=1):
        classes[plane > best] = k  # of equal logits the first one, as `np.argmax`
        best = np.maximum(best, plane)
    result[inside] = classes
    return result


def _resized_planes(
    logits: np.ndarray, placement: Placement, image_size: tuple[int, int]
) -> tuple[tuple[slice, slice], Iterator[np.ndarray]]:
    """Return the part of the image that the view has, and its logits, class by class."""
    left, top, right, bottom = placement.source
    row, column = placement.offset
    inside = logits[row : row + bottom - top, column : column + right - left]
    (height, width), (resized_height, resized_width) = image_size, placement.resized
    # Pixels of the image whose centers are in the box.
    rows = _centers_inside(top, bottom, height, resized_height)
    columns = _centers_inside(left, right, width, resized_width)
    down, across = height / resized_height, width / resized_width
    box = (
        columns.start / across - left,
        rows.start / down - top,
        columns.stop / across - left,
        rows.stop / down - top,
    )
    box = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], right - left), min(box[3], bottom - top))

    def planes() -> Iterator[np.ndarray]:
        for k in range(logits.shape[-1]):
            plane = Image.fromarray(np.ascontiguousarray(inside[..., k], np.float32))
            yield np.asarray(plane.resize((len(columns), len(rows)), IMAGE_FILTER, box=box))

    return (slice(rows.start, rows.stop), slice(columns.start, columns.stop)), planes()


def _centers_inside(start: int, stop: int, side: int, resized: int) -> range:
    """Return the pixels of a side whose centers lie in start .. stop of the resized side."""
    # The center of pixel i lies at (i + 1/2) resized / side.
    first = -((resized - 2 * start * side) // (2 * resized))  # ceil(start side / resized - 1/2)
    last = -((resized - 2 * stop * side) // (2 * resized))
    return range(max(0, first), min(side, last))
