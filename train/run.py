"""From a config to everything that a run needs, ready to start."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict

import aff_jax
from aff_jax.tables import look_up
from train.data.augment import Augmentation, augmentation_key, normalize
from train.data.source import Source, find_dataset, load_source
from train.epochs import Epochs
from train.optimizer import learning_rate_schedule, make_optimizer
from train.parallel import AXIS, PARALLEL, Parallel, check_batch_size
from train.precision import DTYPES
from train.ranges import check_ranges
from train.recalibration import RecalibrationStep, make_recalibration_step
from train.state import TrainState, create_state
from train.step import EvalStep, TrainStep, make_eval_step, make_train_step
from train.tasks import TASKS, Task

__all__ = ["Run", "make_model", "prepare"]


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that a config stands for, ready to start."""

    config: ConfigDict
    task: Task
    parallel: Parallel
    state: TrainState
    train_step: TrainStep
    eval_step: EvalStep
    recalibration_step: RecalibrationStep | None
    predict: Callable[[TrainState, np.ndarray], Array]
    train_source: Source
    eval_source: Source
    epochs: Epochs


def prepare(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Run:
    """Make what a config stands for; writes nothing but a data set that prepares itself.

    It runs on all devices of all processes unless others are given.

    Raises:
        ValueError: a field's value is not possible; the message names it.
        FileNotFoundError: the data set is not prepared.
    """
    check_ranges(config)
    parallel = look_up(PARALLEL, "parallel", config.parallel)(devices)
    dtype = look_up(DTYPES, "dtype", config.dtype)
    check_batch_size(config.batch_size, len(parallel.devices), config.accumulation)
    dataset = find_dataset(config.dataset)
    load = partial(
        load_source, dataset.name, data_dir=config.data_dir or None, label_key=config.label_key
    )
    train_source, eval_source = load(dataset.train_split), load(dataset.eval_split)
    task = TASKS[dataset.task]
    model = make_model(config, train_source.num_classes)
    normalize_images = partial(normalize, mean=dataset.mean, std=dataset.std, dtype=dtype)
    augment = Augmentation(crop_padding=config.crop_padding, flip=config.flip)

    def training_examples(
        images: Array, labels: Array, step: Array, first_row: Array
    ) -> tuple[Array, Array]:
        key = augmentation_key(config.seed, step)
        images = normalize_images(augment(key, images, first_row))
        return images, augment.labels(key, labels, first_row)

    def predict(state: TrainState, images: Array) -> Array:
        logits = cast(Array, model.apply(state.eval_variables, normalize_images(images)))
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
    state = create_state(
        model,
        optimizer,
        config.seed,
        train_source.image_shape,
        ema=config.ema_decay > 0,
        loss_scale=config.dtype == "float16",
    )
    _check_output(config, model, state, train_source)
    train_step = make_train_step(
        model,
        optimizer,
        schedule,
        training_examples,
        AXIS,
        task.accuracy,
        accumulation=config.accumulation,
        ema_decay=config.ema_decay,
    )
    recalibration_step = None
    if config.recalibration_batches:
        recalibration_step = parallel.eval_step(
            make_recalibration_step(model, training_examples, AXIS)
        )
    return Run(
        config=config,
        task=task,
        parallel=parallel,
        state=parallel.replicate(state),
        train_step=parallel.train_step(train_step),
        eval_step=parallel.eval_step(make_eval_step(model, normalize_images, AXIS)),
        recalibration_step=recalibration_step,
        predict=jax.jit(predict),
        train_source=train_source,
        eval_source=eval_source,
        epochs=epochs,
    )


def make_model(config: ConfigDict, num_classes: int) -> nn.Module:
    """The network that a config names."""
    norm_axis = AXIS if config.sync_batch_norm else None
    return aff_jax.create_model(
        config.model,
        fusion=config.fusion,
        fusion_fields=config.fusion_fields.to_dict(),
        reference=config.reference,
        num_classes=num_classes,
        norm=partial(aff_jax.BatchNorm, axis_name=norm_axis),
        dtype=DTYPES[config.dtype],
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
