"""The shapes of datasets that need not be prepared, which is all that a plan needs of them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from train.data.pipeline import open_splits, parse_image_size
from train.data.sources.data_source import Source
from train.data.sources.datasets import find_dataset
from train.data.sources.encoded_examples import EncodedExample, EncodedExamples

__all__ = ["SHAPES", "ExampleShapes", "open_shapes"]


class ExampleShapes(NamedTuple):
    """The shapes of a training split.

    Attributes:
        examples: Number of examples.
        image_shape: (height, width, channels) of the images.
        classes: Number of classes of each label key, or of the only one.
        is_mask: Whether labels are masks.
        mixed_sizes: Description of the sizes if they differ.
    """

    examples: int
    image_shape: tuple[int, int, int]
    classes: Mapping[str, int]
    is_mask: bool = False
    mixed_sizes: str = ""


SHAPES = {
    "digits": ExampleShapes(1437, (8, 8, 1), {"label": 10}),
    "digit_scenes": ExampleShapes(1000, (64, 64, 1), {"mask": 11}, is_mask=True),
    "cifar10": ExampleShapes(50_000, (32, 32, 3), {"label": 10}),
    "cifar100": ExampleShapes(50_000, (32, 32, 3), {"label": 100, "coarse_label": 20}),
    "imagenet2012": ExampleShapes(1_281_167, (0, 0, 3), {"label": 1000}, mixed_sizes="photographs"),
    # COCO 2017 has 1,734 training images with its category 13, "stop sign".
    "stop_sign": ExampleShapes(
        1734, (0, 0, 3), {"mask": 2}, is_mask=True, mixed_sizes="photographs"
    ),
}
"""The training splits whose shapes are known, by the name of the dataset."""


class _UnreadExamples(EncodedExamples):
    """The examples of a split of which only the shapes are known."""

    def __init__(self, name: str, shapes: ExampleShapes, label_key: str) -> None:
        self.name = name
        self.class_names = tuple(map(str, range(shapes.classes[label_key])))
        self.is_mask = shapes.is_mask
        self.image_shape = shapes.image_shape
        self.mixed_sizes = shapes.mixed_sizes
        self._examples = shapes.examples

    @property
    def class_counts(self) -> np.ndarray:
        """Return equal counts. Their values change no shape and no cost."""
        return np.ones(len(self.class_names), np.int64)

    def __len__(self) -> int:
        return self._examples

    def __getitem__(self, position: int) -> EncodedExample:
        raise IndexError(f"expected to read shapes only, got a read of example {position}.")


def open_shapes(config: ConfigDict) -> Source:
    """Return the training split of a config, of which only shapes can be read.

    A dataset that is not in `SHAPES`, such as a folder of images, is opened.

    Args:
        config: The config.

    Returns:
        The training examples.

    Raises:
        ValueError: If the images have several sizes and the config has no `image_size`, or the
            dataset has no such label key, or the dataset or its folder is unknown.
        FileNotFoundError: If a dataset that is not in `SHAPES` is not there.
    """
    dataset = find_dataset(config.dataset)
    if config.dataset not in SHAPES:
        return open_splits(config)[0]
    shapes = SHAPES[config.dataset]
    label_key = config.label_key or dataset.label_keys[0]
    if label_key not in shapes.classes:
        raise ValueError(
            f"expected a label_key of {config.dataset!r} in {tuple(shapes.classes)}, got "
            f"{label_key!r}."
        )
    return Source(
        _UnreadExamples(config.dataset, shapes, label_key),
        dataset.mean,
        dataset.std,
        image_size=parse_image_size(config.image_size),
        resize=config.resize,
        image_channels=config.image_channels,
    )
