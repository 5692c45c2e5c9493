"""From a config to everything that a run needs, ready to start."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict

import aff_jax
from train import parallel
from train.data.augment import Augmentation, augmentation_key, normalize, stream
from train.data.mix import Mixing
from train.data.source import Source, find_dataset, load_source
from train.epochs import Epochs
from train.optimizer import learning_rate_schedule, make_optimizer
from train.ranges import check_ranges
from train.state import TrainState, create_state
from train.step import EvalStep, TrainStep, make_eval_step, make_train_step
from train.tasks import TASKS, Task

__all__ = ["Run", "make_model", "make_training_examples", "prepare"]


IMAGE_LABELS_ONLY = (
    "autoaugment",
    "random_erasing",
    "mixup_alpha",
    "cutmix_alpha",
    "label_smoothing",
)
"""Fields of a config that are for classification only."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that a config stands for, ready to start."""

    config: ConfigDict
    task: Task
    state: TrainState
    train_step: TrainStep
    eval_step: EvalStep
    predict: Callable[[TrainState, np.ndarray], Array]
    train_source: Source
    eval_source: Source
    epochs: Epochs


def prepare(config: ConfigDict) -> Run:
    """Make what a config stands for; writes nothing but a data set that prepares itself.

    Raises:
        ValueError: a field's value is not possible; the message names it.
        FileNotFoundError: the data set is not prepared.
    """
    check_ranges(config)
    parallel.check_batch_size(config.batch_size)
    dataset = find_dataset(config.dataset)
    load = partial(
        load_source, dataset.name, data_dir=config.data_dir or None, label_key=config.label_key
    )
    train_source, eval_source = load(dataset.train_split), load(dataset.eval_split)
    task = TASKS[dataset.task]
    model = make_model(config, train_source.num_classes)
    normalize_images = partial(normalize, mean=dataset.mean, std=dataset.std)

    def predict(state: TrainState, images: Array) -> Array:
        logits = cast(Array, model.apply(state.variables, normalize_images(images)))
        return jnp.argmax(logits, axis=-1)

    epochs = Epochs(len(train_source), config.batch_size, config.epochs)
    training_examples = make_training_examples(config, train_source, epochs, normalize_images)
    schedule = learning_rate_schedule(
        config.schedule,
        config.learning_rate,
        warmup_steps=epochs.steps(config.warmup_epochs),
        total_steps=epochs.total_steps,
    )
    optimizer = make_optimizer(
        config.optimizer, schedule, momentum=config.momentum, weight_decay=config.weight_decay
    )
    state = create_state(model, optimizer, config.seed, train_source.image_shape)
    _check_output(config, model, state, train_source)
    return Run(
        config=config,
        task=task,
        state=parallel.replicate(state),
        train_step=parallel.parallel_train_step(
            make_train_step(
                model, optimizer, schedule, training_examples, parallel.AXIS, task.accuracy
            )
        ),
        eval_step=parallel.parallel_eval_step(
            make_eval_step(model, normalize_images, parallel.AXIS)
        ),
        predict=jax.jit(predict),
        train_source=train_source,
        eval_source=eval_source,
        epochs=epochs,
    )


def make_model(config: ConfigDict, num_classes: int) -> nn.Module:
    """The network that a config names."""
    norm_axis = parallel.AXIS if config.sync_batch_norm else None
    return aff_jax.create_model(
        config.model,
        fusion=config.fusion,
        fusion_fields=config.fusion_fields.to_dict(),
        reference=config.reference,
        num_classes=num_classes,
        norm=partial(aff_jax.BatchNorm, axis_name=norm_axis),
        **config.model_fields,
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


def _check_output(config: ConfigDict, model: nn.Module, state: TrainState, source: Source) -> None:
    """`ValueError` where the network's answers are not of the labels' shape."""
    image = jax.ShapeDtypeStruct((1, *source.image_shape), np.float32)
    output = jax.eval_shape(model.apply, state.variables, image)
    expected = (1, *source.label_shape, source.num_classes)
    if output.shape != expected:
        raise ValueError(
            f"expected a network whose output for one image of {config.dataset!r} has the shape "
            f"{expected}, got {output.shape} from {config.model!r}. Segmentation needs a network "
            f"that answers for each pixel, classification one that answers for the image; set "
            f"--config.model."
        )
