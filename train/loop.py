"""Orchestration: trains a run to its end from where it stands."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from train.checkpoint import Checkpoints
from train.data.feed import train_feed
from train.evaluation import evaluate, predict_first, recalibrate
from train.report import Report
from train.run import Run, prepare
from train.state import TrainState, all_finite, count_parameters
from train.step import Batch
from train.window import Window, raise_non_finite
from train.workdir import claim_workdir, lock_workdir

__all__ = ["train"]


def train(config: ConfigDict, workdir: Path, console: Console) -> dict[str, Any]:
    """Train to the end from where `workdir` stands, and return what summary.json holds.

    Raises:
        ValueError, FileNotFoundError: as `prepare`; or the workdir is another run's.
        NonFiniteError: losses or gradients were not finite; the last checkpoint stays.
    """
    run = prepare(config)
    total_steps = run.epochs.total_steps
    batches = train_feed(
        run.train_source,
        batch_size=config.batch_size,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
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
                    "epochs": run.epochs.after(total_steps),
                    "parameters": count_parameters(run.state.params),
                },
                confusion,
                run.train_source.class_names,
                predict_first(run, state) if run.eval_source.label_shape else None,
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
    window = Window(run.config.batch_size, run.config.max_skipped_steps)
    while True:
        state, metrics = run.train_step(state, next(batches))
        step += 1
        report.advance()
        window.add(metrics)
        evaluating = run.epochs.due_after(step, run.config.eval_every_epochs)
        if evaluating or len(window) >= run.config.log_every_steps:
            # Waits for the device; between these moments the host runs ahead of it.
            report.train(step, window.close(step, checkpoints.latest_step))
        if evaluating:
            # The last update is in no loss yet: without this, a step that overflows would be saved.
            if not all_finite(state):
                raise_non_finite("parameter", math.nan, step, checkpoints.latest_step)
            state = recalibrate(run, state, batches)
            evaluation, confusion = evaluate(run, state)
            if not math.isfinite(evaluation["loss"]):
                raise_non_finite("test loss", evaluation["loss"], step, checkpoints.latest_step)
            report.evaluation(step, run.epochs.after(step), evaluation)
            checkpoints.save(
                step,
                state,
                batches.get_state(),
                _named_eval(evaluation),
            )
            window.restart_clock()
        if step == total_steps:
            return state, evaluation, confusion


def _named_eval(evaluation: Mapping[str, float]) -> dict[str, float]:
    """The metrics of an evaluation, under the names they have beside those of training."""
    return {f"eval_{name}": value for name, value in evaluation.items()}
