"""From a config to a trained network: puts the parts together and runs them in order."""

import dataclasses
import math
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import grain
import jax
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
from train.step import Batch, EvalStep, Metrics, TrainStep, make_eval_step, make_train_step
from train.workdir import claim_workdir, lock_workdir

__all__ = ["NonFiniteError", "Run", "prepare", "train"]


class NonFiniteError(RuntimeError):
    """A loss or a gradient that is not finite ended the run."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that a config stands for, ready to start."""

    config: ConfigDict
    state: TrainState
    train_step: TrainStep
    eval_step: EvalStep
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
    norm_axis = parallel.AXIS if config.sync_batch_norm else None
    model = aff_jax.create_model(
        config.model,
        fusion=config.fusion,
        fusion_fields=config.fusion_fields.to_dict(),
        reference=config.reference,
        num_classes=train_source.num_classes,
        norm=partial(aff_jax.BatchNorm, axis_name=norm_axis),
        **config.model_fields,
    )
    normalize_images = partial(normalize, mean=dataset.mean, std=dataset.std)
    augment = Augmentation(crop_padding=config.crop_padding, flip=config.flip)

    def training_images(images: Array, step: Array, first_row: Array) -> Array:
        key = augmentation_key(config.seed, step)
        return normalize_images(augment(key, images, first_row))

    steps_per_epoch = len(train_source) / config.batch_size
    schedule = learning_rate_schedule(
        config.learning_rate,
        warmup_steps=round(config.warmup_epochs * steps_per_epoch),
        total_steps=max(1, round(config.epochs * steps_per_epoch)),
    )
    optimizer = make_optimizer(schedule, momentum=config.momentum, weight_decay=config.weight_decay)
    state = create_state(model, optimizer, config.seed, train_source.image_shape)
    return Run(
        config=config,
        state=parallel.replicate(state),
        train_step=parallel.parallel_train_step(
            make_train_step(model, optimizer, schedule, training_images, parallel.AXIS)
        ),
        eval_step=parallel.parallel_eval_step(
            make_eval_step(model, normalize_images, parallel.AXIS)
        ),
        train_source=train_source,
        eval_source=eval_source,
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
        workdir / "checkpoints", keep_last=config.keep_checkpoints, warn=warn
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
            evaluation, confusion = (
                _train_steps(run, state, step, total_steps, batches, checkpoints, report)
                if step < total_steps
                else evaluate(run, state)
            )
            return report.finish(
                {
                    "eval_accuracy": evaluation["accuracy"],
                    "eval_loss": evaluation["loss"],
                    "step": total_steps,
                    "epochs": run.epoch(total_steps),
                    "parameters": count_parameters(run.state.params),
                },
                confusion,
                run.train_source.class_names,
            )


def _train_steps(
    run: Run,
    state: TrainState,
    step: int,
    total_steps: int,
    batches: grain.DatasetIterator[Batch],
    checkpoints: Checkpoints,
    report: Report,
) -> tuple[dict[str, float], np.ndarray]:
    """Take the steps that are left; returns what the evaluation after the last one found."""
    window = _Window(run.config.batch_size)
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
                _raise_non_finite("parameter", math.nan, step, checkpoints.latest_step)
            evaluation, confusion = evaluate(run, state)
            if not math.isfinite(evaluation["loss"]):
                _raise_non_finite("test loss", evaluation["loss"], step, checkpoints.latest_step)
            report.evaluation(step, run.epoch(step), evaluation)
            checkpoints.save(
                step,
                state,
                batches.get_state(),
                {f"eval_{name}": value for name, value in evaluation.items()},
            )
            window.restart_clock()
        if step == total_steps:
            return evaluation, confusion


def evaluate(run: Run, state: TrainState) -> tuple[dict[str, float], np.ndarray]:
    """Mean `loss` and `accuracy` over every example of the evaluation split, once each.

    Also returns the confusion matrix, int64 (classes, classes): rows are labels, columns
    predictions.
    """
    loss, confusion = 0.0, np.zeros((), np.int64)
    for batch in eval_feed(
        run.eval_source,
        batch_size=run.config.eval_batch_size,
        multiple_of=jax.local_device_count(),
        **_process(),
    ):
        sums = jax.device_get(run.eval_step(state, batch))
        loss += float(sums["loss"])
        confusion = confusion + sums["confusion"]
    count = int(confusion.sum())
    if count != len(run.eval_source):
        raise RuntimeError(f"evaluated {count} of {len(run.eval_source)} examples.")
    return {"loss": loss / count, "accuracy": int(np.trace(confusion)) / count}, confusion


def _process() -> dict[str, int]:
    """Which of the run's processes this is, in the words of the feeds."""
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}


class _Window:
    """Metrics of the steps since the last report, left on the device until it closes."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._metrics: list[Metrics] = []
        self._timed_from: tuple[float, int] | None = None  # when, and after how many steps

    def __len__(self) -> int:
        return len(self._metrics)

    def add(self, metrics: Metrics) -> None:
        self._metrics.append(metrics)
        if self._timed_from is None:
            # The first step compiles; speed is measured from its end.
            jax.block_until_ready(metrics)
            self.restart_clock()

    def restart_clock(self) -> None:
        """Leave out of the speed what happened since the last report."""
        self._timed_from = time.perf_counter(), len(self._metrics)

    def close(self, last_step: int, last_checkpoint: int | None) -> dict[str, float]:
        """Means over the steps, the last learning rate, and `examples_per_second`.

        Raises:
            NonFiniteError: a loss or a gradient was not finite; names the first such step.
        """
        steps: list[Mapping[str, Any]] = jax.device_get(self._metrics)
        for position, metrics in enumerate(steps):
            for name in ("loss", "gradient_norm"):
                if not math.isfinite(metrics[name]):
                    _raise_non_finite(
                        name,
                        float(metrics[name]),
                        last_step - len(steps) + 1 + position,
                        last_checkpoint,
                    )
        means = {name: float(np.mean([m[name] for m in steps])) for name in steps[0]}
        means["learning_rate"] = float(steps[-1]["learning_rate"])
        assert self._timed_from is not None  # set with the first step
        started, untimed = self._timed_from
        if len(steps) > untimed:
            seconds = time.perf_counter() - started
            means["examples_per_second"] = (len(steps) - untimed) * self._batch_size / seconds
        self._metrics.clear()
        self.restart_clock()
        return means


def _raise_non_finite(name: str, value: float, step: int, last_checkpoint: int | None) -> None:
    kept = (
        f"The last good checkpoint is of step {last_checkpoint}"
        if last_checkpoint is not None
        else "There is no checkpoint yet"
    )
    raise NonFiniteError(
        f"expected finite numbers, got a {name.replace('_', ' ')} of {value} at step {step}. "
        f"{kept}; nothing was saved after it. Probably the learning rate is too high: start again "
        f"in a new workdir with a lower --config.learning_rate or a longer "
        f"--config.warmup_epochs."
    )
