"""The steps of a run, with its evaluations, logs and checkpoints."""

import math
import textwrap
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import jax
import numpy as np

from aff_jax.inspection import count_parameters
from train.checkpoints.manager import Checkpoints
from train.data.batch import Batch
from train.data.feed_timeout import FeedError, TimeoutFeed
from train.eval_loop import Examples, evaluate, predict_some, recalibrate
from train.reporting.class_scores import class_scores
from train.reporting.run_report import RunReport
from train.reporting.run_start import describe_time
from train.reporting.step_metrics import NonFiniteError, StepMetrics, raise_non_finite
from train.runtime.distributed import gather_from_processes, is_primary_process
from train.runtime.preemption import Stopped, StopSignals
from train.runtime.profiling import Profile
from train.setup import Run
from train.steps.state import TrainState, all_finite

__all__ = ["TrainingLoop"]


class TrainingLoop:
    """The training loop of a run, with its evaluations, logs and checkpoints.

    Args:
        run: The run.
        feed: The training feed.
        checkpoints: The checkpoints of the run.
        report: Where metrics and messages go.
        signals: The signals that stop the run.
        profile: Steps to trace; None for no trace.
    """

    def __init__(
        self,
        run: Run,
        feed: TimeoutFeed[Batch],
        checkpoints: Checkpoints,
        report: RunReport,
        signals: StopSignals,
        profile: Profile | None,
    ) -> None:
        self.run = run
        self.feed = feed
        self.checkpoints = checkpoints
        self.report = report
        self.signals = signals
        self.profile = profile if is_primary_process() else None
        self.metrics = StepMetrics(run.config.batch_size, run.config.max_skipped_steps)
        self.saved_at = time.monotonic()
        self.eval_metrics: dict[str, float] | None = None
        self.confusion = np.zeros((), np.int64)
        self.examples: Examples | None = None
        self.described_time = False

    def run_to_end(self, state: TrainState, step: int, evaluated: bool) -> dict[str, Any]:
        """Take the remaining steps.

        Args:
            state: The state to start from.
            step: Number of steps that were taken.
            evaluated: Whether the state was evaluated.

        Returns:
            The contents of summary.json.

        Raises:
            NonFiniteError: If losses or gradients were not finite. The last checkpoint remains.
            FeedError: If the examples cannot be read any more. The last checkpoint remains.
            Stopped: If a signal was received. The state was saved.
        """
        try:
            return self._train_and_evaluate(state, step, evaluated)
        except (Stopped, FeedError, NonFiniteError):
            # Draw only what the last evaluation has computed, so that a run that is about to be
            # killed ends soon.
            if self.eval_metrics is not None:
                self._draw()
            raise

    def _train_and_evaluate(self, state: TrainState, step: int, evaluated: bool) -> dict[str, Any]:
        """Train, evaluate, log and save until the last step."""
        self.state, self.step = state, step
        if step and not evaluated and self._evaluation_is_due():
            # The run was stopped during the evaluation of this step, so its metrics are missing.
            self._evaluate_and_log()
            self.checkpoints.add_metrics(step, self._prefixed_metrics())
        try:
            while self.step < self.run.epochs.total_steps:
                self._stop_if_requested()
                self._train_step()
                if self._evaluation_is_due():
                    self._log_metrics()
                    self._check_finite()
                    self._evaluate_and_log()
                    self._save(self._prefixed_metrics())
                elif self._log_is_due():
                    self._log_metrics()
                    if self._checkpoint_is_due():
                        self._check_finite()
                        self._save({})
        finally:
            if self.profile and self.profile.stop():
                self._log_profile()
        if self.eval_metrics is None:
            self._evaluate()  # the run was complete before, and its log has this evaluation
        return self._finish()

    def _train_step(self) -> None:
        """Run one training step and add its metrics."""
        try:
            batch = next(self.feed)
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
        """Log the mean of the metrics since the last log."""
        # This waits for the devices. Between two logs, steps are dispatched asynchronously.
        if len(self.metrics):
            metrics = self.metrics.compute_and_reset(self.step, self.checkpoints.latest_step)
            self.report.log_train(self.step, metrics)
            steps = self.run.epochs.total_steps - self.step
            if "examples_per_second" in metrics and steps and not self.described_time:
                self.described_time = True
                speed = metrics["examples_per_second"]
                self.report.log(describe_time(steps, self.run.config.batch_size, speed))

    def _log_profile(self) -> None:
        self.report.log(f"A trace of the steps is in {self.report.workdir / 'profile'}.")

    def _check_finite(self) -> None:
        # No loss includes the last update yet, so an update that overflows would be saved.
        if not all_finite(self.state):
            raise_non_finite("parameter", math.nan, self.step, self.checkpoints.latest_step)

    def _evaluate_and_log(self) -> None:
        self.state = recalibrate(self.run, self.state, self.feed)
        metrics = self._evaluate()
        self.report.log_eval(self.step, self.run.epochs.after(self.step), metrics)

    def _evaluate(self) -> dict[str, float]:
        metrics, confusion = evaluate(self.run, self.state, after_batch=self._stop_if_requested)
        self._check_loss(self.run.eval_name, metrics)
        self.eval_metrics, self.confusion = metrics, confusion
        self._predict_some()
        return metrics

    def _check_loss(self, split: str, metrics: Mapping[str, float]) -> None:
        if not math.isfinite(metrics["loss"]):
            latest = self.checkpoints.latest_step
            raise_non_finite(f"{split} loss", metrics["loss"], self.step, latest)

    def _predict_some(self) -> None:
        """Predict the examples that are drawn. All processes do, since they share the state."""
        try:
            self.examples = predict_some(self.run, self.state)
        except Exception as error:  # no picture is worth the results of a run
            self.examples = None
            reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
            self.report.log(f"Could not predict the examples of predictions.png: {reason}")

    def _evaluate_test(self) -> dict[str, float]:
        """Evaluate the best checkpoint on the test split, and return its metrics."""
        state, step = self.state, self.step
        if self.checkpoints.best_step != self.step:
            # The devices may not have the memory for two states.
            template = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
            )
            for leaf in jax.tree.leaves(state):
                leaf.delete()
            restored = self.checkpoints.restore_best(template)
            assert restored is not None  # the last step was evaluated
            state, step = restored.state, restored.step
        self.state = state
        test, _ = evaluate(self.run, state, self._stop_if_requested, self.run.test_source)
        self._check_loss("test", test)
        self.report.log_test(step, test)
        return {**{f"test_{name}": value for name, value in test.items()}, "test_step": step}

    def _prefixed_metrics(self) -> dict[str, float]:
        """Return the metrics of the last evaluation, with the prefix `eval_`."""
        assert self.eval_metrics is not None
        return {f"eval_{name}": value for name, value in self.eval_metrics.items()}

    def _save(self, metrics: Mapping[str, float]) -> None:
        self.checkpoints.save(self.step, self.state, self.feed.get_state(), metrics)
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
        names = self.run.train_source.class_names
        classes = class_scores(self.confusion, names, self.run.task_metrics.class_metrics)
        self.report.log_classes(self.step, classes)
        evaluations = self._prefixed_metrics()
        if self.run.test_source is not None:
            evaluations |= self._evaluate_test()
        summary = self.report.finish(
            {
                **evaluations,
                "step": self.step,
                "epochs": self.run.epochs.after(self.step),
                "parameters": count_parameters(self.state.params),
                "devices": self.run.parallel.describe(),
                "evaluated_split": self.run.eval_name,
                "classes": classes,
            }
        )
        self._draw()
        return summary

    def _draw(self) -> None:
        self.report.draw(self.confusion, self.run.train_source.image_task, self.examples)
