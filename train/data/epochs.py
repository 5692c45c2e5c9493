"""Conversion between epochs, which configs use, and steps, which runs use."""

import dataclasses
import math

__all__ = ["Epochs"]

_FEW_STEPS = 100
"""A run with fewer steps is probably too short to learn."""


@dataclasses.dataclass(frozen=True)
class Epochs:
    """Conversion of epochs to steps and back.

    Epochs follow each other without a gap, even within a batch, so a step may begin in one epoch
    and end in the next.

    Attributes:
        examples: Number of training examples.
        batch_size: Global batch size.
        total: Number of epochs of the run.
    """

    examples: int
    batch_size: int
    total: float

    def steps(self, epochs: float) -> int:
        """Convert a number of epochs to steps, rounded to the nearest integer.

        Args:
            epochs: Number of epochs, which may be a fraction.

        Returns:
            Number of steps.
        """
        return round(epochs * self.examples / self.batch_size)

    @property
    def total_steps(self) -> int:
        """Return the number of steps of the run, at least one."""
        return max(1, self.steps(self.total))

    @property
    def warning(self) -> str | None:
        """Return a message if the run has few steps, or its only step is longer than `total`."""
        if self.total_steps == 1 and self.after(1) > self.total:
            return (
                f"One step of {self.batch_size} examples is {self.after(1):.3g} epochs of "
                f"{self.examples} examples, more than config.epochs={self.total:g}. For a shorter "
                f"run reduce config.batch_size."
            )
        if self.total_steps < _FEW_STEPS:
            epochs = math.ceil(self.after(2 * _FEW_STEPS))
            return (
                f"This run has only {self.total_steps} steps, and a network needs some hundred to "
                f"learn. {2 * _FEW_STEPS} steps are --config.epochs={epochs}.0; a smaller "
                f"--config.batch_size gives more steps per epoch."
            )
        return None

    def after(self, step: int) -> float:
        """Convert a number of steps to epochs.

        Args:
            step: Number of steps.

        Returns:
            Number of epochs.
        """
        return step * self.batch_size / self.examples

    def due_after(self, step: int, every: float) -> bool:
        """Return whether an action that happens every `every` epochs and at the end is due.

        Args:
            step: Number of steps that were taken.
            every: Number of epochs between two actions.

        Returns:
            True if the action happens after this step.
        """
        nearest = max(1, round(self.after(step) / every))
        return step in (max(1, self.steps(nearest * every)), self.total_steps)
