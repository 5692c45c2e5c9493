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

from train import parallel
from train.data.augment import normalize
from train.data.source import Source, find_dataset, load_source
from train.epochs import Epochs
from train.examples import make_training_examples
from train.finetune import FrozenPart, initialize_from
from train.network import check_output, make_model
from train.optimizer import make_optimizer
from train.ranges import check_ranges
from train.schedules import learning_rate_schedule
from train.state import TrainState, create_state
from train.step import EvalStep, TrainStep, make_eval_step, make_train_step
from train.tasks import TASKS, Task

__all__ = ["Run", "prepare"]


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
    check_output(config, model, state, train_source)
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
