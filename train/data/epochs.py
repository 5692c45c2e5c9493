"""Epochs and steps: what a config counts in, and what a run counts in."""

import dataclasses

__all__ = ["Epochs"]


@dataclasses.dataclass(frozen=True)
class Epochs:
    """How the passes over `examples` training examples divide into steps of `batch_size`.

    Epochs follow each other without a gap, also within a batch, so a step may begin in one and end
    in the next. `total` epochs are trained.
    """

    examples: int
    batch_size: int
    total: float

    def steps(self, epochs: float) -> int:
        """That many epochs in steps, rounded."""
        return round(epochs * self.examples / self.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, at least one."""
        return max(1, self.steps(self.total))

    def after(self, step: int) -> float:
        """Epochs that have passed after that many steps."""
        return step * self.batch_size / self.examples

    def due_after(self, step: int, every: float) -> bool:
        """Whether something is due that is done every so many epochs and at the end."""
        nearest = max(1, round(self.after(step) / every))
        return step in (max(1, self.steps(nearest * every)), self.total_steps)
