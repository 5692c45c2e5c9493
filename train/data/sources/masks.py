"""Masks, pictures whose grey values are class numbers: read and checked, and made into labels."""

from __future__ import annotations

import os

import numpy as np
from jaxtyping import Int, UInt8

from train.data.labels import IGNORE_LABEL
from train.data.sources.images import picture

__all__ = ["IGNORED_VALUE", "decode_mask", "mask_labels", "mask_values", "read_mask"]

IGNORED_VALUE = 255
"""What a mask holds, by custom, where a pixel is not to be counted."""


def decode_mask(
    png: bytes, shape: tuple[int, ...], num_classes: int, where: str
) -> UInt8[np.ndarray, "height width"]:
    """The values of a mask, each a class number or `IGNORED_VALUE`; `where` names it in errors.

    The values of a palette image are its indices, whatever their colours.

    Raises `ValueError` for a mask that cannot be read or is not of the shape (height, width) of its
    image, and for a value that stands for no class.
    """
    mask = read_mask(png, where)
    if mask.shape != shape:
        raise ValueError(
            f"expected a mask of one channel and {shape} pixels, as its image, got {mask.shape} "
            f"for {where}. Probably image and mask were resized apart, or the mask holds colours; "
            f"make it again from an image of this size."
        )
    values = mask_values(mask)
    wrong = values[(values >= num_classes) & (values != IGNORED_VALUE) | (values < 0)]
    if wrong.size:
        raise ValueError(
            f"expected mask values 0 .. {num_classes - 1}, or {IGNORED_VALUE} to ignore a pixel, "
            f"got {wrong.tolist()} in {where}. Probably the mask holds grey values or colours in "
            f"place of class numbers."
        )
    return mask.astype(np.uint8)


def read_mask(data: bytes | str | os.PathLike[str], where: str) -> np.ndarray:
    """The values of a mask, given as the bytes of a file or its path, as they are stored.

    Raises `ValueError` for what is no picture, or only a part of one.
    """
    with picture(data, where) as image:
        mask = np.array(image)
    return mask.astype(np.uint8) if mask.dtype == bool else mask


def mask_values(mask: np.ndarray) -> Int[np.ndarray, " values"]:
    """The values that a mask has, ascending, each once."""
    if mask.dtype != np.uint8:
        return np.unique(mask)
    return np.flatnonzero(np.bincount(mask.ravel()))  # many times faster


def mask_labels(mask: UInt8[np.ndarray, "height width"]) -> Int[np.ndarray, "height width"]:
    """int32 labels: the mask's class numbers, and `IGNORE_LABEL` for its `IGNORED_VALUE`."""
    return np.where(mask == IGNORED_VALUE, IGNORE_LABEL, mask.astype(np.int32))
