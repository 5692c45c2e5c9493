"""Orchestration: trains a run to its end, or until it is told to stop, from where it stands."""

import math
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from train.checkpoints.manager import Checkpoints
from train.data.feed_timeout import TimeoutFeed
from train.data.pipeline import make_train_feed
from train.eval_loop import evaluate, predict_first, recalibrate
from train.reporting.run_report import RunReport
from train.reporting.step_metrics import StepMetrics, raise_non_finite
from train.reporting.workdir import (
    claim_workdir,
    has_checkpoint,
    lock_workdir,
    require_same_config,
    require_shared,
)
from train.runtime.distributed import gather_from_processes, is_primary_process
from train.runtime.preemption import Stopped, StopSignals
from train.runtime.profiling import Profile
from train.setup import Run, prepare
from train.steps.parallel import check_batch_size
from train.steps.state import TrainState, all_finite, count_parameters
from train.steps.step import Batch

__all__ = ["train"]


def train(
    config: ConfigDict, workdir: Path, console: Console, profile: Profile | None = None
) -> dict[str, Any]:
    """Train to the end from where `workdir` stands, and return what summary.json holds.

    All processes of a run call this together; one console speaks.

    Raises:
        ValueError, FileNotFoundError: as `prepare`; or the workdir is another run's.
        OSError: something could not be written; the last checkpoint stays.
        NonFiniteError: losses or gradients were not finite; the last checkpoint stays.
        FeedError: the examples can't be read any more; the last checkpoint stays.
        Stopped: SIGTERM or Ctrl-C came; what was trained is saved.
    """
    if not is_primary_process():
        console = Console(quiet=True)
    with StopSignals(console) as signals:
        require_same_config(config)
        run = prepare(config, from_checkpoint=has_checkpoint(workdir))
        check_batch_size(config.batch_size, len(run.parallel.devices), config.accumulation)
        feed = make_train_feed(config, run.train_source, run.parallel)
        claim_workdir(workdir, config)
        require_shared(workdir)
        with (
            lock_workdir(workdir),
            TimeoutFeed[Batch](feed, config.data_timeout_seconds) as batches,
            Checkpoints(
                workdir / "checkpoints",
                keep_last=config.keep_checkpoints,
                best_metric=f"eval_{run.task.score}",
                warn=partial(console.print, markup=False, highlight=False, soft_wrap=True),
            ) as checkpoints,
        ):
            state, step, evaluated = _restore(run, batches, checkpoints)
            total_steps = run.epochs.total_steps
            with RunReport(
                workdir, start_step=step, total_steps=total_steps, console=console
            ) as report:
                if step >= total_steps and evaluated:
                    report.tell(f"This run was complete at step {step}; evaluating it again.")
                elif step:
                    report.tell(f"Going on from step {step} of {total_steps}.")
                elif run.new_head:
                    report.tell(f"New, and not from the file: {', '.join(run.new_head)}.")
                report.tell(f"On {run.parallel.describe()}.")
                training = _Training(run, batches, checkpoints, report, signals, profile)
                return training.to_the_end(state, step, evaluated)


def _restore(
    run: Run, batches: TimeoutFeed[Batch], checkpoints: Checkpoints
) -> tuple[TrainState, int, bool]:
    """The state to go on with, its step, and whether it was evaluated."""
    if checkpoints.latest_step is None:
        return run.state, 0, False
    template = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
        run.state,
    )
    # The devices are to hold one state, not the initial one as well.
    for leaf in jax.tree.leaves(run.state):
        leaf.delete()
    restored = checkpoints.restore(template)
    assert restored is not None  # there was a checkpoint: it was read, or an error raised
    batches.set_state(restored.feed_state)
    return restored.state, restored.step, bool(restored.metrics)


