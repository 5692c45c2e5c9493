"""The data that a config names, and what a training step makes of it."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict

from train import parallel
from train.data.augment import Augmentation, augmentation_key, stream
from train.data.mix import Mixing
from train.data.source import Source, load_splits
from train.epochs import Epochs

__all__ = ["IMAGE_LABELS_ONLY", "make_training_examples", "open_splits"]

IMAGE_LABELS_ONLY = (
    "autoaugment",
    "random_erasing",
    "mixup_alpha",
    "cutmix_alpha",
    "label_smoothing",
)
"""Fields of a config that are for classification only."""


def open_splits(config: ConfigDict) -> tuple[Source, Source]:
    """The training and the evaluation split of the data set that a config names.

    Raises what `load_splits` does.
    """
    return load_splits(
        config.dataset,
        data_dir=config.data_dir or None,
        label_key=config.label_key,
        image_size=config.image_size,
        image_channels=config.image_channels,
    )


def make_training_examples(
    config: ConfigDict, source: Source, epochs: Epochs, normalize_images: Callable[..., Array]
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
        images, targets = mix(stream(key, "mixing"), images, labels, step, parallel.AXIS)
        return normalize_images(images, mixed=mix.mixes), targets

    return training_examples
