"""Metrics of the steps since the last report: means, speed, and whether they are finite."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from train.steps.state import Metrics

__all__ = ["NonFiniteError", "StepMetrics", "raise_non_finite"]

LAST = ("learning_rate", "loss_scale", "skipped")
"""Metrics that are told as they are after the last step, where others are means."""


class NonFiniteError(RuntimeError):
    """Losses or gradients that are not finite ended the run."""


class StepMetrics:
    """Metrics of the steps since the last report, left on the device until it closes.

    `max_skipped_steps` is how many steps in a row without a finite gradient end the run.
    """

    def __init__(self, batch_size: int, max_skipped_steps: int):
        self._batch_size = batch_size
        self._max_skipped_steps = max_skipped_steps
        self._metrics: list[Metrics] = []
        self._timed_from: tuple[float, int] | None = None  # when, and after how many steps

    def __len__(self) -> int:
        return len(self._metrics)

    def add(self, metrics: Metrics) -> None:
        """Take the metrics of one more step, without waiting for them."""
        self._metrics.append(metrics)
        if self._timed_from is None:
            # The first step compiles; speed is measured from its end.
            jax.block_until_ready(metrics)
            self.restart_clock()

    def restart_clock(self) -> None:
        """Leave out of the speed what happened since the last report."""
        self._timed_from = time.perf_counter(), len(self._metrics)

    def close(self, last_step: int, last_checkpoint: int | None) -> dict[str, float]:
        """Means over the steps that were not skipped, and `examples_per_second`.

        Of the learning rate, the loss scale and how many steps the run has skipped so far, what
        they are at the end. If all were skipped, there are only these.

        Raises:
            NonFiniteError: too many steps in a row were skipped; names the last of them.
        """
        steps: list[Mapping[str, Any]] = jax.device_get(self._metrics)
        self._require_progress(steps, last_step - len(steps), last_checkpoint)
        good = [metrics for metrics in steps if not metrics["skipped_in_row"]]
        means = {
            name: float(np.mean([metrics[name] for metrics in good]))
            for name in steps[0]
            if good and name not in (*LAST, "skipped_in_row")
        }
        means |= {name: float(steps[-1][name]) for name in LAST if name in steps[-1]}
        assert self._timed_from is not None  # set with the first step
        started, untimed = self._timed_from
        if len(steps) > untimed:
            seconds = time.perf_counter() - started
            means["examples_per_second"] = (len(steps) - untimed) * self._batch_size / seconds
        self._metrics.clear()
        self.restart_clock()
        return means

    def _require_progress(
        self, steps: Sequence[Mapping[str, Any]], before: int, last_checkpoint: int | None
    ) -> None:
        """`NonFiniteError` at the first step by which too many in a row were skipped."""
        for step, metrics in enumerate(steps, start=before + 1):
            if metrics["skipped_in_row"] >= self._max_skipped_steps:
                name = "gradient_norm" if np.isfinite(metrics["loss"]) else "loss"
                in_row = int(metrics["skipped_in_row"])
                raise_non_finite(name, float(metrics[name]), step, last_checkpoint, in_row)


def raise_non_finite(
    name: str, value: float, step: int, last_checkpoint: int | None, in_row: int = 1
) -> None:
    """End the run: `NonFiniteError` with what was not finite, at which step, and what is left."""
    kept = (
        f"The last good checkpoint is of step {last_checkpoint}"
        if last_checkpoint is not None
        else "There is no checkpoint yet"
    )
    skipped = f", the last of {in_row} in a row that were skipped" if in_row > 1 else ""
    raise NonFiniteError(
        f"expected finite numbers, got a {name.replace('_', ' ')} of {value} at step {step}"
        f"{skipped}. {kept}; nothing was saved after it. Probably the learning rate is too high: "
        f"start again in a new workdir with a lower --config.learning_rate or a longer "
        f"--config.warmup_epochs."
    )
