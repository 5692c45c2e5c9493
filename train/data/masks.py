"""Masks, pictures whose grey values are class numbers: read and checked, and made into labels."""

import io

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from train.losses import IGNORE_LABEL

IGNORED_VALUE = 255
"""What a mask holds, by custom, where a pixel is not to be counted."""


def decode_mask(
    png: bytes, shape: tuple[int, ...], num_classes: int, where: str
) -> UInt8[np.ndarray, "height width"]:
    """The values of a mask, each a class number or `IGNORED_VALUE`; `where` names it in errors.

    Raises `ValueError` for a mask that is not of the shape (height, width) of its image, and for a
    value that stands for no class.
    """
    with Image.open(io.BytesIO(png)) as image:
        mask = np.array(image)
    if mask.shape != shape:
        raise ValueError(
            f"expected a mask of one channel and {shape} pixels, as its image, got {mask.shape} "
            f"for {where}. Probably image and mask were resized apart; prepare the dataset again "
            f"from masks of the images' size."
        )
    wrong = np.setdiff1d(mask, [*range(num_classes), IGNORED_VALUE])
    if wrong.size:
        raise ValueError(
            f"expected mask values 0 .. {num_classes - 1}, or {IGNORED_VALUE} to ignore a pixel, "
            f"got {wrong.tolist()} in {where}. Probably the mask holds grey values or colours in "
            f"place of class numbers."
        )
    return mask


def mask_labels(mask: UInt8[np.ndarray, "height width"]) -> Int[np.ndarray, "height width"]:
    """int32 labels: the mask's class numbers, and `IGNORE_LABEL` for its `IGNORED_VALUE`."""
    return np.where(mask == IGNORED_VALUE, IGNORE_LABEL, mask.astype(np.int32))
