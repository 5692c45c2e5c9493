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
from train.data.augment import Augmentation, augmentation_key, normalize
from train.data.datasets import find_dataset
from train.data.source import Source, load_splits
from train.epochs import Epochs
from train.optimizer import learning_rate_schedule, make_optimizer
from train.ranges import check_ranges
from train.state import TrainState, create_state
from train.step import EvalStep, TrainStep, make_eval_step, make_train_step
from train.tasks import TASKS, Task

__all__ = ["Run", "make_model", "prepare"]


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
    train_source, eval_source = load_splits(
        dataset.name,
        data_dir=config.data_dir or None,
        label_key=config.label_key,
        image_size=config.image_size,
        image_channels=config.image_channels,
    )
    task = TASKS[dataset.task]
    model = make_model(config, train_source.num_classes)
    normalize_images = partial(normalize, mean=train_source.mean, std=train_source.std)
    augment = Augmentation(crop_padding=config.crop_padding, flip=config.flip)

    def training_examples(
        images: Array, labels: Array, step: Array, first_row: Array
    ) -> tuple[Array, Array]:
        key = augmentation_key(config.seed, step)
        images = normalize_images(augment(key, images, first_row))
        return images, augment.labels(key, labels, first_row)

    def predict(state: TrainState, images: Array) -> Array:
        logits = cast(Array, model.apply(state.variables, normalize_images(images)))
        return jnp.argmax(logits, axis=-1)

    epochs = Epochs(len(train_source), config.batch_size, config.epochs)
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
