"""Turn a config into a run: network, data, optimizer, state and compiled steps."""

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

from aff_jax.lookup import look_up
from train.config_checks import check_config
from train.data.augment.augmentation import normalize
from train.data.epochs import Epochs
from train.data.pipeline import make_training_examples, open_splits
from train.data.sources.data_source import Source
from train.data.sources.datasets import find_dataset
from train.model import check_output_shape, make_model
from train.optim.frozen_submodules import FrozenSubmodules
from train.optim.optimizers import Optimizer, create_optimizer
from train.optim.pretrained import initialize_from
from train.optim.schedules import Schedule, create_schedule
from train.reporting.metrics import TASKS, Task
from train.steps.eval_step import EvalStep, make_eval_step
from train.steps.parallel import AXIS, PARALLEL, Parallel
from train.steps.precision import DTYPES
from train.steps.recalibration import RecalibrationStep, make_recalibration_step
from train.steps.state import TrainState, make_state, with_variables
from train.steps.train_step import TrainStep, make_train_step

__all__ = ["Run", "assemble", "prepare"]


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that a config describes, ready to start.

    Attributes:
        config: The config.
        task: Classification or segmentation: its metrics and their names.
        parallel: The devices, and how steps run on them.
        state: The initial state, replicated.
        train_step: Training step on all devices.
        eval_step: Evaluation step on all devices.
        recalibration_step: Step that recomputes running statistics, or None if the config has no
            `recalibration_batches`.
        predict: Maps a state and uint8 images to predicted classes.
        train_source: Training split.
        eval_source: Evaluation split.
        epochs: Conversion between epochs and steps.
        new_head: Names of parameters of the head that the file of `init_from` has in another shape.
    """

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
    """Check a config and make its run.

    Nothing is written, except by datasets that are prepared when they are first opened.

    Args:
        config: The config.
        devices: The devices; those of all processes by default.
        from_checkpoint: Whether a checkpoint will replace the state, so that `init_from` is not
            read.

    Returns:
        The run, with the initial state on the devices.

    Raises:
        ValueError: If the value of a field is not possible. The message names the field.
        FileNotFoundError: If the dataset is not prepared.
    """
    check_config(config)
    parallel = look_up(PARALLEL, "parallel", config.parallel)(devices)
    look_up(DTYPES, "dtype", config.dtype)  # checked first, since opening the splits may take long
    return assemble(config, *open_splits(config), parallel, from_checkpoint=from_checkpoint)


def assemble(
    config: ConfigDict,
    train_source: Source,
    eval_source: Source,
    parallel: Parallel,
    *,
    from_checkpoint: bool = False,
) -> Run:
    """Make a run from open splits, without checking the numbers of the config.

    Args:
        config: The config.
        train_source: Training split.
        eval_source: Evaluation split.
        parallel: The devices, and how steps run on them.
        from_checkpoint: As in `prepare`.

    Returns:
        The run, with the initial state on the devices.

    Raises:
        ValueError: If the value of a field is not possible for these splits. The message names the
            field.
    """
    model = make_model(config, train_source.num_classes)
    frozen = FrozenSubmodules(model, config.freeze) if config.freeze else None

    task = TASKS[find_dataset(config.dataset).task]
    epochs = Epochs(len(train_source), config.batch_size, config.epochs)
    normalize_images = partial(
        normalize, mean=train_source.mean, std=train_source.std, dtype=DTYPES[config.dtype]
    )
    augment = make_training_examples(config, train_source, epochs, normalize_images, AXIS)

    schedule = _make_schedule(config, epochs)
    optimizer = _make_optimizer(config, schedule, frozen)

    state, new_head = _initial_state(config, model, optimizer, train_source, from_checkpoint)
    check_output_shape(config, model, state.variables, train_source)
    if frozen:
        frozen.check(state.variables)

    train_step = make_train_step(
        frozen or model,
        optimizer,
        schedule,
        augment,
        AXIS,
        task.accuracy,
        accumulation=config.accumulation,
        ema_decay=config.ema_decay,
    )
    eval_step = make_eval_step(model, normalize_images, AXIS)
    recalibration_step = None
    if config.recalibration_batches:
        recalibration_step = parallel.eval_step(make_recalibration_step(model, augment, AXIS))

    return Run(
        config=config,
        task=task,
        parallel=parallel,
        state=parallel.replicate(state),
        train_step=parallel.train_step(train_step),
        eval_step=parallel.eval_step(eval_step),
        recalibration_step=recalibration_step,
        predict=_make_predict(model, normalize_images),
        train_source=train_source,
        eval_source=eval_source,
        epochs=epochs,
        new_head=tuple(new_head),
    )


def _make_schedule(config: ConfigDict, epochs: Epochs) -> Schedule:
    return create_schedule(
        config.schedule,
        config.learning_rate,
        warmup_steps=epochs.steps(config.warmup_epochs),
        total_steps=epochs.total_steps,
        decay_steps=[epochs.steps(epoch) for epoch in config.decay_epochs],
        decay_factor=config.decay_factor,
    )


def _make_optimizer(
    config: ConfigDict, schedule: Schedule, frozen: FrozenSubmodules | None
) -> Optimizer:
    optimizer = create_optimizer(
        config.optimizer,
        schedule,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        weight_decay_mask=config.weight_decay_mask,
        clip_norm=config.clip_norm,
    )
    return frozen.zero_updates(optimizer) if frozen else optimizer


def _initial_state(
    config: ConfigDict,
    model: nn.Module,
    optimizer: Optimizer,
    source: Source,
    from_checkpoint: bool,
) -> tuple[TrainState, list[str]]:
    """Return the state before the first step, and the names of `Run.new_head`."""
    state = make_state(
        model,
        optimizer,
        config.seed,
        source.image_shape,
        ema=config.ema_decay > 0,
        loss_scale=config.dtype == "float16",
    )
    if not config.init_from or from_checkpoint:
        return state, []
    variables, new_head = initialize_from(config.init_from, state.variables)
    return with_variables(state, variables), new_head


def _make_predict(
    model: nn.Module, normalize_images: Callable[[Array], Array]
) -> Callable[[TrainState, np.ndarray], Array]:
    @jax.jit
    def predict(state: TrainState, images: Array) -> Array:
        logits = cast(Array, model.apply(state.eval_variables, normalize_images(images)))
        return jnp.argmax(logits, axis=-1)

    return predict
