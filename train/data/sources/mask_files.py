"""Read masks, images whose pixel values are class numbers, and convert them to labels."""

from __future__ import annotations

import os

import numpy as np
from jaxtyping import Int, UInt8

from aff_jax.images.image_files import open_image
from train.data.batch import IGNORE_LABEL

__all__ = ["IGNORED_VALUE", "decode_mask", "mask_labels", "mask_values", "read_mask"]

IGNORED_VALUE = 255
"""Value of the pixels of a mask that are ignored. Pascal VOC and Cityscapes use it as well."""


def decode_mask(
    data: bytes, shape: tuple[int, ...], num_classes: int, origin: str
) -> UInt8[np.ndarray, "height width"]:
    """Decode a mask and check its shape and its values.

    Args:
        data: Bytes of an image file with one channel or a palette. The values of a palette image
            are its indices.
        shape: (height, width) of the image that the mask belongs to.
        num_classes: Number of classes.
        origin: Name of the mask in error messages.

    Returns:
        uint8 `(height, width)`: the class number of each pixel, or `IGNORED_VALUE`.

    Raises:
        ValueError: If the mask cannot be read, has another shape, or has a value that is not a
            class.
    """
    mask = read_mask(data, origin)
    if mask.shape != shape:
        raise ValueError(
            f"expected a mask with one channel and the shape {shape} of its image, got "
            f"{mask.shape} for {origin}. Probably image and mask were resized separately, or the "
            f"mask contains colors; create the mask again from an image of this size."
        )
    values = mask_values(mask)
    wrong = values[(values >= num_classes) & (values != IGNORED_VALUE) | (values < 0)]
    if wrong.size:
        raise ValueError(
            f"expected mask values 0 .. {num_classes - 1}, or {IGNORED_VALUE} for ignored pixels, "
            f"got {wrong.tolist()} in {origin}. If these pixels are void, save them as "
            f"{IGNORED_VALUE}. If they are a class, add its name to classes.txt. Otherwise the "
            f"mask probably contains gray values or colors instead of class numbers."
        )
    return mask.astype(np.uint8)


def read_mask(data: bytes | str | os.PathLike[str], origin: str) -> np.ndarray:
    """Read the stored values of a mask.

    Args:
        data: Bytes of an image file, or its path.
        origin: Name of the mask in error messages.

    Returns:
        Integers, `(height, width)` for an image with one channel or a palette.

    Raises:
        ValueError: If the data is not a complete image.
    """
    with open_image(data, origin) as image:
        mask = np.array(image)
    return mask.astype(np.uint8) if mask.dtype == bool else mask


def mask_values(mask: np.ndarray) -> Int[np.ndarray, " values"]:
    """Find the distinct values of a mask.

    Args:
        mask: Integers, `(height, width)`.

    Returns:
        The values in ascending order.
    """
    if mask.dtype != np.uint8:
        return np.unique(mask)
    return np.flatnonzero(np.bincount(mask.ravel()))  # much faster than sorting the pixels


def mask_labels(mask: UInt8[np.ndarray, "height width"]) -> Int[np.ndarray, "height width"]:
    """Convert a mask to labels: `IGNORED_VALUE` becomes `IGNORE_LABEL`.

    Args:
        mask: uint8 `(height, width)`.

    Returns:
        int32 labels of the same shape.
    """
    return np.where(mask == IGNORED_VALUE, IGNORE_LABEL, mask.astype(np.int32))
