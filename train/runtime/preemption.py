"""Told to stop: SIGTERM of a machine that is taken away, and Ctrl-C.

The first signal is noticed at once and obeyed where the run can be left without losing anything:
after a training step, or a batch of an evaluation. A Ctrl-C after that ends the process on the
spot. The exit status is 128 plus the signal's number, as a shell has it: 143 after SIGTERM, 130
after Ctrl-C. A scheduler can tell these from 1, a failure; and a process that is told to stop
before it can listen ends with the same, so both mean: start it again.
"""

import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

import jax
from jax.experimental import multihost_utils
from rich.console import Console

__all__ = ["StopSignals", "Stopped"]

_NOTICED = {
    signal.SIGTERM: "Told to stop (SIGTERM).",
    signal.SIGINT: "Interrupted. Ctrl-C again ends it at once.",
}


class Stopped(SystemExit):
    """The run was told to stop; the same command goes on with it. `code` is the exit status.

    An exit and no error: what catches errors, so that other work goes on, lets it pass.
    """


class StopSignals:
    """Listens for SIGTERM and Ctrl-C while it is entered; in the main thread, which alone can.

    A thread reads the signals, because Python's handlers wait until a compilation is over.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._first: signal.Signals | None = None
        self._asked = 0
        # JAX then listens for SIGTERM, in order to tell all processes.
        self._shared = jax.distributed.is_initialized()
        self._listens = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Self:
        if self._listens:
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            listened = (signal.SIGINT,) if self._shared else (signal.SIGINT, signal.SIGTERM)
            self._handlers = {number: signal.signal(number, _ignore) for number in listened}
            self._thread = threading.Thread(target=self._read, name="signals", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._listens:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            os.close(self._writer)
            self._thread.join()
            os.close(self._reader)

    @property
    def status(self) -> int:
        """The exit status of a run that was told to stop."""
        return 128 + (self._first or signal.SIGTERM)

    def reached(self) -> bool:
        """Whether to stop here; all processes ask equally often, and get the same answers.

        With several processes JAX finds a place that none of them has passed.
        """
        if self._shared:
            self._asked += 1
            return multihost_utils.reached_preemption_sync_point(self._asked)
        return self._first is not None

    def _read(self) -> None:
        while numbers := os.read(self._reader, 16):
            for number in map(signal.Signals, numbers):
                if number not in _NOTICED:
                    continue
                if self._first is None:
                    self._first = number
                    self._console.print(f"\n{_NOTICED[number]}", highlight=False)
                    if self._shared:
                        os.kill(os.getpid(), signal.SIGTERM)
                elif number == signal.SIGINT:
                    self._end_at_once()

    def _end_at_once(self) -> None:
        self._console.show_cursor()  # a progress bar hides it
        self._console.print("\nEnded at once; the last checkpoint stays.", highlight=False)
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(128 + signal.SIGINT)


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler of Python's: the signal is written to the pipe, and the thread does the rest."""
