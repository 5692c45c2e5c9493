"""From a config to everything that a run needs, ready to start."""

import dataclasses
import math
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
from aff_jax.tables import look_up
from train import parallel
from train.data.augment import Augmentation, augmentation_key, normalize
from train.data.source import Source, find_dataset, load_source
from train.epochs import Epochs
from train.finetune import FrozenPart, initialize_from
from train.optimizer import make_optimizer
from train.ranges import check_ranges
from train.schedules import learning_rate_schedule
from train.state import TrainState, count_parameters, create_state
from train.step import EvalStep, TrainStep, make_eval_step, make_train_step
from train.tasks import TASKS, Task

__all__ = ["Run", "make_model", "network_cost", "prepare"]


KERNEL_INITS = {
    "xavier": nn.initializers.xavier_uniform(),
    "he": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    # MXNet's, for a leaky ReLU of slope 1/4, with which the authors start ImageNet's networks.
    "msra_prelu": nn.initializers.variance_scaling(2 / (1 + 0.25**2), "fan_avg", "normal"),
}
"""How kernels start: Glorot and Bengio, 2010, and He et al., 2015, by fan-out and by mean fan."""


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
    new_head: tuple[str, ...]


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
        drop_steps=[epochs.steps(epoch) for epoch in config.drop_epochs],
        drop_factor=config.drop_factor,
    )
    optimizer = make_optimizer(
        config.optimizer,
        schedule,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        decayed=config.decayed,
        clip_norm=config.clip_norm,
    )
    trained: nn.Module | FrozenPart = model
    if config.freeze:
        trained = FrozenPart(model, config.freeze)
        optimizer = trained.keep(optimizer)
    state = create_state(model, optimizer, config.seed, train_source.image_shape)
    if isinstance(trained, FrozenPart):
        trained.check(state.variables)
    new_head: list[str] = []
    if config.init_from:
        variables, new_head = initialize_from(config.init_from, state.variables)
        state = state.replace(**variables)
    _check_output(config, model, state, train_source)
    return Run(
        config=config,
        task=task,
        state=parallel.replicate(state),
        train_step=parallel.parallel_train_step(
            make_train_step(
                trained, optimizer, schedule, training_examples, parallel.AXIS, task.accuracy
            )
        ),
        eval_step=parallel.parallel_eval_step(
            make_eval_step(model, normalize_images, parallel.AXIS)
        ),
        predict=jax.jit(predict),
        train_source=train_source,
        eval_source=eval_source,
        epochs=epochs,
        new_head=tuple(new_head),
    )


def make_model(config: ConfigDict, num_classes: int) -> nn.Module:
    """The network that a config names."""
    norm_axis = parallel.AXIS if config.sync_batch_norm else None
    own = {}
    if config.kernel_init:
        own["kernel_init"] = look_up(KERNEL_INITS, "kernel_init", config.kernel_init)
    return aff_jax.create_model(
        config.model,
        fusion=config.fusion,
        fusion_fields=config.fusion_fields.to_dict(),
        reference=config.reference,
        num_classes=num_classes,
        norm=partial(aff_jax.BatchNorm, axis_name=norm_axis),
        **own,
        **config.model_fields,
    )


def network_cost(config: ConfigDict) -> tuple[int, float]:
    """Trainable parameters, and floating-point operations of a forward pass over one image.

    A multiply and an add are two operations. NaN where XLA does not say how many they are.

    Raises:
        ValueError: as `prepare`.
        FileNotFoundError: the data set is not prepared.
    """
    dataset = find_dataset(config.dataset)
    source = load_source(
        dataset.name,
        dataset.train_split,
        data_dir=config.data_dir or None,
        label_key=config.label_key,
    )
    model = make_model(config, source.num_classes)
    image = jax.ShapeDtypeStruct((1, *source.image_shape), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    cost = jax.jit(model.apply).lower(variables, image).cost_analysis() or {}
    return count_parameters(variables["params"]), cost.get("flops", math.nan)


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
