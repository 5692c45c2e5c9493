"""Stop a run on Ctrl-C and on the signals of schedulers and terminals that would end it unsaved.

These are SIGTERM (preemption), SIGHUP (a lost connection), and SIGUSR1, SIGUSR2 and SIGXCPU, which
schedulers send before a limit of time. SIGHUP remains ignored under `nohup`.

After the first signal the run stops at the next point where nothing is lost: after a training step,
or after a batch of an evaluation. A Ctrl-C after that ends the process immediately.

The exit status is 128 plus the number of the signal, as in a shell: 143 after SIGTERM, 130 after
Ctrl-C. A process that receives a signal before it listens ends with the same status. So a scheduler
can start the command again after 143 and 130, and report a failure after 1.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

import jax
from jax.experimental import multihost_utils
from rich.console import Console

__all__ = ["StopSignals", "Stopped"]

_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
)


class Stopped(SystemExit):
    """A signal stopped the run. The same command resumes it; `code` is the exit status.

    This is a `SystemExit`, so code that handles the errors of a run does not catch it.
    """


class StopSignals:
    """Context manager that listens for the signals that stop a run.

    It has an effect in the main thread only, since Python handles signals there.

    Handlers also run while the main thread waits for a computation. In jax 0.10.2 they run during a
    compilation too; in jax 0.8.0 they wait until it ends.

    Args:
        console: Where to print that a signal was received.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._received: signal.Signals | None = None
        self._calls = 0
        # With several processes JAX handles SIGTERM, to find a step at which all of them stop.
        self._distributed = jax.distributed.is_initialized()
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                jax_handles = self._distributed and number == signal.SIGTERM
                nohup = number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
                if not jax_handles and not nohup:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def received(self) -> bool:
        """Whether this process has received one of the signals."""
        return self._received is not None

    @property
    def exit_status(self) -> int:
        """Return the exit status of a run that a signal stopped."""
        return 128 + (self._received or signal.SIGTERM)

    def should_stop(self) -> bool:
        """Return whether to stop here.

        With several processes, all must call this method the same number of times. After a signal,
        JAX agrees on a later call that no process has made yet, and that call returns True in all
        processes.
        """
        if self._distributed:
            self._calls += 1
            return multihost_utils.reached_preemption_sync_point(self._calls)
        return self._received is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Record the first signal, and exit at once on a second Ctrl-C."""
        del frame
        if self._received is None:
            self._received = signal.Signals(number)
            if number == signal.SIGINT:
                text = "Interrupted; stopping. Press Ctrl-C again to exit immediately."
            else:
                text = f"Received {self._received.name}; stopping."
            self._print(f"\n{text}")
            if self._distributed:
                os.kill(os.getpid(), signal.SIGTERM)
        elif number == signal.SIGINT:
            self._console.show_cursor()  # a progress bar hides it
            self._print("\nExiting immediately. The last checkpoint remains.")
            for child in multiprocessing.active_children():
                child.kill()
            os._exit(128 + signal.SIGINT)

    def _print(self, text: str) -> None:
        # If the signal interrupted a write to the same file, Python raises an error here. The
        # message is lost then, and the run stops as it should.
        with contextlib.suppress(RuntimeError):
            self._console.print(text, highlight=False)
