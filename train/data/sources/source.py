"""The examples of a dataset by position: read, decoded, resized and kept."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np
from PIL import Image

from aff_jax.lookup import unknown_name
from train.data.sources.datasets import IMAGENET_MEAN, IMAGENET_STD, find_dataset
from train.data.sources.images import CHANNELS, decode_image
from train.data.sources.masks import decode_mask, mask_labels
from train.data.sources.records import Records
from train.data.sources.resize import (
    IMAGE,
    MASK,
    RESIZE_RATIO,
    crop_and_resize,
    evaluation_view,
    random_box,
)

USUAL_MEAN = {1: (0.449,), 3: IMAGENET_MEAN}
USUAL_STD = {1: (0.226,), 3: IMAGENET_STD}
"""Of photographs, by channels: ImageNet's, and for grey the mean over its channels.

Constants and not measured, so that a run that goes on has the same; what they miss, a network's
first batch norm takes out.
"""


class Source:
    """The examples of one split, by position; what `load_source` returns.

    `source[i] -> {"image": uint8 (height, width, channels), read-only, "label": int32,
    "index": int64 ()}`, where `index` is the position i in the split. Labels have the shape
    `label_shape`: () for classification, (height, width) for segmentation, where a mask's 255
    comes as `IGNORE_LABEL`. Reading is safe from several threads. A pickled source opens the
    files again and starts with an empty cache.

    Raises `IndexError` outside the split, and `ValueError` for an image or mask that cannot be
    read, a mask that is not of the size of its image or has a value that stands for no class, and
    images of several sizes or channels where the dataset has them and none was chosen.
    """

    def __init__(
        self,
        records: Records,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        *,
        image_size: int = 0,
        image_channels: int = 0,
        cache_bytes: int = 0,
    ) -> None:
        self._again = functools.partial(
            Source,
            mean=mean,
            std=std,
            image_size=image_size,
            image_channels=image_channels,
            cache_bytes=cache_bytes,
        )
        _check_alike(records, image_size, image_channels)
        self._records = records
        self._size = image_size
        height, width, channels = records.image_shape
        if image_size:
            height = width = image_size
        channels = image_channels or channels
        self.image_shape: tuple[int, ...] = (height, width, channels)
        self.label_shape: tuple[int, ...] = (height, width) if records.is_mask else ()
        self.class_names: tuple[str, ...] = records.class_names
        self.num_classes: int = len(records.class_names)
        # The dataset's own figures are of the channels it has.
        self.mean = mean if len(mean) == channels else USUAL_MEAN[channels]
        self.std = std if len(std) == channels else USUAL_STD[channels]

        # The system hands out the pages of `empty` as they are written, so the cache costs
        # memory only as it fills.
        self._cache: np.ndarray | None = None
        stored_label = np.dtype(np.uint8 if records.is_mask else np.int32)
        example_bytes = math.prod(self.image_shape)
        if records.is_mask:
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
            image, label = self._view(position)
        else:
            if not self._is_cached[position]:
                # Two threads may both come here: they write the same values.
                self._cache[position], self._cached_labels[position] = self._view(position)
                self._is_cached[position] = True
            image, label = self._cache[position], self._cached_labels[position]
        image.flags.writeable = False
        label = mask_labels(label) if self._records.is_mask else np.int32(label)
        return {"image": image, "label": label, "index": np.int64(position)}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[position] for position in range(len(self)))

    def decode(self, position: int) -> tuple[Image.Image, Image.Image | int]:
        """Image and label as they are stored, before any resizing; a mask is a Pillow image."""
        image_data, label, image_at, label_at = self._records[position]
        upright = self._records.upright
        image = decode_image(image_data, self.image_shape[-1], image_at, upright)
        if isinstance(label, bytes):
            shape = (image.height, image.width)
            return image, Image.fromarray(decode_mask(label, shape, self.num_classes, label_at))
        return image, int(label)

    def random_crop(self, position: int, rng: np.random.Generator) -> dict[str, Any]:
        """As `source[position]`, of a random rectangle that is resized: never kept in memory.

        Raises `ValueError` without an `image_size` to resize to.
        """
        if not self._size:
            raise ValueError(
                f"expected a size to bring random crops of {self._records.name} to, got none. Set "
                f"--config.image_size=224, say."
            )
        image, label = self.decode(position)
        box = random_box(rng, *image.size)
        pixels = np.array(crop_and_resize(image, box, self._size, IMAGE))
        example = {"image": pixels.reshape(self.image_shape), "index": np.int64(position)}
        if isinstance(label, Image.Image):
            mask = np.array(crop_and_resize(label, box, self._size, MASK))
            return {**example, "label": mask_labels(mask)}
        return {**example, "label": np.int32(label)}

    @property
    def nbytes(self) -> int:
        """Bytes of all images and labels, decoded and resized."""
        label_bytes = 4 * math.prod(self.label_shape)
        return len(self) * (math.prod(self.image_shape) + label_bytes)

    def _view(self, position: int) -> tuple[np.ndarray, Any]:
        image, label = self.decode(position)
        if self._size:
            # Pixels at the border have labels too: only what a square has no room for is cut off.
            ratio = 1.0 if self._records.is_mask else RESIZE_RATIO
            image = evaluation_view(image, self._size, IMAGE, ratio)
            if isinstance(label, Image.Image):
                label = evaluation_view(label, self._size, MASK, ratio)
        pixels = np.array(image).reshape(self.image_shape)
        return pixels, np.array(label) if isinstance(label, Image.Image) else label

    def __reduce__(self) -> tuple[Any, ...]:
        return self._again, (self._records,)


def load_source(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    label_key: str = "",
    image_size: int = 0,
    image_channels: int = 0,
    cache_bytes: int = 2**28,
) -> Source:
    """Open one split of a dataset for reading by position.

    `split` is anything TFDS understands: "train", "test", "train[:90%]"; for a user's folder
    "train" or "test". `data_dir` is that folder, or that of prepared datasets, by default TFDS's
    own. `label_key` "" is the first of the dataset's. `image_size` S resizes the shorter side and
    cuts S x S pixels out of the middle (`evaluation_view`), `image_channels` 1 or 3 converts to
    grey or colour; 0 leaves them as they are.

    Images are kept decoded in memory, as they are first read, if the whole split takes at most
    `cache_bytes` bytes in that form (by default 256 MiB: CIFAR's 147 MiB fit, ImageNet does not).

    Raises `ValueError` for an unknown dataset, split or label key, and what `open_prepared`,
    `open_image_folder`, `open_mask_folder` and `Source` raise.
    """
    dataset = find_dataset(name)
    label_key = label_key or dataset.label_keys[0]
    if label_key not in dataset.label_keys:
        raise ValueError(unknown_name(f"label key of {name!r}:", label_key, dataset.label_keys))
    if data_dir is not None:
        # TFDS takes "~" for a folder of that name, and a shell leaves it in `--data_dir=~/tfds`.
        data_dir = os.path.expanduser(data_dir)
    return Source(
        dataset.open(name, split, data_dir, label_key),
        dataset.mean,
        dataset.std,
        image_size=image_size,
        image_channels=image_channels,
        cache_bytes=cache_bytes,
    )


def load_splits(name: str, **fields: Any) -> tuple[Source, Source]:
    """The training and the evaluation split of a dataset; fields and errors as of `load_source`.

    Raises `ValueError` where one network cannot be trained on the one and evaluated on the other.
    """
    dataset = find_dataset(name)
    train, evaluation = (
        load_source(name, split, **fields) for split in (dataset.train_split, dataset.eval_split)
    )
    if train.image_shape != evaluation.image_shape:
        raise ValueError(
            f"expected images of one shape in both splits of {name!r}, got (height, width, "
            f"channels) = {train.image_shape} in training and {evaluation.image_shape} in "
            f"evaluation. Make them alike with --config.image_size or --config.image_channels."
        )
    return train, evaluation


def _check_alike(records: Records, image_size: int, image_channels: int) -> None:
    if records.mixed_sizes and not image_size:
        raise ValueError(
            f"expected images of one size in {records.name}, got several: {records.mixed_sizes}. "
            f"Choose one: --config.image_size=224, say, resizes the shorter side and cuts a square "
            f"out of the middle."
        )
    if image_channels not in (0, *CHANNELS):
        raise ValueError(f"expected image_channels of 0, 1 or 3, got {image_channels}.")
    if records.mixed_channels and not image_channels:
        raise ValueError(
            f"expected images that are all grey or all colour in {records.name}, got both: "
            f"{records.mixed_channels}. Choose one: --config.image_channels=3 makes all colour, 1 "
            f"all grey."
        )
