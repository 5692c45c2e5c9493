"""Metrics of the steps since the last report: means, speed, and whether they are finite."""

import math
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from train.step import Metrics

__all__ = ["NonFiniteError", "Window", "raise_non_finite"]


class NonFiniteError(RuntimeError):
    """A loss or a gradient that is not finite ended the run."""


class Window:
    """Metrics of the steps since the last report, left on the device until it closes."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
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
        """Means over the steps, the last learning rate, and `examples_per_second`.

        Raises:
            NonFiniteError: a loss or a gradient was not finite; names the first such step.
        """
        steps: list[Mapping[str, Any]] = jax.device_get(self._metrics)
        for position, metrics in enumerate(steps):
            for name in ("loss", "gradient_norm"):
                if not math.isfinite(metrics[name]):
                    raise_non_finite(
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


def raise_non_finite(name: str, value: float, step: int, last_checkpoint: int | None) -> None:
    """End the run: `NonFiniteError` with what was not finite, at which step, and what is left."""
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
