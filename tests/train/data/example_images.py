"""Small images that distinguish operations, and helpers to encode and to compare them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def random_images(count: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Return random uint8 images of 6 x 5 pixels. No pixel is 0, which marks padding."""
    shape = (count, 6, 5, channels)
    return np.random.default_rng(seed).integers(1, 256, shape).astype(np.uint8)


def varied_images(shape: tuple[int, int, int]) -> np.ndarray:
    """Return uint8 images with all values, few values, one value, dark, bright, and gradients."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, *shape))
    walk = 128 + np.cumsum(rng.integers(-9, 10, (4, *shape)), axis=2)
    # Every row has another value, so equalizing changes the image.
    steps = np.broadcast_to(17 * np.arange(shape[1])[:, None], shape)[None]
    flat = np.full((1, *shape), 77)
    images = [noise, noise // 3, 160 + noise // 4, noise // 64 * 50, walk, steps, flat]
    return np.clip(np.concatenate(images), 0, 255).astype(np.uint8)


def window_offsets(
    original: np.ndarray, cropped: np.ndarray, padding: int
) -> list[tuple[int, int]]:
    """Return all offsets at which a cropped image is a window of the zero-padded original."""
    padded = np.pad(original, ((padding, padding), (padding, padding), (0, 0)))
    height, width, _ = original.shape
    return [
        (top, left)
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
        if np.array_equal(padded[top : top + height, left : left + width], cropped)
    ]


def encode(image: np.ndarray | Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of an image file."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format=file_format, **options)
    return file.getvalue()


GRADIENT = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
"""A gray image of 6 x 8 pixels, all different."""


def write_image(path: Path, pixels: np.ndarray = GRADIENT) -> None:
    """Write an image file, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
