"""Trace some training steps, for TensorBoard or Perfetto."""

import re
from pathlib import Path
from typing import Any

import jax

__all__ = ["Profile"]


class Profile:
    """Profiler trace of the steps `first` to `last`, inclusive and counted from 1.

    The first step of a process compiles. Leave it out to see the time of the others.

    Attributes:
        first: First step to trace.
        last: Last step to trace.
    """

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self._tracing = False

    @classmethod
    def parse(cls, text: str) -> "Profile":
        """Make a profile from the value of a flag.

        Args:
            text: `FIRST:LAST`, two steps counted from 1.

        Returns:
            The profile.

        Raises:
            ValueError: If the string has another form.
        """
        match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text)
        if match is None or int(match[1]) > int(match[2]):
            raise ValueError(
                f"expected --profile=FIRST:LAST, two steps counted from 1, as in --profile=10:12, "
                f"got {text!r}."
            )
        return cls(int(match[1]), int(match[2]))

    def before(self, step: int, directory: Path, running: Any) -> None:
        """Start the trace if `step` is to be traced.

        Args:
            step: The step that is about to run.
            directory: Directory of the trace.
            running: Arrays that earlier steps compute. The trace starts when they are ready.
        """
        if self.first <= step <= self.last and not self._tracing:
            jax.block_until_ready(running)
            jax.profiler.start_trace(directory)
            self._tracing = True

    def after(self, step: int, running: Any) -> bool:
        """Write the trace if `step` is the last one to trace.

        Args:
            step: The step that was dispatched.
            running: Arrays that this step computes. The trace ends when they are ready.

        Returns:
            True if the trace was written.
        """
        if not self._tracing or step < self.last:
            return False
        jax.block_until_ready(running)
        return self.stop()

    def stop(self) -> bool:
        """Write an unfinished trace, and return whether there was one."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
            return True
        return False
