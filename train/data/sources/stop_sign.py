"""`stop_sign`: a TFDS builder of the paper's segmentation data set, taken out of COCO 2017.

Attentional Feature Fusion (Dai et al., 2021, section 5 and the appendix) calls StopSign a subset of
COCO and says no more of how it was made: neither which annotations nor how many images. Here it is
every image of `coco/2017_panoptic` with a segment of COCO's category 13, "stop sign", in COCO's own
splits; so its numbers need not be the authors'.

The paper's settings (table 2): ResNet-20-b with FPN, r = 4, 300 epochs, batch 32, AdaGrad at 0.01,
"poly", Kaiming initialisation; mean IoU with AFF 0.924, 0.935, 0.939, 0.944 for b = 1 .. 4 (table
4).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from train.data.sources.images import encode_png, picture
from train.data.sources.prepared import (
    FILE_FORMAT,
    PreparedRecords,
    RawRecords,
    check_prepared,
    how_to_prepare,
    open_or_prepare,
)

__all__ = ["StopSign", "open_stop_sign", "stop_sign_mask"]

CATEGORY = "stop sign"

# TFDS's name and version of what it is taken from.
_COCO, _COCO_VERSION = "coco/2017_panoptic", "1.1.0"
_SPLITS = ("train", "validation")
# train2017.zip, val2017.zip and panoptic_annotations_trainval2017.zip: 19,336,861,798 +
# 815,585,330 + 860,725,834 bytes by TFDS's list of checksums.
_DOWNLOAD = "It downloads 21 GB."


class StopSign(tfds.core.GeneratorBasedBuilder):
    """COCO's images of stop signs as a TFDS dataset named `stop_sign`.

    Features: `image` uint8 (height, width, 3), COCO's JPEG file as it is; `mask` uint8 (height,
    width, 1), 1 for a stop sign and 0 for all else; `image/id` int64, COCO's number of the image.

    Is prepared from a prepared `coco/2017_panoptic` in the same data_dir, whose 123,287 records are
    read once. That needs no TensorFlow; preparing COCO does.
    """

    VERSION = tfds.core.Version("1.0.0")
    # As for `digits`: nothing is downloaded, so there are no checksums to look for.
    url_infos = None

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The images of COCO 2017 with stop signs, and where in them these are.",
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
            disable_shuffling=True,  # the feed shuffles
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # what there is to download, COCO's builder does
        return {split: self._generate_examples(split) for split in _SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        coco = _open_coco(self, split)
        category = coco.info.features["panoptic_objects"]["label"].str2int(CATEGORY)
        key = 0
        for record in RawRecords(coco, split, ("image", "panoptic_image")):
            segments = record["panoptic_objects"]
            labeled = zip(segments["id"], segments["label"], strict=True)
            ids = [int(segment) for segment, label in labeled if label == category]
            if ids:
                number = int(record["image/id"])
                mask = stop_sign_mask(record["panoptic_image"], ids, f"COCO's image {number}")
                image = io.BytesIO(record["image"])
                yield key, {"image": image, "mask": encode_png(mask), "image/id": number}
                key += 1


def open_stop_sign(name: str, split: str, data_dir: str | None, label_key: str) -> PreparedRecords:
    """As `open_or_prepare`, but looks for COCO before anything is written, and shows how far it is.

    Raises `FileNotFoundError` where COCO is not prepared: gives the command.
    """
    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.data_path.exists():
        for coco_split in _SPLITS:
            _open_coco(builder, coco_split)
    return open_or_prepare(name, split, data_dir, label_key, quiet=False)


def stop_sign_mask(png: bytes, ids: Sequence[int], where: str) -> UInt8[np.ndarray, "height width"]:
    """1 where a panoptic image has one of the segments `ids`, 0 elsewhere.

        id = R + 256 G + 256^2 B        of a pixel

    Crowds count, as they consist of stop signs; what belongs to no segment, id 0, is background.
    `where` names the image in errors. Source: cocodataset.org, data format, panoptic segmentation.

    Raises `ValueError` for what is no picture, or has none of the segments.
    """
    with picture(png, where) as image:
        colors = np.asarray(image.convert("RGB")).astype(np.int64)
    mask = np.isin(colors @ [1, 256, 256**2], [*ids])
    if not mask.any():
        raise ValueError(
            f"expected pixels of the segments {[*ids]} in the panoptic image of {where}, got "
            f"none. Probably images and annotations are of different versions; prepare {_COCO!r} "
            f"again."
        )
    return mask.astype(np.uint8)


def _open_coco(builder: tfds.core.DatasetBuilder, split: str) -> tfds.core.DatasetBuilder:
    # Not by its name: to make COCO's own builder, TFDS needs TensorFlow.
    folder = builder.data_path.parent.parent / _COCO / _COCO_VERSION
    how = how_to_prepare(_COCO, builder.data_path.parent.parent, _DOWNLOAD)
    if not folder.exists():
        raise FileNotFoundError(
            f"dataset {builder.name!r} is taken out of {_COCO!r}, which is not prepared: expected "
            f"its {FILE_FORMAT} files in {folder}, and there is no such folder. If they are "
            f"elsewhere, give that place as data_dir. Otherwise prepare them once:\n{how}\n"
            f"{builder.name!r} is then made of them by itself."
        )
    coco = tfds.builder_from_directory(folder)
    check_prepared(coco, split, how)
    return coco
