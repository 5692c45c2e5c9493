"""`digits`: a TFDS builder over the handwritten digits that come with scikit-learn.

1,797 scans of 8 x 8 pixels, real and small, so that a complete run needs neither a network nor
TensorFlow: the examples reach TFDS as PNG bytes, and TFDS writes them as ArrayRecord.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8
from PIL import Image

# scikit-learn counts ink on a scale from 0 to 16.
_INK_LEVELS = 16
# One example in five is for testing.
_TEST_STRIDE = 5


def split_positions(
    labels: Int[np.ndarray, " examples"],
) -> dict[str, Int[np.ndarray, " split_examples"]]:
    """Positions in the bundled file of each split's examples: `{"train": ..., "test": ...}`.

    Examples are ordered by (label, position in the file); every fifth one, beginning with the
    first, is a test example. So each class is divided 4 : 1 (to within one example), the split
    is 1,437 / 360, and no random generator, whose stream may change, has a part in it.

    `labels` are integers of shape (examples,); both results are int64 and in the order above.
    """
    order = np.argsort(labels, kind="stable")
    is_test = np.arange(len(order)) % _TEST_STRIDE == 0
    return {"train": order[~is_test], "test": order[is_test]}


def ink_to_pixels(ink: np.ndarray) -> np.ndarray:
    """Grey values of any shape: `round(255 * ink / 16)` for ink in 0 .. 16, uint8.

    Raises `ValueError` for ink outside 0 .. 16, which uint8 would wrap around silently.
    """
    if ink.min() < 0 or ink.max() > _INK_LEVELS:
        raise ValueError(
            f"expected pixel values in 0 .. {_INK_LEVELS}, got {ink.min()} .. {ink.max()}. "
            "Probably scikit-learn's bundled digits have changed; install the scikit-learn "
            "version that pyproject.toml asks for."
        )
    return np.rint(ink * (255 / _INK_LEVELS)).astype(np.uint8)


class Digits(tfds.core.GeneratorBasedBuilder):
    """scikit-learn's handwritten digits as a TFDS dataset named `digits`.

    Features: `image` uint8 (8, 8, 1), `label` 0 .. 9, `index` int64, the position in the file
    scikit-learn bundles, which identifies an example whatever the split.

    Prepare with `Digits(data_dir=..., file_format="array_record").download_and_prepare()`.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository, 1998; scikit-learn bundles that collection's test part.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded, so there are no checksums. TFDS 4.9.10 would look for them by way of
    # `importlib_resources`, which it imports without requiring it.
    url_infos = None

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits, 8 x 8 pixels, as bundled with scikit-learn.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(8, 8, 1), dtype=np.uint8, encoding_format="png"
                    ),
                    "label": tfds.features.ClassLabel(num_classes=10),
                    "index": tfds.features.Scalar(dtype=np.int64),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            # The order on disk is then the documented one; the feed shuffles.
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # there is nothing to download
        # Only preparing needs scikit-learn; reading a prepared dataset does not.
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = ink_to_pixels(digits.images)
        return {
            split: self._generate_examples(images, digits.target, positions)
            for split, positions in split_positions(digits.target).items()
        }

    def _generate_examples(
        self,
        images: UInt8[np.ndarray, "examples 8 8"],
        labels: Int[np.ndarray, " examples"],
        positions: Int[np.ndarray, " split_examples"],
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for key, position in enumerate(positions):
            # A file object of PNG bytes: given an array, TFDS would encode with TensorFlow.
            png = io.BytesIO()
            Image.fromarray(images[position]).save(png, format="PNG")
            png.seek(0)
            yield key, {"image": png, "label": int(labels[position]), "index": int(position)}
