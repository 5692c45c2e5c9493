"""Exit quietly when the reader closes the output, as in `aff-jax models | head`."""

import os
import sys
from types import TracebackType

__all__ = ["ClosableOutput"]


class ClosableOutput:
    """Context in which a closed pipe at the standard output ends the block without an error.

    What is written afterwards is discarded, so that Python can flush the output when it exits.
    """

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Flush the output, and return True if it was closed."""
        is_closed = isinstance(error, BrokenPipeError)
        try:
            if sys.stdout is not None:  # None if the program was started without an output
                sys.stdout.flush()
        except BrokenPipeError:
            is_closed = True
        if is_closed:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        return is_closed
