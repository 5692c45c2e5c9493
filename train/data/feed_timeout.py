"""A feed that cannot hang a run: what takes too long, or has lost its workers, is an error."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

__all__ = ["FeedError", "TimeoutFeed"]

T = TypeVar("T")


class FeedError(RuntimeError):
    """No batch came: reading hangs, or what reads has died."""


class TimeoutFeed(Generic[T]):
    """An iterator whose every batch comes within `timeout_seconds`, or else an error does.

    The batch is asked for in a thread of its own, one at a time and not before it is wanted, so
    `get_state()` of the feed inside is the position after the batches that were handed out, as
    without this.

    Raises:
        FeedError: no batch came in time, or the feed raised something else than `ValueError` and
            `OSError`, which speak for themselves (a damaged example, a missing file).
    """

    def __init__(self, feed: Any, timeout_seconds: float) -> None:
        self._feed = feed
        self._timeout_seconds = timeout_seconds
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = (
            queue.SimpleQueue()
        )
        self._hangs = False
        # A daemon, since one that hangs must not keep the process from ending.
        threading.Thread(target=self._serve, name="feed", daemon=True).start()

    def __enter__(self) -> TimeoutFeed[T]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._hangs:  # its late answer would be taken for the next one
            raise self._too_slow()
        self._wanted.put(True)
        try:
            batch, error = self._answers.get(timeout=self._timeout_seconds)
        except queue.Empty:
            self._hangs = True
            raise self._too_slow() from None
        if error is None:
            return batch  # type: ignore[return-value]
        if isinstance(error, StopIteration | ValueError | OSError):
            raise error
        raise FeedError(
            f"reading the examples failed: {type(error).__name__}: {error}. Where a worker "
            f"process died, it was probably killed for its memory: use fewer of them, or a "
            f"machine with more."
        ) from error

    def get_state(self) -> dict[str, Any]:
        """The position after the batches that were handed out."""
        state: dict[str, Any] = self._feed.get_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with the batch that came next when `get_state` gave this."""
        self._feed.set_state(state)

    def close(self) -> None:
        """End the thread and what the feed has started; a feed that hangs keeps both."""
        self._wanted.put(False)
        if not self._hangs and hasattr(self._feed, "close"):
            self._feed.close()

    def _serve(self) -> None:
        while self._wanted.get():
            try:
                self._answers.put((next(self._feed), None))
            except BaseException as error:
                self._answers.put((None, error))

    def _too_slow(self) -> FeedError:
        return FeedError(
            f"expected the next batch within {self._timeout_seconds:g} s, got none. Probably the "
            f"disk or the network file system with the examples hangs, or a process that reads "
            f"them does; if reading is only slow, raise --config.data_timeout_seconds."
        )
