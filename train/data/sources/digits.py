"""`digits`: a TFDS builder for the handwritten digits that come with scikit-learn.

The 1,797 real scans have 8 x 8 pixels. A complete run needs neither a network nor TensorFlow: the
builder passes PNG bytes to TFDS, and TFDS writes them as ArrayRecord.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8

from aff_jax.images.image_files import encode_png

__all__ = ["Digits", "split_positions"]

_TEST_STRIDE = 5
"""Distance between two test examples: every fifth example is one."""


def split_positions(
    labels: Int[np.ndarray, " examples"],
) -> dict[str, Int[np.ndarray, " split_examples"]]:
    """Divide the examples of the bundled file into a training and a test split.

    Examples are ordered by label and then by position, and every fifth one is a test example,
    starting with the first. So the split is stratified, has 1,437 training and 360 test examples,
    and does not depend on a random generator.

    Args:
        labels: Labels of all examples, in the order of the file.

    Returns:
        int64 positions of the splits "train" and "test", in the order above.
    """
    order = np.argsort(labels, kind="stable")
    is_test = np.arange(len(order)) % _TEST_STRIDE == 0
    return {"train": order[~is_test], "test": order[is_test]}


class Digits(tfds.core.GeneratorBasedBuilder):
    """scikit-learn's handwritten digits as a TFDS dataset named `digits`.

    The features are `image`, uint8 (8, 8, 1), `label`, 0 .. 9, and `index`, int64, the position in
    scikit-learn's file, which identifies an example in either split.

    Prepare it with `Digits(data_dir=..., file_format="array_record").download_and_prepare()`.

    References:
        E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
        Repository, 1998. scikit-learn bundles the test set of that collection.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded, so there are no checksums. Otherwise TFDS 4.9.10 would look for them
    # with `importlib_resources`, which it imports without requiring it.
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
            disable_shuffling=True,  # Keep the documented order. The feed shuffles.
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # Nothing is downloaded.
        # Only preparing needs scikit-learn; reading a prepared dataset does not.
        from sklearn.datasets import load_digits

        digits = load_digits()
        # scikit-learn's pixels have values from 0 to 16.
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
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
            image = encode_png(images[position])
            yield key, {"image": image, "label": int(labels[position]), "index": int(position)}
