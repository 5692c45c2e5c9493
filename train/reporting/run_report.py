"""Report a run: metrics.jsonl, TensorBoard files, console output, plots and summary.json."""

import contextlib
import json
import math
import statistics
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aff_jax.images.image_task import ImageTask
from train.reporting.class_scores import ClassScores, class_tags, format_class_scores
from train.reporting.metrics import format_metrics
from train.reporting.picture_file import write_picture
from train.reporting.tensorboard import ScalarWriter
from train.reporting.workdir import METRICS_FILE, SUMMARY_FILE
from train.runtime.distributed import is_primary_process
from train.runtime.writing import explain_write_errors, write_atomically

__all__ = ["CONSOLE_INTERVAL_SECONDS", "RunReport", "read_metric_lines"]

CONSOLE_INTERVAL_SECONDS = 30.0
"""Minimum time between two lines with training metrics in a log file."""


class RunReport:
    """Context manager that writes the metrics of a run to its workdir and to the console.

    `metrics.jsonl` has one line per event: `{"kind", "step", "seconds", ...}`. The kinds are
    "train" and "eval", and at the end "classes", with the scores of each class, and "test", if
    there is a test split besides the validation split.
    The seconds are the wall time of the run up to the event, over all its restarts. A run that
    resumes from step `start_step` deletes the later lines first, since it writes them again.

    Only the primary process writes files. The other processes pass a quiet console.

    Args:
        workdir: Directory of the run.
        start_step: Step from which the run starts or resumes.
        total_steps: Number of steps of the whole run.
        console: Where to print.
        eval_name: Name of the evaluation split.

    Raises:
        OSError: If a file could not be written. The message has its path and the free disk space.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        start_step: int,
        total_steps: int,
        console: Console,
        eval_name: str = "test",
    ):
        self.workdir = workdir
        self.eval_name = eval_name
        self.console = console
        self._total_steps = total_steps
        self._started = time.perf_counter()
        self._last_line: tuple[float, int] | None = None  # time and step
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[status]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(
            "train", total=total_steps, completed=start_step, status=""
        )
        self._seconds_before = 0.0
        if not is_primary_process():
            return
        kept = [line for line in read_metric_lines(workdir) if line["step"] <= start_step]
        write_atomically(workdir / METRICS_FILE, "".join(json.dumps(line) + "\n" for line in kept))
        self._seconds_before = kept[-1]["seconds"] if kept else 0.0
        with explain_write_errors(workdir / METRICS_FILE):
            self._metrics = (workdir / METRICS_FILE).open("a", buffering=1)
        with explain_write_errors(workdir / "tensorboard"):
            self._events = ScalarWriter(workdir / "tensorboard", purge_step=start_step + 1)

    def __enter__(self) -> "RunReport":
        self._progress.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._progress.stop()
        if is_primary_process():
            # If an error is being raised already, it has probably reported the full disk.
            with contextlib.suppress(*([OSError] if error else [])):
                try:
                    with explain_write_errors(self.workdir / METRICS_FILE):
                        self._metrics.close()
                finally:
                    with explain_write_errors(self.workdir / "tensorboard"):
                        self._events.close()

    @property
    def seconds(self) -> float:
        """Return the wall time of this run so far in seconds, over all its restarts."""
        return self._seconds_before + time.perf_counter() - self._started

    def advance(self) -> None:
        """Advance the progress bar by one step."""
        self._progress.advance(self._task)

    def log(self, text: str) -> None:
        """Print a line to the console.

        Args:
            text: The line, which is not parsed as markup of rich.
        """
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def log_train(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of the training steps since the last call.

        Args:
            step: The last of these steps.
            metrics: Metrics by name, from `StepMetrics.compute_and_reset`.
        """
        self._write("train", step, metrics)
        status = format_metrics(metrics)
        if "examples_per_second" in metrics:
            status += f"  {metrics['examples_per_second']:,.0f} images/s"
        self._progress.update(self._task, status=status)
        if not self.console.is_terminal:
            self._log_occasionally(step, status)

    def log_eval(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an evaluation.

        Args:
            step: Number of steps before the evaluation.
            epoch: Number of epochs before the evaluation.
            metrics: Metrics by name, without the prefix `eval_`.
        """
        self._write("eval", step, metrics)
        self.log(
            f"epoch {epoch:6.1f}  step {step:6d}  {format_metrics(metrics, f'{self.eval_name} ')}  "
            f"{self.seconds:.0f} s"
        )

    def log_test(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of the best checkpoint on the test split.

        Args:
            step: Step of the best checkpoint.
            metrics: Metrics by name, without the prefix `test_`.
        """
        if is_primary_process() and not self._has_line("test", step):
            self._write("test", step, metrics)
        self.log(f"test split, best checkpoint (step {step}): {format_metrics(metrics, 'test ')}")

    def log_classes(self, step: int, scores: ClassScores) -> None:
        """Log the scores of each class: to the files, and to the console as a table.

        Args:
            step: Number of steps before the evaluation.
            scores: Scores on the evaluation split.
        """
        if is_primary_process() and not self._has_line("classes", step):
            self._write_line("classes", step, {"classes": scores})
            with explain_write_errors(self.workdir / "tensorboard"):
                for tag, values in zip(class_tags([*scores]), scores.values(), strict=True):
                    for name, value in values.items():
                        if value is not None and name != "labels":
                            self._events.add(f"class_{name}/{tag}", value, step)
                self._events.flush()
        self.log(f"Scores of each class on the {self.eval_name} split after step {step}:")
        for line in format_class_scores(scores, SUMMARY_FILE):
            self.log(line)

    def finish(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Write summary.json.

        Args:
            summary: Contents of summary.json, to which the speed and the wall time are added.

        Returns:
            The contents of summary.json.
        """
        if not is_primary_process():
            return {**summary, "examples_per_second": None, "wall_seconds": self.seconds}
        lines = read_metric_lines(self.workdir)
        speeds = [line["examples_per_second"] for line in lines if "examples_per_second" in line]
        full = {
            **summary,
            "examples_per_second": statistics.median(speeds) if speeds else None,
            "wall_seconds": lines[-1]["seconds"] if lines else self.seconds,
        }
        text = json.dumps(full, indent=2, allow_nan=False) + "\n"
        write_atomically(self.workdir / SUMMARY_FILE, text)
        return full

    def draw(
        self,
        confusion: np.ndarray,
        task: ImageTask,
        examples: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    ) -> None:
        """Draw the plots. A plot that cannot be drawn is logged.

        Args:
            confusion: Confusion matrix of the last evaluation, (classes, classes).
            task: The classes and their colors.
            examples: Images, labels and predictions, to draw next to each other.
        """
        if not is_primary_process():
            return

        # matplotlib takes long to import.
        def draw_curves(file: Path) -> None:
            from train.reporting import plots

            plots.draw_curves(read_metric_lines(self.workdir), file, self.eval_name)

        def draw_confusion(file: Path) -> None:
            from train.reporting import plots

            plots.draw_confusion(confusion, task.class_names, file)

        def draw_examples(file: Path) -> None:
            assert examples is not None
            from train.reporting import plots

            segments = examples[1].ndim == 3
            draw = plots.draw_predictions if segments else plots.draw_classified
            draw(*examples, task, file)

        write_picture(self.workdir / "curves.png", draw_curves, self.log)
        write_picture(self.workdir / "confusion.png", draw_confusion, self.log)
        if examples:
            write_picture(self.workdir / "predictions.png", draw_examples, self.log)

    def _write(self, kind: str, step: int, metrics: Mapping[str, float]) -> None:
        if not is_primary_process():
            return
        self._write_line(kind, step, metrics)
        with explain_write_errors(self.workdir / "tensorboard"):
            for name, value in metrics.items():
                if math.isfinite(value):
                    self._events.add(f"{kind}/{name}", value, step)
            self._events.flush()

    def _write_line(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        line = {"kind": kind, "step": step, "seconds": round(self.seconds, 3), **values}
        with explain_write_errors(self.workdir / METRICS_FILE):
            self._metrics.write(json.dumps(line, allow_nan=False) + "\n")

    def _has_line(self, kind: str, step: int) -> bool:
        """Return whether an earlier start has logged this, as for a run that was complete."""
        return any((x["kind"], x["step"]) == (kind, step) for x in read_metric_lines(self.workdir))

    def _log_occasionally(self, step: int, status: str) -> None:
        """Print a line for readers of a log file, at most every `CONSOLE_INTERVAL_SECONDS`."""
        now = time.perf_counter()
        if self._last_line is not None:
            last_time, last_step = self._last_line
            if now - last_time < CONSOLE_INTERVAL_SECONDS:
                return
            steps_per_second = (step - last_step) / (now - last_time)
            left = timedelta(seconds=round((self._total_steps - step) / steps_per_second))
            status += f"  {left} left"
        self._last_line = now, step
        self.log(f"step {step:6d} of {self._total_steps}  {status}")


def read_metric_lines(workdir: Path) -> list[dict[str, Any]]:
    """Read the metrics that a run has logged.

    Args:
        workdir: Directory of the run.

    Returns:
        The lines of metrics.jsonl, without a last line that a kill has truncated. It is empty if
        the file does not exist.
    """
    path = workdir / METRICS_FILE
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
