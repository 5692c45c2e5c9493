"""The data that a config names, and what a training step makes of it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict

from train.data.augment.augmentation import Augmentation, augmentation_key, stream
from train.data.augment.mix import Mixing
from train.data.device_feed import DeviceFeed, Devices
from train.data.epochs import Epochs
from train.data.feed import TrainFeed, training_order
from train.data.sources.source import Source, load_source, load_splits

__all__ = [
    "IMAGE_LABELS_ONLY",
    "make_train_feed",
    "make_training_examples",
    "open_split",
    "open_splits",
]

IMAGE_LABELS_ONLY = (
    "autoaugment",
    "random_erasing",
    "mixup_alpha",
    "cutmix_alpha",
    "label_smoothing",
)
"""Fields of a config that are for classification only."""


def open_split(config: ConfigDict, split: str) -> Source:
    """Any split of the data set that a config names, brought to its size and channels.

    Raises what `load_source` does.
    """
    return load_source(config.dataset, split, **_reading(config))


def open_splits(config: ConfigDict) -> tuple[Source, Source]:
    """The training and the evaluation split of the data set that a config names.

    Raises what `load_splits` does.
    """
    return load_splits(config.dataset, **_reading(config))


def _reading(config: ConfigDict) -> dict[str, Any]:
    return {
        "data_dir": config.data_dir or None,
        "label_key": config.label_key,
        "image_size": config.image_size,
        "image_channels": config.image_channels,
    }


def make_train_feed(config: ConfigDict, source: Source, devices: Devices) -> TrainFeed | DeviceFeed:
    """The feed of training: on the devices where the examples are few, else through the host.

    Raises:
        ValueError: fields that contradict each other, or see `training_order`.
    """
    order = {
        "batch_size": config.batch_size,
        "seed": config.seed,
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
    }
    if config.random_resized_crop and not config.image_size:
        raise ValueError(
            "expected an image_size with random_resized_crop, got 0: random crops have to be "
            "brought to one size. Set --config.image_size=224, say."
        )
    if source.nbytes <= config.device_cache_mib * 2**20 and not config.random_resized_crop:
        return DeviceFeed(source, training_order(len(source), **order), devices)
    return TrainFeed(
        source, random_crop=config.random_resized_crop, workers=config.data_workers, **order
    )


def make_training_examples(
    config: ConfigDict,
    source: Source,
    epochs: Epochs,
    normalize_images: Callable[..., Array],
    axis_name: str,
) -> Callable[[Array, Array, Array, Array], tuple[Array, Array]]:
    """What a training step makes of a device's images and labels, as `make_train_step` takes it.

    Raises:
        ValueError: what the config asks for is not for images or labels such as these.
    """
    per_image = [name for name in IMAGE_LABELS_ONLY if config[name]]
    if per_image and source.label_shape:
        raise ValueError(
            f"expected only augmentation that labels of pixels can follow for {config.dataset!r}, "
            f"got {', '.join(per_image)}. These are for classification: leave them off; "
            f"crop_padding, flip, color_jitter and pca_lighting are for segmentation as well."
        )
    augment = Augmentation(
        crop_padding=config.crop_padding,
        flip=config.flip,
        autoaugment=config.autoaugment,
        color_jitter=config.color_jitter,
        pca_lighting=config.pca_lighting,
        random_erasing=config.random_erasing,
    )
    mix = Mixing(
        classes=source.num_classes,
        mixup_alpha=config.mixup_alpha,
        cutmix_alpha=config.cutmix_alpha,
        smoothing=config.label_smoothing,
        stop=epochs.steps(config.epochs - config.mix_off_epochs),
    )
    # Raises here, and not in the first step, what these images are not for.
    image = jax.ShapeDtypeStruct((1, *source.image_shape), np.uint8)
    jax.eval_shape(lambda images: augment(augmentation_key(0, 0), images), image)

    def training_examples(
        images: Array, labels: Array, step: Array, first_row: Array
    ) -> tuple[Array, Array]:
        key = augmentation_key(config.seed, step)
        images, labels = augment(key, images, first_row), augment.labels(key, labels, first_row)
        images, targets = mix(stream(key, "mixing"), images, labels, step, axis_name)
        return normalize_images(images, mixed=mix.mixes), targets

    return training_examples
