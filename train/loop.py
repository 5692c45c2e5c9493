"""The training loop."""

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

from aff_jax.inspection import count_parameters
from train.checkpoints.manager import Checkpoints
from train.checkpoints.reading import checkpoint_steps
from train.data.batch import Batch
from train.data.feed_timeout import FeedError, TimeoutFeed
from train.data.pipeline import make_train_feed
from train.eval_loop import evaluate, predict_first, recalibrate
from train.reporting.config_file import read_config
from train.reporting.extension import extend_workdir
from train.reporting.run_report import RunReport
from train.reporting.step_metrics import StepMetrics, raise_non_finite
from train.reporting.workdir import (
    claim_workdir,
    lock_workdir,
    require_same_config,
    require_shared,
)
from train.runtime.distributed import gather_from_processes, is_primary_process
from train.runtime.preemption import Stopped, StopSignals
from train.runtime.profiling import Profile
from train.setup import Run, prepare
from train.steps.parallel import check_batch_size
from train.steps.state import TrainState, all_finite

__all__ = ["train"]


def train(
    config: ConfigDict,
    workdir: Path,
    console: Console,
    profile: Profile | None = None,
    *,
    extend: bool = False,
) -> dict[str, Any]:
    """Train a run from the last checkpoint in its workdir, or from the start, to the end.

    All processes of a run call this function. Only the primary process prints.

    Args:
        config: The config.
        workdir: Directory of the run.
        console: Console of the primary process.
        profile: Steps to trace; None for no trace.
        extend: Whether to train the run in the workdir for longer, with the fields of the config
            that `train.reporting.extension.EXTENDABLE_FIELDS` lists.

    Returns:
        The contents of summary.json.

    Raises:
        ValueError: If a field of the config has a value that is not possible, or the workdir
            belongs to another run.
        FileNotFoundError: If the dataset is not prepared.
        OSError: If a file could not be written. The last checkpoint remains.
        NonFiniteError: If losses or gradients were not finite. The last checkpoint remains.
        FeedError: If the examples can't be read any more. The last checkpoint remains.
        Stopped: If Ctrl-C, SIGTERM or a similar signal was received. The state was saved.
    """
    if not is_primary_process():
        console = Console(quiet=True)
    with StopSignals(console) as signals:
        require_same_config(config)
        checkpoint_directory = workdir / "checkpoints"
        run = prepare(config, from_checkpoint=bool(checkpoint_steps(checkpoint_directory)))
        check_batch_size(config.batch_size, len(run.parallel.devices), config.accumulation)
        feed = make_train_feed(config, run.train_source, run.parallel)
        if extend:
            read_config(workdir)  # raises if there is no run
        else:
            claim_workdir(workdir, config)
        require_shared(workdir)
        with (
            lock_workdir(workdir),
            TimeoutFeed[Batch](feed, config.data_timeout_seconds) as batches,
            Checkpoints(
                checkpoint_directory,
                keep_last=config.keep_checkpoints,
                best_metric=f"eval_{run.task.score}",
                warn=partial(console.print, markup=False, highlight=False, soft_wrap=True),
            ) as checkpoints,
        ):
            total_steps = run.epochs.total_steps
            extended = extend and extend_workdir(
                workdir, config, checkpoints.latest_step or 0, total_steps
            )
            state, step, evaluated = _restore(run, batches, checkpoints)
            with RunReport(
                workdir, start_step=step, total_steps=total_steps, console=console
            ) as report:
                if step >= total_steps and evaluated:
                    report.log(f"This run was complete at step {step}; evaluating it again.")
                    report.log("To train it for longer, add --extend and a larger --config.epochs.")
                elif extended:
                    report.log(f"Extending the run from step {step} to {total_steps}.")
                elif step:
                    report.log(f"Resuming from step {step} of {total_steps}.")
                elif run.new_head:
                    names = ", ".join(run.new_head)
                    report.log(f"Newly initialized, since the file has other shapes: {names}.")
                report.log(f"Running on {run.parallel.describe()}.")
                if warning := run.epochs.warning:
                    report.log(warning)
                loop = _TrainingLoop(run, batches, checkpoints, report, signals, profile)
                return loop.run_to_end(state, step, evaluated)


def _restore(
    run: Run, batches: TimeoutFeed[Batch], checkpoints: Checkpoints
) -> tuple[TrainState, int, bool]:
    """Return the state to start from, its step, and whether it was evaluated."""
    if checkpoints.latest_step is None:
        return run.state, 0, False
    template = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
        run.state,
    )
    # The devices may not have the memory for the initial state and the restored one.
    for leaf in jax.tree.leaves(run.state):
        leaf.delete()
    restored = checkpoints.restore(template)
    assert restored is not None  # a checkpoint exists: it was read, or an error was raised
    batches.set_state(restored.feed_state)
    return restored.state, restored.step, bool(restored.metrics)


