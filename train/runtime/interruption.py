"""End a command with one line after Ctrl-C, wherever the signal arrives."""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator

__all__ = ["interrupts_in_one_line"]

_STATUS = 128 + signal.SIGINT


@contextlib.contextmanager
def interrupts_in_one_line() -> Iterator[None]:
    """End the process with one line and exit status 130 if Ctrl-C interrupts the body.

    Python ignores a `KeyboardInterrupt` that is raised in a callback of the garbage collector or in
    a destructor. JAX has such a callback, so that a Ctrl-C would be lost now and then. Here it ends
    the process there, without the cleanup of the body.

    Raises:
        SystemExit: If the body is interrupted.
    """
    original = sys.unraisablehook

    def hook(ignored: "sys.UnraisableHookArgs") -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            original(ignored)
            return
        _report()
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(_STATUS)

    sys.unraisablehook = hook
    try:
        yield
    except KeyboardInterrupt:
        _report()
        raise SystemExit(_STATUS) from None
    finally:
        sys.unraisablehook = original


def _report() -> None:
    with contextlib.suppress(OSError, RuntimeError):  # the terminal is gone, or is being written to
        print("\nInterrupted.", file=sys.stderr, flush=True)
