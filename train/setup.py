"""From a config to everything that a run needs, ready to start."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict

from aff_jax.lookup import look_up
from train.config_checks import check_ranges
from train.data.augment.augmentation import normalize
from train.data.epochs import Epochs
from train.data.pipeline import make_training_examples, open_splits
from train.data.sources.datasets import find_dataset
from train.data.sources.source import Source
from train.model import check_output, make_model
from train.optim.finetune import FrozenPart, initialize_from
from train.optim.optimizers import make_optimizer
from train.optim.schedules import learning_rate_schedule
from train.reporting.tasks import TASKS, Task
from train.steps.parallel import AXIS, PARALLEL, Parallel
from train.steps.precision import DTYPES
from train.steps.recalibration import RecalibrationStep, make_recalibration_step
from train.steps.state import TrainState, create_state, with_variables
from train.steps.step import EvalStep, Network, TrainStep, make_eval_step, make_train_step

__all__ = ["Run", "assemble", "prepare"]


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
    new_head: tuple[str, ...]


def prepare(
    config: ConfigDict,
    devices: Sequence[jax.Device] | None = None,
    *,
    from_checkpoint: bool = False,
) -> Run:
    """Make what a config stands for; writes nothing but a data set that prepares itself.

    It runs on all devices of all processes unless others are given. What goes on
    `from_checkpoint` needs no weights to start from.

    Raises:
        ValueError: a field's value is not possible; the message names it.
        FileNotFoundError: the data set is not prepared.
    """
    check_ranges(config)
    parallel = look_up(PARALLEL, "parallel", config.parallel)(devices)
    look_up(DTYPES, "dtype", config.dtype)  # before any data is read
    return assemble(config, *open_splits(config), parallel, from_checkpoint=from_checkpoint)


def assemble(
    config: ConfigDict,
    train_source: Source,
    eval_source: Source,
    parallel: Parallel,
    *,
    from_checkpoint: bool = False,
) -> Run:
    """As `prepare`, over data that is open already; the config's ranges are not checked."""
    dtype = DTYPES[config.dtype]
    task = TASKS[find_dataset(config.dataset).task]
    model = make_model(config, train_source.num_classes)
    normalize_images = partial(normalize, mean=train_source.mean, std=train_source.std, dtype=dtype)

    def predict(state: TrainState, images: Array) -> Array:
        logits = cast(Array, model.apply(state.eval_variables, normalize_images(images)))
        return jnp.argmax(logits, axis=-1)

    epochs = Epochs(len(train_source), config.batch_size, config.epochs)
    training_examples = make_training_examples(config, train_source, epochs, normalize_images, AXIS)
    schedule = learning_rate_schedule(
        config.schedule,
        config.learning_rate,
        warmup_steps=epochs.steps(config.warmup_epochs),
        total_steps=epochs.total_steps,
        decay_steps=[epochs.steps(epoch) for epoch in config.decay_epochs],
        decay_factor=config.decay_factor,
    )
    optimizer = make_optimizer(
        config.optimizer,
        schedule,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        weight_decay_mask=config.weight_decay_mask,
        clip_norm=config.clip_norm,
    )
    trained: Network = model
    if config.freeze:
        frozen = FrozenPart(model, config.freeze)
        trained, optimizer = frozen, frozen.keep(optimizer)
    state = create_state(
        model,
        optimizer,
        config.seed,
        train_source.image_shape,
        ema=config.ema_decay > 0,
        loss_scale=config.dtype == "float16",
    )
    if config.freeze:
        frozen.check(state.variables)
    new_head: list[str] = []
    if config.init_from and not from_checkpoint:
        variables, new_head = initialize_from(config.init_from, state.variables)
        state = with_variables(state, variables)
    check_output(config, model, state.variables, train_source)
    train_step = make_train_step(
        trained,
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
        if config.freeze:
            raise ValueError(
                f"expected recalibration_batches=0 with freeze={tuple(config.freeze)}, got "
                f"{config.recalibration_batches}: statistics that are frozen are not recomputed."
            )
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
        new_head=tuple(new_head),
    )
