"""Turn a config into a run: network, data, optimizer, state and compiled steps."""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import optax
from ml_collections import ConfigDict

from aff_jax.lookup import look_up, unknown_name
from train.config_checks import check_config
from train.data.epochs import Epochs
from train.data.pipeline import (
    make_augment,
    open_split,
    open_splits,
    split_names,
)
from train.data.sources.data_source import Source
from train.evaluation import Evaluation, make_evaluation, make_normalize
from train.model import check_output_shape, make_model
from train.optim.frozen_submodules import FrozenSubmodules
from train.optim.optimizers import create_optimizer
from train.optim.pretrained import initialize_from, initialize_part_from
from train.optim.schedules import create_schedule
from train.steps.losses import CLASS_WEIGHTS, LOSSES, TrainingLoss, balanced_weights
from train.steps.parallel import AXIS, PARALLEL, Parallel
from train.steps.precision import DTYPES
from train.steps.recalibration import RecalibrationStep, make_recalibration_step
from train.steps.state import TrainState, make_state, with_variables
from train.steps.train_step import TrainStep, make_train_step

__all__ = ["Run", "make_run", "make_run_from_splits"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Evaluation):
    """Everything that a config describes, ready to start.

    Attributes:
        state: The initial state, replicated.
        train_step: Training step on all devices.
        recalibration_step: Step that recomputes running statistics, or None if the config has no
            `recalibration_batches`.
        train_source: Training split.
        epochs: Conversion between epochs and steps.
        init_report: Lines that say what `init_from` has initialized, where it is not everything.
        test_source: Test split, if it is another one than the evaluation split.
        splits_note: Which split chooses the best checkpoint, and which one is the test.
        eval_name: Name of the evaluation split: "validation" or "test".
    """

    state: TrainState
    train_step: TrainStep
    recalibration_step: RecalibrationStep | None
    train_source: Source
    epochs: Epochs
    init_report: tuple[str, ...]
    test_source: Source | None = None
    splits_note: str = ""
    eval_name: str = "test"


def make_run(
    config: ConfigDict,
    devices: Sequence[jax.Device] | None = None,
    *,
    from_checkpoint: bool = False,
) -> Run:
    """Check a config and make its run.

    Nothing is written, except by datasets that are prepared when they are first opened.

    Args:
        config: The config.
        devices: The devices; all devices of all processes by default.
        from_checkpoint: Whether a checkpoint will replace the state, so that `init_from` is not
            read.

    Returns:
        The run, with the initial state on the devices.

    Raises:
        ValueError: If the value of a field is invalid. The message names the field.
        FileNotFoundError: If the dataset is not prepared.
    """
    check_config(config)
    parallel = look_up(PARALLEL, "parallel", config.parallel)(devices)
    look_up(DTYPES, "dtype", config.dtype)  # checked first, since opening the splits may take long
    run = make_run_from_splits(
        config, *open_splits(config), parallel, from_checkpoint=from_checkpoint
    )
    names = split_names(config)
    return dataclasses.replace(
        run,
        test_source=open_split(config, names.test) if names.test else None,
        splits_note=names.note,
        eval_name=names.evaluation,
    )


def make_run_from_splits(
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
        from_checkpoint: As in `make_run`.

    Returns:
        The run, with the initial state on the devices.

    Raises:
        ValueError: If the value of a field is invalid for these splits. The message names the
            field.
    """
    model = make_model(config, train_source.num_classes)
    frozen = FrozenSubmodules(model, config.frozen_submodules) if config.frozen_submodules else None

    evaluation = make_evaluation(config, model, train_source.image_task, eval_source, parallel)
    epochs = Epochs(len(train_source), config.batch_size, config.epochs)
    normalize_images = make_normalize(config, train_source.image_task)
    augment = make_augment(config, train_source, epochs, normalize_images, AXIS)

    schedule = _make_schedule(config, epochs)
    optimizer = _make_optimizer(config, schedule, frozen)

    loss_function = _make_loss(config, train_source)
    state, init_report = _initial_state(config, model, optimizer, train_source, from_checkpoint)
    check_output_shape(config, model, state.variables, train_source)
    if frozen:
        frozen.check(state.variables)

    train_step = make_train_step(
        frozen or model,
        optimizer,
        schedule,
        augment,
        AXIS,
        evaluation.task_metrics.accuracy_name,
        loss_function=loss_function,
        accumulation=config.accumulation,
        ema_decay=config.ema_decay,
    )
    recalibration_step = None
    if config.recalibration_batches:
        recalibration_step = parallel.compile(make_recalibration_step(model, augment, AXIS))

    return Run(
        **vars(evaluation),
        state=parallel.replicate(state),
        train_step=parallel.compile(train_step, donate_state=True),
        recalibration_step=recalibration_step,
        train_source=train_source,
        epochs=epochs,
        init_report=tuple(init_report),
    )


def _make_schedule(config: ConfigDict, epochs: Epochs) -> optax.Schedule:
    return create_schedule(
        config.schedule,
        config.learning_rate,
        warmup_steps=epochs.steps(config.warmup_epochs),
        total_steps=epochs.total_steps,
        decay_steps=[epochs.steps(epoch) for epoch in config.decay_epochs],
        decay_factor=config.decay_factor,
    )


def _make_optimizer(
    config: ConfigDict, schedule: optax.Schedule, frozen: FrozenSubmodules | None
) -> optax.GradientTransformation:
    """Create the optimizer of a config, which does not update frozen submodules."""
    optimizer = create_optimizer(
        config.optimizer,
        schedule,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        weight_decay_mask=config.weight_decay_mask,
        clip_norm=config.clip_norm,
    )
    return frozen.zero_updates(optimizer) if frozen else optimizer


def _make_loss(config: ConfigDict, source: Source) -> TrainingLoss:
    """Return the loss of training, and raise `ValueError` if the dataset does not support it."""
    if config.class_weights not in CLASS_WEIGHTS:
        raise ValueError(unknown_name("class_weights", config.class_weights, CLASS_WEIGHTS))
    if look_up(LOSSES, "loss", config.loss).dice and not source.label_shape:
        raise ValueError(
            f"expected masks for loss={config.loss!r}, got {config.dataset!r}, which has one "
            f"label per image. For an imbalance of classes set --config.loss=focal or "
            f"--config.class_weights=balanced."
        )
    if not config.class_weights:
        return TrainingLoss(config.loss)
    if source.class_counts is None:
        raise ValueError(
            f"expected a dataset that counts the labels of its classes for class_weights="
            f"{config.class_weights!r}, got {config.dataset!r}, which does not. Set "
            f"--config.loss=focal instead."
        )
    return TrainingLoss(config.loss, balanced_weights(source.class_counts))


def _initial_state(
    config: ConfigDict,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    source: Source,
    from_checkpoint: bool,
) -> tuple[TrainState, list[str]]:
    """Return the state before the first step, and the lines of `Run.init_report`."""
    state = make_state(
        model,
        optimizer,
        config.seed,
        source.image_shape,
        ema=config.ema_decay > 0,
        loss_scale=config.dtype == "float16",
    )
    if config.init_prefix and not config.init_from:
        raise ValueError(
            f"expected a file in init_from for init_prefix={config.init_prefix!r}, got none."
        )
    if not config.init_from or from_checkpoint:
        return state, []
    if config.init_prefix:
        variables, report = initialize_part_from(
            config.init_from, state.variables, config.init_prefix
        )
    else:
        variables, new_head = initialize_from(config.init_from, state.variables)
        names = ", ".join(new_head)
        report = [f"Newly initialized, since the file has other shapes: {names}."] * bool(names)
    return with_variables(state, variables), report
