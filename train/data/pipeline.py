"""Make the input pipeline of a config: its dataset, its training feed, and its augmentation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict

from train.data.augment.augmentation import Augmentation, augmentation_key, stream_key
from train.data.augment.mixup import Mixup
from train.data.device_feed import DeviceFeed, Placer
from train.data.epochs import Epochs
from train.data.feed import TrainFeed, training_order
from train.data.sources.data_source import Source
from train.data.sources.datasets import find_dataset
from train.data.sources.folder_splits import SplitNames
from train.data.sources.load import load_source, load_splits

__all__ = [
    "IMAGE_LABELS_ONLY",
    "make_augment",
    "make_train_feed",
    "open_split",
    "open_splits",
    "parse_ignored_values",
    "parse_image_size",
    "split_names",
]

IMAGE_LABELS_ONLY = (
    "autoaugment",
    "random_erasing",
    "mixup_alpha",
    "cutmix_alpha",
    "label_smoothing",
)
"""Config fields that support classification only."""


def open_split(config: ConfigDict, split: str, class_names: Sequence[str] = ()) -> Source:
    """Open a split of a config's dataset.

    Args:
        config: The config.
        split: Any split that the dataset has, see `load_source`.
        class_names: Names of the classes of a run, which the dataset must have; () accepts any.

    Returns:
        The examples.

    Raises:
        ValueError: If `load_source` raises it.
        FileNotFoundError: If the dataset is not prepared, or the data directory does not exist.
    """
    return load_source(config.dataset, split, class_names=class_names, **_source_arguments(config))


def open_splits(config: ConfigDict, class_names: Sequence[str] = ()) -> tuple[Source, Source]:
    """Open the training and the evaluation split of a config's dataset.

    Args:
        config: The config.
        class_names: Names of the classes of a run, which the dataset must have; () accepts any.

    Returns:
        A tuple of the training and the evaluation examples.

    Raises:
        ValueError: If `load_splits` raises it.
        FileNotFoundError: If the dataset is not prepared, or the data directory does not exist.
    """
    return load_splits(config.dataset, class_names=class_names, **_source_arguments(config))


def split_names(config: ConfigDict) -> SplitNames:
    """Return the splits of a config's dataset for evaluation and for the test.

    Args:
        config: The config.

    Returns:
        The names of the splits.

    Raises:
        ValueError: If the only split for evaluation of a user's folder has no labels.
    """
    return find_dataset(config.dataset).split_names(config.data_dir or None)


def _source_arguments(config: ConfigDict) -> dict[str, Any]:
    """Return the arguments of `load_source` that a config determines."""
    return {
        "data_dir": config.data_dir or None,
        "label_key": config.label_key,
        "image_size": parse_image_size(config.image_size),
        "resize": config.resize,
        "image_channels": config.image_channels,
        "crop_scale": config.crop_scale,
        "ignored_values": parse_ignored_values(config.ignored_values),
    }


def parse_ignored_values(value: object) -> tuple[int, ...]:
    """Return the values of the config field `ignored_values`.

    Args:
        value: A value of a mask, or several.

    Returns:
        The values.

    Raises:
        ValueError: If it is something else.
    """
    values = value if isinstance(value, tuple | list) else (value,)
    if all(type(item) is int and item >= 0 for item in values):
        return tuple(values)
    raise ValueError(
        f"expected ignored_values to be a value of masks, such as 11, or several, such as "
        f"'(0, 11)', got {value!r}."
    )


def parse_image_size(value: object) -> tuple[int, int] | None:
    """Return the (height, width) of the config field `image_size`.

    Args:
        value: A number for squares, (height, width), or 0 for the size of the images.

    Returns:
        (height, width) in pixels, or None for the size of the images.

    Raises:
        ValueError: If it is something else.
    """
    sides = (value, value) if type(value) is int else value
    if isinstance(sides, tuple | list) and len(sides) == 2:
        height, width = sides
        if all(type(side) is int for side in sides) and (min(sides) > 0 or sides == (0, 0)):
            return (height, width) if height else None
    raise ValueError(
        f"expected an image_size in pixels, such as 224 for squares or '(240, 320)' for height and "
        f"width, or 0 for the size of the images, got {value!r}."
    )


def make_train_feed(config: ConfigDict, source: Source, placer: Placer) -> TrainFeed | DeviceFeed:
    """Make the training feed of a config.

    Args:
        config: The config.
        source: The training examples.
        placer: Puts arrays on the devices that share a batch.

    Returns:
        A `DeviceFeed` if the examples fit into `device_cache_mib` and are not cropped at random,
        and otherwise a `TrainFeed`.

    Raises:
        ValueError: If `random_resized_crop` has no `image_size`, or the batch cannot be divided
            evenly among the processes.
    """
    order = {
        "batch_size": config.batch_size,
        "seed": config.seed,
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
    }
    if config.random_resized_crop and not parse_image_size(config.image_size):
        raise ValueError(
            "expected an image_size with random_resized_crop, got 0. Random crops are resized to "
            "it; set it, for example with --config.image_size=224."
        )
    if source.nbytes <= config.device_cache_mib * 2**20 and not config.random_resized_crop:
        return DeviceFeed(source, training_order(len(source), **order), placer)
    return TrainFeed(
        source, random_crop=config.random_resized_crop, workers=config.data_workers, **order
    )


def make_augment(
    config: ConfigDict,
    source: Source,
    epochs: Epochs,
    normalize_images: Callable[..., Array],
    axis_name: str,
) -> Callable[[Array, Array, Array, Array], tuple[Array, Array]]:
    """Make the function that augments, mixes and normalizes a batch in the training step.

    Args:
        config: The config.
        source: The training examples.
        epochs: Converts the config's epochs to steps.
        normalize_images: `normalize` with the mean and the standard deviation of the dataset.
        axis_name: Mapped axis of the devices that share a batch.

    Returns:
        A function of (images, labels, step, first_row) that returns images and targets.
        `make_train_step` takes it.

    Raises:
        ValueError: If the config has augmentation that these images or labels do not support.
    """
    per_image = [name for name in IMAGE_LABELS_ONLY if config[name]]
    if per_image and source.label_shape:
        raise ValueError(
            f"expected only augmentation that supports labels of pixels for {config.dataset!r}, "
            f"got {', '.join(per_image)}, which are only for classification. Turn them off; "
            f"crop_padding, flip, color_jitter and pca_lighting also support segmentation."
        )
    augment = Augmentation(
        crop_padding=config.crop_padding,
        flip=config.flip,
        autoaugment=config.autoaugment,
        color_jitter=config.color_jitter,
        pca_lighting=config.pca_lighting,
        random_erasing=config.random_erasing,
    )
    mixup = Mixup(
        num_classes=source.num_classes,
        mixup_alpha=config.mixup_alpha,
        cutmix_alpha=config.cutmix_alpha,
        label_smoothing=config.label_smoothing,
        stop=epochs.steps(config.epochs - config.mix_off_epochs),
    )
    # Trace now, so that errors about these images are raised before training starts.
    image = jax.ShapeDtypeStruct((1, *source.image_shape), np.uint8)
    jax.eval_shape(lambda images: augment(augmentation_key(0, 0), images), image)

    def training_examples(
        images: Array, labels: Array, step: Array, first_row: Array
    ) -> tuple[Array, Array]:
        key = augmentation_key(config.seed, step)
        images, labels = augment(key, images, first_row), augment.labels(key, labels, first_row)
        images, targets = mixup(stream_key(key, "mixing"), images, labels, step, axis_name)
        return normalize_images(images, mixed=mixup.mixes), targets

    return training_examples
