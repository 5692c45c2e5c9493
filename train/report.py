"""Numbers and pictures leave here: metrics.jsonl, TensorBoard, the screen, plots, summary.json."""

import json
import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

from train.tasks import describe

__all__ = ["Report", "read_metrics"]

METRICS = "metrics.jsonl"


class Report:
    """Writes what a run has to say into its workdir and on the screen.

    `metrics.jsonl` has a line an event: `{"kind": "train" | "eval", "step", "seconds", ...}`,
    where seconds are those spent on the run so far, over all its restarts. A run that goes on
    from step `start_step` first drops the lines beyond it, which are going to be written again.
    """

    def __init__(self, workdir: Path, *, start_step: int, total_steps: int, console: Console):
        self.workdir = workdir
        self.console = console
        kept = [line for line in read_metrics(workdir) if line["step"] <= start_step]
        _write_text(workdir / METRICS, "".join(json.dumps(line) + "\n" for line in kept))
        self._seconds_before = kept[-1]["seconds"] if kept else 0.0
        self._started = time.perf_counter()
        self._metrics = (workdir / METRICS).open("a", buffering=1)
        # TensorBoard hides what an earlier start of the run wrote beyond this step.
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1)
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

    def __enter__(self) -> "Report":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
        self._metrics.close()
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

    def evaluation(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Metrics over the whole evaluation split after `step`."""
        self._write("eval", step, metrics)
        self.console.print(
            f"epoch {epoch:6.1f}  step {step:6d}  {describe(metrics, 'test ')}  "
            f"{self.seconds:.0f} s",
            highlight=False,
            soft_wrap=True,
        )

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
        lines = read_metrics(self.workdir)
        speeds = [line["examples_per_second"] for line in lines if "examples_per_second" in line]
        full = {
            **summary,
            "examples_per_second": statistics.median(speeds) if speeds else None,
            "wall_seconds": lines[-1]["seconds"] if lines else self.seconds,
        }
        from train import plots

        plots.draw_curves(lines, self.workdir / "curves.png")
        plots.draw_confusion(confusion, class_names, self.workdir / "confusion.png")
        if examples is not None:
            plots.draw_predictions(*examples, class_names, self.workdir / "predictions.png")
        _write_text(
            self.workdir / "summary.json", json.dumps(full, indent=2, allow_nan=False) + "\n"
        )
        return full

    def _write(self, kind: str, step: int, metrics: Mapping[str, float]) -> None:
        line = {"kind": kind, "step": step, "seconds": round(self.seconds, 3), **metrics}
        self._metrics.write(json.dumps(line, allow_nan=False) + "\n")
        for name, value in metrics.items():
            if math.isfinite(value):
                self._events.add_scalar(f"{kind}/{name}", value, step)


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


def _write_text(path: Path, text: str) -> None:
    """Write a file at once or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)
