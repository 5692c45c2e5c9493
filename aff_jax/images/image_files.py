"""Read image files with Pillow: headers and pixels, with errors that name the file."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

__all__ = [
    "PILLOW_MODES",
    "Header",
    "decode_image",
    "encode_png",
    "image_from_pixels",
    "load_image",
    "open_image",
    "read_header",
]

PILLOW_MODES = {1: "L", 3: "RGB"}
"""Pillow's mode of an image by its number of channels, which have 8 bits."""

_CHANNELS = dict.fromkeys(("1", "L", "LA", "La"), 1) | dict.fromkeys(
    ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"), 3
)
"""Channels of each of Pillow's modes.

Modes of 16 or 32 bits are missing: the file does not say which gray value is white.
"""

_CAMERA_FORMATS = ("JPEG", "MPO", "WEBP")
"""Formats that cameras write. Reading the EXIF data of a PNG file would decode all its pixels."""

_TRANSPOSED = range(5, 9)
"""EXIF orientations that swap rows and columns."""


class Header(NamedTuple):
    """Size of an image in pixels, and its number of channels, 1 or 3."""

    height: int
    width: int
    channels: int


@contextlib.contextmanager
def open_image(data: bytes | str | os.PathLike[str], origin: str) -> Iterator[Image.Image]:
    """Open an image with Pillow, and raise a `ValueError` for every error in its data.

    Args:
        data: Bytes of an image file, or its path.
        origin: Name of the image in error messages.

    Yields:
        The Pillow image, whose pixels are not decoded yet.

    Raises:
        ValueError: If the image cannot be read, here or later in the `with` block.
        IsADirectoryError: If it is a folder.
        OSError: If there is no such file, or it may not be read.
    """
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as opened:
            yield opened
    except (MemoryError, PermissionError, FileNotFoundError, _UnsupportedImageError):
        raise
    except IsADirectoryError as error:
        raise IsADirectoryError(f"expected an image, got the folder {origin}.") from error
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"cannot read {origin}: {error} Make the image smaller; networks use fewer pixels."
        ) from error
    except Exception as error:  # Pillow's decoders raise many different exceptions.
        reason = "it is not an image" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(
            f"cannot read {origin}: {reason}. Probably the file is truncated or damaged; copy it "
            f"again, or remove it."
        ) from error


def read_header(path: str, origin: str) -> Header:
    """Read the size and the channels of an image file, without its pixels.

    Args:
        path: The image file.
        origin: Name of the image in error messages.

    Returns:
        The header. The size is that after the image was rotated by its EXIF orientation.

    Raises:
        ValueError: If the file is not an image, or has more than 8 bits per channel.
    """
    with open_image(path, origin) as image:
        channels = _count_channels(image, origin)
        width, height = image.size
        from_camera = image.format in _CAMERA_FORMATS
        if from_camera and image.getexif().get(ExifTags.Base.Orientation) in _TRANSPOSED:
            width, height = height, width
        return Header(height, width, channels)


def decode_image(
    data: bytes, channels: int, origin: str, use_exif_orientation: bool = False
) -> Image.Image:
    """Decode an image file to a Pillow image with 1 or 3 channels of 8 bits.

    Transparent pixels are composited over black, the color of padding.

    Args:
        data: Bytes of an image file.
        channels: 1 for gray, 3 for color.
        origin: Name of the image in error messages.
        use_exif_orientation: Whether to rotate a JPEG or WebP image by its EXIF orientation, as
            image viewers do.

    Returns:
        A Pillow image of the mode `PILLOW_MODES[channels]`.

    Raises:
        ValueError: If the data is not a complete image, or has more than 8 bits per channel.
    """
    with open_image(data, origin) as image:
        return _convert(image, channels, origin, use_exif_orientation)


