"""Dataset name -> examples by position: which datasets there are, and how each is read.

Every dataset is a TFDS dataset in ArrayRecord files. Reading one needs no TensorFlow; preparing
one does, except for those that prepare themselves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import math
import os
import shlex
from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from aff_jax.tables import look_up, unknown_name

# Imported for their effect: defining a builder makes TFDS know its name.
from train.data import digit_scenes as digit_scenes
from train.data import digits as digits
from train.data.masks import decode_mask, mask_labels

FILE_FORMAT = "array_record"
# Pillow's names for images with that many channels.
_PILLOW_MODES = {1: "L", 3: "RGB"}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What the application knows of one TFDS dataset.

    `mean` and `std` are per channel, of the training pixels divided by 255. `label_keys` are the
    features that may serve as the label. `task` is "classification", one label an image, or
    "segmentation", one a pixel. `prepares_itself` says that the first use may prepare the
    dataset: no network, no TensorFlow, a few seconds.
    """

    name: str
    train_split: str
    eval_split: str
    label_keys: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    task: str = "classification"
    prepares_itself: bool = False


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="digits",
            train_split="train",
            eval_split="test",
            label_keys=("label",),
            # Over all pixels of the 1,437 training images / 255, in float64;
            # tests/train/data/test_source.py measures them again.
            mean=(0.3058,),
            std=(0.3761,),
            prepares_itself=True,
        ),
        Dataset(
            name="digit_scenes",
            train_split="train",
            eval_split="test",
            label_keys=("mask",),
            # Measured as for the digits, over the 1,000 training scenes.
            mean=(0.3068,),
            std=(0.1822,),
            task="segmentation",
            prepares_itself=True,
        ),
        Dataset(
            name="cifar10",
            train_split="train",
            eval_split="test",
            label_keys=("label",),
            # As the authors of Attentional Feature Fusion normalize; so for both CIFARs.
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2023, 0.1994, 0.2010),
        ),
        Dataset(
            name="cifar100",
            train_split="train",
            eval_split="test",
            # 100 fine classes or 20 superclasses: two tasks, whose accuracies do not compare.
            label_keys=("label", "coarse_label"),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2023, 0.1994, 0.2010),
        ),
    )
}


class Source:
    """The examples of one split, by position; what `load_source` returns.

    `source[i] -> {"image": uint8 (height, width, channels), read-only, "label": int32,
    "index": int64 ()}`, where `index` is the position i in the split. Labels have the shape
    `label_shape`: () for classification, (height, width) for segmentation, where a mask's 255
    comes as `IGNORE_LABEL`. Reading is safe from several threads. A pickled source opens the
    files again and starts with an empty cache.

    Raises `IndexError` outside the split, and `ValueError` for a mask that is not of the size of
    its image or has a value that stands for no class.
    """

    def __init__(
        self,
        builder: tfds.core.DatasetBuilder,
        split: str,
        *,
        data_dir: str | os.PathLike[str] | None,
        label_key: str,
        cache_bytes: int,
    ) -> None:
        self._reopen = functools.partial(
            load_source,
            builder.name,
            split,
            data_dir=data_dir,
            label_key=label_key,
            cache_bytes=cache_bytes,
        )
        # Decoded here by Pillow. TFDS would take OpenCV where that is installed, and two JPEG
        # decoders may differ in a pixel's last bit: so would the same run on two machines.
        features = builder.info.features
        self._is_mask = isinstance(features[label_key], tfds.features.LabeledImage)
        pictures = ("image", label_key) if self._is_mask else ("image",)
        self._records = builder.as_data_source(
            split,
            decoders={picture: tfds.decode.SkipDecoding() for picture in pictures},
            file_format=FILE_FORMAT,
        )
        self._name = f"{builder.name} {split}"
        self._label_key = label_key
        self.image_shape: tuple[int, ...] = tuple(features["image"].shape)
        self.class_names: tuple[str, ...] = tuple(features[label_key].names)
        self.num_classes: int = features[label_key].num_classes
        self.label_shape: tuple[int, ...] = self.image_shape[:2] if self._is_mask else ()
        self._pillow_mode = _PILLOW_MODES[self.image_shape[-1]]

        # The system hands out the pages of `empty` as they are written, so the cache costs
        # memory only as it fills.
        self._cache: np.ndarray | None = None
        stored_label = np.dtype(np.uint8 if self._is_mask else np.int32)
        example_bytes = math.prod(self.image_shape)
        if self._is_mask:
            example_bytes += math.prod(self.label_shape)
        if len(self) * example_bytes <= cache_bytes:
            self._cache = np.empty((len(self), *self.image_shape), np.uint8)
            self._cached_labels = np.empty((len(self), *self.label_shape), stored_label)
            self._is_cached = np.zeros(len(self), bool)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, position: SupportsIndex) -> dict[str, Any]:
        # A range turns negative positions around and raises IndexError beyond the end.
        position = range(len(self))[position]
        if self._cache is None:
            image, label = self._decode(position)
        else:
            if not self._is_cached[position]:
                # Two threads may both come here: they write the same values.
                self._cache[position], self._cached_labels[position] = self._decode(position)
                self._is_cached[position] = True
            image, label = self._cache[position], self._cached_labels[position]
        image.flags.writeable = False
        label = mask_labels(label) if self._is_mask else np.int32(label)
        return {"image": image, "label": label, "index": np.int64(position)}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[position] for position in range(len(self)))

    def _decode(self, position: int) -> tuple[np.ndarray, Any]:
        record = self._records[position]
        with Image.open(io.BytesIO(record["image"])) as image:
            pixels = np.array(image.convert(self._pillow_mode)).reshape(self.image_shape)
        label = record[self._label_key]
        if self._is_mask:
            where = f"example {position} of {self._name}"
            label = decode_mask(label, self.label_shape, self.num_classes, where)
        return pixels, label

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reopen, ()


