"""Image files: what their header says, and their pixels, with errors that name the file."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

__all__ = ["CHANNELS", "Header", "decode_image", "encode_png", "picture", "read_header"]

CHANNELS = {1: "L", 3: "RGB"}
"""Pillow's names for images with that many channels, 8 bits each."""

# Channels of each of Pillow's modes. Those of 16 or 32 bits are missing: nobody but their owner
# knows which grey value is white.
_MODES = dict.fromkeys(("1", "L", "LA", "La"), 1) | dict.fromkeys(
    ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"), 3
)
# Formats in which cameras write; to look for EXIF in a PNG file, Pillow would decode all of it.
_FROM_CAMERAS = ("JPEG", "MPO", "WEBP")
# EXIF orientations in which rows and columns change places.
_SIDEWAYS = range(5, 9)


class Header(NamedTuple):
    """What an image file says of itself."""

    height: int
    width: int
    channels: int


@contextlib.contextmanager
def picture(data: bytes | str | os.PathLike[str], where: str) -> Iterator[Image.Image]:
    """A picture opened with Pillow; whatever goes wrong with its data is a `ValueError`.

    `data` is the bytes of a file, or its path; `where` is what the error calls it.
    """
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as opened:
            yield opened
    except (MemoryError, PermissionError, FileNotFoundError, _Refused):
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"cannot read {where}: {error} Make it smaller; no network takes so many pixels."
        ) from error
    except Exception as error:  # Pillow's readers raise a dozen kinds between them
        said = "it is no image" if isinstance(error, Image.UnidentifiedImageError) else error
        raise ValueError(
            f"cannot read {where}: {said}. Probably it was cut short or damaged; copy it again, or "
            f"remove it."
        ) from error


def read_header(path: str, where: str) -> Header:
    """Size and channels of an image file, upright; reads no pixels.

    Raises `ValueError` for what is no image, and for more than 8 bits a channel.
    """
    with picture(path, where) as image:
        channels = _channels(image, where)
        width, height = image.size
        from_camera = image.format in _FROM_CAMERAS
        if from_camera and image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS:
            width, height = height, width
        return Header(height, width, channels)


def decode_image(data: bytes, channels: int, where: str, upright: bool = False) -> Image.Image:
    """The pixels of an image file as a Pillow image with 1 or 3 channels of 8 bits.

    What is transparent is laid over black, as padding is black. `upright` turns a JPEG image as its
    EXIF orientation says, which is how viewers show it.

    Raises `ValueError` for what is no image, or only a part of one, and for more than 8 bits.
    """
    with picture(data, where) as image:
        _channels(image, where)
        image.load()
        if upright and image.format in _FROM_CAMERAS:
            image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
        return image.convert(CHANNELS[channels])


def encode_png(pixels: UInt8[np.ndarray, "height width"]) -> io.BytesIO:
    """Grey pixels as a PNG file: given an array, TFDS would encode with TensorFlow."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    file.seek(0)
    return file


class _Refused(ValueError):
    """A file that is whole, and still of no use here."""


def _channels(image: Image.Image, where: str) -> int:
    if image.mode not in _MODES:
        raise _Refused(
            f"expected 8 bits a channel, got Pillow's mode {image.mode!r} in {where}: 16 or 32 "
            f"bits, whose white only you know. Scale it to 0 .. 255 and save it again."
        )
    return _MODES[image.mode]
