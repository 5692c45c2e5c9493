"""A trace of some steps for `tensorboard` or Perfetto: `--profile=FIRST:LAST`."""

import re
from pathlib import Path
from typing import Any

import jax

__all__ = ["Profile"]


class Profile:
    """Traces the steps `first` to `last`, both included and counted from 1, into a directory.

    The first steps of a start compile; leave them out to see what the others do.
    """

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self._tracing = False

    @classmethod
    def parse(cls, text: str) -> "Profile":
        """A profile out of "FIRST:LAST".

        Raises:
            ValueError: it is not that.
        """
        match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text)
        if match is None or int(match[1]) > int(match[2]):
            raise ValueError(
                f"expected --profile=FIRST:LAST, two steps counted from 1, as in --profile=10:12, "
                f"got {text!r}."
            )
        return cls(int(match[1]), int(match[2]))

    def before(self, step: int, directory: Path, running: Any) -> None:
        """Begin where `step` is the first of those wanted; waits for `running`, arrays."""
        if self.first <= step <= self.last and not self._tracing:
            jax.block_until_ready(running)
            jax.profiler.start_trace(directory)
            self._tracing = True

    def after(self, step: int, running: Any) -> bool:
        """Whether the trace was finished by this: `step` was the last; waits for `running`."""
        if not self._tracing or step < self.last:
            return False
        jax.block_until_ready(running)
        return self.stop()

    def stop(self) -> bool:
        """Write what there is of a trace that is under way; whether there was any."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
            return True
        return False
