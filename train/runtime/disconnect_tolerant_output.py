"""Output to a terminal or a pipe that may go away during a run."""

import contextlib
import os
from typing import Any, TextIO

__all__ = ["DisconnectTolerantOutput"]


class DisconnectTolerantOutput:
    """A text stream whose writes do not fail when its terminal or its reader is gone.

    After a lost connection every write to the terminal is an error, which would end the run before
    it saves. Here the first error redirects the stream to the null device. Characters that the
    stream cannot encode, such as bytes of a file name that is not UTF-8, are written as escapes.

    Args:
        stream: The stream, such as `sys.stdout`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text.

        Args:
            text: The text.

        Returns:
            Its length.
        """
        encoding = self._stream.encoding or "utf-8"
        printable = text.encode(encoding, "backslashreplace").decode(encoding)
        try:
            self._stream.write(printable)
        except OSError:
            self._discard()
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            self._stream.flush()
        except OSError:
            self._discard()

    def _discard(self) -> None:
        with contextlib.suppress(OSError):  # a stream without a file
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