class _TrainingLoop:
    """The training loop of a run, with its evaluations, logs and checkpoints."""

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
        self.metrics = StepMetrics(run.config.batch_size, run.config.max_skipped_steps)
        self.saved_at = time.monotonic()
        self.evaluation: dict[str, float] | None = None
        self.confusion = np.zeros((), np.int64)

    def run_to_end(self, state: TrainState, step: int, evaluated: bool) -> dict[str, Any]:
        """Take the remaining steps, and return the contents of summary.json."""
        self.state, self.step = state, step
        if step and not evaluated and self._evaluation_is_due():
            # The last process was stopped during this evaluation.
            self._evaluate_and_log()
            self.checkpoints.add_metrics(step, self._eval_metrics())
        try:
            while self.step < self.run.epochs.total_steps:
                self._stop_if_requested()
                self._train_step()
                if self._evaluation_is_due():
                    self._log_metrics()
                    self._check_finite()
                    self._evaluate_and_log()
                    self._save(self._eval_metrics())
                elif self._log_is_due():
                    self._log_metrics()
                    if self._checkpoint_is_due():
                        self._check_finite()
                        self._save({})
        finally:
            if self.profile and self.profile.stop():
                self._log_profile()
        if self.evaluation is None:
            self._evaluate()  # the run was complete before, and its log has this evaluation
        return self._finish()

    def _train_step(self) -> None:
        try:
            batch = next(self.batches)
        except FeedError:
            if self.signals.received:  # it was sent to the worker processes too
                self._stop()
            raise
        if self.profile:
            self.profile.before(self.step + 1, self.report.workdir / "profile", self.state)
        self.state, metrics = self.run.train_step(self.state, batch)
        self.step += 1
        self.report.advance()
        self.metrics.add(metrics)
        if self.profile and self.profile.after(self.step, metrics):
            self._log_profile()

    def _evaluation_is_due(self) -> bool:
        return self.run.epochs.due_after(self.step, self.run.config.eval_every_epochs)

    def _log_is_due(self) -> bool:
        return len(self.metrics) >= self.run.config.log_every_steps

    def _checkpoint_is_due(self) -> bool:
        """Return whether enough time has passed, by the clock of the primary process."""
        seconds = 60 * self.run.config.checkpoint_every_minutes
        due = seconds > 0 and time.monotonic() - self.saved_at >= seconds
        return bool(gather_from_processes(due)[0])

    def _log_metrics(self) -> None:
        # This waits for the devices. Between two logs the host dispatches steps asynchronously.
        if len(self.metrics):
            metrics = self.metrics.compute_and_reset(self.step, self.checkpoints.latest_step)
            self.report.log_train(self.step, metrics)

    def _log_profile(self) -> None:
        self.report.log(f"A trace of the steps is in {self.report.workdir / 'profile'}.")

    def _check_finite(self) -> None:
        # No loss includes the last update yet, so an update that overflows would be saved.
        if not all_finite(self.state):
            raise_non_finite("parameter", math.nan, self.step, self.checkpoints.latest_step)

    def _evaluate_and_log(self) -> None:
        self.state = recalibrate(self.run, self.state, self.batches)
        evaluation = self._evaluate()
        self.report.log_eval(self.step, self.run.epochs.after(self.step), evaluation)

    def _evaluate(self) -> dict[str, float]:
        evaluation, self.confusion = evaluate(
            self.run, self.state, after_batch=self._stop_if_requested
        )
        if not math.isfinite(evaluation["loss"]):
            raise_non_finite(
                "test loss", evaluation["loss"], self.step, self.checkpoints.latest_step
            )
        self.evaluation = evaluation
        return evaluation

    def _eval_metrics(self) -> dict[str, float]:
        """Return the metrics of the last evaluation, with the prefix `eval_`."""
        assert self.evaluation is not None
        return {f"eval_{name}": value for name, value in self.evaluation.items()}

    def _save(self, metrics: Mapping[str, float]) -> None:
        self.checkpoints.save(self.step, self.state, self.batches.get_state(), metrics)
        self.saved_at = time.monotonic()
        self.metrics.restart_clock()

    def _stop_if_requested(self) -> None:
        if self.signals.should_stop():
            self._stop()

    def _stop(self) -> NoReturn:
        """Save the steps since the last checkpoint, and raise `Stopped`."""
        saved = self.checkpoints.latest_step
        if self.step > (saved or 0):
            self._log_metrics()
            self._check_finite()
            self._save({})
            self.report.log(f"Stopped after step {self.step} and saved a checkpoint.")
        elif saved is None:
            self.report.log("Stopped before the first step; there is nothing to save.")
        else:
            self.report.log(f"Stopped after step {self.step}, which has a checkpoint already.")
        if self.step:
            self.report.log("The same command resumes from there.")
        raise Stopped(self.signals.exit_status)

    def _finish(self) -> dict[str, Any]:
        """Write summary.json, and then the plots."""
        summary = self.report.finish(
            {
                **self._eval_metrics(),
                "step": self.step,
                "epochs": self.run.epochs.after(self.step),
                "parameters": count_parameters(self.state.params),
                "devices": self.run.parallel.describe(),
            }
        )
        segments = bool(self.run.eval_source.label_shape)
        self.report.draw(
            self.confusion,
            self.run.train_source.class_names,
            partial(predict_first, self.run, self.state) if segments else None,
        )
        return summary
