"""Encoded examples of TFDS datasets, read from ArrayRecord files without TensorFlow."""

from __future__ import annotations

import bisect
import functools
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds

from train.data.sources.class_table import ClassTable
from train.data.sources.encoded_examples import EncodedExample, EncodedExamples
from train.data.sources.tfds_prepare import (
    FILE_FORMAT,
    check_prepared,
    preparation_help,
    prepare_dataset,
)

__all__ = ["RawRecords", "TfdsExamples", "open_tfds"]


class RawRecords:
    """The records of one split by position, as TFDS reads them, with some images not decoded.

    TFDS would decode images with OpenCV where it is installed. The pixels of two JPEG decoders may
    differ, and then training would differ between two machines.

    Args:
        builder: Builder of a prepared dataset.
        split: Any split that TFDS understands.
        images: Names of the image features that stay encoded.

    Raises:
        ValueError: If a record cannot be read. The message names its file and its position there.
    """

    def __init__(
        self, builder: tfds.core.DatasetBuilder, split: str, images: Sequence[str]
    ) -> None:
        self.name = f"{builder.name} {split}"
        self._records = builder.as_data_source(
            split,
            decoders={image: tfds.decode.SkipDecoding() for image in images},
            file_format=FILE_FORMAT,
        )
        self._files = builder.info.splits[split].file_instructions
        self._ends = [*itertools.accumulate(file.take for file in self._files)]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, position: int) -> dict[str, Any]:
        try:
            record: dict[str, Any] = self._records[position]
        except (IndexError, MemoryError):
            raise
        except Exception as error:  # ArrayRecord and protobuf raise different exceptions.
            raise ValueError(
                f"cannot read {self.origin(position)}: {error}. Probably the file is damaged. Copy "
                f"it again, or remove its directory and prepare the dataset again."
            ) from error
        return record

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[position] for position in range(len(self)))

    def origin(self, position: int) -> str:
        """Describe an example for error messages: its position, its file, and its place there.

        Args:
            position: Position of the example in the split.

        Returns:
            A noun phrase.
        """
        number = bisect.bisect_right(self._ends, position)
        file = self._files[number]
        index = position - self._ends[number] + file.take + file.skip
        return f"example {position} of {self.name} (record {index} of {os.fspath(file.filename)})"


class TfdsExamples(EncodedExamples):
    """The examples of one split of a prepared TFDS dataset.

    Images are not rotated by their EXIF orientation, because published results were computed from
    the pixels as they are stored.

    Args:
        builder: Builder of a prepared dataset with a feature `image`.
        split: Any split that TFDS understands.
        label_key: Name of the feature that is the label, a `ClassLabel` or a `LabeledImage`.

    Raises:
        ValueError: If the features are missing or of another kind, or a record cannot be read.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, label_key: str) -> None:
        _check_features(builder, label_key)
        self._reopen = functools.partial(
            open_tfds, builder.name, split, os.fspath(builder.data_dir_root), label_key
        )
        features = builder.info.features
        self.is_mask = isinstance(features[label_key], tfds.features.LabeledImage)
        images = ("image", label_key) if self.is_mask else ("image",)
        self._records = RawRecords(builder, split, images)
        self._label_key = label_key
        self.name = self._records.name
        self.class_names = tuple(features[label_key].names)
        self.class_table = ClassTable.numbered(self.class_names) if self.is_mask else None
        height, width, channels = features["image"].shape
        self.image_shape = (height or 0, width or 0, channels)
        self.mixed_sizes = "" if height and width else "the images of this dataset differ in size"

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, position: int) -> EncodedExample:
        record = self._records[position]
        origin = self._records.origin(position)
        return EncodedExample(record["image"], record[self._label_key], origin, origin)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reopen, ()


def open_tfds(
    name: str, split: str, data_dir: str | None, label_key: str, quiet: bool = True
) -> TfdsExamples:
    """Open one split of a TFDS dataset.

    If it is not prepared and its builder is in this project, it is prepared first.

    Args:
        name: Name of the dataset in TFDS.
        split: Any split that TFDS understands: "train", "test", "train[:90%]".
        data_dir: Data directory of TFDS; None is TFDS's default.
        label_key: Name of the feature that is the label.
        quiet: Whether to hide TFDS's progress bars of the preparation.

    Returns:
        The examples of the split.

    Raises:
        ValueError: If TFDS does not have the dataset, or the dataset does not have the split.
        FileNotFoundError: If a dataset of TFDS is not prepared, or a prepared dataset is incomplete
            or has another file format than ArrayRecord.
        ImportError: If the builder needs TensorFlow and is in this project.
    """
    builder = _find_builder(name, data_dir)
    if not builder.data_path.exists() and type(builder).__module__.startswith("train."):
        prepare_dataset(builder, quiet)
        builder = _find_builder(name, data_dir)  # It reads its directory when it is constructed.
    instructions = preparation_help(builder)
    if not builder.data_path.exists():
        raise FileNotFoundError(
            f"dataset {name!r} is not prepared: expected its {FILE_FORMAT} files in "
            f"{builder.data_path}, and that directory does not exist. If they are elsewhere, set "
            f"data_dir to that place. Otherwise prepare the dataset once:\n{instructions}"
        )
    check_prepared(builder, split, instructions)
    return TfdsExamples(builder, split, label_key)


def _find_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """Return the builder of a dataset.

    Raises:
        ValueError: If TFDS does not have it. Its own error lists all datasets.
    """
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        similar = re.search(r"Did you mean: \S+ -> (\S+)", str(error))
        hint = f" Did you mean {similar[1]!r}?" if similar else ""
        raise ValueError(
            f"expected a dataset that TFDS {tfds.__version__} has or that is prepared in "
            f"{data_dir or 'its data_dir'}, got {name!r}.{hint} If its builder is in this project, "
            f"import its module in train/data/sources/datasets.py: TFDS registers a builder when "
            f"its class is defined. Otherwise check the name: "
            f"https://www.tensorflow.org/datasets/catalog"
        ) from None


def _check_features(builder: tfds.core.DatasetBuilder, label_key: str) -> None:
    """Check the features that the table of datasets promises.

    Raises:
        ValueError: If there is no image, or no label of classes.
    """
    features = builder.info.features
    kinds = (tfds.features.ClassLabel, tfds.features.LabeledImage)
    has_label = label_key in features and isinstance(features[label_key], kinds)
    if "image" in features and has_label:
        return
    found = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items())
    raise ValueError(
        f"expected a feature 'image', and a ClassLabel or a LabeledImage {label_key!r} in the "
        f"dataset {builder.name!r}; it has {found}. Probably its row in "
        f"train/data/sources/datasets.py or its builder is wrong."
    )