def load_image(
    image: str | os.PathLike[str] | Image.Image, channels: int, use_exif_orientation: bool = True
) -> Image.Image:
    """Load an image file or a Pillow image with 1 or 3 channels of 8 bits, as `decode_image`.

    Args:
        image: Path of the file, or a Pillow image.
        channels: 1 for gray, 3 for color.
        use_exif_orientation: As in `decode_image`.

    Returns:
        A Pillow image of the mode `PILLOW_MODES[channels]`.

    Raises:
        TypeError: If it is neither.
        ValueError: If the file is not a complete image, or has more than 8 bits per channel.
        FileNotFoundError: If there is no such file.
    """
    if isinstance(image, Image.Image):
        return _convert(image, channels, "the image", use_exif_orientation)
    if not isinstance(image, str | os.PathLike):
        raise TypeError(
            f"expected the path of an image, a Pillow image or uint8 pixels, got a "
            f"{type(image).__name__}."
        )
    with open_image(image, os.fspath(image)) as opened:
        return _convert(opened, channels, os.fspath(image), use_exif_orientation)


def image_from_pixels(pixels: UInt8[np.ndarray, ...], channels: int) -> Image.Image:
    """Convert an array of pixels to a Pillow image with 1 or 3 channels.

    Args:
        pixels: uint8 `(height, width)`, `(height, width, 1)` or `(height, width, 3)`.
        channels: 1 for gray, 3 for color.

    Returns:
        A Pillow image of the mode `PILLOW_MODES[channels]`.

    Raises:
        ValueError: If the array has another dtype or shape.
    """
    if pixels.dtype != np.uint8:
        raise ValueError(
            f"expected uint8 pixels in 0 .. 255, got an array of {pixels.dtype}. If it is divided "
            f"by 255 or normalized already, pass the pixels of the image file."
        )
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if 0 in pixels.shape or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] == 3)):
        raise ValueError(
            f"expected pixels of one image, (height, width) or (height, width, 3), got the shape "
            f"{pixels.shape}. Pass the images of a batch one by one, with channels last."
        )
    return Image.fromarray(pixels).convert(PILLOW_MODES[channels])


def encode_png(pixels: UInt8[np.ndarray, "height width *channels"]) -> io.BytesIO:
    """Encode gray or color pixels as a PNG file.

    TFDS builders call this function, because TFDS encodes arrays with TensorFlow.

    Args:
        pixels: uint8, `(height, width)` or `(height, width, 1)` for gray, and `(height, width, 3)`
            for color.

    Returns:
        The bytes of the file, at position 0.

    Raises:
        ValueError: If the array has another shape or dtype.
    """
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)) or pixels.ndim < 2:
        raise ValueError(
            f"expected uint8 pixels of shape (height, width), (height, width, 1) or (height, "
            f"width, 3), got {pixels.dtype} of shape {pixels.shape}. Convert them, as in "
            f"`np.clip(pixels, 0, 255).astype(np.uint8)`."
        )
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    file.seek(0)
    return file


def _convert(
    image: Image.Image, channels: int, origin: str, use_exif_orientation: bool
) -> Image.Image:
    """Convert an image to 1 or 3 channels of 8 bits, upright and without transparency."""
    _count_channels(image, origin)
    image.load()
    # An image that was changed in memory has no format.
    if use_exif_orientation and image.format in (*_CAMERA_FORMATS, None):
        image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    converted = image.convert(PILLOW_MODES[channels])
    converted.info = {}  # so that it is not rotated again if it is passed to `load_image`
    return converted


class _UnsupportedImageError(ValueError):
    """The image is intact, but has a mode that is not supported."""


def _count_channels(image: Image.Image, origin: str) -> int:
    if image.mode not in _CHANNELS:
        raise _UnsupportedImageError(
            f"expected 8 bits per channel, got Pillow's mode {image.mode!r} in {origin}. The file "
            f"does not say which of its values is white. Scale the image to 0 .. 255 and save it "
            f"again."
        )
    return _CHANNELS[image.mode]
