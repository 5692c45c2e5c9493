"""Prepared TFDS datasets: opened, or what is missing told; ArrayRecord files, no TensorFlow."""

from __future__ import annotations

import bisect
import contextlib
import functools
import io
import itertools
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds

from train.data.sources.records import Encoded

__all__ = [
    "FILE_FORMAT",
    "PreparedRecords",
    "RawRecords",
    "check_prepared",
    "how_to_prepare",
    "open_or_prepare",
    "open_prepared",
]

FILE_FORMAT = "array_record"


class RawRecords:
    """The records of one split by position, as TFDS reads them but for its `pictures`.

    Those stay bytes. TFDS would decode them with OpenCV where that is installed, and two JPEG
    decoders may differ in a pixel's last bit, so that two machines would train differently.

    Raises `ValueError` for a record that cannot be read: names its file and its place there.
    """

    def __init__(
        self, builder: tfds.core.DatasetBuilder, split: str, pictures: Sequence[str]
    ) -> None:
        self.name = f"{builder.name} {split}"
        self._records = builder.as_data_source(
            split,
            decoders={picture: tfds.decode.SkipDecoding() for picture in pictures},
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
        except Exception as error:  # ArrayRecord and protobuf raise several kinds
            raise ValueError(
                f"cannot read {self.where(position)}: {error}. Probably the file is damaged. Copy "
                f"it again, or remove its folder and prepare the dataset again."
            ) from error
        return record

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[position] for position in range(len(self)))

    def where(self, position: int) -> str:
        """What errors call an example: its position, its file, and its place there."""
        number = bisect.bisect_right(self._ends, position)
        file = self._files[number]
        index = position - self._ends[number] + file.take + file.skip
        return f"example {position} of {self.name} (record {index} of {os.fspath(file.filename)})"


class PreparedRecords:
    """The records of one split of a prepared dataset; attributes, use and errors as in `Records`.

    A record that cannot be read is a `ValueError`, as in `RawRecords`.
    """

    mixed_channels = ""
    # Published results were computed from the pixels as they are stored.
    upright = False

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, label_key: str) -> None:
        self._reopen = functools.partial(
            open_prepared, builder.name, split, os.fspath(builder.data_dir_root), label_key
        )
        features = builder.info.features
        self.is_mask = isinstance(features[label_key], tfds.features.LabeledImage)
        pictures = ("image", label_key) if self.is_mask else ("image",)
        self._records = RawRecords(builder, split, pictures)
        self._label_key = label_key
        self.name = self._records.name
        self.class_names: tuple[str, ...] = tuple(features[label_key].names)
        height, width, channels = features["image"].shape
        self.image_shape = (height or 0, width or 0, channels)
        self.mixed_sizes = "" if height and width else "this data set's images differ in size"

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, position: int) -> Encoded:
        record = self._records[position]
        where = self._records.where(position)
        return Encoded(record["image"], record[self._label_key], where, where)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reopen, ()


def open_prepared(name: str, split: str, data_dir: str | None, label_key: str) -> PreparedRecords:
    """Open one split of a dataset that was prepared before.

    `split` is anything TFDS understands: "train", "test", "train[:90%]". `data_dir` is the folder
    of prepared datasets, by default TFDS's own.

    Raises `ValueError` for an unknown split, and `FileNotFoundError` for a dataset that is not
    prepared, is prepared in part, or in another format than ArrayRecord.
    """
    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.data_path.exists():
        raise FileNotFoundError(
            f"dataset {name!r} is not prepared: expected its {FILE_FORMAT} files in "
            f"{builder.data_path}, and there is no such folder. If they are elsewhere, give that "
            f"place as data_dir. Otherwise prepare them once:\n{_how_to_prepare(builder)}"
        )
    check_prepared(builder, split, _how_to_prepare(builder))
    return PreparedRecords(builder, split, label_key)


def open_or_prepare(
    name: str, split: str, data_dir: str | None, label_key: str, quiet: bool = True
) -> PreparedRecords:
    """As `open_prepared`, but prepares a dataset of ours that is not there yet.

    `quiet` keeps TFDS from showing how far it is, for what takes seconds.
    """
    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.data_path.exists():
        _prepare(builder, quiet)
    # A builder reads what is on disk only when it is made.
    return open_prepared(name, split, data_dir, label_key)


def check_prepared(builder: tfds.core.DatasetBuilder, split: str, how: str) -> None:
    """Refuse a dataset that was prepared in another format, or of which files are missing.

    Raises `FileNotFoundError` that ends with `how` to prepare it, or names the missing files.
    """
    folder = builder.data_path
    formats = sorted(file_format.value for file_format in builder.info.available_file_formats())
    if (folder / "dataset_info.json").exists() and FILE_FORMAT not in formats:
        raise FileNotFoundError(
            f"expected {FILE_FORMAT} files in {folder}, which was prepared as "
            f"{', '.join(formats)}. Only {FILE_FORMAT} can be read by position and without "
            "TensorFlow. Move that folder away, or choose another data_dir, and prepare the "
            f"dataset again:\n{how}"
        )
    expected = [folder / "dataset_info.json"]
    if expected[0].exists():
        expected += builder.info.splits[split].filepaths
    missing = [os.fspath(path) for path in expected if not path.exists()]
    if missing:
        raise FileNotFoundError(
            f"dataset {builder.name!r} in {folder} is incomplete; missing: {', '.join(missing)}. "
            "Probably it was copied in part. Remove that folder and copy or prepare it again."
        )


def how_to_prepare(name: str, data_dir: str | os.PathLike[str], before: str) -> str:
    """The commands that prepare a dataset of TFDS's; `before` says what is needed or happens."""
    # TFDS 4.9.10 imports importlib_resources without requiring it.
    # JSON's strings are Python's, in the double quotes that a shell's single quotes leave alone.
    code = (
        "import tensorflow_datasets as tfds; "
        f"tfds.builder({json.dumps(name)}, "
        f"data_dir={json.dumps(os.fspath(data_dir))}, "
        f"file_format={json.dumps(FILE_FORMAT)}).download_and_prepare()"
    )
    return (
        "    pip install tensorflow-datasets tensorflow-cpu importlib_resources\n"
        f"    python -c {shlex.quote(code)}\n"
        f"{before} Only this step needs TensorFlow, and it may be done in "
        "another environment or on another machine."
    )


def _how_to_prepare(builder: tfds.core.DatasetBuilder) -> str:
    manual = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    folder = os.path.join(builder.data_dir_root, "downloads", "manual")
    before = "It downloads the dataset."
    if manual:
        before = f"Before that, by hand, with {folder} for manual_dir: {manual}"
    return how_to_prepare(builder.name, builder.data_dir_root, before)


def _prepare(builder: tfds.core.DatasetBuilder, quiet: bool) -> None:
    # TFDS writes to a folder of its own, `incomplete.<random>_<version>`, and renames it when
    # all is written: a killed preparation leaves nothing that would be read. Its output speaks
    # of downloading, which does not happen here.
    try:
        with contextlib.ExitStack() as redirected:
            if quiet:
                silence = io.StringIO()
                redirected.enter_context(contextlib.redirect_stdout(silence))
                redirected.enter_context(contextlib.redirect_stderr(silence))
            builder.download_and_prepare(file_format=FILE_FORMAT)
    except OSError:
        # The rename fails if another process was faster; then its files are as good as ours.
        if not builder.data_path.exists():
            raise
