"""Numbers and pictures leave here: metrics.jsonl, TensorBoard, the screen, plots, summary.json."""

import contextlib
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from train.reporting.tasks import describe
from train.reporting.tensorboard import ScalarWriter
from train.runtime.distributed import is_primary_process
from train.runtime.writing import not_written, write_atomically

__all__ = ["RunReport", "read_metrics"]

METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
LINE_SECONDS = 30.0
"""Seconds from one line of training to the next in a log file."""


class RunReport:
    """Writes what a run has to say into its workdir and on the screen.

    `metrics.jsonl` has a line an event: `{"kind": "train" | "eval", "step", "seconds", ...}`,
    where seconds are those spent on the run so far, over all its restarts. A run that goes on
    from step `start_step` first drops the lines beyond it, which are going to be written again.

    Of several processes only the lead writes files; the console of the others is to be a quiet one.

    Raises:
        OSError: something could not be written; says what, and how much room there is.
    """

    def __init__(self, workdir: Path, *, start_step: int, total_steps: int, console: Console):
        self.workdir = workdir
        self.console = console
        self._total_steps = total_steps
        self._started = time.perf_counter()
        self._printed: tuple[float, int] | None = None  # when and at which step it last was
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
        if not is_primary_process():  # the others only count
            return
        kept = [line for line in read_metrics(workdir) if line["step"] <= start_step]
        write_atomically(workdir / METRICS, "".join(json.dumps(line) + "\n" for line in kept))
        self._seconds_before = kept[-1]["seconds"] if kept else 0.0
        with _writing(workdir / METRICS):
            self._metrics = (workdir / METRICS).open("a", buffering=1)
        with _writing(workdir / "tensorboard"):
            self._events = ScalarWriter(workdir / "tensorboard", purge_step=start_step + 1)

    def __enter__(self) -> "RunReport":
        self._progress.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._progress.stop()
        if is_primary_process():
            # A disk that is full now was told by what is being raised.
            with contextlib.suppress(*([OSError] if error else [])):
                try:
                    with _writing(self.workdir / METRICS):
                        self._metrics.close()
                finally:
                    with _writing(self.workdir / "tensorboard"):
                        self._events.close()

    @property
    def seconds(self) -> float:
        """Wall seconds spent on this run so far, over all its restarts."""
        return self._seconds_before + time.perf_counter() - self._started

    def advance(self) -> None:
        """One more step has been taken."""
        self._progress.advance(self._task)

    def train(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of the steps since the last call, up to `step`."""
        self._write("train", step, metrics)
        status = describe(metrics)
        if "examples_per_second" in metrics:
            status += f"  {metrics['examples_per_second']:,.0f} images/s"
        self._progress.update(self._task, status=status)
        if not self.console.is_terminal:
            self._print_sometimes(step, status)

    def evaluation(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Metrics over the whole evaluation split after `step`."""
        self._write("eval", step, metrics)
        self.tell(
            f"epoch {epoch:6.1f}  step {step:6d}  {describe(metrics, 'test ')}  "
            f"{self.seconds:.0f} s"
        )

    def tell(self, text: str) -> None:
        """A line on the screen."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def finish(
        self,
        summary: Mapping[str, Any],
        confusion: np.ndarray,
        class_names: Sequence[str],
        examples: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Draws the pictures, writes summary.json and returns what it holds.

        `examples` are images, masks and predictions to be drawn side by side.
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
        from train.reporting import plots

        with _writing(self.workdir):
            plots.draw_curves(lines, self.workdir / "curves.png")
            plots.draw_confusion(confusion, class_names, self.workdir / "confusion.png")
            if examples is not None:
                plots.draw_predictions(*examples, class_names, self.workdir / "predictions.png")
        write_atomically(self.workdir / SUMMARY, json.dumps(full, indent=2, allow_nan=False) + "\n")
        return full

    def _write(self, kind: str, step: int, metrics: Mapping[str, float]) -> None:
        if not is_primary_process():
            return
        line = {"kind": kind, "step": step, "seconds": round(self.seconds, 3), **metrics}
        with _writing(self.workdir / METRICS):
            self._metrics.write(json.dumps(line, allow_nan=False) + "\n")
        with _writing(self.workdir / "tensorboard"):
            for name, value in metrics.items():
                if math.isfinite(value):
                    self._events.add(f"{kind}/{name}", value, step)
            self._events.flush()

    def _print_sometimes(self, step: int, status: str) -> None:
        """A line for who follows a log file, at most every `LINE_SECONDS`."""
        now = time.perf_counter()
        if self._printed is not None:
            if now - self._printed[0] < LINE_SECONDS:
                return
            rate = (step - self._printed[1]) / (now - self._printed[0])
            left = timedelta(seconds=round((self._total_steps - step) / rate))
            status += f"  {left} left"
        self._printed = now, step
        self.tell(f"step {step:6d} of {self._total_steps}  {status}")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say of an error of the disk where it was."""
    try:
        yield
    except OSError as error:
        raise not_written(path, error) from error


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; a last line cut short by a kill is left out."""
    path = workdir / METRICS
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
