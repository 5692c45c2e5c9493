"""Report a run: metrics.jsonl, TensorBoard files, console output, plots and summary.json."""

import contextlib
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from train.reporting.metrics import format_metrics
from train.reporting.picture_file import write_picture
from train.reporting.tensorboard import ScalarWriter
from train.reporting.workdir import METRICS_FILE, SUMMARY_FILE
from train.runtime.distributed import is_primary_process
from train.runtime.writing import explain_write_errors, write_atomically

__all__ = ["CONSOLE_INTERVAL_SECONDS", "RunReport", "read_metrics"]

CONSOLE_INTERVAL_SECONDS = 30.0
"""Minimum time between two lines with training metrics in a log file."""


class RunReport:
    """Context manager that writes the metrics of a run to its workdir and to the console.

    `metrics.jsonl` has one line per event: `{"kind": "train" | "eval", "step", "seconds", ...}`.
    The seconds are the wall time of the run up to the event, over all its restarts. A run that
    resumes from step `start_step` deletes the later lines first, since it writes them again.

    Only the primary process writes files. The other processes pass a quiet console.

    Args:
        workdir: Directory of the run.
        start_step: Step from which the run starts or resumes.
        total_steps: Number of steps of the whole run.
        console: Where to print.

    Raises:
        OSError: If a file could not be written. The message has its path and the free disk space.
    """

    def __init__(self, workdir: Path, *, start_step: int, total_steps: int, console: Console):
        self.workdir = workdir
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
        kept = [line for line in read_metrics(workdir) if line["step"] <= start_step]
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
            f"epoch {epoch:6.1f}  step {step:6d}  {format_metrics(metrics, 'test ')}  "
            f"{self.seconds:.0f} s"
        )

    def finish(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Write summary.json.

        Args:
            summary: Contents of summary.json, to which the speed and the wall time are added.

        Returns:
            The contents of summary.json.
        """
        if not is_primary_process():
            return {**summary, "examples_per_second": None, "wall_seconds": self.seconds}
        lines = read_metrics(self.workdir)
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
        class_names: Sequence[str],
        predict: Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        """Draw the plots. A plot that can't be drawn is logged.

        Args:
            confusion: Confusion matrix of the last evaluation, (classes, classes).
            class_names: Names of the classes.
            predict: Returns images, masks and predictions, to draw next to each other. All
                processes call it.
        """
        if not is_primary_process():
            if predict:
                predict()
            return

        # matplotlib takes long to import.
        def draw_curves(file: Path) -> None:
            from train.reporting import plots

            plots.draw_curves(read_metrics(self.workdir), file)

        def draw_confusion(file: Path) -> None:
            from train.reporting import plots

            plots.draw_confusion(confusion, class_names, file)

        def draw_predictions(file: Path) -> None:
            assert predict is not None
            examples = predict()
            from train.reporting import plots

            plots.draw_predictions(*examples, class_names, file)

        write_picture(self.workdir / "curves.png", draw_curves, self.log)
        write_picture(self.workdir / "confusion.png", draw_confusion, self.log)
        if predict:
            write_picture(self.workdir / "predictions.png", draw_predictions, self.log)

    def _write(self, kind: str, step: int, metrics: Mapping[str, float]) -> None:
        if not is_primary_process():
            return
        line = {"kind": kind, "step": step, "seconds": round(self.seconds, 3), **metrics}
        with explain_write_errors(self.workdir / METRICS_FILE):
            self._metrics.write(json.dumps(line, allow_nan=False) + "\n")
        with explain_write_errors(self.workdir / "tensorboard"):
            for name, value in metrics.items():
                if math.isfinite(value):
                    self._events.add(f"{kind}/{name}", value, step)
            self._events.flush()

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


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
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
