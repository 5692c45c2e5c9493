"""Conversion between epochs, which configs use, and steps, which runs use."""

import dataclasses

__all__ = ["Epochs"]


@dataclasses.dataclass(frozen=True)
class Epochs:
    """Converts epochs to steps and back.

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
        """Return the number of steps of that many epochs, rounded."""
        return round(epochs * self.examples / self.batch_size)

    @property
    def total_steps(self) -> int:
        """Number of steps of the run, at least one."""
        return max(1, self.steps(self.total))

    def after(self, step: int) -> float:
        """Return the number of epochs after that many steps."""
        return step * self.batch_size / self.examples

    def due_after(self, step: int, every: float) -> bool:
        """Return whether an action is due that happens every `every` epochs and after the run."""
        nearest = max(1, round(self.after(step) / every))
        return step in (max(1, self.steps(nearest * every)), self.total_steps)
