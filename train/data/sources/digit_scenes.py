"""`digit_scenes`: a TFDS builder for real handwritten digits at many scales in cluttered scenes.

This segmentation dataset needs neither a network nor TensorFlow. Small and large digits are side by
side, so a network needs context at several scales. Scenes are computed with integers only, from raw
PCG64 numbers, whose stream NumPy guarantees, so every machine gets the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8

from aff_jax.images.image_files import encode_png
from train.data.sources.digits import split_positions

__all__ = ["SIDE", "DigitScenes", "draw_scene", "resize_ink"]

SIDE = 64
"""Height and width of a scene in pixels."""

_SIZES = ((1, 17, 32), (2, 10, 16), (4, 6, 9), (8, 4, 5))
"""(count, smallest height, largest height) of a scene's digits in pixels, the largest first."""

_TRIES = 20
"""Number of places that are tried for a digit before it is left out."""

_MASK_OPACITY = 96
"""Smallest opacity, of 255, of the pixels that belong to the digit's class."""

_SPLITS = {"train": (0, 1000), "test": (1, 200)}
"""First number of the seed of each scene, and the number of scenes."""


def draw_scene(
    ink: Int[np.ndarray, "digits 8 8"],
    labels: Int[np.ndarray, " digits"],
    seed: tuple[int, int],
) -> tuple[UInt8[np.ndarray, "64 64"], UInt8[np.ndarray, "64 64"]]:
    """Draw one scene and its mask.

    A scene has dim rectangles, bright strokes that belong to no class, up to 15 digits of 4 to 32
    pixels that do not overlap, and noise.

    Args:
        ink: Digits with ink in 0 .. 16.
        labels: Classes of the digits.
        seed: Seed of PCG64: (split, scene).

    Returns:
        A tuple of an image and its mask, both uint8. The image has gray values. The mask is 0 for
        background and c + 1 for a digit of class c.
    """
    random = _RandomIntegers(seed)
    canvas = np.full((SIDE, SIDE), random.between(30, 70))
    for _ in range(12):
        top, left, height, width = random.between([-8, -8, 6, 6], [SIDE, SIDE, 32, 32])
        canvas[max(top, 0) : top + height, max(left, 0) : left + width] = random.between(20, 120)
    for _ in range(20):
        row, column, down, right, length = random.between([0, 0, -1, -1, 3], [63, 63, 1, 1, 10])
        steps = np.arange(length)
        rows, columns = row + down * steps, column + right * steps
        inside = (rows >= 0) & (rows < SIDE) & (columns >= 0) & (columns < SIDE)
        canvas[rows[inside], columns[inside]] = random.between(120, 250)

    mask = np.zeros((SIDE, SIDE), np.uint8)
    occupied = np.zeros((SIDE, SIDE), bool)
    for count, smallest, largest in _SIZES:
        for _ in range(count):
            digit, size, gray = random.between([0, smallest, 170], [len(ink) - 1, largest, 255])
            # All tries are drawn, even if the first one succeeds, so that the numbers that follow
            # do not depend on it.
            for top, left in random.between(0, SIDE - size, count=2 * _TRIES).reshape(_TRIES, 2):
                place = slice(top, top + size), slice(left, left + size)
                if not occupied[place].any():
                    occupied[place] = True
                    opacity = resize_ink(ink[digit], size)
                    canvas[place] += ((gray - canvas[place]) * opacity + 127) // 255
                    mask[place][opacity >= _MASK_OPACITY] = labels[digit] + 1
                    break
    noise = random.between(-10, 10, count=SIDE * SIDE).reshape(SIDE, SIDE)
    return np.clip(canvas + noise, 0, 255).astype(np.uint8), mask


