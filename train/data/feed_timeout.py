"""A feed with a timeout, so that a run ends with an error where reading hangs."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

__all__ = ["FeedError", "TimeoutFeed"]

T = TypeVar("T")


class FeedError(RuntimeError):
    """No batch arrived: reading hangs, or a process that reads has died."""


class TimeoutFeed(Generic[T]):
    """An iterator over a feed that raises an error if a batch takes too long.

    A separate thread asks the feed for one batch at a time, and only on demand. Therefore
    `get_state()` of the feed is the position after the batches that were returned.

    Args:
        feed: An iterator, with `get_state`, `set_state` and `close` if these are called here.
        timeout_seconds: Maximum time to wait for a batch.

    Raises:
        FeedError: If no batch arrived in time, or the feed raised an error other than `ValueError`
            and `OSError`.
        ValueError: If the feed raised it. The message names the damaged file.
        OSError: If the feed raised it. The message names the missing file.
    """

    def __init__(self, feed: Any, timeout_seconds: float) -> None:
        self._feed = feed
        self._timeout_seconds = timeout_seconds
        self._requests: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = (
            queue.SimpleQueue()
        )
        self._hangs = False
        # A daemon thread does not keep the process alive if it hangs.
        threading.Thread(target=self._serve, name="feed", daemon=True).start()

    def __enter__(self) -> TimeoutFeed[T]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._hangs:  # A late answer would be mistaken for the next batch.
            raise self._timeout_error()
        self._requests.put(True)
        try:
            batch, error = self._answers.get(timeout=self._timeout_seconds)
        except queue.Empty:
            self._hangs = True
            raise self._timeout_error() from None
        if error is None:
            return batch  # type: ignore[return-value]
        if isinstance(error, StopIteration | ValueError | OSError):
            raise error
        raise FeedError(
            f"reading the examples failed: {type(error).__name__}: {error}. If a worker process "
            f"died, the system probably ran out of memory: use fewer workers "
            f"(--config.data_workers), or a machine with more memory."
        ) from error

    def get_state(self) -> dict[str, Any]:
        """Return the position after the batches that were returned."""
        state: dict[str, Any] = self._feed.get_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a position that `get_state` returned.

        Args:
            state: The position.
        """
        self._feed.set_state(state)

    def close(self) -> None:
        """Stop the thread and close the feed. A feed that hangs is left alone."""
        self._requests.put(False)
        if not self._hangs and hasattr(self._feed, "close"):
            self._feed.close()

    def _serve(self) -> None:
        """Read one batch for each request, in the thread of the feed."""
        # The worker processes that this thread starts inherit blocked signals. A terminal sends
        # Ctrl-C to them too, and they would end with tracebacks before the run has saved. SIGTERM
        # is not blocked, so that they can be stopped.
        blocked = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        while self._requests.get():
            try:
                self._answers.put((next(self._feed), None))
            except BaseException as error:
                self._answers.put((None, error))

    def _timeout_error(self) -> FeedError:
        return FeedError(
            f"expected the next batch within {self._timeout_seconds:g} s, got none. Probably the "
            f"disk or the network file system with the examples hangs, or a process that reads "
            f"them does. If reading is only slow, raise --config.data_timeout_seconds."
        )
