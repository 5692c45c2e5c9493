"""Feeds that hang or fail, and feeds that do not.

No test depends on how fast the machine is: only a feed that hangs until it is released has a short
timeout.
"""

import signal
import subprocess
import sys
import threading

import pytest

from train.data.feed import TrainFeed
from train.data.feed_timeout import FeedError, TimeoutFeed

# Much longer than a batch takes on a busy machine.
LONG_TIMEOUT = 600


class CountingFeed:
    """Counts its batches, and calls `fail` for batch number `failing`."""

    def __init__(self, failing, fail):
        self.failing, self.fail = failing, fail
        self.count = 0
        self.closed = False

    def __next__(self):
        self.count += 1
        if self.count == self.failing:
            self.fail()
        return self.count

    def close(self):
        self.closed = True


def raising_feed(error):
    def fail():
        raise error

    return CountingFeed(3, fail)


def test_state_is_the_position_after_the_returned_batches(digits_train):
    plain, inner = (TrainFeed(digits_train, batch_size=100, seed=3) for _ in range(2))
    with TimeoutFeed(inner, LONG_TIMEOUT) as feed:
        for _ in range(3):
            next(plain)
            next(feed)
            assert feed.get_state() == plain.get_state()
        feed.set_state({"next_index": 1})
        plain.set_state({"next_index": 1})
        assert next(feed)["index"].tolist() == next(plain)["index"].tolist()


def test_a_feed_that_hangs_raises_an_error_every_time():
    release = threading.Event()
    inner = CountingFeed(1, release.wait)
    with TimeoutFeed(inner, 0.01) as feed:
        for _ in range(2):
            with pytest.raises(FeedError, match=r"next batch within 0\.01 s, got none"):
                next(feed)
        release.set()
        with pytest.raises(FeedError):  # The late batch is not returned as the next one.
            next(feed)
    assert not inner.closed


@pytest.mark.parametrize("error", [ValueError("mask"), FileNotFoundError("gone"), StopIteration()])
def test_errors_about_examples_are_raised_unchanged(error):
    with TimeoutFeed(raising_feed(error), LONG_TIMEOUT) as feed:
        assert [next(feed), next(feed)] == [1, 2]
        with pytest.raises(type(error)):
            next(feed)


def test_the_error_of_a_dead_worker_is_reported():
    with TimeoutFeed(raising_feed(RuntimeError("exit code -9")), LONG_TIMEOUT) as feed:
        assert [next(feed), next(feed)] == [1, 2]
        with pytest.raises(FeedError, match="RuntimeError: exit code -9"):
            next(feed)


def test_close_ends_the_thread_and_closes_the_feed():
    before = set(threading.enumerate())
    inner = CountingFeed(0, None)
    with TimeoutFeed(inner, LONG_TIMEOUT) as feed:
        new = set(threading.enumerate()) - before
        (thread,) = (thread for thread in new if thread.name == "feed")
        # One batch per request: the thread does not read ahead.
        assert [next(feed), next(feed)] == [1, 2]
    thread.join(LONG_TIMEOUT)
    assert not thread.is_alive()
    assert inner.closed
    assert inner.count == 2


def test_processes_that_read_do_not_receive_the_signals_of_a_terminal():
    """They inherit what is blocked in the thread that starts them."""
    script = "import signal; print(*sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"

    def feed():
        yield subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout

    with TimeoutFeed(feed(), timeout_seconds=60) as batches:
        blocked = {int(number) for number in next(batches).split()}
    assert {signal.SIGINT, signal.SIGHUP} <= blocked
    assert signal.SIGTERM not in blocked
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())  # this thread handles them
