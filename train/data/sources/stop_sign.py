"""`stop_sign`: a TFDS builder for the paper's segmentation dataset, extracted from COCO 2017.

Attentional Feature Fusion (Dai et al., 2021, section 5 and the appendix) describes StopSign only as
a subset of COCO. The paper does not say which annotations or how many images it has. This dataset
has every image of `coco/2017_panoptic` with a segment of COCO's category 13, "stop sign", in COCO's
own splits. Results may therefore differ from the authors'.

The paper's settings (table 2) are ResNet-20-b with FPN, r = 4, 300 epochs, batch size 32, AdaGrad
with learning rate 0.01, the "poly" schedule and Kaiming initialization. The mean IoU with AFF is
0.924, 0.935, 0.939, 0.944 for b = 1 .. 4 (table 4).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from aff_jax.images.image_files import encode_png, open_image
from train.data.sources.tfds_examples import RawRecords, TfdsExamples, open_tfds
from train.data.sources.tfds_prepare import FILE_FORMAT, check_prepared, preparation_command

__all__ = ["CATEGORY", "StopSign", "open_stop_sign", "stop_sign_mask"]

CATEGORY = "stop sign"
"""Name of the category in COCO."""

_COCO, _COCO_VERSION = "coco/2017_panoptic", "1.1.0"
"""Name and version of COCO in TFDS."""

_SPLITS = ("train", "validation")
_DOWNLOAD = "It downloads 21 GB."
"""Size of the download.

These are train2017.zip, val2017.zip and panoptic_annotations_trainval2017.zip with 19,336,861,798,
815,585,330 and 860,725,834 bytes, according to TFDS's checksums.
"""


class StopSign(tfds.core.GeneratorBasedBuilder):
    """COCO's images of stop signs as a TFDS dataset named `stop_sign`.

    The features are `image`, uint8 (height, width, 3), COCO's unchanged JPEG file, `mask`, uint8
    (height, width, 1), 1 for a stop sign and 0 elsewhere, and `image/id`, int64, COCO's number of
    the image.

    It is prepared from a prepared `coco/2017_panoptic` in the same data_dir, whose 123,287 records
    are read once. This does not need TensorFlow; preparing COCO does.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded, so there are no checksums. See `Digits`.
    url_infos = None

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The images of COCO 2017 with stop signs, and masks of the stop signs.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "mask": tfds.features.LabeledImage(
                        labels=["background", CATEGORY], encoding_format="png"
                    ),
                    "image/id": tfds.features.Scalar(dtype=np.int64),
                }
            ),
            supervised_keys=("image", "mask"),
            homepage="https://cocodataset.org",
            disable_shuffling=True,  # The feed shuffles.
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # COCO's own builder downloads.
        return {split: self._generate_examples(split) for split in _SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        coco = _open_coco(self, split)
        category = coco.info.features["panoptic_objects"]["label"].str2int(CATEGORY)
        key = 0
        for record in RawRecords(coco, split, ("image", "panoptic_image")):
            segments = record["panoptic_objects"]
            segments_and_labels = zip(segments["id"], segments["label"], strict=True)
            ids = [int(segment) for segment, label in segments_and_labels if label == category]
            if ids:
                number = int(record["image/id"])
                mask = stop_sign_mask(record["panoptic_image"], ids, f"COCO's image {number}")
                image = io.BytesIO(record["image"])
                yield key, {"image": image, "mask": encode_png(mask), "image/id": number}
                key += 1


def open_stop_sign(name: str, split: str, data_dir: str | None, label_key: str) -> TfdsExamples:
    """Open one split, and prepare the dataset from COCO if necessary, with progress bars.

    Args:
        name: Name of the dataset in TFDS.
        split: Any split that TFDS understands.
        data_dir: Data directory of TFDS; None is TFDS's default.
        label_key: Name of the feature that is the label.

    Returns:
        The examples of the split.

    Raises:
        FileNotFoundError: If COCO is not prepared. The message gives the command.
        ValueError: If there is no such split.
    """
    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.data_path.exists():
        # Check that COCO is complete before anything is written.
        for coco_split in _SPLITS:
            _open_coco(builder, coco_split)
    return open_tfds(name, split, data_dir, label_key, quiet=False)


def stop_sign_mask(
    png: bytes, ids: Sequence[int], origin: str
) -> UInt8[np.ndarray, "height width"]:
    """Compute a mask from a panoptic image: 1 for the segments `ids`, 0 elsewhere.

    The segment of a pixel is::

        id = R + 256 G + 256^2 B

    Crowds count, because they consist of stop signs. Pixels without a segment, id 0, are
    background.

    Args:
        png: Bytes of the panoptic image.
        ids: Segments of stop signs.
        origin: Name of the image in error messages.

    Returns:
        uint8 `(height, width)`.

    Raises:
        ValueError: If the image cannot be read, or has none of the segments.

    References:
        https://cocodataset.org/#format-data, panoptic segmentation.
    """
    with open_image(png, origin) as image:
        colors = np.asarray(image.convert("RGB")).astype(np.int64)
    mask = np.isin(colors @ [1, 256, 256**2], [*ids])
    if not mask.any():
        raise ValueError(
            f"expected pixels of the segments {[*ids]} in the panoptic image of {origin}, got "
            f"none. Probably images and annotations have different versions; prepare {_COCO!r} "
            f"again."
        )
    return mask.astype(np.uint8)


def _open_coco(builder: tfds.core.DatasetBuilder, split: str) -> tfds.core.DatasetBuilder:
    """Open the prepared COCO dataset, or raise an error that says how to prepare it."""
    # Open it by its directory. By name, TFDS would construct COCO's own builder, which needs
    # TensorFlow.
    data_dir = builder.data_path.parent.parent
    directory = data_dir / _COCO / _COCO_VERSION
    instructions = preparation_command(_COCO, data_dir, _DOWNLOAD)
    if not directory.exists():
        raise FileNotFoundError(
            f"dataset {builder.name!r} is extracted from {_COCO!r}, which is not prepared: "
            f"expected its {FILE_FORMAT} files in {directory}, and that directory does not exist. "
            f"If they are elsewhere, set data_dir to that place. Otherwise prepare them once:\n"
            f"{instructions}\n{builder.name!r} is then prepared from them automatically."
        )
    coco = tfds.builder_from_directory(directory)
    check_prepared(coco, split, instructions)
    return coco
