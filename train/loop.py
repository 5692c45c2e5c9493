"""From a config to a trained network: puts the parts together and runs them in order."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict
from rich.console import Console

import aff_jax
from train import parallel
from train.checkpoint import Checkpoints
from train.data.augment import Augmentation, augmentation_key, normalize
from train.data.feed import eval_feed, train_feed
from train.data.source import Source, find_dataset, load_source
from train.optimizer import learning_rate_schedule, make_optimizer
from train.ranges import check_ranges
from train.report import Report
from train.state import TrainState, all_finite, count_parameters, create_state
from train.step import Batch, EvalStep, TrainStep, make_eval_step, make_train_step
from train.tasks import TASKS, Task
from train.window import Window, raise_non_finite
from train.workdir import claim_workdir, lock_workdir

__all__ = ["Run", "evaluate", "make_model", "prepare", "train"]


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

    def steps(self, epochs: float) -> int:
        """That many passes over the training examples in steps, rounded, at least one."""
        return max(1, round(epochs * len(self.train_source) / self.config.batch_size))

    def epoch(self, step: int) -> float:
        """Passes over the training examples after that many steps."""
        return step * self.config.batch_size / len(self.train_source)

    def evaluates_after(self, step: int) -> bool:
        """Whether an evaluation and a checkpoint are due: every so many epochs, and at the end."""
        every = self.config.eval_every_epochs
        nearest = max(1, round(self.epoch(step) / every))
        return step in (self.steps(nearest * every), self.steps(self.config.epochs))


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

    steps_per_epoch = len(train_source) / config.batch_size
    schedule = learning_rate_schedule(
        config.schedule,
        config.learning_rate,
        warmup_steps=round(config.warmup_epochs * steps_per_epoch),
        total_steps=max(1, round(config.epochs * steps_per_epoch)),
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


def train(config: ConfigDict, workdir: Path, console: Console) -> dict[str, Any]:
    """Train to the end from where `workdir` stands, and return what summary.json holds.

    Raises:
        ValueError, FileNotFoundError: as `prepare`; or the workdir is another run's.
        NonFiniteError: the loss or the gradient was not finite; the last checkpoint stays.
    """
    run = prepare(config)
    total_steps = run.steps(config.epochs)
    batches = train_feed(
        run.train_source, batch_size=config.batch_size, seed=config.seed, **_process()
    )
    claim_workdir(workdir, config)
    with lock_workdir(workdir):
        return _train(run, workdir, batches, total_steps, console)


def _train(
    run: Run,
    workdir: Path,
    batches: grain.DatasetIterator[Batch],
    total_steps: int,
    console: Console,
) -> dict[str, Any]:
    config = run.config
    warn = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    with Checkpoints(
        workdir / "checkpoints",
        keep_last=config.keep_checkpoints,
        best_metric=f"eval_{run.task.score}",
        warn=warn,
    ) as checkpoints:
        state, step = run.state, 0
        restored = checkpoints.restore(state)
        if restored is not None:
            state, step = restored.state, restored.step
            batches.set_state(restored.feed_state)
        with Report(workdir, start_step=step, total_steps=total_steps, console=console) as report:
            if step >= total_steps:
                console.print(f"This run was complete at step {step}; evaluating it again.")
            elif step:
                console.print(f"Going on from step {step} of {total_steps}.")
            if step < total_steps:
                state, evaluation, confusion = _train_steps(
                    run, state, step, total_steps, batches, checkpoints, report
                )
            else:
                evaluation, confusion = evaluate(run, state)
            return report.finish(
                {
                    **_named_eval(evaluation),
                    "step": total_steps,
                    "epochs": run.epoch(total_steps),
                    "parameters": count_parameters(run.state.params),
                },
                confusion,
                run.train_source.class_names,
                _examples(run, state) if run.eval_source.label_shape else None,
            )


def _train_steps(
    run: Run,
    state: TrainState,
    step: int,
    total_steps: int,
    batches: grain.DatasetIterator[Batch],
    checkpoints: Checkpoints,
    report: Report,
) -> tuple[TrainState, dict[str, float], np.ndarray]:
    """Take the steps that are left; returns the last state and what its evaluation found."""
    window = Window(run.config.batch_size)
    while True:
        state, metrics = run.train_step(state, next(batches))
        step += 1
        report.advance()
        window.add(metrics)
        evaluating = run.evaluates_after(step)
        if evaluating or len(window) >= run.config.log_every_steps:
            # Waits for the device; between these moments the host runs ahead of it.
            report.train(step, window.close(step, checkpoints.latest_step))
        if evaluating:
            # The last update is in no loss yet: without this, a step that overflows would be saved.
            if not all_finite(state):
                raise_non_finite("parameter", math.nan, step, checkpoints.latest_step)
            evaluation, confusion = evaluate(run, state)
            if not math.isfinite(evaluation["loss"]):
                raise_non_finite("test loss", evaluation["loss"], step, checkpoints.latest_step)
            report.evaluation(step, run.epoch(step), evaluation)
            checkpoints.save(
                step,
                state,
                batches.get_state(),
                _named_eval(evaluation),
            )
            window.restart_clock()
        if step == total_steps:
            return state, evaluation, confusion


def evaluate(run: Run, state: TrainState) -> tuple[dict[str, float], np.ndarray]:
    """The task's metrics and the mean `loss` over every example of the evaluation split, once each.

    Also returns the confusion matrix, int64 (classes, classes): rows are labels, columns
    predictions.
    """
    loss, examples, confusion = 0.0, 0, np.zeros((), np.int64)
    for batch in eval_feed(
        run.eval_source,
        batch_size=run.config.eval_batch_size,
        multiple_of=jax.local_device_count(),
        **_process(),
    ):
        sums = jax.device_get(run.eval_step(state, batch))
        loss += float(sums["loss"])
        examples += int(sums["examples"])
        confusion = confusion + sums["confusion"]
    if examples != len(run.eval_source):
        raise RuntimeError(f"evaluated {examples} of {len(run.eval_source)} examples.")
    labels = int(confusion.sum())
    if not labels:
        raise ValueError(
            f"expected labels in the evaluation split of {run.config.dataset!r}, got masks that "
            f"ignore every pixel. Probably they hold 255 in place of class numbers."
        )
    metrics = {name: metric(confusion) for name, metric in run.task.metrics.items()}
    return {**metrics, "loss": loss / labels}, confusion


def _examples(run: Run, state: TrainState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of the first evaluation examples, their labels, and what the network makes of them."""
    examples = [run.eval_source[i] for i in range(min(6, len(run.eval_source)))]
    images, labels = (np.stack([x[name] for x in examples]) for name in ("image", "label"))
    return images, labels, np.asarray(run.predict(state, images))


def _named_eval(evaluation: Mapping[str, float]) -> dict[str, float]:
    """The metrics of an evaluation, under the names they have beside those of training."""
    return {f"eval_{name}": value for name, value in evaluation.items()}


def _process() -> dict[str, int]:
    """Which of the run's processes this is, in the words of the feeds."""
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}