def resize_ink(ink: Int[np.ndarray, "8 8"], size: int) -> Int[np.ndarray, "size size"]:
    """Resize a digit with ink 0 .. 16 to `size` x `size` pixels with opacity 0 .. 255.

    The output is::

        out = 255 * W ink W^T / 16,   W_ij = |window_i and pixel_j| / |window_i|

    where window_i is centered on output pixel i and as wide as an input pixel or an output pixel,
    whichever is wider. So enlarging is bilinear, and shrinking averages over the area. There is no
    ink outside the scan. The result is computed with integers and rounded half up.

    Args:
        ink: Ink in 0 .. 16.
        size: Height and width of the result in pixels.

    Returns:
        int64 `(size, size)` opacity in 0 .. 255.
    """
    old = len(ink)
    # Units are 1 / (2 * old * size) of the side: output pixels are 2 * old wide, inputs 2 * size.
    half = max(old, size)
    center = old * (2 * np.arange(size)[:, None] + 1)
    pixel = 2 * size * np.arange(old)
    overlap = np.minimum(center + half, pixel + 2 * size) - np.maximum(center - half, pixel)
    weights = np.maximum(overlap, 0)
    divisor = 16 * (2 * half) ** 2
    return (2 * 255 * (weights @ ink.astype(np.int64) @ weights.T) + divisor) // (2 * divisor)


class _RandomIntegers:
    """Uniform integers from PCG64 that are the same with every version of NumPy.

    NumPy guarantees the streams of its bit generators, but not the methods of `Generator`.
    """

    def __init__(self, seed: tuple[int, int]) -> None:
        self._bits = np.random.PCG64(seed)

    def between(self, low: Any, high: Any, count: int | None = None) -> Any:
        """Draw integers in low .. high, both included; one for each element if they are lists."""
        low, high = np.asarray(low), np.asarray(high)
        raw = self._bits.random_raw(low.size if count is None else count)
        # The remainder of a 64-bit number is uniform to within 1e-15.
        drawn = low + (np.asarray(raw) % (high - low + 1).astype(np.uint64)).astype(np.int64)
        return drawn if count or low.ndim else int(drawn.item())


class DigitScenes(tfds.core.GeneratorBasedBuilder):
    """Scenes of scikit-learn's handwritten digits as a TFDS dataset named `digit_scenes`.

    The features are `image`, uint8 (64, 64, 1), `mask`, uint8 (64, 64, 1), 0 for background and
    c + 1 for a digit of class c, and `index`, int64, the number of the scene in its split.

    The 1,000 training scenes use the training digits of `digits`, and the 200 test scenes use its
    test digits. Scene i has the seed (0, i) in training and (1, i) in testing.

    Prepare it with `DigitScenes(data_dir=..., file_format="array_record").download_and_prepare()`.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded, so there are no checksums. See `Digits`.
    url_infos = None

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 4 to 32 pixels on cluttered canvases of 64 x 64.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(SIDE, SIDE, 1), dtype=np.uint8, encoding_format="png"
                    ),
                    "mask": tfds.features.LabeledImage(
                        labels=["background", *"0123456789"],
                        shape=(SIDE, SIDE, 1),
                        encoding_format="png",
                    ),
                    "index": tfds.features.Scalar(dtype=np.int64),
                }
            ),
            supervised_keys=("image", "mask"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            disable_shuffling=True,  # The feed shuffles.
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # Nothing is downloaded.
        # Only preparing needs scikit-learn; reading a prepared dataset does not.
        from sklearn.datasets import load_digits

        digits = load_digits()
        positions = split_positions(digits.target)
        return {
            split: self._generate_examples(
                digits.images[positions[split]].astype(np.int64),
                digits.target[positions[split]],
                number,
                count,
            )
            for split, (number, count) in _SPLITS.items()
        }

    def _generate_examples(
        self,
        ink: Int[np.ndarray, "digits 8 8"],
        labels: Int[np.ndarray, " digits"],
        split_number: int,
        count: int,
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(count):
            image, mask = draw_scene(ink, labels, (split_number, index))
            yield index, {"image": encode_png(image), "mask": encode_png(mask), "index": index}
