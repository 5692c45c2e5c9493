"""Average the metrics of training steps, measure their speed, and check that they are finite."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from train.steps.state import Metrics

__all__ = ["NOT_AVERAGED", "NonFiniteError", "StepMetrics", "raise_non_finite"]

NOT_AVERAGED = ("learning_rate", "loss_scale", "skipped")
"""Metrics that are reported as the value of the last step instead of the mean."""


class NonFiniteError(RuntimeError):
    """The run ended because losses, gradients or parameters were not finite."""


class StepMetrics:
    """Metrics of the training steps since the last report.

    They stay on the devices until they are reported, so adding them does not wait for a step.

    Args:
        batch_size: Number of examples in a step.
        max_skipped_steps: Number of steps in a row without a finite gradient that ends the run.
    """

    def __init__(self, batch_size: int, max_skipped_steps: int):
        self._batch_size = batch_size
        self._max_skipped_steps = max_skipped_steps
        self._metrics: list[Metrics] = []
        self._clock: tuple[float, int] | None = None  # start time, and steps before it

    def __len__(self) -> int:
        return len(self._metrics)

    def add(self, metrics: Metrics) -> None:
        """Add the metrics of one step, as the training step returns them.

        Args:
            metrics: Scalars by name, on the devices. They are not transferred here.
        """
        self._metrics.append(metrics)
        if self._clock is None:
            # The first step compiles, so the clock starts at its end.
            jax.block_until_ready(metrics)
            self.restart_clock()

    def restart_clock(self) -> None:
        """Exclude the time since the last report from the speed."""
        self._clock = time.perf_counter(), len(self._metrics)

    def compute_and_reset(self, last_step: int, last_checkpoint: int | None) -> dict[str, float]:
        """Return the means over the steps that were not skipped, and remove all steps.

        Args:
            last_step: Number of the last step that was added.
            last_checkpoint: Step of the newest checkpoint, for the error message.

        Returns:
            Means, the last values of `NOT_AVERAGED`, and `examples_per_second` if it was measured.
            There are no means if all steps were skipped.

        Raises:
            NonFiniteError: If too many steps in a row were skipped.
        """
        steps: list[Mapping[str, Any]] = jax.device_get(self._metrics)
        self._check_skipped(steps, last_step - len(steps), last_checkpoint)
        finite = [metrics for metrics in steps if not metrics["skipped_in_row"]]
        means = {
            name: float(np.mean([metrics[name] for metrics in finite]))
            for name in steps[0]
            if finite and name not in (*NOT_AVERAGED, "skipped_in_row")
        }
        means |= {name: float(steps[-1][name]) for name in NOT_AVERAGED if name in steps[-1]}
        assert self._clock is not None  # it starts with the first step
        started, untimed = self._clock
        if len(steps) > untimed:
            seconds = time.perf_counter() - started
            means["examples_per_second"] = (len(steps) - untimed) * self._batch_size / seconds
        self._metrics.clear()
        self.restart_clock()
        return means

    def _check_skipped(
        self, steps: Sequence[Mapping[str, Any]], before: int, last_checkpoint: int | None
    ) -> None:
        """Raise `NonFiniteError` at the first step at which too many in a row were skipped."""
        for step, metrics in enumerate(steps, start=before + 1):
            if metrics["skipped_in_row"] >= self._max_skipped_steps:
                name = "gradient_norm" if np.isfinite(metrics["loss"]) else "loss"
                in_row = int(metrics["skipped_in_row"])
                raise_non_finite(name, float(metrics[name]), step, last_checkpoint, in_row)


def raise_non_finite(
    name: str, value: float, step: int, last_checkpoint: int | None, in_row: int = 1
) -> NoReturn:
    """Raise the `NonFiniteError` that ends a run.

    Args:
        name: Name of the number that is not finite.
        value: Its value.
        step: Step at which it occurred.
        last_checkpoint: Step of the newest checkpoint; None if there is none.
        in_row: Number of steps in a row that were skipped.

    Raises:
        NonFiniteError: Always.
    """
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
