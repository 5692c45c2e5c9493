"""`digit_scenes`: a TFDS builder of real handwritten digits at many scales on cluttered canvases.

A segmentation data set that needs neither a network nor TensorFlow: small digits stand beside large
ones, so that a network has to look at several scales at once. Scenes are computed in integers only,
from raw PCG64 numbers, which NumPy keeps as they are: every machine gets the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8

from train.data.sources.digits import split_positions
from train.data.sources.images import encode_png

SIDE = 64
"""Height and width of a scene in pixels."""

# Digits of a scene: (how many, smallest and largest height in pixels), the largest placed first.
_SIZES = ((1, 17, 32), (2, 10, 16), (4, 6, 9), (8, 4, 5))
# Places tried for a digit before the scene goes without it.
_TRIES = 20
# A pixel belongs to a digit from this much ink on, of 255.
_MASK_INK = 96
# The first number of a scene's seed, and how many scenes there are.
_SPLITS = {"train": (0, 1000), "test": (1, 200)}


def scene(
    ink: Int[np.ndarray, "digits 8 8"],
    labels: Int[np.ndarray, " digits"],
    seed: tuple[int, int],
) -> tuple[UInt8[np.ndarray, "64 64"], UInt8[np.ndarray, "64 64"]]:
    """One scene's grey values and its mask: 0 is background, c + 1 a digit of class c.

    Dim rectangles, bright strokes that belong to no digit, then up to 15 digits of 4 to 32 pixels
    that do not overlap, then noise. `ink` is in 0 .. 16, and `seed`, (split, scene), is PCG64's.
    """
    draw = _Draw(seed)
    canvas = np.full((SIDE, SIDE), draw.between(30, 70))
    for _ in range(12):
        top, left, height, width = draw.between([-8, -8, 6, 6], [SIDE, SIDE, 32, 32])
        canvas[max(top, 0) : top + height, max(left, 0) : left + width] = draw.between(20, 120)
    for _ in range(20):
        row, column, down, right, length = draw.between([0, 0, -1, -1, 3], [63, 63, 1, 1, 10])
        along = np.arange(length)
        rows, columns = row + down * along, column + right * along
        inside = (rows >= 0) & (rows < SIDE) & (columns >= 0) & (columns < SIDE)
        canvas[rows[inside], columns[inside]] = draw.between(120, 250)

    mask = np.zeros((SIDE, SIDE), np.uint8)
    taken = np.zeros((SIDE, SIDE), bool)
    for count, smallest, largest in _SIZES:
        for _ in range(count):
            digit, size, grey = draw.between([0, smallest, 170], [len(ink) - 1, largest, 255])
            # All tries are drawn, needed or not: a scene's later numbers do not depend on them.
            for top, left in draw.between(0, SIDE - size, count=2 * _TRIES).reshape(_TRIES, 2):
                place = slice(top, top + size), slice(left, left + size)
                if not taken[place].any():
                    taken[place] = True
                    opacity = resize_ink(ink[digit], size)
                    canvas[place] += ((grey - canvas[place]) * opacity + 127) // 255
                    mask[place][opacity >= _MASK_INK] = labels[digit] + 1
                    break
    noise = draw.between(-10, 10, count=SIDE * SIDE).reshape(SIDE, SIDE)
    return np.clip(canvas + noise, 0, 255).astype(np.uint8), mask


def resize_ink(ink: Int[np.ndarray, "8 8"], size: int) -> Int[np.ndarray, "size size"]:
    """A digit of 8 x 8 pixels with ink 0 .. 16 as `size` x `size` pixels with ink 0 .. 255.

        out = 255 * W ink W^T / 16,   W_ij = |window_i and pixel_j| / |window_i|

    window_i is centred on output pixel i and as wide as an input pixel or an output pixel,
    whichever is wider: bilinear where it enlarges, the mean over the area where it shrinks. In
    integers, rounded half up; beyond the scan there is no ink.
    """
    old = len(ink)
    # In units of 1 / (2 * old * size) of the side: output pixels are 2 * old wide, inputs 2 * size.
    half = max(old, size)
    centre = old * (2 * np.arange(size)[:, None] + 1)
    pixel = 2 * size * np.arange(old)
    overlap = np.minimum(centre + half, pixel + 2 * size) - np.maximum(centre - half, pixel)
    weights = np.maximum(overlap, 0)
    whole = 16 * (2 * half) ** 2
    return (2 * 255 * (weights @ ink.astype(np.int64) @ weights.T) + whole) // (2 * whole)


class _Draw:
    """Integers from PCG64, the same with every NumPy.

    NumPy keeps the streams of its bit generators, not what `Generator` makes of them.
    """

    def __init__(self, seed: tuple[int, int]) -> None:
        self._bits = np.random.PCG64(seed)

    def between(self, low: Any, high: Any, count: int | None = None) -> Any:
        """Uniform in low .. high, both included; one for each where they are lists."""
        low, high = np.asarray(low), np.asarray(high)
        raw = self._bits.random_raw(low.size if count is None else count)
        # A remainder of 64 bits is uniform to within 1e-15.
        drawn = low + (np.asarray(raw) % (high - low + 1).astype(np.uint64)).astype(np.int64)
        return drawn if count or low.ndim else int(drawn.item())


class DigitScenes(tfds.core.GeneratorBasedBuilder):
    """Scenes of scikit-learn's handwritten digits as a TFDS dataset named `digit_scenes`.

    Features: `image` uint8 (64, 64, 1); `mask` uint8 (64, 64, 1), 0 for background and c + 1 for
    a digit of class c; `index` int64, the scene's number within its split.

    The 1,000 training scenes are made of the training digits of `digits`, the 200 test scenes of
    its test digits. Scene i is seeded with (0, i) for training and (1, i) for testing.

    Prepare with `DigitScenes(data_dir=..., file_format="array_record").download_and_prepare()`.
    """

    VERSION = tfds.core.Version("1.0.0")
    # As for `digits`: nothing is downloaded, so there are no checksums to look for.
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
            disable_shuffling=True,  # the feed shuffles
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # there is nothing to download
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
            image, mask = scene(ink, labels, (split_number, index))
            yield index, {"image": encode_png(image), "mask": encode_png(mask), "index": index}