def load_source(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    label_key: str = "label",
    cache_bytes: int = 2**28,
) -> Source:
    """Open one split of a dataset for reading by position.

    `split` is anything TFDS understands: "train", "test", "train[:90%]". `data_dir` is the
    folder of prepared datasets, by default TFDS's own. Images are kept decoded in memory, as
    they are first read, if the whole split takes at most `cache_bytes` bytes in that form
    (by default 256 MiB: CIFAR's 147 MiB fit, ImageNet does not).

    Raises `ValueError` for an unknown dataset, split or label key, and `FileNotFoundError` for
    a dataset that is not prepared, is prepared in part, or in another format than ArrayRecord.
    """
    dataset = find_dataset(name)
    if label_key not in dataset.label_keys:
        raise ValueError(unknown_name(f"label key of {name!r}:", label_key, dataset.label_keys))
    if data_dir is not None:
        # TFDS takes "~" for a folder of that name, and a shell leaves it in `--data_dir=~/tfds`.
        data_dir = os.path.expanduser(data_dir)
    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.data_path.exists():
        if not dataset.prepares_itself:
            raise FileNotFoundError(_not_prepared(dataset.name, builder))
        _prepare(builder)
        # A builder reads what is on disk only when it is made.
        builder = tfds.builder(name, data_dir=data_dir)
    _check_prepared(builder, split)
    return Source(builder, split, data_dir=data_dir, label_key=label_key, cache_bytes=cache_bytes)


def find_dataset(name: str) -> Dataset:
    """The row of `DATASETS` with that name; `ValueError` with the nearest names otherwise."""
    return look_up(DATASETS, "dataset", name)


def _prepare(builder: tfds.core.DatasetBuilder) -> None:
    # TFDS writes to a folder of its own, `incomplete.<random>_<version>`, and renames it when
    # all is written: a killed preparation leaves nothing that would be read. Its output speaks
    # of downloading, which does not happen here.
    silence = io.StringIO()
    try:
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            builder.download_and_prepare(file_format=FILE_FORMAT)
    except OSError:
        # The rename fails if another process was faster; then its files are as good as ours.
        if not builder.data_path.exists():
            raise


def _check_prepared(builder: tfds.core.DatasetBuilder, split: str) -> None:
    folder = builder.data_path
    formats = sorted(file_format.value for file_format in builder.info.available_file_formats())
    if (folder / "dataset_info.json").exists() and FILE_FORMAT not in formats:
        raise FileNotFoundError(
            f"expected {FILE_FORMAT} files in {folder}, which was prepared as "
            f"{', '.join(formats)}. Only {FILE_FORMAT} can be read by position and without "
            "TensorFlow. Move that folder away, or choose another data_dir, and prepare the "
            f"dataset again:\n{_how_to_prepare(builder)}"
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


def _not_prepared(name: str, builder: tfds.core.DatasetBuilder) -> str:
    return (
        f"dataset {name!r} is not prepared: expected its {FILE_FORMAT} files in "
        f"{builder.data_path}, and there is no such folder. If they are elsewhere, give that "
        f"place as data_dir. Otherwise prepare them once:\n{_how_to_prepare(builder)}"
    )


def _how_to_prepare(builder: tfds.core.DatasetBuilder) -> str:
    # TFDS 4.9.10 imports importlib_resources without requiring it.
    # JSON's strings are Python's, in the double quotes that a shell's single quotes leave alone.
    code = (
        "import tensorflow_datasets as tfds; "
        f"tfds.builder({json.dumps(builder.name)}, "
        f"data_dir={json.dumps(os.fspath(builder.data_dir_root))}, "
        f"file_format={json.dumps(FILE_FORMAT)}).download_and_prepare()"
    )
    return (
        "    pip install tensorflow-datasets tensorflow-cpu importlib_resources\n"
        f"    python -c {shlex.quote(code)}\n"
        "It downloads the dataset. Only this step needs TensorFlow, and it may be done in "
        "another environment or on another machine."
    )