class _Training:
    """A run under way: its state after `step` steps, and what is told and kept of it."""

    def __init__(
        self,
        run: Run,
        batches: TimeoutFeed[Batch],
        checkpoints: Checkpoints,
        report: RunReport,
        signals: StopSignals,
        profile: Profile | None,
    ) -> None:
        self.run = run
        self.batches = batches
        self.checkpoints = checkpoints
        self.report = report
        self.signals = signals
        self.profile = profile if is_primary_process() else None
        self.window = StepMetrics(run.config.batch_size, run.config.max_skipped_steps)
        self.saved_at = time.monotonic()

    def to_the_end(self, state: TrainState, step: int, evaluated: bool) -> dict[str, Any]:
        """Take the steps that are left; returns what summary.json holds."""
        self.state, self.step = state, step
        evaluation, confusion = None, np.zeros((), np.int64)
        if step and not evaluated and self._evaluation_is_due():
            # The run was stopped in this evaluation.
            self.state = recalibrate(self.run, self.state, self.batches)
            evaluation, confusion = self._evaluate()
            self.checkpoints.add_metrics(step, _named_eval(evaluation))
        try:
            while self.step < self.run.epochs.total_steps:
                if self.signals.reached():
                    self._stop()
                self._take_step()
                if self._evaluation_is_due():
                    self._report_window()
                    self._require_finite()
                    self.state = recalibrate(self.run, self.state, self.batches)
                    evaluation, confusion = self._evaluate()
                    self._save(_named_eval(evaluation))
                elif len(self.window) >= self.run.config.log_every_steps:
                    self._report_window()
                    if self._checkpoint_is_due():
                        self._require_finite()
                        self._save({})
        finally:
            if self.profile and self.profile.stop():
                self._tell_profile()
        if evaluation is None:
            evaluation, confusion = self._evaluate(tell=False)
        return self.report.finish(
            {
                **_named_eval(evaluation),
                "step": self.step,
                "epochs": self.run.epochs.after(self.step),
                "parameters": count_parameters(self.state.params),
                "devices": self.run.parallel.describe(),
            },
            confusion,
            self.run.train_source.class_names,
            predict_first(self.run, self.state) if self.run.eval_source.label_shape else None,
        )

    def _take_step(self) -> None:
        batch = next(self.batches)
        if self.profile:
            self.profile.before(self.step + 1, self.report.workdir / "profile", self.state)
        self.state, metrics = self.run.train_step(self.state, batch)
        self.step += 1
        self.report.advance()
        self.window.add(metrics)
        if self.profile and self.profile.after(self.step, metrics):
            self._tell_profile()

    def _evaluation_is_due(self) -> bool:
        return self.run.epochs.due_after(self.step, self.run.config.eval_every_epochs)

    def _checkpoint_is_due(self) -> bool:
        """Whether enough time has passed; by the clock of the first process."""
        seconds = 60 * self.run.config.checkpoint_every_minutes
        due = seconds > 0 and time.monotonic() - self.saved_at >= seconds
        return bool(gather_from_processes(due)[0])

    def _report_window(self) -> None:
        # Waits for the device; between these moments the host runs ahead of it.
        if len(self.window):
            metrics = self.window.close(self.step, self.checkpoints.latest_step)
            self.report.train(self.step, metrics)

    def _require_finite(self) -> None:
        # The last update is in no loss yet: without this, a step that overflows would be saved.
        if not all_finite(self.state):
            raise_non_finite("parameter", math.nan, self.step, self.checkpoints.latest_step)

    def _evaluate(self, tell: bool = True) -> tuple[dict[str, float], np.ndarray]:
        evaluation, confusion = evaluate(self.run, self.state, after_batch=self._stop_if_told)
        if not math.isfinite(evaluation["loss"]):
            raise_non_finite(
                "test loss", evaluation["loss"], self.step, self.checkpoints.latest_step
            )
        if tell:
            self.report.evaluation(self.step, self.run.epochs.after(self.step), evaluation)
        return evaluation, confusion

    def _save(self, metrics: Mapping[str, float]) -> None:
        self.checkpoints.save(self.step, self.state, self.batches.get_state(), metrics)
        self.saved_at = time.monotonic()
        self.window.restart_clock()

    def _stop_if_told(self) -> None:
        if self.signals.reached():
            self._stop()

    def _stop(self) -> NoReturn:
        """Save what was trained since the last checkpoint, and end the run: `Stopped`."""
        saved = self.checkpoints.latest_step
        if self.step > (saved or 0):
            self._report_window()
            self._require_finite()
            self._save({})
            self.report.tell(f"Stopped after step {self.step}, and saved it.")
        elif saved is None:
            self.report.tell("Stopped before the first step; there is nothing to save.")
        else:
            self.report.tell(f"Stopped after step {self.step}, whose checkpoint is there already.")
        if self.step:
            self.report.tell("The same command goes on from there.")
        raise Stopped(self.signals.status)

    def _tell_profile(self) -> None:
        self.report.tell(f"A trace of the steps is in {self.report.workdir / 'profile'}.")


def _named_eval(evaluation: Mapping[str, float]) -> dict[str, float]:
    """The metrics of an evaluation, under the names they have beside those of training."""
    return {f"eval_{name}": value for name, value in evaluation.items()}
